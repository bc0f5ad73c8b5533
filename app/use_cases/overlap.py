"""Work of one run that goes on at the same time: while one set waits for the database or for CRM, others are decided,
and the next page is on its way."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from types import TracebackType
from typing import Self
from uuid import UUID

AT_ONCE = 3
"""Sets under way together: one is written, one is remembered, one is translated. More of them would only hold more in
memory: the computing is done by one processor."""

Work = Callable[[], Awaitable[None]]


class Belt:
    """Where sets are worked on, begun in their order, so many at a time; what follows a page comes after its sets.

    When something fails nothing more is begun, and what is under way comes to its end: what it wrote is remembered.
    What failed first is raised to whoever puts the next set there or waits until the belt is empty, at the latest to
    who leaves the context.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._under_way: dict[asyncio.Task[None], frozenset[UUID]] = {}
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
        """Does this once everything that is there now came to a good end. What is put there later does not wait."""
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

    async def _take(self, work: Work) -> None:
        await self._attempt(work)
        self._room.release()

    async def _follow(self, work: Work, before: Collection[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        if not self._failures:
            await self._attempt(work)

    async def _attempt(self, work: Work) -> None:
        try:
            await work()
        except BaseException as error:  # raised when nothing is under way any more
            self._failures.append(error)

    def _begin(self, work: Awaitable[None], records: frozenset[UUID] = frozenset()) -> None:
        task = asyncio.ensure_future(work)
        self._under_way[task] = records
        task.add_done_callback(self._under_way.pop)

    async def _settled(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)
