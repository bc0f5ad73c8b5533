"""The circuit breaker of a connection: after repeated refusals of our user its jobs wait, and CRM is asked now and
then whether it lets us in again (docs/decisions/circuit-breaker.md).

It counts what concerns the connection as a whole: a login that is refused, a user who was disabled or removed, rights
that were taken everywhere. A record or a table that is closed to us is none of its business.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.domain.coupling import Failure


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and how soon CRM is asked again."""

    threshold: int = 3
    """So many refusals open it."""
    window: timedelta = timedelta(minutes=10)
    """Refusals that lie further apart are not counted together."""
    first_probe: timedelta = timedelta(seconds=30)
    """The first probe after it opened; every further wait is twice as long."""
    longest_wait: timedelta = timedelta(minutes=15)

    def wait(self, probes: int) -> timedelta:
        """How long to wait after so many probes that were refused."""
        doubled: int = 2 ** min(probes, 20)
        return min(self.first_probe * doubled, max(self.longest_wait, self.first_probe))


@dataclass(frozen=True, slots=True)
class Breaker:
    """How the breaker of a connection stands. `opened_at` is set while it is open."""

    failures: int = 0  # refusals in a row
    first_failed_at: datetime | None = None
    opened_at: datetime | None = None
    reason: Failure | None = None  # what CRM said last
    probes: int = 0  # since it opened
    probe_at: datetime | None = None  # when CRM is asked next

    @property
    def is_open(self) -> bool:
        """Whether the jobs of the connection wait."""
        return self.opened_at is not None

    def refused(self, reason: Failure, now: datetime, policy: BreakerPolicy) -> "Breaker":
        """After CRM refused our user once more."""
        if self.is_open:
            return replace(self, reason=reason)
        recent = self.first_failed_at is not None and now - self.first_failed_at <= policy.window
        counted = Breaker(
            failures=self.failures + 1 if recent else 1,
            first_failed_at=self.first_failed_at if recent else now,
            reason=reason,
        )
        if counted.failures < policy.threshold:
            return counted
        return replace(counted, opened_at=now, probe_at=now + policy.wait(0))

    def probed(self, now: datetime, policy: BreakerPolicy) -> "Breaker":
        """While it is being probed. The next probe is set beforehand: whoever dies over this one keeps nobody
        from asking again."""
        return replace(self, probes=self.probes + 1, probe_at=now + policy.wait(self.probes + 1))


CLOSED = Breaker()
