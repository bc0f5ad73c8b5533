"""Column values: what a body may say, and how the row keeps it.

Kept forms compare as they stand: moments as `YYYY-MM-DDTHH:MM:SSZ`, days as `YYYY-MM-DD`, GUIDs in lower case,
money and decimals as Decimal in their precision, options as their number.
"""

import datetime as dt
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from app.sandbox.errors import DataverseError, invalid, payload_error
from app.sandbox.metadata import LOOKUPS, Attribute, Table

EARLIEST_YEAR = 1753
EDM = {
    "String": "Edm.String",
    "Memo": "Edm.String",
    "EntityName": "Edm.String",
    "Integer": "Edm.Int32",
    "BigInt": "Edm.Int64",
    "Decimal": "Edm.Decimal",
    "Money": "Edm.Decimal",
    "Double": "Edm.Double",
    "Boolean": "Edm.Boolean",
    "Picklist": "Edm.Int32",
    "State": "Edm.Int32",
    "Status": "Edm.Int32",
    "DateTime": "Edm.DateTimeOffset",
    "Uniqueidentifier": "Edm.Guid",
    "Lookup": "Edm.Guid",
    "Customer": "Edm.Guid",
    "Owner": "Edm.Guid",
}


def edm_type(attribute: Attribute) -> str:
    """The OData type of a column."""
    return "Edm.Date" if attribute.date_only else EDM[attribute.type]


def kept(table: Table, attribute: Attribute, value: Any) -> Any:
    """A value of a JSON body in the form in which the row keeps it.

    Raises:
        DataverseError: 400, when the column does not take it.
    """
    if value is None:
        return None
    return _KEEPERS[attribute.type](table, attribute, value)


def _mismatch(attribute: Attribute, value: Any) -> DataverseError:
    return payload_error(
        f"Cannot convert the literal '{value}' to the expected type '{edm_type(attribute)}'."
    )


def _text(table: Table, attribute: Attribute, value: Any) -> str | None:
    if not isinstance(value, str):
        raise _mismatch(attribute, value)
    if attribute.max_length is not None and len(value) > attribute.max_length:
        raise DataverseError(
            400,
            "0x80044331",
            f"A validation error occurred.  The length of the '{attribute.name}' attribute of the '{table.name}' "
            f"entity exceeded the maximum allowed length of '{attribute.max_length}'.",
        )
    return value or None


def _boolean(table: Table, attribute: Attribute, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(attribute, value)
    return value


def _integer(table: Table, attribute: Attribute, value: Any) -> int:
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(attribute, value)
    if attribute.type == "Integer" and not -(2**31) <= value < 2**31:
        raise _mismatch(attribute, value)
    _within(table, attribute, Decimal(value), "0x8004432f")
    return value


def _within(table: Table, attribute: Attribute, value: Decimal, code: str) -> None:
    low, high = attribute.minimum, attribute.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise DataverseError(
            400,
            code,
            f"A validation error occurred for {table.name}.{attribute.name}. The value {value} of "
            f"'{attribute.name}' on record of type '{table.name}' is outside the valid range of {low} to {high}.",
        )


def _decimal(table: Table, attribute: Attribute, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, float)):
        raise _mismatch(attribute, value)
    number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    _within(table, attribute, number, "0x80044330")
    return rounded(number, attribute.precision or 0)


def rounded(number: Decimal, precision: int) -> Decimal:
    """A number in so many decimals, halves away from zero."""
    try:
        return number.quantize(Decimal(1).scaleb(-precision), ROUND_HALF_UP)
    except InvalidOperation:
        return number


def _double(table: Table, attribute: Attribute, value: Any) -> float:
    return float(_decimal(table, attribute, value))


def _option(table: Table, attribute: Attribute, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(attribute, value)
    if attribute.options and value not in attribute.options:
        accepted = ",".join(str(option) for option in sorted(attribute.options))
        raise DataverseError(
            400,
            "0x8004431a",
            f"A validation error occurred. The value {value} of '{attribute.name}' on record of type "
            f"'{table.name}' is outside the valid range. Accepted Values: {accepted}",
        )
    return value


def _moment(table: Table, attribute: Attribute, value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(attribute, value)
    try:
        if attribute.date_only:
            day = dt.date.fromisoformat(value) if len(value) == 10 else None  # YYYY-MM-DD
            if day is None:
                raise _mismatch(attribute, value)
            return _not_before_sql(day.year, day.isoformat())
        moment = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise _mismatch(attribute, value) from error
    return _not_before_sql(moment.year, moment_text(moment))


def _not_before_sql(year: int, text: str) -> str:
    if year < EARLIEST_YEAR:
        raise invalid(
            "DateTime is less than minimum value supported by CrmDateTime. Minimum value supported: 01/01/1753."
        )
    return text


def moment_text(moment: dt.datetime) -> str:
    """A moment as rows keep it: UTC, whole seconds; without a zone it is UTC already."""
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    return f"{moment.replace(tzinfo=None, microsecond=0).isoformat()}Z"


def _guid(table: Table, attribute: Attribute, value: Any) -> str:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError) as error:
        raise _mismatch(attribute, value) from error


_KEEPERS: dict[str, Callable[[Table, Attribute, Any], Any]] = {
    "String": _text,
    "Memo": _text,
    "EntityName": _text,
    "Boolean": _boolean,
    "Integer": _integer,
    "BigInt": _integer,
    "Decimal": _decimal,
    "Money": _decimal,
    "Double": _double,
    "Picklist": _option,
    "State": _option,
    "Status": _option,
    "DateTime": _moment,
    "Uniqueidentifier": _guid,
    **dict.fromkeys(LOOKUPS, _guid),
}
