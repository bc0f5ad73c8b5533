"""Integration table mappings with their field rows, and option mappings."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, insert, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import json_text, one_of_texts
from app.db.revisions import first_revision
from app.db.tables import company, option_mapping
from app.db.tables import integration_field_mapping as field_row
from app.db.tables import integration_table_mapping as table_row
from app.db.violations import translated
from app.domain.errors import MappingNotFound, PreconditionFailed
from app.domain.mapping import (
    DeletionConflictResolution,
    Direction,
    FieldMapping,
    FieldStatus,
    TableMapping,
    UpdateConflictResolution,
)
from app.domain.records import Side
from app.ports import StoredMapping

_AS_IS = (
    "nav_table", "crm_entity", "direction", "nav_filter", "crm_filter", "synch_only_coupled_records",
    "update_conflict_resolution", "deletion_conflict_resolution", "nav_template", "crm_template", "is_default",
    "option_attribute", "position",
)  # fmt: skip
_FIELD_AS_IS = (
    "nav_field", "crm_attribute", "direction", "constant_value", "transformation", "clear_value_on_failed_synch",
    "not_null", "validate", "status",
)  # fmt: skip

# The rows of a mapping come with it: settings are read before everything else, in one trip.
_FIELDS = (
    select(
        func.jsonb_agg(
            aggregate_order_by(func.to_jsonb(literal_column(field_row.name)), field_row.c.position),
            type_=JSONB,
        )
    )
    .where(field_row.c.company_id == table_row.c.company_id, field_row.c.mapping == table_row.c.name)
    .correlate(table_row)
    .scalar_subquery()
    .label("fields")
)


class SqlMappings:
    """The integration table mappings of all companies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, company_id: int, name: str, *, lock: bool = False) -> StoredMapping:
        """The mapping of that name; with `lock` as in `all`. Raises MappingNotFound."""
        if lock:
            await self._lock(company_id)
        found = await self._load(company_id, name)
        if not found:
            raise MappingNotFound(
                f"There is no integration table mapping {name}.",
                fix="GET …/integration-table-mappings lists those there are.",
            )
        return found[0]

    async def all(self, company_id: int, *, lock: bool = False) -> list[StoredMapping]:
        """In the order of their position, then name; with `lock` nobody else who locks changes any of them, or which
        there are, before this transaction ends."""
        if lock:
            await self._lock(company_id)
        return await self._load(company_id)

    async def add(self, company_id: int, mapping: TableMapping) -> StoredMapping:
        """Raises AlreadyExists."""
        named = {"company_id": company_id, "name": mapping.name}
        values = _values(mapping) | named | {"revision": first_revision(), "edition": first_revision()}
        with translated(f"an integration table mapping {mapping.name}"):
            await self._connection.execute(insert(table_row).values(values))
        await self._insert_fields(company_id, mapping)
        return await self.get(company_id, mapping.name)

    async def save(
        self, company_id: int, mapping: TableMapping, revision: int | None = None
    ) -> StoredMapping:
        """Replaces the mapping and its field rows (rows keep their ids). Raises PreconditionFailed."""
        statement = (
            update(table_row)
            .where(table_row.c.company_id == company_id, table_row.c.name == mapping.name)
            .values(_values(mapping) | {"revision": table_row.c.revision + 1})
        )
        if revision is not None:
            statement = statement.where(table_row.c.revision == revision)
        if not (await self._connection.execute(statement)).rowcount:
            await self.get(company_id, mapping.name)
            raise PreconditionFailed(
                f"The integration table mapping {mapping.name} was changed since it was read.",
                fix="Read it again and repeat the change.",
            )
        await self._connection.execute(
            delete(field_row).where(field_row.c.company_id == company_id, field_row.c.mapping == mapping.name)
        )
        await self._insert_fields(company_id, mapping)
        return await self.get(company_id, mapping.name)

    async def delete(self, company_id: int, names: Collection[str]) -> None:
        """Deletes these mappings with their field rows."""
        which = (table_row.c.company_id == company_id, one_of_texts(table_row.c.name, names))
        await self._connection.execute(delete(table_row).where(*which))

    async def set_watermark(
        self,
        company_id: int,
        mapping: str,
        side: Side,
        watermark: str | None,
        until: datetime | None,
        *,
        edition: int | None = None,
    ) -> None:
        """Moves one side's watermark; no change of the mapping, so its revision stays. With an edition only where the
        mapping still has it. Raises MappingNotFound."""
        statement = (
            update(table_row)
            .where(table_row.c.company_id == company_id, table_row.c.name == mapping)
            .values({f"{side}_watermark": watermark, f"{side}_synched_until": until})
        )
        if edition is not None:
            statement = statement.where(table_row.c.edition == edition)
        if not (await self._connection.execute(statement)).rowcount:
            await self.get(company_id, mapping)

    async def read_again(self, company_id: int, mapping: str, sides: Collection[Side] = tuple(Side)) -> None:
        """Has the mapping's records on these sides read again from the first, and all of them looked at, though they
        did not change: what couplings know of their versions was of another edition."""
        unread = {name: None for side in sides for name in (f"{side}_watermark", f"{side}_synched_until")}
        await self._connection.execute(
            update(table_row)
            .where(table_row.c.company_id == company_id, table_row.c.name == mapping)
            .values({**unread, "edition": table_row.c.edition + 1})
        )

    async def _lock(self, company_id: int) -> None:
        """Waits for others; on the company, because there may be no mappings yet. Rows below it can be added."""
        row = select(company.c.id).where(company.c.id == company_id)
        await self._connection.execute(row.with_for_update(key_share=True))

    async def _load(self, company_id: int, name: str | None = None) -> list[StoredMapping]:
        query = select(table_row, _FIELDS).where(table_row.c.company_id == company_id)
        if name is not None:
            query = query.where(table_row.c.name == name)
        found = await self._connection.execute(query.order_by(table_row.c.position, table_row.c.name))
        return [_stored(row, [_field(field) for field in row.fields or ()]) for row in found]

    async def _insert_fields(self, company_id: int, mapping: TableMapping) -> None:
        kept = [row for row in mapping.fields if row.rule is None]
        if not kept:
            return
        rows = [
            {name: getattr(row, name) for name in _FIELD_AS_IS}
            | {
                "id": row.id or uuid4(),
                "company_id": company_id,
                "mapping": mapping.name,
                "position": position,
            }
            for position, row in enumerate(kept)
        ]
        with translated(f"a field row of the integration table mapping {mapping.name} with that id"):
            await self._connection.execute(insert(field_row), rows)


_RENAME = text("""
    UPDATE option_mapping AS held SET nav_key = given.new
    FROM json_to_recordset(CAST(:rows AS json)) AS given(old text, new text)
    WHERE held.company_id = :company_id AND held.nav_table = :nav_table AND held.nav_key = given.old
    """)


class SqlOptionMappings:
    """Which NAV record stands for which option value of a CRM attribute."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def replace(
        self, company_id: int, nav_table: str, crm_attribute: str, values: Mapping[str, int]
    ) -> None:
        """Which NAV key stands for which option value; what stood there before goes."""
        await self._connection.execute(
            delete(option_mapping).where(
                option_mapping.c.company_id == company_id,
                option_mapping.c.nav_table == nav_table,
                option_mapping.c.crm_attribute == crm_attribute,
            )
        )
        same = {"company_id": company_id, "nav_table": nav_table, "crm_attribute": crm_attribute}
        rows = [same | {"nav_key": key, "option_value": value} for key, value in values.items()]
        if rows:
            with translated(f"the option values of {crm_attribute}"):
                await self._connection.execute(insert(option_mapping), rows)

    async def rename(self, company_id: int, nav_table: str, nav_keys: Mapping[str, str]) -> None:
        """The NAV records of these keys have others now, and stand for the options they stood for."""
        held = option_mapping.c
        here = (held.company_id == company_id, held.nav_table == nav_table)
        found = await self._connection.execute(
            select(held.nav_key).where(*here, one_of_texts(held.nav_key, nav_keys.keys()))
        )
        # Of the others nothing is kept: they stand for no option, or their key is only spelled in another way.
        moved = {old: nav_keys[old] for old in found.scalars()}
        taken = set(moved.values()) - set(moved)  # by records that are gone by now
        await self._connection.execute(delete(option_mapping).where(*here, one_of_texts(held.nav_key, taken)))
        rows = [{"old": old, "new": new} for old, new in moved.items()]
        given = {"company_id": company_id, "nav_table": nav_table, "rows": json_text(rows)}
        await self._connection.execute(_RENAME, given)

    async def all(self, company_id: int) -> dict[tuple[str, str], dict[str, int]]:
        """By NAV table and CRM attribute: key -> option value."""
        query = (
            select(option_mapping)
            .where(option_mapping.c.company_id == company_id)
            .order_by(option_mapping.c.option_value, option_mapping.c.nav_key)
        )
        found: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        for row in await self._connection.execute(query):
            found[row.nav_table, row.crm_attribute][row.nav_key] = row.option_value
        return dict(found)


def _values(mapping: TableMapping) -> dict[str, Any]:
    return {name: getattr(mapping, name) for name in _AS_IS} | {"depends_on": list(mapping.depends_on)}


def _field(row: Mapping[str, Any]) -> FieldMapping:
    same = {name: row[name] for name in _FIELD_AS_IS}
    converted = {"direction": Direction(row["direction"]), "status": FieldStatus(row["status"])}
    return FieldMapping(**same | converted | {"id": UUID(row["id"])})


def _stored(row: Row[Any], fields: Sequence[FieldMapping]) -> StoredMapping:
    same = {name: getattr(row, name) for name in _AS_IS}
    mapping = TableMapping(
        **same
        | {
            "name": row.name,
            "direction": Direction(row.direction),
            "update_conflict_resolution": UpdateConflictResolution(row.update_conflict_resolution),
            "deletion_conflict_resolution": DeletionConflictResolution(row.deletion_conflict_resolution),
            "depends_on": tuple(row.depends_on),
            "fields": tuple(fields),
        }
    )
    return StoredMapping(
        mapping,
        nav_watermark=row.nav_watermark,
        crm_watermark=row.crm_watermark,
        nav_synched_until=row.nav_synched_until,
        crm_synched_until=row.crm_synched_until,
        revision=row.revision,
        edition=row.edition,
    )
