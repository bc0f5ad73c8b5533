"""The NAV side over our own PostgreSQL: an embedded company."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from app.domain.company import Company
from app.domain.errors import DatabaseFull, DatabaseUnavailable, IntegrationError, NavRefused, TableNotFound
from app.domain.naming import near
from app.domain.records import Side, Snapshot, TableDefinition, Values
from app.nav import entry, lookups, statements, tombstones
from app.nav.changes import changed_pages, count_query, settled_version, waiting
from app.nav.definitions import NavTable, nav_tables
from app.nav.identities import count_without, give_ids
from app.nav.keys import by_canonical
from app.nav.rows import Projection
from app.nav.saving import Scope
from app.nav.tables import metadata, nav_record
from app.nav.writes import write
from app.ports import Listing, NavRecord, Page, Refused, Transaction, Write, Written

log = structlog.get_logger(__name__)
Answer = TypeVar("Answer")

# The server gave up one of several transactions that waited for each other, or somebody took a key that was free a
# moment before; the same again succeeds, or says whose the key is.
REPEATABLE = frozenset({"40001", "40P01", "23505"})
DISK_FULL = "53100"
# No such table or column, no right to it, a statement that is none.
OUR_FAULT = ("0A", "42")
ATTEMPTS = 5
CREDIT_LIMIT = "Credit_Limit_LCY"

UNREACHABLE = (DBAPIError, OSError, PoolTimeout)


class EmbeddedNav:
    """The records of one company. `company.tracking` decides whether new records get integration ids.

    `reading` is the engine without transactions, where it was made before: making it takes as long as a question.
    With `joined`, the connection of a transaction that somebody else ends, every question and every change is part of
    that. `apart` is where its numbers are drawn, so that nobody waits for its end; without it they are drawn in it.
    """

    side = Side.NAV
    kept_here = True

    def __init__(
        self,
        engine: AsyncEngine,
        company: Company,
        reading: AsyncEngine | None = None,
        apart: AsyncEngine | None = None,
        joined: AsyncConnection | None = None,
    ) -> None:
        self._engine = engine
        self._apart = apart
        self._joined = joined
        self._reading = reading or engine.execution_options(isolation_level="AUTOCOMMIT")
        self._company = company
        self._tables = nav_tables(company.defaults_generation)

    def within(self, tx: Transaction) -> "EmbeddedNav":
        """The records as a part of that transaction."""
        if not isinstance(tx.handle, AsyncConnection):
            raise TypeError(f"{tx.handle!r} is no connection to the database of the NAV side")
        return EmbeddedNav(self._engine, self._company, self._reading, self._apart, tx.handle)

    # --- what there is ----------------------------------------------------------------------------

    async def definition(self, table: str, fields: Collection[str] = ()) -> TableDefinition:
        """What the table holds. Raises TableNotFound."""
        return self._table(table).definition

    async def definitions(self) -> Sequence[TableDefinition]:
        """Every table that can be mapped."""
        return [table.definition for table in self._tables.values()]

    async def test(self) -> Mapping[str, Any]:
        """Says how many records there are, by table. Raises DatabaseUnavailable."""
        started = time.perf_counter()
        query = (
            select(nav_record.c.nav_table, func.count())
            .where(nav_record.c.company_id == self._company.id)
            .group_by(nav_record.c.nav_table)
        )

        async def count(scope: Scope) -> dict[str, int]:
            return {row[0]: row[1] for row in await scope.connection.execute(query)}

        counts = await self._read(count)
        records = {name: counts[name] for name in self._tables if name in counts}
        return {"kind": "embedded", "records": records, "ms": round((time.perf_counter() - started) * 1000)}

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, table: str, ids: Collection[UUID], fields: Collection[str]) -> dict[UUID, Snapshot]:
        """The records that exist among these ids, with these fields."""
        projection = Projection(self._table(table), fields)
        return await self._read(lambda scope: lookups.by_id(scope, projection, ids)) if ids else {}

    def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """What changed or was deleted since the watermark, page by page; everything without one."""
        projection = Projection(self._table(table), fields)
        return self._pages(changed_pages(self._engine, self._company.id, projection, since))

    async def _pages(self, pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
        try:
            async for page in pages:
                yield page
        except UNREACHABLE as error:
            raise _translated(error) from error

    async def changed(self, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these tables and versions after which there is a change, or that are no versions of ours."""
        known = [(self._table(table), version) for table, version in places if version.isdecimal()]
        unknown = {place for place in places if not place[1].isdecimal()}
        if not known:
            return unknown
        query = waiting(self._company.id, known)

        async def ask(scope: Scope) -> set[tuple[str, str]]:
            return {(row[0], row[1]) for row in await scope.connection.execute(query)}

        return unknown | await self._read(ask)

    async def present(self) -> str:
        """The version up to which everything is settled. Raises DatabaseUnavailable."""
        try:
            return str(await settled_version(self._engine, self._company.id))
        except UNREACHABLE as error:
            raise _translated(error) from error

    async def count_changes(self, table: str, since: str | None) -> int:
        """How many records with an integration id changed since the watermark; all of them without one."""
        query = count_query(self._company.id, self._table(table), since)

        async def ask(scope: Scope) -> int:
            return int(await scope.connection.scalar(query) or 0)

        return await self._read(ask)

    async def match(
        self, table: str, field: str, values: Collection[str], fields: Collection[str] = ()
    ) -> dict[str, list[Snapshot]]:
        """The records with an integration id whose field has one of these values, whatever the capitals."""
        projection = Projection(self._table(table), {*fields, field})
        return (
            await self._read(lambda scope: lookups.matching(scope, projection, field, values))
            if values
            else {}
        )

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
        """A page, in key order, of records with an integration id. Raises InvalidFilter."""
        projection = Projection(self._table(table), fields)
        query = lookups.page_query(
            self._company.id, projection, filter, search, limit, cursor, only_with_id=True
        )
        rows, following = await self._read(lambda scope: lookups.page(scope, projection, query, limit))
        return Listing([projection.snapshot(row) for row in rows], following)

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
        projection = Projection(self._table(table), None)
        query = lookups.page_query(self._company.id, projection, filter, search, limit, cursor)
        rows, following = await self._read(lambda scope: lookups.page(scope, projection, query, limit))
        return [projection.record(row) for row in rows], following

    def after(self, record: NavRecord) -> str:
        """The cursor with which `records` goes on behind this record."""
        return record.key

    async def by_key(
        self, table: str, keys: Collection[str], fields: Collection[str] | None = None
    ) -> dict[str, NavRecord]:
        """The records with these keys, by key as given."""
        nav_table = self._table(table)
        return await self._read(lambda scope: lookups.by_key(scope, nav_table, fields, keys)) if keys else {}

    async def figures(self, customers: Collection[str]) -> dict[str, Values]:
        """The statistics figures of the customers that exist among these numbers, and their credit limits."""
        table = self._table("customers")
        records = await self.by_key("customers", customers, {*table.figures, CREDIT_LIMIT})
        return {number: record.values for number, record in records.items()}

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, table: str, writes: Sequence[Write]) -> list[Written | Refused]:
        """Applies every write it can, in one transaction; one bad row fails alone."""
        nav_table = self._table(table)
        if not writes:
            return []
        try:
            return await self._change(lambda scope: write(scope, nav_table, writes))
        except NavRefused as error:
            # The database refused something that our checks let through: find out which row it was.
            if len(writes) == 1:
                return [Refused(writes[0].id, error)]
            return [outcome for one in writes for outcome in await self.write(table, [one])]

    async def create(
        self, table: str, key: str | None, values: Mapping[str, Any], *, preview: bool = False
    ) -> NavRecord:
        """A new record from outside input. Raises InvalidValues, AlreadyExists."""
        nav_table = self._table(table)
        return await self._change(lambda scope: entry.create(scope, nav_table, key, values), preview)

    async def change(
        self,
        table: str,
        key: str,
        values: Mapping[str, Any],
        version: str | None = None,
        *,
        preview: bool = False,
    ) -> NavRecord:
        """Changes fields from outside input; a new key renames, the integration id stays.

        Raises NavRecordNotFound, InvalidValues, AlreadyExists and, with a version, StaleRecord.
        """
        nav_table = self._table(table)
        return await self._change(lambda scope: entry.change(scope, nav_table, key, values, version), preview)

    async def remove(self, table: str, key: str, *, preview: bool = False) -> None:
        """Deletes the record and leaves a tombstone. Raises NavRecordNotFound."""
        nav_table = self._table(table)
        await self._change(lambda scope: entry.remove(scope, nav_table, key), preview)

    async def bulk(
        self,
        table: str,
        records: Sequence[tuple[str | None, Mapping[str, Any]]],
        *,
        preview: bool = False,
    ) -> list[NavRecord | IntegrationError]:
        """Creates or changes many; one bad record harms no other. Answers in order. Raises Invalid."""
        nav_table = self._table(table)
        try:
            return await self._change(lambda scope: entry.bulk(scope, nav_table, records), preview)
        except NavRefused as error:
            if len(records) == 1:
                return [error]
            return [outcome for one in records for outcome in await self.bulk(table, [one], preview=preview)]

    async def forget_deletions(self, before: datetime, limit: int) -> int:
        """Forgets up to so many deletions from before then; how many. Reading changes from a version before one of
        them raises WatermarkExpired from now on."""
        return await self._change(
            lambda scope: tombstones.forget(scope.connection, self._company.id, before, limit)
        )

    async def clear(self) -> None:
        """Removes everything the company has here. Nothing is left, not even tombstones."""

        async def delete(scope: Scope) -> None:
            for owned in metadata.sorted_tables:
                await scope.connection.execute(owned.delete().where(owned.c.company_id == self._company.id))

        await self._change(delete)

    # --- integration ids --------------------------------------------------------------------------

    async def ensure_ids(self, table: str, keys: Collection[str]) -> dict[str, UUID]:
        """The integration ids of these records, made on the way where missing; by key as given.

        Whoever couples a record by hand gets its id even where NAV would give none by itself: in a table
        that is not integrated, or while changes are not tracked.
        """
        nav_table = self._table(table)
        canonical = by_canonical(nav_table, keys)

        async def ensure(scope: Scope) -> dict[str, UUID]:
            await give_ids(scope.connection, self._company, nav_table, canonical.keys())
            found = await lookups.by_key(scope, nav_table, (), keys)
            return {key: record.integration_id for key, record in found.items() if record.integration_id}

        return await self._change(ensure) if keys else {}

    async def generate_ids(self, tables: Collection[str]) -> dict[str, int]:
        """Gives every record of these tables that has none, and may get one, an integration id; how many, by
        table."""
        generated = {}
        for nav_table in [self._table(name) for name in tables]:
            generated[nav_table.name] = 0
            if not nav_table.integrated:
                continue
            while number := len(await self._give_ids(nav_table)):
                generated[nav_table.name] += number
        return generated

    async def _give_ids(self, table: NavTable) -> dict[str, UUID]:
        return await self._change(lambda scope: give_ids(scope.connection, self._company, table, None))

    async def without_ids(self, tables: Collection[str]) -> dict[str, int]:
        """How many records of these tables have no integration id and may get one."""
        asked = [self._table(name) for name in tables]
        return await self._read(lambda scope: count_without(scope.connection, self._company, asked))

    async def take_stock(self) -> None:
        """Lets the database learn how many records there are, after many were added at once: until it does so by
        itself it takes every company for a small one, and looks through a whole table for a few records."""
        await self._change(lambda scope: scope.connection.execute(statements.TAKE_STOCK))

    # --- transactions -----------------------------------------------------------------------------

    def _table(self, name: str) -> NavTable:
        if (table := self._tables.get(name)) is None:
            meant = near(name, self._tables)
            hint = f" Did you mean {meant}?" if meant else ""
            raise TableNotFound(
                f"NAV has no table '{name}' here.{hint}",
                fix="GET …/nav-tables lists the tables of the company.",
            )
        return table

    async def _read(self, ask: Callable[[Scope], Awaitable[Answer]]) -> Answer:
        try:
            if self._joined is not None:
                return await ask(Scope(self._joined, self._company, self._tables))
            # Each statement for itself: a transaction would cost two trips more.
            connection = await self._reading.connect()
            try:
                return await ask(Scope(connection, self._company, self._tables))
            finally:  # not at the end of an `async with`, which does it in a task of its own: nothing is left to do
                await connection.close()
        except UNREACHABLE as error:
            raise _translated(error) from error

    async def _change(self, act: Callable[[Scope], Awaitable[Answer]], preview: bool = False) -> Answer:
        """One transaction, taken back in the end for a preview. It begins with joining the writers, so that it
        waits for a reader of changes before it holds any row, and is repeated when the server chose it to end
        a deadlock."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._begun() as (connection, transaction):
                    await statements.share_lock(connection, self._company.id)
                    apart = None if self._joined is None else self._apart
                    answer = await act(Scope(connection, self._company, self._tables, preview, apart))
                    if preview:
                        await transaction.rollback()
                    return answer
            except DBAPIError as error:
                if _sqlstate(error) not in REPEATABLE or attempt == ATTEMPTS:
                    raise _translated(error) from error
            except (OSError, PoolTimeout) as error:
                raise _translated(error) from error
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[tuple[AsyncConnection, AsyncTransaction]]:
        """A transaction of our own, or a part of the joined one that can be taken back by itself."""
        if self._joined is not None:
            async with self._joined.begin_nested() as savepoint:
                yield self._joined, savepoint
        else:
            async with self._engine.connect() as connection, connection.begin() as transaction:
                yield connection, transaction


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", "") or "")


def _translated(error: DBAPIError | OSError | PoolTimeout) -> IntegrationError:
    """A failure of the database in the words of the NAV side. Raises `error` when it is a fault of ours: a repetition
    ends as it did."""
    state = _sqlstate(error) if isinstance(error, DBAPIError) else ""
    if state == DISK_FULL:
        log.error("the disk of the database is full", error=str(getattr(error, "orig", error)))
        return DatabaseFull()
    if state.startswith(OUR_FAULT):
        raise error
    # Classes 22 and 23: this value or that key is impossible. Everything else is no fault of the record.
    if state[:2] in ("22", "23"):
        return NavRefused(
            f"NAV's database refused the record: {type(getattr(error, 'orig', error)).__name__}."
        )
    # Ours, too: while it is away, nothing that is asked of us goes on.
    return DatabaseUnavailable(
        "The database of the NAV side cannot be reached or did not answer in time.",
        fix="Repeat the request. If it goes on, look whether PostgreSQL runs.",
    )
