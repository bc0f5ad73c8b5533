"""Work of one run that goes on at the same time: while one set waits for the database or for CRM, others are decided,
and the next page is on its way."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from types import TracebackType
from typing import Self
from uuid import UUID

AT_ONCE = 3
"""Sets under way together: one is written, one is remembered, one is translated. More of them would only hold more in
memory: the computing is done by one processor."""

Work = Callable[[], Awaitable[None]]


class Belt:
    """Where sets are worked on, begun in their order, so many at a time; what follows a page comes after its sets.

    When something fails no more sets are begun, and what is under way comes to its end: what it wrote is remembered,
    and a page is done if its sets and all before them came to a good end. What failed first is raised to whoever puts
    the next set there or waits until the belt is empty, at the latest to who leaves the context.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._under_way: dict[asyncio.Task[bool], frozenset[UUID]] = {}
        self._failures: list[BaseException] = []

    async def put(self, work: Work, records: Collection[UUID] = ()) -> None:
        """Begins work on a set of these records when there is room. A record that is under way already is waited for:
        of two sets at the same time it is not known which is written last."""
        if not all(others.isdisjoint(records) for others in self._under_way.values()):
            await self.empty()
        await self._room.acquire()
        if self._failures:
            await self.empty()
        self._begin(self._take(work), frozenset(records))

    def then(self, work: Work) -> None:
        """Does this once everything that is there now came to a good end, and nothing before it failed. What is put
        there later does not wait, and may fail."""
        if not self._failures:
            self._begin(self._follow(work, tuple(self._under_way)))

    async def empty(self) -> None:
        """Waits until nothing is under way. Raises what failed first."""
        await self._settled()
        if self._failures:
            raise self._failures[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                await self._settled()
        finally:  # whoever was cancelled leaves nothing running
            for task in self._under_way:
                task.cancel()
            await self._settled()
        if error is None:
            await self.empty()

    async def _take(self, work: Work) -> bool:
        good = await self._attempt(work)
        self._room.release()
        return good

    async def _follow(self, work: Work, before: Collection[asyncio.Task[bool]]) -> bool:
        if before:
            await asyncio.wait(before)
        return all(one.result() for one in before) and await self._attempt(work)

    async def _attempt(self, work: Work) -> bool:
        """Whether it came to a good end."""
        try:
            await work()
        except BaseException as error:  # raised when nothing is under way any more
            self._failures.append(error)
            return False
        return True

    def _begin(self, work: Coroutine[None, None, bool], records: frozenset[UUID] = frozenset()) -> None:
        task = asyncio.create_task(work)
        self._under_way[task] = records
        task.add_done_callback(self._under_way.pop)

    async def _settled(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)
