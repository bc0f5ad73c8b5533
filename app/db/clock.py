"""The time, the same for every process on one database, however wrong the clocks of their machines are."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

AHEAD = timedelta(minutes=1)
"""Further apart than this the clocks of two processes never are."""


def was_set_back(noted: ColumnElement[datetime], now: datetime) -> ColumnElement[bool]:
    """The clock of the database was set back since something that had happened was noted. What was planned by the time
    it showed then would come too late."""
    return noted > now + AHEAD


class DatabaseClock:
    """The time of PostgreSQL, carried on between two looks at it by a counter that nobody sets.

    Leases, schedules and signs of life are moments that one process writes and another compares with its own
    "now". So there is one clock for all of them, and a machine whose time is off, or is put right while we run,
    changes nothing.
    """

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        """`ticks` counts seconds; `look` has to be called once before `now`."""
        self._ticks = ticks
        self._shown: datetime | None = None
        self._at = 0.0

    async def look(self, engine: AsyncEngine) -> None:
        """Sets the clock by the database's. Raises what the database says when it cannot be reached."""
        async with engine.connect() as connection:
            asked = self._ticks()
            shown = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            took = self._ticks() - asked
        shown, at = shown.astimezone(UTC), asked + took / 2
        # What the way there and back explains is no news: a clock that is right does not jump to and fro.
        if self._shown is None or abs(shown - self._time_at(at)) > timedelta(seconds=took):
            self._shown, self._at = shown, at

    def now(self) -> datetime:
        """Now, in UTC."""
        return self._time_at(self._ticks())

    def _time_at(self, ticks: float) -> datetime:
        if self._shown is None:
            raise RuntimeError("The clock has not been set.")
        return self._shown + timedelta(seconds=ticks - self._at)
