"""Couplings: read, reserved and written back in sets."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Select, Uuid, bindparam, delete, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import coupling_rows
from app.db.arrays import json_text, one_of_ids
from app.db.tables import coupling
from app.db.tables import integration_table_mapping as table_row
from app.db.violations import translated
from app.domain.coupling import Coupling, CouplingStatus, SynchResult
from app.domain.errors import Busy, NoCoupling
from app.domain.records import Side

_RESERVE = text(f"""
    INSERT INTO coupling (company_id, {coupling_rows.COLUMNS})
    SELECT :company_id, {coupling_rows.COLUMNS}
    FROM json_to_recordset(CAST(:rows AS json)) AS given({coupling_rows.TYPES})
    ON CONFLICT DO NOTHING RETURNING id
    """)  # noqa: S608 - names of our columns, no input
_HELD = f"""
    SELECT {coupling_rows.HELD} FROM coupling AS held
    JOIN json_to_recordset(CAST(:rows AS json)) AS given(nav_table text, nav_id uuid, crm_id uuid)
      ON held.company_id = :company_id AND held.nav_table = given.nav_table AND
    """  # noqa: S608 - names of our columns, no input
# An "or" between the two would find neither by its whole key, and walk through the company's couplings for each.
_HOLDERS = text(f"{_HELD} held.nav_id = given.nav_id UNION ALL {_HELD} held.crm_id = given.crm_id").columns(
    **{column.name: column.type for column in coupling_rows.SELECTED}
)
_SAVE = text(f"""
    UPDATE coupling AS held SET {coupling_rows.ASSIGNMENTS}, revision = held.revision + 1
    FROM json_to_recordset(CAST(:rows AS json)) AS given({coupling_rows.SAVED})
    WHERE held.id = given.id AND held.company_id = :company_id AND held.revision = given.revision
    RETURNING held.id
    """)  # noqa: S608 - names of our columns, no input
_INTEND = text("""
    UPDATE coupling AS held SET intent = given.intent, replacing = given.replacing
    FROM json_to_recordset(CAST(:rows AS json))
      AS given(id uuid, intent json, replacing boolean, revision integer)
    WHERE held.id = given.id AND held.company_id = :company_id AND held.revision = given.revision
    RETURNING held.id
    """)
_BY_ID = {
    side: select(*coupling_rows.SELECTED).where(
        coupling.c.company_id == bindparam("company"),
        coupling.c.nav_table == bindparam("table"),
        column == func.any(bindparam("ids", type_=ARRAY(Uuid))),
    )
    for side, column in ((Side.NAV, coupling.c.nav_id), (Side.CRM, coupling.c.crm_id))
}
"""What is asked most often is made once."""
_HAS_MAPPING = exists().where(
    table_row.c.company_id == coupling.c.company_id, table_row.c.name == coupling.c.mapping
)
_TAKE_STOCK = text("""
    ANALYZE (SKIP_LOCKED) coupling (
        company_id, mapping, nav_table, nav_id, nav_key, crm_entity, crm_id, last_error, skipped, replacing)
    """)  # the last three: without them it looks through all couplings for the few that failed
_RENAME = text("""
    UPDATE coupling AS held SET nav_key = given.nav_key
    FROM json_to_recordset(CAST(:rows AS json)) AS given(nav_id uuid, nav_key text)
    WHERE held.company_id = :company_id AND held.nav_table = :nav_table AND held.nav_id = given.nav_id
    """)
_TRIES = 3


class SqlCouplings:
    """The couplings of all companies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, company_id: int, coupling_id: UUID) -> Coupling:
        """Raises NoCoupling."""
        found = await self._read(_of(company_id).where(coupling.c.id == coupling_id))
        if not found:
            raise NoCoupling(
                f"There is no coupling {coupling_id}.", fix="GET …/couplings lists those there are."
            )
        return found[0]

    async def of_nav(
        self, company_id: int, nav_table: str, nav_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]:
        """The couplings of these NAV records, by integration id."""
        given = {"company": company_id, "table": nav_table, "ids": list(nav_ids)}
        return {found.nav_id: found for found in await self._read(_BY_ID[Side.NAV], given)}

    async def of_crm(
        self, company_id: int, nav_table: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]:
        """The couplings of these CRM rows with records of that NAV table, by CRM id."""
        given = {"company": company_id, "table": nav_table, "ids": list(crm_ids)}
        return {found.crm_id: found for found in await self._read(_BY_ID[Side.CRM], given)}

    async def of_entity(
        self, company_id: int, crm_entity: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, list[Coupling]]:
        """The couplings of these CRM rows with whatever NAV table, by CRM id."""
        query = _of(company_id).where(
            coupling.c.crm_entity == crm_entity, one_of_ids(coupling.c.crm_id, crm_ids)
        )
        found: defaultdict[UUID, list[Coupling]] = defaultdict(list)
        for one in await self._read(query.order_by(coupling.c.id)):
            found[one.crm_id].append(one)
        return dict(found)

    async def page(
        self,
        company_id: int,
        *,
        mapping: str | None = None,
        skipped: bool | None = None,
        last_synch_result: str | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[Coupling]:
        """At most `limit` couplings in the order of their ids, from the one after `after` on."""
        query = _of(company_id).where(*_which(mapping, skipped)).order_by(coupling.c.id).limit(limit)
        if last_synch_result is not None:
            query = query.where(_ended(last_synch_result))
        if after is not None:
            query = query.where(coupling.c.id > after)
        return await self._read(query)

    async def ids(
        self,
        company_id: int,
        mapping: str,
        nav_table: str,
        crm_entity: str,
        side: Side,
        *,
        after: UUID | None = None,
        limit: int = 1000,
    ) -> list[UUID]:
        """The ids that the coupled records of a mapping have on that side, those of mappings that are gone too: at most
        `limit`, in their order, from the one after `after` on."""
        column = coupling.c.nav_id if side is Side.NAV else coupling.c.crm_id
        query = (
            select(column)
            .where(
                coupling.c.company_id == company_id,
                coupling.c.nav_table == nav_table,  # its unique keys hold these ids in their order
                coupling.c.crm_entity == crm_entity,
                or_(coupling.c.mapping == mapping, ~_HAS_MAPPING),
                coupling.c.status == CouplingStatus.COUPLED,
            )
            .order_by(column)
            .limit(limit)
        )
        if after is not None:
            query = query.where(column > after)
        return list((await self._connection.execute(query)).scalars().all())

    async def count(self, company_id: int, mapping: str | None = None, skipped: bool | None = None) -> int:
        """How many couplings there are."""
        query = (
            select(func.count())
            .select_from(coupling)
            .where(coupling.c.company_id == company_id, *_which(mapping, skipped))
        )
        return (await self._connection.execute(query)).scalar_one()

    async def reserve(self, company_id: int, couplings: Sequence[Coupling]) -> list[Coupling]:
        """Inserts what it can and answers, in order, the coupling that holds now: ours, or the one that was
        there first for that NAV record or, failing that, for that CRM row.

        One statement when all are new, one more when some were taken. Raises Busy when the winner of a
        reservation vanished again and again.
        """
        ours: set[UUID] = set()
        holders: dict[UUID, Coupling] = {}
        open_ = list(couplings)
        for _ in range(_TRIES):
            ours |= await self._insert(company_id, open_)
            losers = [one for one in open_ if one.id not in ours]
            if not losers:
                break
            holders |= await self._holders(company_id, losers)
            open_ = [one for one in losers if one.id not in holders]
            if not open_:
                break
        else:
            raise Busy(f"The coupling of {open_[0].nav_key} is being made and deleted at this moment.")
        return [one if one.id in ours else holders[one.id] for one in couplings]

    async def save(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        """Writes back couplings read before, in one statement; those whose revision moved meanwhile are left
        alone, and so is which records they couple. Returns the ids that were saved."""
        if not couplings:
            return set()
        rows = [coupling_rows.encode_saved(one) for one in _in_lock_order(couplings)]
        saved = await self._connection.execute(_SAVE, {"company_id": company_id, "rows": json_text(rows)})
        return set(saved.scalars().all())

    async def rename(self, company_id: int, nav_table: str, nav_keys: Mapping[UUID, str]) -> None:
        """The NAV records with these integration ids have other keys now: their couplings show them. Their revision
        stays, as what both sides agree on does."""
        rows = [
            {"nav_id": coupling_rows.plain_id(nav_id), "nav_key": key}
            for nav_id, key in sorted(nav_keys.items())
        ]
        given = {"company_id": company_id, "nav_table": nav_table, "rows": json_text(rows)}
        await self._connection.execute(_RENAME, given)

    async def intend(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        """Writes the intents of couplings read before, in one statement, and nothing else of them: their revision
        stays. Those whose revision moved meanwhile are left alone. Returns the ids that were written."""
        if not couplings:
            return set()
        rows = [
            {
                "id": coupling_rows.plain_id(one.id),
                "intent": coupling_rows.encode_intent(one.intent),
                "replacing": one.replacing,
                "revision": one.revision,
            }
            for one in _in_lock_order(couplings)
        ]
        written = await self._connection.execute(_INTEND, {"company_id": company_id, "rows": json_text(rows)})
        return set(written.scalars().all())

    async def replacing(self, company_id: int, mapping: str) -> list[Coupling]:
        """The couplings of a mapping whose replacement was begun and not remembered."""
        return await self._read(_of(company_id).where(coupling.c.mapping == mapping, coupling.c.replacing))

    async def delete(self, company_id: int, ids: Collection[UUID]) -> int:
        """Deletes these couplings; how many there were. The records stay."""
        statement = delete(coupling).where(
            coupling.c.company_id == company_id, one_of_ids(coupling.c.id, ids)
        )
        return (await self._connection.execute(statement)).rowcount

    async def take_stock(self) -> None:
        """Lets the database learn how many there are of each kind, after many were added at once.

        It does so by itself, but minutes later; until then it takes every company for a small one, and looks through
        all its couplings for those of a set.
        """
        await self._connection.execute(_TAKE_STOCK)

    async def _read(self, query: Select[Any], given: Mapping[str, Any] | None = None) -> list[Coupling]:
        return [coupling_rows.decode(row) for row in (await self._connection.execute(query, given)).all()]

    async def _insert(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        if not couplings:
            return set()
        rows = [coupling_rows.encode(one) for one in _in_lock_order(couplings)]
        with translated("a coupling of one of these records"):
            inserted = await self._connection.execute(
                _RESERVE, {"company_id": company_id, "rows": json_text(rows)}
            )
        return set(inserted.scalars().all())

    async def _holders(self, company_id: int, losers: Sequence[Coupling]) -> dict[UUID, Coupling]:
        """By the id we had chosen: the coupling that holds instead. NAV's comes before CRM's."""
        rows = [{"nav_table": one.nav_table, "nav_id": one.nav_id, "crm_id": one.crm_id} for one in losers]
        held = await self._connection.execute(_HOLDERS, {"company_id": company_id, "rows": json_text(rows)})
        found = [coupling_rows.decode(row) for row in held.all()]
        by_nav = {(one.nav_table, one.nav_id): one for one in found}
        by_crm = {(one.nav_table, one.crm_id): one for one in found}
        answers = {
            one.id: by_nav.get((one.nav_table, one.nav_id)) or by_crm.get((one.nav_table, one.crm_id))
            for one in losers
        }
        return {id_: holder for id_, holder in answers.items() if holder is not None}


def _of(company_id: int) -> Select[Any]:
    return select(*coupling_rows.SELECTED).where(coupling.c.company_id == company_id)


def _which(mapping: str | None, skipped: bool | None) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if mapping is not None:
        conditions.append(coupling.c.mapping == mapping)
    if skipped is not None:
        conditions.append(coupling.c.skipped if skipped else ~coupling.c.skipped)
    return conditions


def _ended(result: str) -> ColumnElement[bool]:
    """Which have that result. A failure has an error, which is what the index of the failed ones goes by."""
    if result == SynchResult.FAILURE:
        return coupling.c.last_error.is_not(None)
    return coupling.c.last_synch_result == result


def _in_lock_order(couplings: Sequence[Coupling]) -> list[Coupling]:
    """Everyone takes the records in the same order, so that two sets do not wait for each other."""
    return sorted(couplings, key=lambda one: (one.nav_table, one.nav_id))
