"""The circuit breaker of a connection as a row, and what it keeps from starting, said once for every query."""

from typing import Any

from sqlalchemy import ColumnElement, Row, exists

from app.db.coupling_rows import decode_failure, encode_failure
from app.db.tables import crm_breaker
from app.domain.breaker import Breaker

_AS_IS = ("failures", "first_failed_at", "opened_at", "probes", "probe_at")


def encode(breaker: Breaker) -> dict[str, Any]:
    """The breaker as the values of its row."""
    return {name: getattr(breaker, name) for name in _AS_IS} | {"reason": encode_failure(breaker.reason)}


def decode(row: Row[Any]) -> Breaker:
    """The breaker out of its row."""
    return Breaker(**{name: getattr(row, name) for name in _AS_IS}, reason=decode_failure(row.reason))


def let_in(company_id: ColumnElement[int]) -> ColumnElement[bool]:
    """The breaker of that company's connection is not open."""
    return ~exists().where(crm_breaker.c.company_id == company_id, crm_breaker.c.opened_at.is_not(None))
