"""What requests of one process do for each other: a trip made together, settings read once for each version."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Any, TypeVar

from app.domain.errors import DatabaseUnavailable

Asked = TypeVar("Asked", bound=Hashable)
Answer = TypeVar("Answer")

MOST_REMEMBERED = 1000
"""Places of which the latest version is kept; the one unused for longest goes first."""


class Together:
    """Answers those who ask the same kind of question at the same time in one trip.

    Who asks while a trip is under way waits for the next one, so an answer is never older than its question. Who asks
    alone waits for nobody.
    """

    def __init__(self) -> None:
        self._waiting: dict[Hashable, list[tuple[Any, asyncio.Future[Any]]]] = {}
        self._trips: set[asyncio.Task[None]] = set()

    async def ask(
        self,
        kind: Hashable,
        asked: Asked,
        answer: Callable[[Collection[Asked]], Awaitable[Mapping[Asked, Answer]]],
    ) -> Answer | None:
        """What `answer` says of `asked`; None where it says nothing.

        Questions of one kind must be such that everyone's `answer` would say the same. Raises what it raises: one that
        fails harms no other that was asked in the same trip.
        """
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(kind)
        if waiting is not None:
            waiting.append((asked, future))
        else:
            self._waiting[kind] = [(asked, future)]
            trip = asyncio.create_task(self._serve(kind, answer))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
        return await future

    async def _serve(self, kind: Hashable, answer: Callable[[Collection[Any]], Awaitable[Any]]) -> None:
        """Trip after trip, until nobody waits."""
        try:
            while self._waiting[kind]:
                await self._gather(kind)
                asking, self._waiting[kind] = self._waiting[kind], []
                try:
                    await _answered(asking, answer)
                finally:
                    for _, future in asking:
                        future.cancel()  # nothing, unless the trip was broken off
        finally:
            for _, future in self._waiting.pop(kind):
                future.cancel()

    async def _gather(self, kind: Hashable) -> None:
        """Lets those come along who are on their way, as long as every look finds more of them."""
        seen = 0
        while len(self._waiting[kind]) > seen:
            seen = len(self._waiting[kind])
            await asyncio.sleep(0)


async def _answered(
    asking: list[tuple[Any, asyncio.Future[Any]]], answer: Callable[[Collection[Any]], Awaitable[Any]]
) -> None:
    items = dict.fromkeys(item for item, _ in asking)
    try:
        found = await answer(items)
    except Exception as error:
        if len(items) > 1 and not isinstance(error, DatabaseUnavailable):
            for item in items:
                await _answered([each for each in asking if each[0] == item], answer)
            return
        for _, future in asking:
            if not future.done():
                future.set_exception(error)
        return
    for item, future in asking:
        if not future.done():
            future.set_result(found.get(item))


class Remembered:
    """What was read of a place, as long as its version stays. Whoever asks knows the present version."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()

    async def get(self, place: Hashable, version: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `read` says, at this version or a later one. Values alone: nobody may change what is given out."""
        kept = self._kept.get(place)
        if kept is not None and kept[0] == version:
            self._kept.move_to_end(place)
            value: Answer = kept[1]
            return value
        value = await read()
        self._kept[place] = (version, value)
        while len(self._kept) > MOST_REMEMBERED:
            self._kept.popitem(last=False)
        return value
