"""The statements that change records. Each takes a set and is one trip to the database.

Rows travel as arrays of their keys and ids and one JSON array of their fields, which PostgreSQL takes apart again: one
statement, however many rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nav.definitions import NavTable
from app.nav.rows import FIXED, Row
from app.nav.tables import LOCK_CLASS
from app.nav.values import Stored, StoredValues


class Stamp(NamedTuple):
    """What the database says of a record it has just written."""

    row_version: int
    modified_at: datetime


class Change(NamedTuple):
    """A record as it is to be written; `key` is where it lies, `new_key` where it shall lie if not there."""

    key: str
    integration_id: UUID | None
    fields: StoredValues
    new_key: str | None = None


# While a company is loaded its tables grow a thousandfold within a transaction, so plans that the server
# kept from when they were small are not used again. Nor are statements compiled, as servers do with those they take for
# dear: a thousand looks into an index look so, and are done sooner.
SHARE = text(
    f"""
    SELECT pg_advisory_xact_lock_shared({LOCK_CLASS}, :company),
           set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)
    """
)

GIVEN = """
    FROM ROWS FROM (
        unnest(CAST(:keys AS text[])), unnest(CAST(:ids AS uuid[])), jsonb_array_elements(CAST(:fields AS jsonb))
    ) AS r(key, id, fields)
"""
# Keys and ids that are taken fail the whole statement, and with it the transaction: it is repeated, and then finds
# whose they are. So those that can be known to be taken are not given.
ADD = text(
    f"""
    INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
    SELECT CAST(:company AS integer), CAST(:table AS text), r.key, r.id, r.fields
    {GIVEN}
    ORDER BY r.key
    """
)
# A record that comes back under its old id takes its tombstone away.
INSERT = text(
    f"""
    WITH back AS (
        DELETE FROM nav_tombstone
        WHERE company_id = :company AND nav_table = :table
          AND integration_id = ANY(CASE WHEN CAST(:chosen AS boolean) THEN CAST(:ids AS uuid[]) END)
    )
    {ADD.text}
    RETURNING key, row_version, modified_at
    """  # noqa: S608 (our own text)
)
# Without a new key a record keeps the one it has.
UPDATE = text(
    """
    UPDATE nav_record n
    SET key = coalesce(r.new_key, n.key), integration_id = r.id, fields = r.fields
    FROM ROWS FROM (
        unnest(CAST(:keys AS text[])), unnest(CAST(:new_keys AS text[])), unnest(CAST(:ids AS uuid[])),
        jsonb_array_elements(CAST(:fields AS jsonb))
    ) AS r(key, new_key, id, fields)
    WHERE n.company_id = :company AND n.nav_table = :table AND n.key = r.key
    RETURNING n.key, n.row_version, n.modified_at
    """
)
BURY = text(
    """
    WITH gone AS (
        DELETE FROM nav_record
        WHERE company_id = :company AND nav_table = :table AND key = ANY(CAST(:keys AS text[]))
        RETURNING company_id, nav_table, integration_id, key
    ), figures AS (
        DELETE FROM nav_figures
        WHERE company_id = :company AND nav_table = :table AND key = ANY(CAST(:keys AS text[]))
    )
    INSERT INTO nav_tombstone (company_id, nav_table, integration_id, key)
    SELECT company_id, nav_table, integration_id, key FROM gone WHERE integration_id IS NOT NULL
    ON CONFLICT (company_id, nav_table, integration_id) DO UPDATE SET key = excluded.key
    """
)
TOMBSTONES = text(
    """
    INSERT INTO nav_tombstone (company_id, nav_table, integration_id, key)
    SELECT CAST(:company AS integer), CAST(:table AS text), r.id, r.key
    FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[])) AS r(id, key)
    ON CONFLICT (company_id, nav_table, integration_id) DO UPDATE SET key = excluded.key
    """
)
# More than was asked for where there are several tables: whoever asks picks. One condition for the whole set is at
# worst one run through the tables, whatever the database believes of them; of a company that is newer than its
# statistics it believes that every index is as good.
EXISTING = text(
    """
    SELECT nav_table, key FROM nav_record
    WHERE company_id = :company AND nav_table = ANY(CAST(:tables AS text[])) AND key = ANY(CAST(:keys AS text[]))
    """
)
BETWEEN = text(
    """
    SELECT key FROM nav_record
    WHERE company_id = :company AND nav_table = :table
      AND key BETWEEN :first AND :last AND length(key) BETWEEN :shortest AND :longest
    ORDER BY key LIMIT 1
    """
)
FIGURES = text(
    """
    INSERT INTO nav_figures AS f (company_id, nav_table, key, figures)
    SELECT CAST(:company AS integer), CAST(:table AS text), r.key, r.figures
    FROM ROWS FROM (unnest(CAST(:keys AS text[])), jsonb_array_elements(CAST(:figures AS jsonb))) AS r(key, figures)
    ORDER BY r.key
    ON CONFLICT (company_id, nav_table, key) DO UPDATE
    SET figures = jsonb_strip_nulls(f.figures || excluded.figures)
    """
)
TOUCH = text(
    """
    UPDATE nav_record SET touched = touched + 1
    WHERE company_id = :company AND nav_table = :table AND key = ANY(CAST(:keys AS text[]))
    """
)
# Everyone locks in the same order.
LOCKED = f"""
    SELECT {", ".join(FIXED)} FROM nav_record
    WHERE company_id = :company AND nav_table = :table AND {{which}}
    ORDER BY key FOR NO KEY UPDATE
"""  # noqa: S608 (our own text)
LOCKED_BY_KEY = text(LOCKED.format(which="key = ANY(CAST(:keys AS text[]))"))
LOCKED_BY_ID = text(LOCKED.format(which="integration_id = ANY(CAST(:ids AS uuid[]))"))
TAKE_STOCK = text("ANALYZE (SKIP_LOCKED) nav_record (company_id, nav_table, key, integration_id)")


async def share_lock(connection: AsyncConnection, company_id: int) -> None:
    """Joins the writers of the company; first of all, so that no row lock is held while waiting for it."""
    await connection.execute(SHARE, {"company": company_id})


async def locked_by_key(
    connection: AsyncConnection, company_id: int, table: NavTable, keys: Collection[str]
) -> dict[str, Row]:
    """The records with these keys, locked until the transaction ends."""
    parameters = {"company": company_id, "table": table.name, "keys": list(keys)}
    return {row.key: row for row in await _rows(connection, LOCKED_BY_KEY, parameters)} if keys else {}


async def locked_by_id(
    connection: AsyncConnection, company_id: int, table: NavTable, ids: Collection[UUID]
) -> dict[UUID, Row]:
    """The records with these integration ids, locked until the transaction ends."""
    parameters = {"company": company_id, "table": table.name, "ids": list(ids)}
    found = await _rows(connection, LOCKED_BY_ID, parameters) if ids else ()
    return {row.integration_id: row for row in found if row.integration_id is not None}


async def _rows(connection: AsyncConnection, query: TextClause, parameters: Mapping[str, Any]) -> list[Row]:
    return [Row(*found) for found in (await connection.execute(query, parameters)).all()]


async def insert(
    connection: AsyncConnection, company_id: int, table: NavTable, changes: Sequence[Change], *, chosen: bool
) -> dict[str, Stamp]:
    """Adds records whose keys and ids are free.

    `chosen`: some of the ids were chosen by others; their records may have been here before.
    """
    parameters = {**_given(company_id, table, changes), "chosen": chosen}
    return _stamps((await connection.execute(INSERT, parameters)).all()) if changes else {}


async def add(
    connection: AsyncConnection, company_id: int, table: NavTable, changes: Sequence[Change]
) -> None:
    """Adds records whose keys are free, with ids of our own, and asks nothing of them."""
    if changes:
        await connection.execute(ADD, _given(company_id, table, changes))


async def update(
    connection: AsyncConnection, company_id: int, table: NavTable, changes: Sequence[Change]
) -> dict[str, Stamp]:
    """Changes records, by their new keys."""
    renamed = any(change.new_key is not None for change in changes)
    new_keys = [change.new_key for change in changes] if renamed else []
    parameters = {**_given(company_id, table, changes), "new_keys": new_keys}
    return _stamps((await connection.execute(UPDATE, parameters)).all()) if changes else {}


async def bury(connection: AsyncConnection, company_id: int, table: str, keys: Collection[str]) -> None:
    """Deletes records; those with an integration id leave a tombstone."""
    if keys:
        parameters = {"company": company_id, "table": table, "keys": sorted(keys)}
        await connection.execute(BURY, parameters)


async def bury_ids(
    connection: AsyncConnection, company_id: int, table: NavTable, ids: Mapping[UUID, str]
) -> None:
    """Tombstones for ids that their records have lost, each with the key of its record."""
    if ids:
        parameters = {
            "company": company_id,
            "table": table.name,
            "ids": list(ids),
            "keys": list(ids.values()),
        }
        await connection.execute(TOMBSTONES, parameters)


async def existing(
    connection: AsyncConnection, company_id: int, wanted: Collection[tuple[str, str]]
) -> set[tuple[str, str]]:
    """Which of these (table, key) exist."""
    if not wanted:
        return set()
    parameters = {
        "company": company_id,
        "tables": sorted({table for table, _ in wanted}),
        "keys": sorted({key for _, key in wanted}),
    }
    found = (await connection.execute(EXISTING, parameters)).all()
    return {(row[0], row[1]) for row in found} & set(wanted)


async def any_between(
    connection: AsyncConnection, company_id: int, table: NavTable, keys: Sequence[str]
) -> bool:
    """Whether a record has one of these keys, or one between them that is as long as one of them."""
    lengths = {len(key) for key in keys}
    parameters = {
        "company": company_id,
        "table": table.name,
        "first": min(keys),
        "last": max(keys),
        "shortest": min(lengths),
        "longest": max(lengths),
    }
    return await connection.scalar(BETWEEN, parameters) is not None


async def put_figures(
    connection: AsyncConnection,
    company_id: int,
    table: str,
    figures: Mapping[str, Mapping[str, Stored | None]],
) -> None:
    """Sets figures by record key; a figure of None is forgotten, one not named stays."""
    if figures:
        parameters = {
            "company": company_id,
            "table": table,
            "keys": list(figures),
            "figures": _json(list(figures.values())),
        }
        await connection.execute(FIGURES, parameters)


async def touch(connection: AsyncConnection, company_id: int, table: str, keys: Collection[str]) -> None:
    """Gives records a new version because something that belongs to them changed."""
    if keys:
        await connection.execute(TOUCH, {"company": company_id, "table": table, "keys": sorted(keys)})


def _given(company_id: int, table: NavTable, changes: Sequence[Change]) -> dict[str, Any]:
    return {
        "company": company_id,
        "table": table.name,
        "keys": [change.key for change in changes],
        "ids": [change.integration_id for change in changes],
        "fields": _json([change.fields for change in changes]),
    }


def _json(values: Sequence[Mapping[str, Stored | None]]) -> str:
    return to_json(values).decode()


def _stamps(found: Iterable[Sequence[Any]]) -> dict[str, Stamp]:
    return {key: Stamp(version, at) for key, version, at in found}
