"""NAV values: from outside into the form we store, and back.

Stored are only values that are not blank, as JSON: decimals as text in their shortest form, options by
name, dates and times in ISO form. So equal values are equal texts, and the database can tell a change.
"""

import datetime as dt
import math
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID

from app.domain import conversion
from app.domain.naming import near
from app.domain.records import FieldDefinition, FieldType, Side, Value

Stored = str | int | bool
StoredValues = dict[str, Stored]
Writer = Callable[[Any], Stored | None]
Reader = Callable[[Any], Value]

DECIMAL_DIGITS = 28  # what a Decimal of NAV can hold
INTEGER_LIMIT = 2**31
BIG_INTEGER_LIMIT = 2**63
# What NAV's web services send for "no date" (nav-odata 3.3).
BLANK_YEAR = 1


class Unfit(ValueError):
    """The value does not fit the field. `suggestion` is one that would."""

    def __init__(self, message: str, suggestion: Value = None) -> None:
        super().__init__(message)
        self.message = message
        self.suggestion = suggestion


def units(text: str) -> int:
    """The length of a text as NAV counts it: in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def to_stored(field: FieldDefinition, value: Any) -> Stored | None:
    """The form in which the value is stored, None if it is blank. Raises Unfit."""
    return None if value is None else _WRITERS[field.type](field, value)


def writer(field: FieldDefinition) -> Writer:
    """`to_stored` of one field, made once for many values. A text that plainly fits is not looked at twice."""
    write = partial(to_stored, field)
    if _WRITERS[field.type] not in (_text, _code):
        return write
    is_code = field.type is FieldType.CODE
    longest = sys.maxsize if field.length is None else field.length

    def write_text(value: Any) -> Stored | None:
        if type(value) is str and value.isascii() and len(value) <= longest and "\0" not in value:
            return (value.strip().upper() if is_code else value) or None
        return write(value)

    return write_text


def reader(field: FieldDefinition) -> Reader | None:
    """What makes a value of its stored form, None where that is the value."""
    return _READERS.get(field.type)


def from_stored(field: FieldDefinition, stored: Any) -> Value:
    """The value of a field; the blank of its type if nothing is stored."""
    return blank(field) if stored is None else _READERS.get(field.type, _as_it_is)(stored)


def blank(field: FieldDefinition) -> Value:
    """NAV's blank: an empty text, zero, no, the option of number zero; no date and no id are None."""
    return conversion.blank(field, Side.NAV)


def decimal_text(number: Decimal) -> str:
    """The shortest text of a number, without an exponent."""
    return format(number.normalize(), "f") if number else "0"


def _text(field: FieldDefinition, value: Any) -> str | None:
    return _fitting(field, _unchecked_text(value))


def _code(field: FieldDefinition, value: Any) -> str | None:
    return _fitting(field, conversion.capitals(_unchecked_text(value).strip()))


def _unchecked_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("The field holds text.", str(value) if isinstance(value, int | float | Decimal) else None)
    if "\0" in value or (not value.isascii() and re.search("[\ud800-\udfff]", value)):
        raise Unfit("The text holds a character that cannot be stored.")
    return value


def _fitting(field: FieldDefinition, text: str) -> str | None:
    if field.length is not None and len(text) * 2 > field.length and units(text) > field.length:
        message = f"The text has {units(text)} characters; '{field.label}' holds {field.length}."
        raise Unfit(message, conversion.cut(text, field.length))
    return text or None


def _integer(field: FieldDefinition, value: Any) -> int | None:
    number = _number(value)
    if number != number.to_integral_value():
        raise Unfit("The field holds a whole number.", int(number))
    limit = INTEGER_LIMIT if field.type is FieldType.INTEGER else BIG_INTEGER_LIMIT
    if not -limit < number < limit:
        raise Unfit("The number is too large for the field.")
    return int(number) or None


def _decimal(field: FieldDefinition, value: Any) -> str | None:
    number = _number(value)
    if len(number.as_tuple().digits) > DECIMAL_DIGITS or abs(number.adjusted()) > DECIMAL_DIGITS:
        raise Unfit(f"The number has more than {DECIMAL_DIGITS} digits.")
    return decimal_text(number) if number else None


def _number(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise Unfit("The field holds a number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unfit("The field holds a finite number.")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise Unfit("The field holds a number.") from None
    if not number.is_finite():
        raise Unfit("The field holds a finite number.")
    return number


def _boolean(field: FieldDefinition, value: Any) -> bool | None:
    if not isinstance(value, bool):
        meant = {"true": True, "false": False}.get(str(value).lower())
        raise Unfit("The field holds true or false.", meant)
    return value or None


def _option(field: FieldDefinition, value: Any) -> str | None:
    names = {option.name.casefold(): option for option in field.options}
    if not isinstance(value, str):
        raise Unfit(f"The field holds one of {_listed(field)}.")
    option = names.get(value.strip().casefold())
    if option is None:
        meant = near(value.strip(), (option.name for option in field.options))
        raise Unfit(f"The field holds one of {_listed(field)}.", meant)
    return option.name if option.value != 0 else None


def _listed(field: FieldDefinition) -> str:
    return ", ".join(f"'{option.name}'" for option in field.options)


def _date(field: FieldDefinition, value: Any) -> str | None:
    if isinstance(value, dt.datetime):
        day = value.date()
    elif isinstance(value, dt.date):
        day = value
    elif not isinstance(value, str):
        raise Unfit("The field holds a date such as 2026-11-30.")
    elif not value.strip():
        return None
    else:
        try:
            day = dt.date.fromisoformat(value.strip())
        except ValueError:
            raise Unfit("The field holds a date such as 2026-11-30.") from None
    return None if day.year == BLANK_YEAR else day.isoformat()


def _datetime(field: FieldDefinition, value: Any) -> str | None:
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            value = None
    if not isinstance(value, dt.datetime):
        raise Unfit("The field holds a moment such as 2026-11-30T08:00:00Z.")
    if value.year == BLANK_YEAR:
        return None
    try:
        moment = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    except OverflowError:
        raise Unfit("In UTC the moment lies outside of the years 1 to 9999.") from None
    return moment.isoformat()


def _time(field: FieldDefinition, value: Any) -> str | None:
    if isinstance(value, str) and not value.strip():
        return None
    try:
        moment = value if isinstance(value, dt.time) else dt.time.fromisoformat(str(value).strip())
    except ValueError:
        raise Unfit("The field holds a time such as 08:00:00.") from None
    return moment.replace(tzinfo=None).isoformat()


def _guid(field: FieldDefinition, value: Any) -> str | None:
    if value == "":
        return None
    try:
        guid = value if isinstance(value, UUID) else UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Unfit("The field holds a GUID.") from None
    return str(guid) if guid.int else None


_WRITERS: Mapping[FieldType, Callable[[FieldDefinition, Any], Stored | None]] = {
    FieldType.TEXT: _text,
    FieldType.MEMO: _text,
    FieldType.CODE: _code,
    FieldType.INTEGER: _integer,
    FieldType.BIG_INTEGER: _integer,
    FieldType.DECIMAL: _decimal,
    FieldType.MONEY: _decimal,
    FieldType.BOOLEAN: _boolean,
    FieldType.OPTION: _option,
    FieldType.DATE: _date,
    FieldType.DATETIME: _datetime,
    FieldType.TIME: _time,
    FieldType.GUID: _guid,
}


def _as_it_is(stored: Any) -> Value:
    value: Value = stored
    return value


_READERS: Mapping[FieldType, Callable[[Any], Value]] = {
    FieldType.DECIMAL: Decimal,
    FieldType.MONEY: Decimal,
    FieldType.DATE: dt.date.fromisoformat,
    FieldType.DATETIME: dt.datetime.fromisoformat,
    FieldType.GUID: UUID,
}
