"""What changed in a table since a watermark.

A watermark is a version. Versions are drawn before their transactions end, so a smaller one may become
visible after a larger one. Writers therefore share a lock per company until they commit, and the reader
takes that lock alone for an instant: up to the version it finds then, nothing more can appear.
"""

from collections.abc import AsyncIterator, Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    and_,
    cast,
    column,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
    values,
)
from sqlalchemy import table as table_clause
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import WatermarkExpired
from app.nav.definitions import NavTable
from app.nav.rows import FIXED, Projection
from app.nav.tables import nav_horizon, nav_record, nav_tombstone, row_version
from app.nav.tombstones import horizon
from app.ports import Page

PAGE_SIZE = 5000


async def settled_version(engine: AsyncEngine, company_id: int) -> int:
    """The version up to which every change of the company is committed."""
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.nav_settled_version(company_id))) or 0)


async def _bounds(engine: AsyncEngine, company_id: int, forgotten: Select[int]) -> tuple[int, int]:
    """The version up to which every change is committed, and the one up to which deletions may be forgotten."""
    async with engine.connect() as connection:
        query = select(func.nav_settled_version(company_id), forgotten.scalar_subquery())
        row = (await connection.execute(query)).one()
    return int(row[0] or 0), int(row[1] or 0)


async def changed_pages(
    engine: AsyncEngine,
    company_id: int,
    projection: Projection,
    since: str | None,
    page_size: int = PAGE_SIZE,
) -> AsyncIterator[Page]:
    """The changed records with an integration id, and the ids of deleted ones, oldest change first.

    Every page can be continued from; the last one's watermark covers everything that was settled when
    reading began. A first read names no deleted records: nobody knew them. Raises WatermarkExpired.
    """
    forgotten = horizon(company_id, projection.table.name)
    bound, horizon_now = await _bounds(engine, company_id, forgotten)
    after = _version(projection.table, since, bound)
    while True:
        if since is not None and after < horizon_now:
            raise _expired(projection.table, str(after))
        query = _page(company_id, projection, after, bound, tombstones=since is not None).limit(page_size)
        async with engine.connect() as connection:
            found = (await connection.execute(query)).all()
            if len(found) == page_size and since is not None:
                horizon_now = await connection.scalar(forgotten) or 0
        records = [projection.snapshot(projection.row(row[1:])) for row in found if not row[0]]
        deleted = [row[2] for row in found if row[0]]
        is_last = len(found) < page_size
        after = bound if is_last else found[-1][3]
        del found  # while its records are at work nobody needs the rows of a page
        yield Page(records, deleted, str(after), more=not is_last)
        if is_last:
            return


def waiting(company_id: int, places: Collection[tuple[NavTable, str]]) -> Select[str, str]:
    """The names and versions of those of these tables in which something is newer than the version."""
    given = values(column("nav_table", Text), column("version", BigInteger), name="given").data(
        [(table.name, int(version)) for table, version in places]
    )
    newer = [
        select(literal(1))
        .where(
            changed.c.company_id == company_id,
            changed.c.nav_table == given.c.nav_table,
            changed.c.row_version > given.c.version,
            *conditions,
        )
        .exists()
        for changed, conditions in (
            (nav_record, (nav_record.c.integration_id.is_not(None),)),
            (nav_tombstone, ()),
            (nav_horizon, ()),  # what was deleted since may be forgotten: all of the table has to be read
        )
    ]
    # A version that was not drawn yet is of another life of the database: `changed_pages` does not know it.
    drawn = (
        select(column("last_value", BigInteger)).select_from(table_clause(row_version.name)).scalar_subquery()
    )
    unknown = given.c.version > drawn
    return select(given.c.nav_table, cast(given.c.version, Text)).where(or_(unknown, *newer))


def count_query(company_id: int, table: NavTable, since: str | None) -> Select[int]:
    """How many records with an integration id are newer than the version; all of them without one."""
    return select(func.count()).where(
        nav_record.c.company_id == company_id,
        nav_record.c.nav_table == table.name,
        nav_record.c.integration_id.is_not(None),
        nav_record.c.row_version > (int(since) if since is not None and since.isdecimal() else 0),
    )


def _page(company_id: int, projection: Projection, after: int, bound: int, *, tombstones: bool) -> Any:
    """Records and, unless this is a first read, tombstones, in the order of their versions."""
    columns = projection.columns()
    changed = select(false().label("gone"), *columns).where(
        nav_record.c.company_id == company_id,
        nav_record.c.nav_table == projection.table.name,
        nav_record.c.integration_id.is_not(None),
        nav_record.c.row_version > after,
        nav_record.c.row_version <= bound,
    )
    if not tombstones:
        return changed.order_by(nav_record.c.row_version)
    buried = nav_tombstone.c
    gone = select(
        true(),
        buried.key,
        buried.integration_id,
        buried.row_version,
        buried.deleted_at,
        literal({}, nav_record.c.fields.type),
        *(null() for _ in columns[len(FIXED) :]),
    ).where(
        and_(
            buried.company_id == company_id,
            buried.nav_table == projection.table.name,
            buried.row_version > after,
            buried.row_version <= bound,
        )
    )
    both = union_all(changed, gone)
    return both.order_by(both.selected_columns.row_version)


def _version(table: NavTable, since: str | None, bound: int) -> int:
    if since is None:
        return 0
    if not since.isdecimal() or int(since) > bound:
        raise _expired(table, since)
    return int(since)


def _expired(table: NavTable, version: str) -> WatermarkExpired:
    return WatermarkExpired(
        f"NAV does not know what changed in '{table.definition.label}' after version {version}.",
        fix="The table is read again from the beginning.",
    )
