"""What PostgreSQL forbids, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from app.domain.errors import AlreadyExists, Busy, IntegrationError, NotFound

_UNIQUE, _FOREIGN_KEY = "23505", "23503"
_TRANSIENT = frozenset({"40P01", "40001", "55P03"})  # deadlock, serialization failure, lock not available


def state_of(error: DBAPIError) -> str | None:
    """The SQLSTATE of a database error."""
    return getattr(error.orig, "sqlstate", None)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Broken constraints become domain errors; `what` names the thing that was to be written.

    Raises AlreadyExists, NotFound (what it refers to is gone) and Busy (two transactions wait for each other).
    """
    try:
        yield
    except DBAPIError as error:
        ours = _translate(state_of(error), what)
        if ours is None:
            raise
        raise ours from error


def _translate(state: str | None, what: str) -> IntegrationError | None:
    if state == _UNIQUE:
        return AlreadyExists(f"There is already {what}.")
    if state == _FOREIGN_KEY:
        return NotFound(f"What {what} belongs to does not exist any more.")
    if state in _TRANSIENT:
        return Busy(f"Somebody else is writing {what} at this moment.", fix="Repeat the request.")
    return None
