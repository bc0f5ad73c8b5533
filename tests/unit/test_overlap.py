"""Sets that are under way at the same time, and pages that are read ahead."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from app.ports import Page
from app.use_cases.overlap import one_ahead, overlapping

pytestmark = pytest.mark.anyio


async def a_while() -> None:
    """Others have their turn."""
    for _ in range(5):
        await asyncio.sleep(0)


class Desk:
    """Where sets are worked on; each is on it until it is taken off."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0

    async def work(self, number: int, fails: bool = False, turns: int = 2) -> None:
        """A set that takes so many turns of the loop."""
        self.begun.append(number)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        for _ in range(turns):
            await asyncio.sleep(0)
        self.ended.append(number)
        if fails:
            raise ValueError(number)


async def test_sets_begin_in_their_order_two_at_a_time() -> None:
    desk = Desk()
    await overlapping(partial(desk.work, number) for number in range(7))
    assert desk.begun == list(range(7))
    assert sorted(desk.ended) == list(range(7))
    assert desk.most == 2


async def test_sets_whose_order_counts_come_one_after_the_other() -> None:
    desk = Desk()
    await overlapping((partial(desk.work, number) for number in range(4)), 1)
    assert desk.ended == list(range(4))
    assert desk.most == 1


async def test_when_one_fails_the_other_comes_to_its_end_and_no_more_begin() -> None:
    desk = Desk()
    works = [partial(desk.work, 0, fails=True), partial(desk.work, 1, turns=9), partial(desk.work, 2)]
    with pytest.raises(ValueError, match="0"):
        await overlapping(works)
    assert desk.ended == [0, 1]


async def test_whoever_is_cancelled_leaves_nothing_running() -> None:
    desk, others = Desk(), asyncio.all_tasks()
    running = asyncio.create_task(overlapping(partial(desk.work, n, turns=10**6) for n in range(3)))
    await a_while()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert asyncio.all_tasks() - others == set()
    assert desk.begun == [0, 1]


class Book:
    """Pages, and which of them were asked for."""

    def __init__(self, count: int, torn: int | None = None) -> None:
        self.count = count
        self.torn = torn
        self.read: list[int] = []
        self.closed = False

    async def pages(self) -> AsyncIterator[Page]:
        """One after the other; the torn one cannot be read."""
        try:
            for number in range(self.count):
                self.read.append(number)
                await asyncio.sleep(0)
                if number == self.torn:
                    raise OSError(number)
                yield Page((), watermark=str(number))
        finally:
            self.closed = True


async def test_the_next_page_is_read_while_one_is_worked_on_and_no_other() -> None:
    book, seen = Book(4), []
    async for page in one_ahead(book.pages()):
        await a_while()
        seen.append(page.watermark)
        assert len(book.read) == min(len(seen) + 1, 4)
    assert seen == ["0", "1", "2", "3"]
    assert book.closed


async def test_a_page_that_cannot_be_read_is_told_when_its_turn_comes() -> None:
    book, seen = Book(4, torn=2), []

    async def read() -> None:
        async for page in one_ahead(book.pages()):
            await a_while()
            seen.append(page.watermark)

    with pytest.raises(OSError, match="2"):
        await read()
    assert seen == ["0", "1"]


async def test_whoever_stops_early_leaves_nothing_being_read() -> None:
    book, others = Book(4), asyncio.all_tasks()
    pages = one_ahead(book.pages())
    await anext(pages)
    await a_while()
    await pages.aclose()
    assert asyncio.all_tasks() - others == set()
    assert book.read == [0, 1]
