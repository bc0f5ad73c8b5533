"""Values beside each other: as the same kind, without regard to case, refused where that makes no sense."""

import datetime as dt
import operator
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from app.filters.parsing import FilterError


def like_pattern(text: str) -> str:
    """The regular expression of a SQL LIKE pattern: `%` any text, `_` one character, `[abc]` one of these."""
    pieces = re.findall(r"\[[^\]]+\]|%|_|.", text, re.DOTALL)
    return "".join(
        {"%": ".*", "_": "."}.get(piece) or (_one_of(piece) if len(piece) > 1 else re.escape(piece))
        for piece in pieces
    )


def _one_of(piece: str) -> str:
    """`[abc]`, `[a-z]` or `[^a]` as a regular expression, in which other characters mean more than themselves."""
    negated, inner = ("^", piece[2:-1]) if piece.startswith("[^") and len(piece) > 3 else ("", piece[1:-1])
    expression = f"[{negated}{re.sub(r'([^a-zA-Z0-9-])', _escaped, inner)}]"
    try:
        re.compile(expression)
    except re.error:  # a range from back to front holds nothing
        return "(?!)"
    return expression


def _escaped(character: re.Match[str]) -> str:
    return "\\" + character[0] if character[0].isascii() else character[0]


def fold(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if type(left) is not type(right):
        left, right = alike(left, right)
    try:
        return compare(left, right)
    except TypeError as error:
        raise incompatible(left, right) from error


def comparable(left: Any, right: Any) -> bool:
    """Whether a value of this kind can be compared with that one. Nothing is comparable with everything."""
    try:
        compared(operator.eq, fold(left), fold(right))
    except FilterError:
        return False
    return True


def alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Both values as the same kind, where one says less: a day beside a moment, text beside a GUID."""
    numbers = (int, Decimal, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return _number(left), _number(right)
    for kind, convert in ((UUID, UUID), (dt.datetime, _moment), (dt.date, _day)):
        if isinstance(left, kind) or isinstance(right, kind):
            try:
                return (
                    left if isinstance(left, kind) else convert(left),
                    right if isinstance(right, kind) else convert(right),
                )
            except (ValueError, TypeError, AttributeError) as error:
                raise incompatible(left, right) from error
    raise incompatible(left, right)


def _number(value: int | Decimal | float) -> Decimal | int:
    return Decimal(str(value)) if isinstance(value, float) else value


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    moment = dt.datetime.fromisoformat(value.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _day(value: Any) -> dt.date:
    return dt.date.fromisoformat(value)


def incompatible(left: Any, right: Any) -> FilterError:
    kinds = type(left).__name__, type(right).__name__
    return FilterError(f"A value of kind {kinds[0]} cannot be compared with one of kind {kinds[1]}.")


def like_kind(found: Any, value: Any) -> Any:
    """A parameter of a query function, which is text, as the kind of the field's value."""
    if isinstance(value, type(found)) or not isinstance(value, str):
        return fold(value)
    try:
        match found:
            case bool():
                return value.casefold() == "true"
            case int() | Decimal() | float():
                return Decimal(value)
            case UUID() | dt.datetime() | dt.date():
                return alike(found, value)[1]
    except InvalidOperation as error:
        raise incompatible(found, value) from error
    raise incompatible(found, value)
