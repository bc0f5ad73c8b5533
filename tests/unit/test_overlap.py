"""Sets that are under way at the same time, and what follows a page."""

import asyncio
from functools import partial
from uuid import UUID

import pytest

from app.use_cases.overlap import AT_ONCE, Belt

pytestmark = pytest.mark.anyio
ONE, OTHER = UUID(int=1), UUID(int=2)


class Desk:
    """Where sets are worked on; each is on it until it is taken off."""

    def __init__(self) -> None:
        self.begun: list[object] = []
        self.ended: list[object] = []
        self.most = 0

    async def work(self, name: object, fails: bool = False, turns: int = 2) -> None:
        """A set that takes so many turns of the loop."""
        self.begun.append(name)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        for _ in range(turns):
            await asyncio.sleep(0)
        self.ended.append(name)
        if fails:
            raise ValueError(name)


async def test_sets_begin_in_their_order_so_many_at_a_time() -> None:
    desk = Desk()
    async with Belt() as belt:
        for number in range(7):
            await belt.put(partial(desk.work, number))
    assert desk.begun == list(range(7))
    assert sorted(desk.ended, key=str) == list(range(7))
    assert desk.most == AT_ONCE


async def test_sets_whose_order_counts_come_one_after_the_other() -> None:
    desk = Desk()
    async with Belt(1) as belt:
        for number in range(4):
            await belt.put(partial(desk.work, number))
    assert desk.ended == list(range(4))
    assert desk.most == 1


async def test_a_record_that_is_under_way_is_waited_for() -> None:
    desk = Desk()
    async with Belt() as belt:
        await belt.put(partial(desk.work, "first", turns=9), [ONE])
        await belt.put(partial(desk.work, "beside it"), [OTHER])
        await belt.put(partial(desk.work, "again"), [ONE])
        assert desk.ended == ["beside it", "first"]
        await belt.put(partial(desk.work, "no more under way"), [OTHER])
    assert desk.begun == ["first", "beside it", "again", "no more under way"]


async def test_what_follows_a_page_waits_for_its_sets_and_for_the_page_before() -> None:
    desk = Desk()
    async with Belt() as belt:
        await belt.put(partial(desk.work, "set 1", turns=20))
        belt.then(partial(desk.work, "page 1", turns=5))
        await belt.put(partial(desk.work, "set 2", turns=1))
        belt.then(partial(desk.work, "page 2"))
        await belt.put(partial(desk.work, "set 3", turns=1))
    assert desk.ended == ["set 2", "set 3", "set 1", "page 1", "page 2"]


async def test_when_one_fails_the_others_come_to_their_end_and_nothing_more_begins() -> None:
    desk = Desk()

    async def run() -> None:
        async with Belt(2) as belt:
            await belt.put(partial(desk.work, "torn", fails=True))
            await belt.put(partial(desk.work, "beside it", turns=9))
            belt.then(partial(desk.work, "page"))
            await belt.put(partial(desk.work, "next"))

    with pytest.raises(ValueError, match="torn"):
        await run()
    assert desk.begun == desk.ended == ["torn", "beside it"]


async def test_a_page_without_sets_is_not_done_after_a_failure() -> None:
    desk = Desk()

    async def run() -> None:
        async with Belt() as belt:
            await belt.put(partial(desk.work, "torn", fails=True))
            belt.then(partial(desk.work, "page"))
            await asyncio.sleep(0.01)
            belt.then(partial(desk.work, "last page"))

    with pytest.raises(ValueError, match="torn"):
        await run()
    assert desk.begun == ["torn"]


async def test_a_page_is_done_although_a_set_of_the_next_one_failed_before_its_own_were() -> None:
    desk = Desk()

    async def run() -> None:
        async with Belt() as belt:
            await belt.put(partial(desk.work, "set 1", turns=9))
            belt.then(partial(desk.work, "page 1"))
            await belt.put(partial(desk.work, "torn", fails=True))
            belt.then(partial(desk.work, "page 2"))
            await belt.put(partial(desk.work, "set 3"))
            belt.then(partial(desk.work, "page 3"))

    with pytest.raises(ValueError, match="torn"):
        await run()
    assert desk.ended == ["torn", "set 3", "set 1", "page 1"]


async def test_what_is_under_way_comes_to_its_end_when_the_next_page_cannot_be_read() -> None:
    desk = Desk()

    async def run() -> None:
        async with Belt() as belt:
            await belt.put(partial(desk.work, "set 1", turns=9))
            belt.then(partial(desk.work, "page 1"))
            raise OSError("page 2")

    with pytest.raises(OSError, match="page 2"):
        await run()
    assert desk.ended == ["set 1", "page 1"]


async def test_whoever_is_cancelled_leaves_nothing_running() -> None:
    desk, others = Desk(), asyncio.all_tasks()

    async def run() -> None:
        async with Belt(2) as belt:
            for number in range(3):
                await belt.put(partial(desk.work, number, turns=10**6))

    running = asyncio.create_task(run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() - others == set()
    assert desk.begun == [0, 1]
