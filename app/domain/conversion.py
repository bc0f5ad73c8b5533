"""One value in the other side's terms, and when two values are equal.

Source of the rules: nav-behaviour 7. Where NAV drops a value that it cannot convert, we say so.
Lengths count UTF-16 units: both sides store text in them.
"""

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final, NoReturn
from uuid import UUID

from app.domain.errors import FieldProblem, InvalidValues
from app.domain.records import (
    BROKEN,
    TEXTS,
    TIMES,
    WHOLE,
    FieldDefinition,
    FieldType,
    Option,
    Reference,
    Side,
    Value,
)

_OPTIONS: Final = 500  # values of one option field that are remembered


# --- values ----------------------------------------------------------------------------------------


Converter = Callable[[Value], Value]


def converter(origin: FieldDefinition, target: FieldDefinition, side: Side) -> Converter:
    """What takes the values of one field to `target`, a field of `side`: worked out once for all records of a run.

    Towards CRM blank text becomes null; towards NAV null becomes the blank of the field's type. Lookups are not
    translated here. What it answers raises InvalidValues naming the field and the value.
    """
    if origin.type is FieldType.OPTION:
        words = _option_source if side is Side.CRM else _option_words
        # Options are few, and finding one takes a look at all of them.
        return lru_cache(_OPTIONS, typed=True)(
            lambda value: _converted(words(value, origin, target), target, side)
        )
    if target.type in TEXTS:
        return _text_converter(target, side)
    return lambda value: _converted(value, target, side)


def to_crm(value: Value, nav: FieldDefinition, crm: FieldDefinition) -> Value:
    """The NAV value as CRM keeps it. Raises InvalidValues."""
    return converter(nav, crm, Side.CRM)(value)


def to_nav(value: Value, crm: FieldDefinition, nav: FieldDefinition) -> Value:
    """The CRM value as NAV keeps it. Raises InvalidValues."""
    return converter(crm, nav, Side.NAV)(value)


def constant(text: str, destination: FieldDefinition, side: Side) -> Value:
    """The value of a constant row, for the side it is written to. An option is given by name, label or
    number, a boolean also as 1 or 0.

    Raises InvalidValues.
    """
    return _converted(text, destination, side)


def _option_source(value: Value, nav: FieldDefinition, crm: FieldDefinition) -> Value:
    """A NAV option towards CRM: its name, or its label when only that says something to CRM."""
    if not isinstance(value, str):
        return value
    member = next((option for option in nav.options if option.name == value), None)
    if member is None or crm.type is not FieldType.OPTION:
        return value
    return member.name if find_option(member.name, crm.options) else member.label


def _option_words(value: Value, crm: FieldDefinition, nav: FieldDefinition) -> Value:
    """An option value of CRM towards NAV: the words that say something to NAV."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    member = next((option for option in crm.options if option.value == value), None)
    if member is None:
        return str(value)
    if nav.type is FieldType.OPTION and find_option(member.name, nav.options):
        return member.name
    return member.label or member.name


def find_option(words: str, options: Collection[Option]) -> Option | None:
    """The option of that name, label or number. Case, blanks and punctuation do not count."""
    for option in options:
        if words in (option.name, option.label):
            return option
    wanted = _plain(words)
    for option in options:
        if wanted and wanted in (_plain(option.name), _plain(option.label)):
            return option
    return next((option for option in options if words.strip() == str(option.value)), None)


def _plain(words: str) -> str:
    return re.sub(r"[\W_]+", "", words.casefold())


def _converted(value: Value, target: FieldDefinition, side: Side) -> Value:
    if target.type in TEXTS:
        return _text_converter(target, side)(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        return blank(target, side)
    try:
        return _CONVERTERS[target.type](value, target, side)
    except (ValueError, InvalidOperation, TypeError, OverflowError):
        _refuse(value, target)


def _text_converter(target: FieldDefinition, side: Side) -> Converter:
    code, length, empty = target.type is FieldType.CODE, target.length, blank(target, side)

    def convert(value: Value) -> Value:
        text = as_text(value)
        if code:
            text = capitals(text.strip())
        return cut(text, length) or empty

    return convert


def blank(definition: FieldDefinition, side: Side) -> Value:
    """What an empty field holds: null in CRM; in NAV the blank of its type, the option of number zero."""
    if side is Side.CRM:
        return None
    kind = definition.type
    if kind is FieldType.OPTION:
        return next((option.name for option in definition.options if option.value == 0), "")
    if kind in TEXTS or kind is FieldType.TIME:
        return ""
    if kind in WHOLE:
        return 0
    if kind in BROKEN:
        return Decimal(0)
    return False if kind is FieldType.BOOLEAN else None


def as_text(value: Value) -> str:
    """A value in words, as NAV would show it: plain decimals, Yes and No, ISO dates."""
    if type(value) is str:
        return value
    if isinstance(value, str):  # a word of an enumeration
        return str(value)
    match value:
        case None:
            return ""
        case bool():
            return "Yes" if value else "No"
        case Decimal():
            return f"{value.normalize():f}" if value.is_finite() else str(value)
        case datetime():
            return _utc(value).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Reference():
            return str(value.id)
    return str(value)


def capitals(text: str) -> str:
    """The text in capitals as NAV writes them, a letter for a letter: ß has none and stays, or two codes were one."""
    upper = text.upper()
    if len(upper) == len(text):
        return upper
    return "".join(letter if len(letter.upper()) > 1 else letter.upper() for letter in text)


def cut(text: str, length: int | None) -> str:
    """The text, cut to so many UTF-16 units, but never in the middle of a character."""
    if length is None or len(text) * 2 <= length:
        return text
    units = text.encode("utf-16-le", "surrogatepass")
    if len(units) <= 2 * length:
        return text
    return units[: 2 * length].decode("utf-16-le", "ignore")


def _whole(value: Value, target: FieldDefinition, side: Side) -> Value:
    number = _number(value)
    if number != number.to_integral_value():
        raise ValueError
    _in_range(number, target, 31 if target.type is FieldType.INTEGER else 63)
    return int(number)


def _broken(value: Value, target: FieldDefinition, side: Side) -> Value:
    number = rounded(_number(value), target.precision)
    _in_range(number, target, None)
    return number


def _number(value: Value) -> Decimal:
    if isinstance(value, Decimal | int | str):
        number = Decimal(value) if not isinstance(value, bool) else Decimal(int(value))
        if number.is_finite():
            return number
    raise ValueError


def rounded(number: Decimal, precision: int | None) -> Decimal:
    """The number with so many decimals, halves away from zero, as NAV rounds."""
    if precision is None or -int(number.as_tuple().exponent) <= precision:
        return number
    return number.quantize(Decimal(1).scaleb(-precision), rounding=ROUND_HALF_UP)


def _in_range(number: Decimal, target: FieldDefinition, bits: int | None) -> None:
    low = target.minimum if target.minimum is not None else (-(2**bits) if bits else None)
    high = target.maximum if target.maximum is not None else (2**bits - 1 if bits else None)
    if (low is not None and number < low) or (high is not None and number > high):
        limits = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
        _refuse(number, target, f"It must be {' and '.join(limits)}.")


_YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def _boolean(value: Value, target: FieldDefinition, side: Side) -> Value:
    if isinstance(value, bool):
        return value
    word = as_text(value).strip().casefold()
    if word not in _YES_NO:
        raise ValueError(word)
    return _YES_NO[word]


def _option(value: Value, target: FieldDefinition, side: Side) -> Value:
    found = find_option(as_text(value), target.options)
    if found is None:
        _refuse(value, target, f"{target.name} has no such option.")
    return found.value if side is Side.CRM else found.name


def _date(value: Value, target: FieldDefinition, side: Side) -> Value:
    if isinstance(value, datetime):
        return _utc(value).date()
    return value if isinstance(value, date) else date.fromisoformat(as_text(value).strip()[:10])


def _datetime(value: Value, target: FieldDefinition, side: Side) -> Value:
    if isinstance(value, datetime):
        moment = _utc(value)
    elif isinstance(value, date):
        moment = datetime.combine(value, time(), UTC)
    else:
        moment = _utc(datetime.fromisoformat(as_text(value).strip()))
    # CRM keeps whole seconds.
    return moment.replace(microsecond=0) if side is Side.CRM else moment


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _guid(value: Value, target: FieldDefinition, side: Side) -> Value:
    if isinstance(value, Reference):
        return value.id
    return value if isinstance(value, UUID) else UUID(as_text(value).strip())


def _reference(value: Value, target: FieldDefinition, side: Side) -> Value:
    if isinstance(value, Reference):
        return value
    only = target.relation[0] if len(target.relation) == 1 else None
    return Reference(value if isinstance(value, UUID) else UUID(as_text(value).strip()), only)


def _unchanged(value: Value, target: FieldDefinition, side: Side) -> Value:
    return value


_CONVERTERS: Final[Mapping[FieldType, Callable[[Value, FieldDefinition, Side], Value]]] = {
    FieldType.INTEGER: _whole,
    FieldType.BIG_INTEGER: _whole,
    FieldType.DECIMAL: _broken,
    FieldType.MONEY: _broken,
    FieldType.BOOLEAN: _boolean,
    FieldType.OPTION: _option,
    FieldType.DATE: _date,
    FieldType.DATETIME: _datetime,
    FieldType.TIME: _unchanged,
    FieldType.GUID: _guid,
    FieldType.LOOKUP: _reference,
    FieldType.ENTITY_NAME: _unchanged,
}


def _refuse(value: Value, target: FieldDefinition, why: str | None = None) -> NoReturn:
    shown = as_text(value)
    shown = shown if len(shown) <= 50 else f"{shown[:50]}…"
    message = f"'{shown}' does not fit {target.name} ({target.type})." + (f" {why}" if why else "")
    raise InvalidValues(message, errors=[FieldProblem(f"/{target.name}", message)])


# --- text rules ------------------------------------------------------------------------------------


_UNIT_GROUP: Final = "NAV "


def unit_group_name(code: str) -> str:
    """What NAV calls the CRM unit group of a unit of measure (nav-behaviour 10.5)."""
    return _UNIT_GROUP + code if code else ""


def unit_of_group(name: str) -> str:
    """The code of the unit of measure that a CRM unit group of this name stands for; blank for any other group."""
    return name.removeprefix(_UNIT_GROUP) if name.startswith(_UNIT_GROUP) else ""


TRANSFORMATIONS: Final[Mapping[str, Callable[[str], str]]] = {
    "uppercase": capitals,
    "lowercase": str.lower,
    "titlecase": str.title,
    "trim": str.strip,
    "remove_spaces": lambda text: re.sub(r"\s+", "", text),
    "alphanumeric": lambda text: re.sub(r"[\W_]+", "", text),
    "digits": lambda text: re.sub(r"\D+", "", text),
    "unit_group_name": unit_group_name,
}
"""The rules a field row may name; each changes the source text before it is transferred."""


def transformed(value: Value, transformation: str | None) -> Value:
    """The source value after the row's text rule; values that are no text stay as they are."""
    if transformation is None or not isinstance(value, str):
        return value
    return TRANSFORMATIONS[transformation](value)


# --- equality --------------------------------------------------------------------------------------


def equal(a: Value, b: Value, definition: FieldDefinition, other: FieldDefinition | None = None) -> bool:
    """Whether two values of one field are the same for a synchronization.

    Args:
        definition: the field on the side whose terms the values are in.
        other: the field it is paired with. Text is compared up to the shorter length of the two, numbers
            up to the fewer decimals, times up to the second: what the other side could not hold is not
            a change.
    """
    if type(a) is type(b) and a == b:
        return True  # mostly so; the rest is about what is the same without being equal
    kind = definition.type
    if kind in TEXTS:
        return _text_key(a, definition, other) == _text_key(b, definition, other)
    if kind in WHOLE or kind in BROKEN:
        return _number_key(a, definition, other) == _number_key(b, definition, other)
    if kind is FieldType.BOOLEAN:
        return bool(a) == bool(b)
    if kind in TIMES:
        by_day = kind is FieldType.DATE or (other is not None and other.type is FieldType.DATE)
        return _time_key(a, by_day) == _time_key(b, by_day)
    if kind is FieldType.OPTION:
        return (a if a != "" else None) == (b if b != "" else None)
    return _id_key(a) == _id_key(b)


def _text_key(value: Value, definition: FieldDefinition, other: FieldDefinition | None) -> str:
    text = as_text(value)
    if definition.type is FieldType.CODE or (other is not None and other.type is FieldType.CODE):
        text = capitals(text.strip())
    lengths = [side.length for side in (definition, other) if side is not None and side.length is not None]
    # Text from a number, a date or an option has no length of its own on the other side.
    return cut(text, min(lengths) if lengths else None)


def _number_key(value: Value, definition: FieldDefinition, other: FieldDefinition | None) -> Value:
    if value is None or value == "":
        return Decimal(0)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    known = [
        side.precision for side in (definition, other) if side is not None and side.precision is not None
    ]
    return rounded(Decimal(value), min(known) if known else None)


def _time_key(value: Value, by_day: bool) -> Value:
    if isinstance(value, datetime):
        moment = _utc(value)
        return moment.date() if by_day else moment.replace(microsecond=0)
    if isinstance(value, date):
        return value if by_day else datetime.combine(value, time(), UTC)
    return value or None


def _id_key(value: Value) -> Value:
    return value.id if isinstance(value, Reference) else (value or None)
