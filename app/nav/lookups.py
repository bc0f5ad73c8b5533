"""Reading records: by id, by key, by value, page by page."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Select, Text, Uuid, and_, any_, bindparam, func, literal, or_, select

from app.domain.company import Generation
from app.domain.records import Snapshot
from app.nav.definitions import NavTable, nav_tables
from app.nav.expressions import TEXTS, expression, text_of
from app.nav.filters import condition
from app.nav.keys import by_canonical
from app.nav.rows import Projection, Row
from app.nav.saving import Scope
from app.nav.tables import nav_record
from app.nav.values import Unfit, to_stored
from app.ports import NavRecord

SEARCHED = ("E_Mail",)


async def by_id(scope: Scope, projection: Projection, ids: Collection[UUID]) -> dict[UUID, Snapshot]:
    """The records that exist among these integration ids."""
    query = projection.select(scope.company.id).where(
        nav_record.c.integration_id == any_(literal(list(ids), ARRAY(Uuid)))
    )
    snapshots = (projection.snapshot(row) for row in await _rows(scope, projection, query))
    return {snapshot.id: snapshot for snapshot in snapshots}


async def by_key(
    scope: Scope, table: NavTable, fields: Collection[str] | None, keys: Collection[str]
) -> dict[str, NavRecord]:
    """The records with these keys, by key as given; None stands for all fields."""
    names = None if fields is None else frozenset(fields)
    projection, query = _keyed(scope.company.defaults_generation, table.name, names)
    given = by_canonical(table, keys)
    found = await scope.connection.execute(query, {"company": scope.company.id, "keys": list(given)})
    rows = [projection.row(row) for row in found.all()]
    return {written: projection.record(row) for row in rows for written in given[row.key]}


@lru_cache(maxsize=500)
def _keyed(
    generation: Generation, table: str, fields: frozenset[str] | None
) -> tuple[Projection, Select[Any]]:
    """The question for records by their keys: to make it takes longer than to ask it, and it is asked most often."""
    projection = Projection(nav_tables(generation)[table], fields)
    company, keys = bindparam("company", type_=Integer), bindparam("keys", type_=ARRAY(Text))
    here = and_(nav_record.c.company_id == company, nav_record.c.nav_table == table)
    return projection, select(*projection.columns()).where(here, nav_record.c.key == any_(keys))


async def matching(
    scope: Scope, projection: Projection, name: str, values: Collection[str]
) -> dict[str, list[Snapshot]]:
    """The records with an integration id whose field has one of these values, by value as given.

    Text is compared whatever its capitals, as the other side does; blank values match nothing.
    """
    field = projection.table.fields[name]
    given: dict[str, list[str]] = {}
    texts: list[str] = []  # as they are: the database has its own idea of capitals
    for value in values:
        try:
            stored = to_stored(field, value)
        except Unfit:
            continue
        if stored is not None:
            texts.append(str(stored))
            given.setdefault(str(stored).lower(), []).append(value)
    wanted = func.unnest(literal(texts, ARRAY(Text)))
    column = expression(projection.table, name)
    as_text = column if field.type in TEXTS else text_of(nav_record.c.fields, name)
    query = (
        projection.select(scope.company.id)
        .where(
            nav_record.c.integration_id.is_not(None),
            func.lower(as_text).in_(select(func.lower(wanted.column_valued("wanted")))),
        )
        .order_by(nav_record.c.key)
    )
    found: dict[str, list[Snapshot]] = {}
    for row in await _rows(scope, projection, query):
        stored = to_stored(field, projection.values(row)[name])
        for value in given.get(str(stored).lower(), ()):
            found.setdefault(value, []).append(projection.snapshot(row))
    return found


def page_query(
    company_id: int,
    projection: Projection,
    filter: str | None,
    search: str | None,
    limit: int,
    cursor: str | None,
    *,
    only_with_id: bool = False,
) -> Select[Any]:
    """The records after the cursor that pass the filter and hold the searched text. Raises InvalidFilter."""
    query = projection.select(company_id)
    if only_with_id:
        query = query.where(nav_record.c.integration_id.is_not(None))
    if filter:
        query = query.where(condition(projection.table, filter))
    if search:
        name_field = projection.table.definition.name_field
        names = [name for name in (name_field, *SEARCHED) if name in projection.table.fields]
        places = [nav_record.c.key, *(expression(projection.table, str(name)) for name in names)]
        query = query.where(
            or_(*(place.icontains(search.replace("\0", ""), autoescape=True) for place in places))
        )
    if cursor:
        query = query.where(nav_record.c.key > cursor.replace("\0", ""))
    return query.order_by(nav_record.c.key).limit(limit + 1)


async def page(
    scope: Scope, projection: Projection, query: Select[Any], limit: int
) -> tuple[Sequence[Row], str | None]:
    """The rows of a page and the cursor of the next one."""
    rows = await _rows(scope, projection, query)
    following = rows[limit - 1].key if len(rows) > limit else None
    return rows[:limit], following


async def _rows(scope: Scope, projection: Projection, query: Select[Any]) -> list[Row]:
    return [projection.row(found) for found in (await scope.connection.execute(query)).all()]
