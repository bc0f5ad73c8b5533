"""The two sides: what can be read and written, and how they are opened."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from app.domain.company import Company, ConnectionSetup
from app.domain.errors import IntegrationError
from app.domain.records import Side, Snapshot, TableDefinition, Values

if TYPE_CHECKING:
    from app.ports.work import Transaction  # which opens the sides

# --- writes ---------------------------------------------------------------------------------------


# Nobody changes a write or its answer; made for each record of a run, they are not frozen, like Snapshot.
@dataclass(slots=True)
class Insert:
    """Create the record under this id; if it exists already, its present state is the answer.

    `key` is the number a NAV record shall have; without it the number series of the table gives one.
    `fields` are to be answered besides the written ones: what the side itself made of them.
    """

    id: UUID
    values: Values
    key: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(slots=True)
class Update:
    """Change these fields, if the record still has this version. Without a version: if it exists.

    `fields` are to be answered besides the written ones.
    """

    id: UUID
    values: Values
    version: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(slots=True)
class Delete:
    """Delete the record, if it still has this version. One that is gone already counts as deleted."""

    id: UUID
    version: str | None = None


Write = Insert | Update | Delete


@dataclass(slots=True)
class Written:
    """What the side has now. `created` tells an insert that created from one that found.

    `snapshot` is missing after a delete. Its values hold at least the written fields, and
    those asked for, as the side stored them; its version is empty when the side did not say.
    """

    id: UUID
    snapshot: Snapshot | None
    created: bool = False


@dataclass(slots=True)
class Refused:
    """This write failed, alone. StaleRecord and CrmRecordNotFound/NavRecordNotFound ask for a new look."""

    id: UUID
    error: IntegrationError


# --- reads ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Some changed and deleted records. `watermark` is where to continue once they are recorded;
    it is missing on pages after which one cannot continue (the middle of a first read).

    `released` are those records that had waited, each with the coupling it had waited for. `more` says that another
    page may follow.
    """

    records: list[Snapshot]
    deleted: Sequence[UUID] = ()
    watermark: str | None = None
    more: bool = False
    released: Mapping[UUID, UUID] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list a person works from. `cursor` is opaque and missing on the last page."""

    records: Sequence[Snapshot]
    cursor: str | None = None


class RecordStore(Protocol):
    """One side. Every method takes sets; none keeps a transaction of ours open."""

    side: Side

    async def definition(self, table: str, fields: Collection[str] = ()) -> TableDefinition:
        """What the table holds. A side that remembers it looks again when one of these fields is missing. Raises
        TableNotFound."""
        ...

    async def get(self, table: str, ids: Collection[UUID], fields: Collection[str]) -> dict[UUID, Snapshot]:
        """The records that exist among these ids, with at least these fields."""
        ...

    def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """What changed or was deleted since the watermark, or everything, page by page.

        Every page that can be continued from says so in its watermark. A record may come twice, never
        not at all. Raises WatermarkExpired when the side no longer knows.
        """
        ...

    async def changed(self, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these tables and watermarks after which `changes` has something, or no longer knows.

        One trip, whatever their number. It may miss what became visible late; `changes` does not.
        """
        ...

    async def match(
        self, table: str, field: str, values: Collection[str], fields: Collection[str] = ()
    ) -> dict[str, list[Snapshot]]:
        """The records whose field has one of these values, by value as given; the side compares."""
        ...

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
        """A page of records in a stable order (by key). `fields` None: all. Raises InvalidFilter."""
        ...

    async def write(self, table: str, writes: Sequence[Write]) -> list[Written | Refused]:
        """Apply every write it can, answers in the order of the writes: one bad row fails alone.

        Raises SideUnavailable when nothing is known about the outcome; every write may be repeated.
        """
        ...


@dataclass(frozen=True, slots=True)
class NavRecord:
    """A NAV record as a person sees it; `integration_id` may be missing."""

    key: str
    integration_id: UUID | None
    version: str
    values: Values
    modified_at: datetime | None = None

    def snapshot(self, integration_id: UUID) -> Snapshot:
        """The record under its integration id."""
        return Snapshot(integration_id, self.key, self.version, self.values, self.modified_at)


class NavSide(RecordStore, Protocol):
    """What only NAV can do. `kept_here` says that its records are in our own database."""

    kept_here: bool

    def within(self, tx: "Transaction") -> RecordStore:
        """The same records as a part of a transaction of ours: what is written is there exactly when what is remembered
        of it is. Only for what is kept here; the first that happens in the transaction, since it waits for others."""
        ...

    async def definitions(self) -> Sequence[TableDefinition]:
        """Every table that can be mapped."""
        ...

    async def test(self) -> Mapping[str, Any]:
        """Reaches NAV and says what it found. Raises NavUnavailable."""
        ...

    async def by_key(
        self, table: str, keys: Collection[str], fields: Collection[str] | None = None
    ) -> dict[str, NavRecord]:
        """The records with these keys, with or without an integration id, by key as given."""
        ...

    async def records(
        self,
        table: str,
        *,
        filter: str | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[Sequence[NavRecord], str | None]:
        """A page of records in key order, with or without an integration id, and the next cursor."""
        ...

    def after(self, record: NavRecord) -> str:
        """The cursor with which `records` goes on behind this record, whatever was added or deleted before it."""
        ...

    async def create(
        self, table: str, key: str | None, values: Mapping[str, Any], *, preview: bool = False
    ) -> NavRecord:
        """A new record from outside input. Raises InvalidValues, AlreadyExists.

        A preview, here and below, checks and answers in the same way and writes nothing: a number of the series
        is shown and not used up, an integration id that would be new is missing.
        """
        ...

    async def change(
        self,
        table: str,
        key: str,
        values: Mapping[str, Any],
        version: str | None = None,
        *,
        preview: bool = False,
    ) -> NavRecord:
        """Changes fields from outside input; a new key renames, the integration id stays."""
        ...

    async def forget_deletions(self, before: datetime, limit: int) -> int:
        """Forgets up to so many deletions from before then; how many. Reading changes from a watermark before one of
        them raises WatermarkExpired from then on; a side that does not keep deletions itself forgets none."""
        ...

    async def remove(self, table: str, key: str, *, preview: bool = False) -> None:
        """Deletes the record and leaves a tombstone. Raises NavRecordNotFound."""
        ...

    async def bulk(
        self,
        table: str,
        records: Sequence[tuple[str | None, Mapping[str, Any]]],
        *,
        preview: bool = False,
    ) -> list[NavRecord | IntegrationError]:
        """Creates or changes many; one bad record harms no other. Answers in order."""
        ...

    async def present(self) -> str:
        """The watermark after which `changes` has nothing now, of any table."""
        ...

    async def count_changes(self, table: str, since: str | None) -> int:
        """How many records with an integration id changed since the watermark; all of them without one."""
        ...

    async def take_stock(self) -> None:
        """Lets the side learn how many records there are, after many were added at once."""
        ...

    async def ensure_ids(self, table: str, keys: Collection[str]) -> dict[str, UUID]:
        """The integration ids of these records, made on the way where missing."""
        ...

    async def generate_ids(self, tables: Collection[str]) -> dict[str, int]:
        """Gives every record of these tables that has none an integration id; how many, by table."""
        ...

    async def without_ids(self, tables: Collection[str]) -> dict[str, int]:
        """How many records of these tables have no integration id."""
        ...

    async def clear(self) -> None:
        """Forgets what is kept here of the company; a NAV far away is left as it is."""
        ...

    async def figures(self, customers: Collection[str]) -> dict[str, Values]:
        """The statistics figures of these customers, by number."""
        ...


@dataclass(frozen=True, slots=True)
class TestStep:
    """One step of a connection test; `ms` is its duration."""

    name: str
    ok: bool
    detail: str
    fix: str | None
    ms: int


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a connection test found out; it changes nothing."""

    steps: Sequence[TestStep]
    user_id: UUID | None = None
    organization_id: UUID | None = None
    crm_version: str | None = None
    base_currency: str | None = None
    integration_solution_installed: bool | None = None
    user_is_integration_user: bool | None = None
    user_is_administrator: bool | None = None
    sales_order_integration_enabled: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)


class CrmSide(RecordStore, Protocol):
    """What only CRM can do."""

    def shared(self, sharers: int) -> "CrmSide":
        """This side for one of so many who write sets at the same time: each takes no more than its share of the
        requests that may be under way, so that two halves of a set are no more requests than the whole."""
        ...

    async def require_entry(self, entities: Collection[str]) -> None:
        """Asks for one row of each of these entities, in one request: whether our user is let in at all.

        Raises LoginRefused; PermissionMissing when CRM shows it none of them; CrmUnavailable.
        """
        ...

    async def definition_of_set(self, entity_set: str) -> TableDefinition:
        """The entity behind a word in our URLs (`accounts`). Raises TableNotFound."""
        ...

    async def count(self, table: str, filter: str) -> int:
        """How many rows pass the filter."""
        ...

    async def counts(self, queries: Sequence[tuple[str, str]]) -> list[int]:
        """How many rows of each table pass its filter, asked together. Raises InvalidFilter."""
        ...


class SideFactory(Protocol):
    """Opens the two sides of a company."""

    def nav(self, company: Company) -> NavSide:
        """The NAV side of the company."""
        ...

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side behind the connection."""
        ...

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection step by step, whether it is enabled or not."""
        ...

    async def forget(self, company: Company) -> None:
        """Closes what was opened for the company, after its connection changed."""
        ...


class Clock(Protocol):
    """The time, in UTC."""

    def now(self) -> datetime: ...
