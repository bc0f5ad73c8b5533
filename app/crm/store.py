"""CRM as a RecordStore: the words of `app.ports` over the Dataverse Web API."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from app.crm import reading, writing
from app.crm.changes import changed, changes
from app.crm.client import DataverseClient
from app.crm.failures import misunderstood
from app.crm.metadata import CrmTable, Metadata
from app.crm.rows import columns_of
from app.domain.errors import CrmRefused, CrmUnavailable
from app.domain.records import Reference, Side, Snapshot, TableDefinition
from app.ports import Delete, Listing, Page, Refused, Write, Written

PAGE_SIZE = 5000
AUTHOR = "modifiedby"


class Dataverse:
    """The CRM side behind one connection.

    Changes whose last author is `ignored_user` are none, as in NAV (nav-behaviour 9.2); of entities that do not tell
    who changed a row they are changes like any other.
    """

    side = Side.CRM

    def __init__(
        self,
        client: DataverseClient,
        metadata: Metadata | None = None,
        page_size: int = PAGE_SIZE,
        *,
        ignored_user: UUID | None = None,
        sharers: int = 1,
    ) -> None:
        self._ignored_user = ignored_user
        self.client = client
        self.metadata = metadata or Metadata(client)
        self._page_size = page_size
        self._sharers = sharers

    def shared(self, sharers: int) -> "Dataverse":
        """This side for one of so many who write sets at the same time."""
        return Dataverse(
            self.client, self.metadata, self._page_size, ignored_user=self._ignored_user, sharers=sharers
        )

    async def require_entry(self, entities: Collection[str]) -> None:
        """Asks for one row of each of these entities, in one request: whether our user is let in at all.

        Raises LoginRefused; PermissionMissing when CRM shows it none of them; CrmUnavailable.
        """
        names = await self.metadata.names()
        known = [names[entity] for entity in sorted(set(entities)) if entity in names]
        await reading.require_entry(self.client, {each.entity_set: each.key for each in known})

    async def definition(self, table: str, fields: Collection[str] = ()) -> TableDefinition:
        """What the entity holds, read anew if one of these attributes is missing in what we remember. Raises
        TableNotFound."""
        return (await self.metadata.with_fields(table, fields)).definition

    async def definition_of_set(self, entity_set: str) -> TableDefinition:
        """The entity behind a word in our URLs (`accounts`). Raises TableNotFound."""
        return await self.definition(await self.metadata.name_of_set(entity_set))

    async def get(self, table: str, ids: Collection[UUID], fields: Collection[str]) -> dict[UUID, Snapshot]:
        """The rows that exist among these ids."""
        if not ids:
            return {}
        described = await self.metadata.with_fields(table, fields)
        async with self._as_described(described, fields):
            return await reading.by_ids(self.client, columns_of(described, fields), ids)

    async def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """What changed or was deleted since the watermark, or everything. Raises WatermarkExpired."""
        described = await self.metadata.with_fields(table, fields)
        judged = self._ignored_user is not None and described.field(AUTHOR) is not None
        wanted = {*fields, AUTHOR} if judged else set(fields)
        columns = columns_of(described, wanted)
        async with self._as_described(described, wanted):
            async for page in changes(self.client, columns, since, self._page_size):
                if judged:
                    page.records[:] = [each for each in page.records if not self._is_ignored(each)]
                yield page

    def _is_ignored(self, record: Snapshot) -> bool:
        author = record.values.get(AUTHOR)
        return isinstance(author, Reference) and author.id == self._ignored_user

    async def changed(self, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these entities and watermarks after which there is something, in one request."""
        tables = {name: await self.metadata.table(name) for name in {name for name, _ in places}}
        return await changed(self.client, [(tables[name], watermark) for name, watermark in places])

    async def match(
        self, table: str, field: str, values: Collection[str], fields: Collection[str] = ()
    ) -> dict[str, list[Snapshot]]:
        """The rows whose attribute has one of these values, by value as given."""
        if not values:
            return {}
        return await reading.by_values(self.client, await self.metadata.table(table), field, values, fields)

    async def listing(
        self,
        table: str,
        fields: Collection[str] | None,
        *,
        filter: str | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Listing:
        """A page of rows in the order of their ids. Raises InvalidFilter."""
        return await reading.listing(
            self.client,
            await self.metadata.table(table),
            fields,
            filter=filter,
            search=search,
            limit=limit,
            cursor=cursor,
        )

    async def count(self, table: str, filter: str) -> int:
        """How many rows pass the filter. Raises InvalidFilter."""
        return await reading.count(self.client, await self.metadata.table(table), filter)

    async def counts(self, queries: Sequence[tuple[str, str]]) -> list[int]:
        """How many rows of each entity pass its filter, in one request. Raises InvalidFilter."""
        asked = [(await self.metadata.table(table), filter) for table, filter in queries]
        return await reading.counts(self.client, asked)

    async def write(self, table: str, writes: Sequence[Write]) -> list[Written | Refused]:
        """Applies every write it can, answers in order.

        Raises CrmUnavailable if none could be delivered or the entity has changed, PermissionMissing if our user lacks
        the privilege for all, InvalidMapping if an attribute is gone.
        """
        if not writes:
            return []
        fields = {name for each in writes if not isinstance(each, Delete) for name in each.values}
        described = await self.metadata.with_fields(table, fields)
        answers = await writing.write(self.client, described, writes, self._sharers)
        if any(isinstance(each, Refused) and misunderstood(each.error) for each in answers):
            await self._require_unchanged(described, fields)
        return answers

    @asynccontextmanager
    async def _as_described(self, table: CrmTable, fields: Collection[str]) -> AsyncIterator[None]:
        """Finds out whether the entity has changed when CRM does not understand what was asked of it."""
        try:
            yield
        except CrmRefused as error:
            if misunderstood(error):
                await self._require_unchanged(table, fields)
            raise

    async def _require_unchanged(self, known: CrmTable, fields: Collection[str]) -> None:
        """Raises InvalidMapping when one of these attributes is gone, CrmUnavailable when one has become another than
        we took it for: then everything has to be decided anew. No record is at fault."""
        now = await self.metadata.table(known.name, max_age=0)
        columns_of(now, fields)
        changed = sorted(name for name in fields if now.field(name) != known.field(name))
        if changed:
            raise CrmUnavailable(
                f"{', '.join(changed)} of {known.name} was changed in CRM meanwhile.",
                fix="Try again: the definition of the entity is read anew.",
            )
