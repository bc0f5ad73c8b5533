"""Values as JSON keeps them: text, whole numbers, truth and nothing as they are, the rest as `[tag, text, ...]`.

What goes in comes out equal and of the same type. JSON numbers are whole here: a decimal that went through
one could come back changed.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain.records import Reference, Value, Values

_PLAIN = frozenset({bool, int, type(None)})
_NUL = "\x00"


def encode(values: Values) -> dict[str, Any]:
    """The values of a record as JSON."""
    encoded: dict[str, Any] = dict(values)
    for name, value in encoded.items():  # every value of every record: most stay as they are
        kind = type(value)
        if not (value.isascii() and _NUL not in value if kind is str else kind in _PLAIN):
            encoded[name] = encode_value(value)
    return encoded


def decode(stored: Mapping[str, Any]) -> dict[str, Value]:
    """The values of a record out of JSON."""
    return {name: decode_value(value) if type(value) is list else value for name, value in stored.items()}


def encode_value(value: object) -> Any:
    """One value as JSON. Raises TypeError for what is no value of a record."""
    if type(value) in _PLAIN or (type(value) is str and value.isascii() and _NUL not in value):
        return value
    encoder = _ENCODE.get(type(value))
    if encoder is not None:
        return encoder(value)
    if isinstance(value, int):  # an enumeration, as the next
        return value
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, UUID):  # the database's driver has a kind of its own
        return _ENCODE[UUID](value)
    raise TypeError(f"{value!r} ({type(value).__name__}) is no value of a record.")


def decode_value(stored: Any) -> Any:
    """One value out of JSON."""
    return _DECODE[stored[0]](stored) if type(stored) is list else stored


def clean(text: str | None) -> str | None:
    """Text, if there is any, that PostgreSQL can keep: messages of other systems may hold characters it cannot."""
    if text is None or _storable(text):
        return text
    return text.replace(_NUL, "").encode("utf-8", "replace").decode()


def _storable(text: str) -> bool:
    """Whether PostgreSQL can keep the text as it is: no NUL, no half of a surrogate pair."""
    if _NUL in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(text: str) -> Any:
    return text if _storable(text) else ["x", text.encode("utf-16-le", "surrogatepass").hex()]


def _reference(value: Reference) -> list[str]:
    return ["r", value.id.hex] if value.entity is None else ["r", value.id.hex, value.entity]


_ENCODE: dict[type, Callable[[Any], Any]] = {
    str: _text,
    Decimal: lambda value: ["n", str(value)],
    datetime: lambda value: ["t", value.isoformat()],
    date: lambda value: ["d", value.isoformat()],
    UUID: lambda value: ["u", value.hex],
    Reference: _reference,
}
_DECODE: dict[str, Callable[[list[str]], object]] = {
    "x": lambda stored: bytes.fromhex(stored[1]).decode("utf-16-le", "surrogatepass"),
    "n": lambda stored: Decimal(stored[1]),
    "t": lambda stored: datetime.fromisoformat(stored[1]),
    "d": lambda stored: date.fromisoformat(stored[1]),
    "u": lambda stored: UUID(stored[1]),
    "r": lambda stored: Reference(UUID(stored[1]), stored[2] if len(stored) > 2 else None),
}
