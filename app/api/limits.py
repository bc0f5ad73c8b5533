"""How often a caller may ask: a token bucket for each, in the memory of this process."""

import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from time import monotonic

from fastapi import Request

from app.api.problems import TooManyRequests

MAXIMUM_CALLERS = 10_000
"""Buckets kept; the one unused for longest goes first and would be full again anyway."""


class RateLimit:
    """Lets `per_minute` requests of one caller pass in a minute, at once or spread; 0: any number."""

    def __init__(self, per_minute: int, now: Callable[[], float] = monotonic) -> None:
        self.per_minute = per_minute
        self.now = now
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # (tokens left, when)

    def left(self, caller: str) -> float:
        """How many more requests the caller may send now."""
        tokens, at = self.buckets.get(caller, (float(self.per_minute), self.now()))
        return min(float(self.per_minute), tokens + (self.now() - at) * self.per_minute / 60)

    def take(self, caller: str) -> None:
        """Counts a request. Raises TooManyRequests."""
        if not self.per_minute:
            return
        self.check(caller)
        self.buckets[caller] = (self.left(caller) - 1, self.now())
        self.buckets.move_to_end(caller)
        while len(self.buckets) > MAXIMUM_CALLERS:
            self.buckets.popitem(last=False)

    def check(self, caller: str) -> None:
        """Raises TooManyRequests when the caller has none left."""
        if self.per_minute and (left := self.left(caller)) < 1:
            raise self.exceeded(timedelta(seconds=math.ceil((1 - left) * 60 / self.per_minute)))

    def exceeded(self, wait: timedelta) -> TooManyRequests:
        """What is told to whoever sent too many."""
        return TooManyRequests(
            f"No more than {self.per_minute} of these are accepted in a minute.", retry_after=wait
        )


def address_of(request: Request) -> str:
    """Whom failures are counted for: the address, or the /64 network of an IPv6 one, which one caller has whole."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Network((address, 64), strict=False))
    return str(address)
