"""The clock of all processes: that of the database, carried on between two looks."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.clock import DatabaseClock

pytestmark = pytest.mark.anyio


async def test_it_tells_the_time_of_the_database_whatever_its_own_counter_says(engine: AsyncEngine) -> None:
    ticks = iter([1000.0, 1000.0, 1000.0, 1060.0])
    clock = DatabaseClock(lambda: next(ticks))
    before = datetime.now(UTC)
    await clock.look(engine)
    told = clock.now()
    assert told.tzinfo is UTC
    assert before - timedelta(seconds=1) < told < datetime.now(UTC) + timedelta(seconds=1)
    assert clock.now() - told == timedelta(minutes=1)


async def test_another_look_changes_nothing_but_what_is_wrong(engine: AsyncEngine) -> None:
    wrong = [0.0]
    ticks = DatabaseClock()._ticks
    clock = DatabaseClock(lambda: ticks() + wrong[0])
    await clock.look(engine)
    wrong[0] = 3600.0  # the machine slept: its counter, not the world, stood still, or the other way round
    assert clock.now() > datetime.now(UTC) + timedelta(minutes=59)
    began = ticks()
    await clock.look(engine)
    took = timedelta(seconds=ticks() - began)
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=2) + took


def test_nobody_asks_it_before_it_was_set() -> None:
    with pytest.raises(RuntimeError, match="not been set"):
        DatabaseClock().now()
