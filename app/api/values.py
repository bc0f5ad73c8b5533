"""Values of records as JSON."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic_core import PydanticSerializationError

from app.domain.records import Reference

JsonValue = str | int | float | bool | None
_AS_IT_IS = frozenset({str, bool, int, float, type(None)})  # nearly all of them
EXACT_DIGITS = 15
"""As many digits survive the way through a JSON number everywhere."""


def shown(value: Any) -> JsonValue:
    """A value of either side: dates and times in ISO form (times in UTC with Z), ids and lookups as GUIDs.

    A decimal is a number; one with more digits than a number can carry is a string.
    """
    if type(value) is Decimal:  # by far the most common of what has to be looked at
        return _number(value)
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return str(value.value)
        case Decimal():
            return _number(value)
        case datetime():
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case UUID():
            return str(value)
        case Reference():
            return str(value.id)
        case _:
            return str(value)


def _number(value: Decimal) -> JsonValue:
    if not value:
        return 0
    if not value.is_finite():
        return str(value)
    if value == value.to_integral_value() and value.adjusted() < EXACT_DIGITS:
        return int(value)
    return float(value) if len(value.as_tuple().digits) <= EXACT_DIGITS else str(value)


def id_text(one: UUID | None) -> str | None:
    """An id as the text that it is in JSON. The database's driver has ids of a kind of its own, which JSON is made of
    only after everything else was tried."""
    return None if one is None else str(one)


def shown_fields(values: Mapping[str, Any]) -> dict[str, JsonValue]:
    """All values of a record."""
    return {name: value if type(value) in _AS_IT_IS else shown(value) for name, value in values.items()}


def json_of(write: Callable[[], bytes], plain: Callable[[], Any]) -> bytes:
    """What `write` makes of an answer; where that holds half a character, which CRM may keep and cut its messages to
    and no text in UTF-8 can, what `plain` makes of it with a question mark in its place."""
    try:
        return write()
    except PydanticSerializationError:
        return json.dumps(plain(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
