"""What PostgreSQL forbids, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from app.domain.errors import (
    AlreadyExists,
    Busy,
    DatabaseFull,
    DatabaseUnavailable,
    IntegrationError,
    Invalid,
    NotFound,
)

_UNIQUE, _FOREIGN_KEY, _DISK_FULL = "23505", "23503", "53100"
_TRANSIENT = frozenset({"40P01", "40001", "55P03"})  # deadlock, serialization failure, lock not available
_UNSTORABLE = frozenset({"22021", "22P05"})  # a NUL in text, a NUL in JSON
# By SQLSTATE: the server ends sessions or takes none (08, 57P), lacks something (53), cannot reach its files (58),
# or has become a standby (25006).
_TROUBLE = ("08", "25006", "53", "57P", "58")
UNREACHABLE = (
    "Repeat the request. If it goes on, look whether PostgreSQL runs and NAVCRM_DATABASE_URL names it."
)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Broken constraints become domain errors; `what` names the thing that was to be written.

    Raises AlreadyExists, and NotFound when what it refers to is gone.
    """
    try:
        yield
    except DBAPIError as error:
        state = _state_of(error)
        if state == _UNIQUE:
            raise AlreadyExists(f"There is already {what}.") from error
        if state == _FOREIGN_KEY:
            raise NotFound(f"What {what} belongs to does not exist any more.") from error
        raise


def of_transaction(error: DBAPIError) -> IntegrationError | None:
    """What any statement of a transaction may run into; None for what is a fault of ours."""
    state = _state_of(error) or ""
    if state == _DISK_FULL:
        return DatabaseFull()
    if error.connection_invalidated or state.startswith(_TROUBLE):
        return DatabaseUnavailable("The connection to the database broke.", fix=UNREACHABLE)
    if state in _TRANSIENT:
        return Busy("Somebody else is writing the same records at this moment.", fix="Repeat the request.")
    if state in _UNSTORABLE:
        return Invalid("A text holds a NUL character, which cannot be stored.", fix="Leave it out.")
    return None


def _state_of(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
