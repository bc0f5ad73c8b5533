"""Records that wait for another to be coupled: noted, forgotten and released in sets."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Uuid, bindparam, delete, literal_column, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import json_text, one_of_ids
from app.db.tables import waiting_record
from app.domain.records import Side
from app.ports import Wait

_NOTE = text("""
    INSERT INTO waiting_record
        (company_id, mapping, side, record_id, needs_table, needs_key, needs_crm_id, despite_id)
    SELECT known.company_id, known.name, :side,
           given.record_id, given.needs_table, given.needs_key, given.needs_crm_id, given.despite_id
    FROM integration_table_mapping AS known,
         json_to_recordset(CAST(:rows AS json)) AS given(
             record_id uuid, needs_table text, needs_key text, needs_crm_id uuid, despite_id uuid)
    WHERE known.company_id = :company_id AND known.name = :mapping
    ORDER BY given.record_id
    ON CONFLICT (company_id, mapping, side, record_id) DO UPDATE
    SET needs_table = excluded.needs_table, needs_key = excluded.needs_key,
        needs_crm_id = excluded.needs_crm_id, despite_id = excluded.despite_id
    """)  # a mapping that was deleted meanwhile has nobody who waits

# Both halves of the union are found by an index; an "or" between them would read every coupling of the table, and
# so would a limit instead of the aggregate: it lets the planner hope for a match among the first.
_HELPED = """
    FROM waiting_record AS waiting
    CROSS JOIN LATERAL (
        SELECT (array_agg(matching.id))[1] AS id FROM (
            SELECT id FROM coupling
            WHERE waiting.needs_key IS NOT NULL AND nav_key = waiting.needs_key
              AND company_id = waiting.company_id AND nav_table = waiting.needs_table
              AND status = 'coupled' AND id IS DISTINCT FROM waiting.despite_id
            UNION ALL
            SELECT id FROM coupling
            WHERE waiting.needs_crm_id IS NOT NULL AND crm_id = waiting.needs_crm_id
              AND company_id = waiting.company_id AND nav_table = waiting.needs_table
              AND status = 'coupled' AND id IS DISTINCT FROM waiting.despite_id
        ) AS matching
    ) AS helpful
    """
_OF_MAPPING = """
    helpful.id IS NOT NULL AND waiting.company_id = integration_table_mapping.company_id
    AND waiting.mapping = integration_table_mapping.name
    """
_COUPLED = """EXISTS (
    SELECT FROM coupling AS own
    WHERE own.company_id = waiting.company_id AND own.nav_table = integration_table_mapping.nav_table
      AND (waiting.side = 'nav' AND own.nav_id = waiting.record_id
           OR waiting.side = 'crm' AND own.crm_id = waiting.record_id))"""
_RELEASED = text(f"""
    SELECT waiting.record_id, helpful.id {_HELPED} JOIN integration_table_mapping ON {_OF_MAPPING}
    WHERE waiting.company_id = :company_id AND waiting.mapping = :mapping AND waiting.side = :side
      AND (CAST(:after AS uuid) IS NULL OR waiting.record_id > :after)
      AND (:uncoupled OR {_COUPLED})
    ORDER BY waiting.record_id LIMIT :limit
    """)
HAS_RELEASED: ColumnElement[bool] = literal_column(
    f"""EXISTS (
    SELECT {_HELPED} WHERE {_OF_MAPPING}
      AND integration_table_mapping.direction <>
          CASE waiting.side WHEN 'nav' THEN 'from_crm' ELSE 'to_crm' END
      AND (NOT integration_table_mapping.synch_only_coupled_records OR {_COUPLED}))""",
    Boolean,
)
"""Whether the next run of an integration table mapping, as it is set up, would find a record whose wait is over."""


class SqlWaitingRecords:
    """The waiting records of all companies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def note(self, company_id: int, mapping: str, side: Side, waits: Sequence[Wait]) -> None:
        """Notes what records wait for now, in one statement, instead of what was noted of them before."""
        rows = [
            {
                "record_id": wait.record_id,
                "needs_table": wait.awaited.nav_table,
                "needs_key": wait.awaited.nav_key,
                "needs_crm_id": wait.awaited.crm_id,
                "despite_id": wait.despite,
            }
            for wait in waits
        ]
        given = {"company_id": company_id, "mapping": mapping, "side": side.value, "rows": json_text(rows)}
        await self._connection.execute(_NOTE, given)

    async def forget(self, company_id: int, mapping: str, side: Side, ids: Collection[UUID]) -> None:
        """These records wait no longer."""
        statement = delete(waiting_record).where(
            waiting_record.c.company_id == company_id,
            waiting_record.c.mapping == mapping,
            waiting_record.c.side == side.value,
            one_of_ids(waiting_record.c.record_id, ids),
        )
        await self._connection.execute(statement)

    async def released(
        self,
        company_id: int,
        mapping: str,
        side: Side,
        *,
        uncoupled: bool,
        after: UUID | None = None,
        limit: int = 1000,
    ) -> dict[UUID, UUID]:
        """The records whose wait is over, each with the coupling it had waited for, in the order of their ids.
        Without `uncoupled` only those that have a coupling themselves."""
        found = await self._connection.execute(
            _RELEASED.bindparams(bindparam("after", type_=Uuid)),
            {
                "company_id": company_id,
                "mapping": mapping,
                "side": side.value,
                "uncoupled": uncoupled,
                "after": after,
                "limit": limit,
            },
        )
        return {row.record_id: row.id for row in found}
