"""Number series: the number of a record that comes without one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.nav.definitions import NavTable
from app.nav.statements import any_between, existing


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers such as C00010, C00020: a prefix, at least so many digits, a step and the first number."""

    prefix: str
    digits: int
    increment: int
    first: int


# Where a company has no series of its own in nav_number_series, it gets these, as in a new NAV company.
SERIES = {
    "customers": Series("C", 5, 10, 10),
    "contacts": Series("CT", 6, 1, 1),
    "items": Series("", 4, 1, 1000),
    "resources": Series("R", 4, 10, 10),
    "opportunities": Series("OP", 6, 1, 1),
    "vendors": Series("V", 5, 10, 10),
    # Salespeople from CRM are called SP NO. 1, SP NO. 2, … (nav-behaviour 10.1)
    "salespeople": Series("SP NO. ", 1, 1, 1),
}
# These take the first free number; the others continue above the highest.
FILLS_GAPS = frozenset({"salespeople"})

MOST_DIGITS = 15

START = text(
    """
    INSERT INTO nav_number_series (company_id, nav_table, prefix, digits, increment, last)
    VALUES (:company, :table, :prefix, :digits, :increment, :last)
    ON CONFLICT DO NOTHING
    """
)
DRAW = text(
    """
    UPDATE nav_number_series SET last = last + increment * :number
    WHERE company_id = :company AND nav_table = :table
    RETURNING prefix, digits, increment, last
    """
)
SOON = text("SELECT set_config('lock_timeout', '200ms', true)")
LOCK_NOT_AVAILABLE = "55P03"
TAKEN = text(
    """
    SELECT CAST(substr(key, length(CAST(:prefix AS text)) + 1) AS bigint) AS number
    FROM nav_record
    WHERE company_id = :company AND nav_table = :table AND key ~ :pattern
    """
)
HIGHEST = text(f"SELECT max(number) FROM ({TAKEN.text}) AS taken")  # noqa: S608 (our own text)
SKIP = text(
    """
    UPDATE nav_number_series SET last = greatest(last, :highest)
    WHERE company_id = :company AND nav_table = :table
    """
)


def has_series(table: NavTable) -> bool:
    """Whether records of the table can come without a number."""
    return table.name in SERIES


def fills_gaps(table: NavTable) -> bool:
    """Whether the first free numbers are taken; that is right only in the transaction that uses them."""
    return table.name in FILLS_GAPS


async def draw(connection: AsyncConnection, company_id: int, table: NavTable, number: int) -> list[str]:
    """So many free numbers. Whoever draws from the same series waits until our transaction ends."""
    of_table = {"company": company_id, "table": table.name}
    if fills_gaps(table):
        series, _ = await _draw(connection, of_table, 0)
        found = await connection.execute(TAKEN, {**of_table, **_pattern(series)})
        taken = {row[0] for row in found}
        free = (candidate for candidate in count(series.first) if candidate not in taken)
        return _numbers(series, islice(free, number))
    while True:
        series, last = await _draw(connection, of_table, number)
        first = last - series.increment * (number - 1)
        drawn = _numbers(series, range(first, last + series.increment, series.increment))
        if not await _any_taken(connection, company_id, table, drawn):
            return drawn
        # Someone numbered records by hand in our range: go on above them.
        highest = await connection.scalar(HIGHEST, {**of_table, **_pattern(series)})
        await connection.execute(SKIP, {**of_table, "highest": highest})


async def draw_apart(engine: AsyncEngine, company_id: int, table: NavTable, number: int) -> list[str] | None:
    """The same in a transaction of its own, so that nobody waits for ours; None where somebody else keeps the series.

    Whoever keeps it may be waiting for us, and the server, which does not know that the two transactions belong
    together, would let them wait: so we do not wait for long.
    """
    try:
        async with engine.begin() as connection:
            await connection.execute(SOON)
            return await draw(connection, company_id, table, number)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        return None


async def _any_taken(connection: AsyncConnection, company_id: int, table: NavTable, drawn: list[str]) -> bool:
    """Whether a record has one of the numbers; nearly always nothing at all lies between them."""
    if not await any_between(connection, company_id, table, drawn):
        return False
    return bool(await existing(connection, company_id, {(table.name, key) for key in drawn}))


async def _draw(connection: AsyncConnection, of_table: dict[str, object], number: int) -> tuple[Series, int]:
    """The series, which is ours alone from now on, and the last of the numbers drawn."""
    draw_number = {**of_table, "number": number}
    found = (await connection.execute(DRAW, draw_number)).one_or_none()
    if found is None:
        await _start(connection, of_table)
        found = (await connection.execute(DRAW, draw_number)).one()
    return Series(found[0], found[1], found[2], first=1), found[3]


async def _start(connection: AsyncConnection, of_table: dict[str, object]) -> None:
    series = SERIES[str(of_table["table"])]
    highest = await connection.scalar(HIGHEST, {**of_table, **_pattern(series)})
    last = max(highest or 0, series.first - series.increment)
    start = {"prefix": series.prefix, "digits": series.digits, "increment": series.increment}
    await connection.execute(START, {**of_table, **start, "last": last})


def _pattern(series: Series) -> dict[str, str]:
    digits = f"[0-9]{{{series.digits},{MOST_DIGITS}}}"
    return {"prefix": series.prefix, "pattern": f"^{re.escape(series.prefix)}{digits}$"}


def _numbers(series: Series, numbers: Iterable[int]) -> list[str]:
    prefix, digits = series.prefix, series.digits
    return [prefix + str(number).zfill(digits) for number in numbers]
