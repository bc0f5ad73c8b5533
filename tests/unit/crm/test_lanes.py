"""Lanes close and open again."""

import asyncio
import math

import pytest

from app.crm.lanes import Lanes, granted

pytestmark = pytest.mark.anyio


async def most_at_once(lanes: Lanes, requests: int) -> int:
    """How many of that many requests were under way together."""
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        async with lanes.lane():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(one() for _ in range(requests)))
    return most


async def test_no_more_requests_than_lanes() -> None:
    assert await most_at_once(Lanes(3), 20) == 3


async def test_a_429_halves_the_lanes_and_answers_open_them_one_by_one() -> None:
    now = 0.0
    lanes = Lanes(8, clock=lambda: now)
    lanes.throttled(0.02)
    lanes.throttled(0.01)  # of the same wave
    assert lanes.open == 4
    now = 0.02
    assert await most_at_once(lanes, 12) == 4
    for _ in range(100):
        lanes.answered()
    assert lanes.open == 8


async def test_nothing_starts_before_the_wait_is_over() -> None:
    lanes = Lanes(2)
    lanes.throttled(0.05)
    started = asyncio.get_running_loop().time()
    await most_at_once(lanes, 1)
    assert asyncio.get_running_loop().time() - started >= 0.045


async def test_one_lane_is_always_left() -> None:
    now = 0.0
    lanes = Lanes(4, clock=lambda: now)
    for _ in range(10):
        lanes.throttled(1)
        now += 2
    assert lanes.open == 1


async def test_whoever_is_cancelled_while_waiting_blocks_nobody() -> None:
    lanes = Lanes(1)
    async with lanes.lane():
        waiting = [asyncio.create_task(most_at_once(lanes, 1)) for _ in range(3)]
        await asyncio.sleep(0.001)
        waiting[0].cancel()
    assert await asyncio.gather(*waiting[1:]) == [1, 1]


async def test_no_more_is_under_way_than_crm_still_grants() -> None:
    lanes = Lanes(8)
    lanes.told(took=2.0, requests=100, seconds=7.0)
    assert await most_at_once(lanes, 12) == 3
    lanes.told(took=2.0, requests=2, seconds=700.0)
    assert await most_at_once(lanes, 12) == 2
    lanes.told(took=2.0, requests=5000, seconds=1200.0)
    assert await most_at_once(lanes, 12) == 8


async def test_after_a_429_one_asks_whether_crm_grants_more() -> None:
    lanes = Lanes(8)
    lanes.told(took=1.0, requests=100, seconds=1.5)
    lanes.throttled(0.01)
    assert await most_at_once(lanes, 12) == 1
    lanes.told(took=1.0, requests=100, seconds=100.0)
    assert await most_at_once(lanes, 12) == 8


async def test_a_429_for_too_many_at_once_halves_the_lanes_whatever_is_granted() -> None:
    lanes = Lanes(8)
    lanes.told(took=1.0, requests=100, seconds=100.0)
    lanes.throttled(0.01, at_once=True)
    lanes.told(took=1.0, requests=100, seconds=100.0)
    assert await most_at_once(lanes, 12) == 4


def test_what_is_left_is_read_as_crm_writes_it() -> None:
    headers = {
        "x-ms-ratelimit-burst-remaining-xrm-requests": "5998",
        "x-ms-ratelimit-time-remaining-xrm-requests": "1,200.00",
    }
    assert granted(headers) == (5998, 1200)
    assert granted({}) == (math.inf, math.inf)
