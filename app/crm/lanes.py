"""How many requests to one organization are under way at a time, and when none may start.

Additive increase, multiplicative decrease: a 429 halves the lanes and closes all of them until its Retry-After
is over; answers open them again, one after a full round (Dataverse: service protection limits).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

DEFAULT_LANES = 4


class Lanes:
    """The lanes to one organization in this process."""

    def __init__(self, size: int = DEFAULT_LANES, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = size
        self._open = float(size)
        self._busy = 0
        self._closed_until = 0.0
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def open(self) -> int:
        """How many lanes may be used at the moment."""
        return max(1, int(self._open))

    @property
    def busy(self) -> int:
        """How many are in use."""
        return self._busy

    def resize(self, size: int) -> None:
        """More or fewer lanes from now on; what is under way stays."""
        if size == self.size:
            return
        self._open = float(size) if self._open >= self.size else min(self._open, float(size))
        self.size = size
        self._wake()

    @property
    def closed_for(self) -> float:
        """For how many seconds nothing may start."""
        return max(0.0, self._closed_until - self._clock())

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[None]:
        """Waits for a free lane and holds it."""
        while self._busy >= self.open:
            await self._wait()
        self._busy += 1
        try:
            while wait := self.closed_for:  # noqa: ASYNC110 - a wait for a time, not for an event
                await asyncio.sleep(wait)
            yield
        finally:
            self._busy -= 1
            self._wake()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # It may have been woken before it was cancelled: somebody else takes its turn.
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            self._wake()
            raise

    def _wake(self) -> None:
        for _ in range(min(self.open - self._busy, len(self._waiting))):
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def throttled(self, seconds: float) -> None:
        """CRM asked to wait. Several 429 of one wave count once."""
        now = self._clock()
        if now >= self._closed_until:
            self._open = max(1.0, self._open / 2)
        self._closed_until = max(self._closed_until, now + seconds)

    def answered(self) -> None:
        """CRM answered: a little more may be tried."""
        self._open = min(float(self.size), self._open + 1 / self._open)
