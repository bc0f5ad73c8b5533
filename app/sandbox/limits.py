"""Service protection limits: requests, execution time and concurrency per user over a sliding window."""

import math
from collections import deque
from dataclasses import dataclass, field

from app.sandbox.errors import DataverseError


@dataclass(slots=True)
class Limits:
    """How much one user may ask for.

    Args:
        requests: requests per window.
        seconds: length of the window.
        execution: seconds of execution time per window.
        concurrent: requests at once.
        dop: the degree of parallelism the service recommends (x-ms-dop-hint).
    """

    requests: int = 6000
    seconds: float = 300
    execution: float = 1200
    concurrent: int = 52
    dop: int = 4


@dataclass(slots=True)
class Meter:
    """What one user has used."""

    started: deque[float] = field(default_factory=deque)
    spent: deque[tuple[float, float]] = field(default_factory=deque)
    total: float = 0
    running: int = 0
    refused: int = 0

    def _forget(self, before: float) -> None:
        while self.started and self.started[0] <= before:
            self.started.popleft()
        while self.spent and self.spent[0][0] <= before:
            self.total -= self.spent.popleft()[1]

    def enter(self, limits: Limits, now: float) -> None:
        """Count a request in.

        Raises:
            DataverseError: 429 with Retry-After; the wait grows while the caller goes on.
        """
        self._forget(now - limits.seconds)
        if len(self.started) >= limits.requests:
            wait = self.started[0] + limits.seconds - now
            raise self._refusal(
                "0x80072322",
                f"Number of requests exceeded the limit of {limits.requests} "
                f"over time window of {limits.seconds:g} seconds.",
                wait,
            )
        if self.total >= limits.execution:
            raise self._refusal(
                "0x80072321",
                f"Combined execution time of incoming requests exceeded limit of {limits.execution * 1000:,.0f} "
                f"milliseconds over time window of {limits.seconds:g} seconds. Decrease number of concurrent "
                "requests or reduce the duration of requests and try again later.",
                self.spent[0][0] + limits.seconds - now,
            )
        if self.running >= limits.concurrent:
            text = f"Number of concurrent requests exceeded the limit of {limits.concurrent}."
            raise self._refusal("0x80072326", text, 1)
        self.started.append(now)
        self.running += 1

    def leave(self, now: float, seconds: float) -> None:
        """Count its time."""
        self.running -= 1
        self.refused = 0
        self.spent.append((now, seconds))
        self.total += seconds

    def _refusal(self, code: str, message: str, wait: float) -> DataverseError:
        self.refused += 1
        seconds = max(1, math.ceil(wait * min(1 + 0.1 * (self.refused - 1), 2)))
        return DataverseError(429, code, message, {"Retry-After": str(seconds)})

    def headers(self, limits: Limits) -> dict[str, str]:
        """What is left, for diagnosis: execution seconds with thousands comma and decimals."""
        return {
            "x-ms-ratelimit-burst-remaining-xrm-requests": str(max(0, limits.requests - len(self.started))),
            "x-ms-ratelimit-time-remaining-xrm-requests": f"{max(0.0, limits.execution - self.total):,.2f}",
        }
