"""How many requests to one organization are under way at a time, and when none may start.

Answers tell what CRM still grants of requests and of seconds of execution. No more requests are under way than that is
enough for, but one always may be: what is granted grows again, and only an answer tells so.

A 429 closes all lanes until its Retry-After is over (Dataverse: service protection limits). Where CRM does not say what
it grants, or refused for too many requests at once, there were too many lanes as well: additive increase,
multiplicative decrease; a 429 halves them, and answers open them again, one after a full round.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

DEFAULT_LANES = 4
NEWEST = 0.2  # how much the newest request counts in what one usually takes
REQUESTS_LEFT = "x-ms-ratelimit-burst-remaining-xrm-requests"
SECONDS_LEFT = "x-ms-ratelimit-time-remaining-xrm-requests"


def granted(headers: Mapping[str, str]) -> tuple[float, float]:
    """The requests and the seconds of execution that CRM still grants; any number of them where it does not say."""
    try:
        return float(headers[REQUESTS_LEFT]), float(headers[SECONDS_LEFT].replace(",", ""))  # 1,200.00
    except (KeyError, ValueError):
        return math.inf, math.inf


class Lanes:
    """The lanes to one organization in this process."""

    def __init__(self, size: int = DEFAULT_LANES, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = size
        self._open = float(size)
        self._busy = 0
        self._closed_until = 0.0
        self._usual = 0.0  # seconds that a request takes
        self._granted = math.inf  # requests that CRM would still take, by its latest answer
        self._clock = clock
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def open(self) -> int:
        """How many lanes may be used at the moment."""
        return max(1, int(self._open))

    @property
    def room(self) -> int:
        """How many requests may be under way, by what CRM still grants."""
        return max(1, int(min(self._granted, self.open)))

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
        while (wait := self.closed_for) or self._busy >= self.room:
            if wait:
                await asyncio.sleep(wait)
            else:
                await self._wait()
        self._busy += 1
        try:
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
        for _ in range(min(self.room - self._busy, len(self._waiting))):
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def throttled(self, seconds: float, *, at_once: bool = False) -> None:
        """CRM asked to wait; `at_once`: for too many requests at once. Several 429 of one wave count once."""
        now = self._clock()
        if now >= self._closed_until and (at_once or self._granted == math.inf):
            self._open = max(1.0, self._open / 2)
        if self._granted != math.inf:
            self._granted = 0  # until an answer tells more
        self._closed_until = max(self._closed_until, now + seconds)

    def answered(self) -> None:
        """CRM answered: a little more may be tried."""
        self._open = min(float(self.size), self._open + 1 / self._open)
        self._wake()

    def told(self, took: float, requests: float, seconds: float) -> None:
        """What an answer that took so long says of the requests and the seconds of execution that are left."""
        self._usual += (took - self._usual) * (NEWEST if self._usual else 1)
        self._granted = min(requests, seconds / self._usual if self._usual else requests)
        self._wake()
