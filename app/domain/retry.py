"""Whether a job that failed or was lost is tried again: from the error and the attempt to a value."""

from dataclasses import dataclass
from datetime import timedelta

from app.domain.errors import (
    Busy,
    DatabaseFull,
    DatabaseUnavailable,
    LoginRefused,
    PermissionMissing,
    SideUnavailable,
    StaleRecord,
    Throttled,
    UnexpectedError,
)

FIRST_DELAY = timedelta(seconds=30)  # nav-behaviour 13.1
LONGEST_DELAY = timedelta(hours=1)
SOON = timedelta(seconds=1)
"""The first delay where our own database went away: most often it is only restarted."""
LOSSES = 3
"""How often a job may lose its worker beyond its attempts; then it is taken for what kills the workers."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again after so long."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It would fail again, or has failed often enough."""


def after_failure(
    error: Exception, attempt: int, maximum_attempts: int, first_delay: timedelta = FIRST_DELAY
) -> RetryIn | GiveUp:
    """What becomes of a job whose `attempt`, counted from 1, ended with this error.

    What may be different next time is tried again with a delay that doubles (nav-behaviour 13.3), and
    not before CRM allows. A database of ours that went away is no failure of the job: it begins again soon, and is
    tried more often. One that is full may take a while to get room. Everything else needs a person.
    """
    if isinstance(error, DatabaseUnavailable) and not isinstance(error, DatabaseFull):
        # Without a delay a database that is short of connections for seconds would use up every attempt.
        gone = isinstance(after_loss(attempt, maximum_attempts), GiveUp)
        return GiveUp() if gone else RetryIn(_doubled(SOON, attempt))
    if attempt >= maximum_attempts:
        return GiveUp()
    delay = _doubled(first_delay, attempt)
    match error:
        case LoginRefused() | PermissionMissing():  # what was taken may be given back
            return RetryIn(delay)
        case Throttled(retry_after=asked):
            return RetryIn(max(asked, delay))
        case SideUnavailable() | StaleRecord() | Busy() | DatabaseFull() | UnexpectedError() if (
            error.retryable
        ):
            return RetryIn(delay)
        case _:
            return GiveUp()


def after_loss(attempt: int, maximum_attempts: int) -> RetryIn | GiveUp:
    """What becomes of a job whose worker vanished during this attempt."""
    return RetryIn(timedelta()) if attempt < maximum_attempts + LOSSES else GiveUp()


def _doubled(first: timedelta, attempt: int) -> timedelta:
    delay: timedelta = first * 2 ** min(attempt - 1, 20)
    return min(delay, LONGEST_DELAY)
