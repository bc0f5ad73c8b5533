"""What requests of one process do for each other: a trip made together, settings read once for each version."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from app.domain.errors import DatabaseUnavailable

Asked = TypeVar("Asked", bound=Hashable)
Answer = TypeVar("Answer")
_Party = list[tuple[Any, asyncio.Future[Any]]]  # who asked what

TRIPS = 2
"""Trips of one kind that may be under way. With one, those who come in two groups wait for each other for ever: each
finds the other's trip under way."""
WAIT_FOR_COMPANY = 0.001
"""Seconds that a trip waits while others are under way, of whatever kind: so groups meet, and travel together."""
MOST_REMEMBERED = 1000
"""Places of which the latest version is kept; the one unused for longest goes first."""


class _Kind:
    """Questions of one kind."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(TRIPS)
        self.coming: _Party | None = None
        """Those whose trip has not begun: whoever asks now comes along."""


class Together:
    """Answers those who ask the same kind of question at the same time in one trip.

    A trip takes everyone who asked before it began, so an answer is never older than its question. Who asks while as
    many are under way as there may be waits for the next one, and for company while any is. Who asks alone waits for
    nobody.
    """

    def __init__(self) -> None:
        self._kinds: WeakValueDictionary[Hashable, _Kind] = WeakValueDictionary()  # their trips hold them
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
        line = self._kinds.get(kind)
        if line is None:
            line = self._kinds[kind] = _Kind()
        if line.coming is not None:
            line.coming.append((asked, future))
        else:
            party: _Party = [(asked, future)]
            line.coming = party
            trip = asyncio.create_task(self._trip(line, party, answer))
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
            trip.add_done_callback(lambda _: _leave_nobody(line, party))
        return await future

    async def _trip(
        self,
        line: _Kind,
        party: _Party,
        answer: Callable[[Collection[Any]], Awaitable[Mapping[Any, Any]]],
    ) -> None:
        async with line.free:
            if len(self._trips) > 1:
                await asyncio.sleep(WAIT_FOR_COMPANY)
            await _gathered(party)
            line.coming = None
            await _answered(party, answer)


def _leave_nobody(line: _Kind, party: _Party) -> None:
    """Does nothing, unless the trip was broken off, be it before its first step: then nobody waits for it."""
    if line.coming is party:
        line.coming = None
    for _, future in party:
        future.cancel()


async def _gathered(party: _Party) -> None:
    """Lets those come along who are on their way, as long as every look finds more of them."""
    seen = 0
    while len(party) > seen:
        seen = len(party)
        await asyncio.sleep(0)


async def _answered(
    asking: _Party, answer: Callable[[Collection[Any]], Awaitable[Mapping[Any, Any]]]
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
