"""The Dataverse query functions of `$filter`, and the same operators of FetchXML."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from app.filters import FilterError, Getter, Predicate
from app.sandbox.addresses import Context
from app.sandbox.metadata import NUMBERS, OPTIONS, Attribute, Table
from app.sandbox.projection import declared
from app.sandbox.storage import fold
from app.sandbox.values import moment_text

UNITS = {"Hours": 1 / 24, "Days": 1, "Weeks": 7, "Months": 30, "Years": 365}


def condition(context: Context, table: Table, kind: str, parameters: dict[str, Any]) -> Predicate:
    """The predicate of a query function.

    Args:
        context: who asks; `EqualUserId` compares with the user.
        table: the queried table.
        kind: name of the function without namespace.
        parameters: PropertyName (a lookup by its logical name), and PropertyValue or PropertyValues.
    Raises:
        FilterError: unknown function, or parameters missing.
    """
    name = str(parameters.get("PropertyName", ""))
    attribute = table.attributes.get(name) or declared(table, name)
    raw = parameters.get("PropertyValues", parameters.get("PropertyValue"))
    values = raw if isinstance(raw, list) else [] if raw is None else [raw]
    test = value_test(context, attribute, kind, [str(value) for value in values])

    def of_row(get: Getter) -> bool | None:
        value = get(name)
        return None if value is None else test(value)

    return of_row


def value_test(context: Context, attribute: Attribute, kind: str, values: list[str]) -> Callable[[Any], bool]:
    """A test for one value that is not null.

    Raises:
        FilterError: unknown function, or parameters missing.
    """
    organization = context.organization
    match kind:
        case "In" | "NotIn":
            wanted = {fold(converted(attribute, value)) for value in values}
            return (lambda v: fold(v) in wanted) if kind == "In" else (lambda v: fold(v) not in wanted)
        case "Between" | "NotBetween" if len(values) == 2:
            low, high = (fold(converted(attribute, value)) for value in values)
            return (
                (lambda v: low <= fold(v) <= high)
                if kind == "Between"
                else (lambda v: not low <= fold(v) <= high)
            )
        case "EqualUserId":
            return lambda v: bool(v == context.user)
        case "NotEqualUserId":
            return lambda v: bool(v != context.user)
        case "EqualBusinessId":
            return lambda v: bool(v == organization.business_unit)
        case "NotEqualBusinessId":
            return lambda v: bool(v != organization.business_unit)
    if attribute.type != "DateTime":
        raise FilterError(f"The function '{kind}' is not supported for '{attribute.name}'.")
    low, high = _period(organization.settings.clock().astimezone(dt.UTC), kind, values)
    return lambda v: (low is None or v >= low) and (high is None or v < high)


def converted(attribute: Attribute, text: str) -> Any:
    """A parameter, which is text, in the form in which rows keep the column.

    Raises:
        FilterError: the text is no value of the column's type.
    """
    try:
        if attribute.type in NUMBERS | OPTIONS:
            return Decimal(text)
        if attribute.type == "Boolean":
            return text.lower() in ("1", "true")
        if attribute.type == "DateTime":
            return text[:10] if attribute.date_only else moment_text(dt.datetime.fromisoformat(text))
    except (InvalidOperation, ValueError) as error:
        raise FilterError(f"'{text}' is no value for '{attribute.name}'.") from error
    return text


def _period(now: dt.datetime, kind: str, values: list[str]) -> tuple[str | None, str | None]:
    """Beginning (inclusive) and end (exclusive) of what a date function means."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    day = dt.timedelta(days=1)
    spans = {
        "Today": (0, 1),
        "Yesterday": (-1, 0),
        "Tomorrow": (1, 2),
        "Last7Days": (-7, 1),
        "Next7Days": (0, 8),
    }
    if kind in spans:
        first, last = spans[kind]
        return moment_text(today + first * day), moment_text(today + last * day)
    if not values:
        raise FilterError(f"The function '{kind}' needs PropertyValue.")
    if kind in ("On", "OnOrAfter", "OnOrBefore"):
        return _around(kind, values[0], day)
    for unit, days in UNITS.items():
        forms = {f"LastX{unit}": -1, f"NextX{unit}": 1, f"OlderThanX{unit}": 0}
        if kind in forms:
            span = dt.timedelta(days=days * _whole(values[0]))
            if forms[kind] == 0:
                return None, moment_text(now - span)
            if forms[kind] < 0:
                return moment_text((now if unit == "Hours" else today) - span), moment_text(now + day / 86400)
            return moment_text(now), moment_text((now if unit == "Hours" else today + day) + span)
    raise FilterError(f"The function '{kind}' is not supported in filters.")


def _around(kind: str, text: str, day: dt.timedelta) -> tuple[str | None, str | None]:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise FilterError(f"'{text}' is no date.") from error
    start = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    low = None if kind == "OnOrBefore" else moment_text(start)
    high = None if kind == "OnOrAfter" else moment_text(start + day)
    return low, high


def _whole(text: str) -> int:
    if not text.isdigit():
        raise FilterError(f"'{text}' is no whole number.")
    return int(text)
