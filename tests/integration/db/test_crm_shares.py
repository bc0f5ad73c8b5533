"""Processes share the requests that an organization takes at a time."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.crm.lanes import Lanes
from app.db import crm_shares

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIFETIME = timedelta(seconds=15)


async def test_processes_that_talk_to_one_organization_are_counted_until_they_leave_or_fall_silent(
    engine: AsyncEngine,
) -> None:
    first, second = uuid4(), uuid4()
    async with engine.begin() as connection:
        assert await crm_shares.register(connection, first, ["a", "b"], NOW, LIFETIME) == {"a": 1, "b": 1}
        assert await crm_shares.register(connection, second, ["a"], NOW, LIFETIME) == {"a": 2}
        later = NOW + LIFETIME / 2
        assert await crm_shares.register(connection, first, ["a"], later, LIFETIME) == {"a": 2}
        silent = NOW + LIFETIME
        assert await crm_shares.register(connection, first, ["a"], silent, LIFETIME) == {"a": 1}
        assert await crm_shares.register(connection, second, ["a"], silent, LIFETIME) == {"a": 2}
        await crm_shares.leave(connection, first)
        assert await crm_shares.register(connection, second, ["a"], silent, LIFETIME) == {"a": 1}


def test_lanes_that_were_throttled_stay_fewer_when_the_share_grows() -> None:
    lanes = Lanes(8)
    lanes.resize(4)
    assert lanes.open == 4
    lanes.throttled(0.0)
    lanes.resize(8)
    assert lanes.open == 2
