"""OData filters as SQL over the stored records.

Text is compared as NAV does without an `@`: capitals matter. Codes are trimmed and upper-cased on both
sides, options go by name (their order is that of their numbers), blank values compare like any other.
Only dates and GUIDs can be null; a comparison with null is unknown unless it asks for null.
"""

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any, NoReturn

from odata_query import ast
from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Numeric,
    Text,
    and_,
    any_,
    false,
    func,
    literal,
    not_,
    or_,
    true,
)

from app.domain.conversion import capitals
from app.domain.errors import FieldProblem, InvalidFilter
from app.domain.naming import near
from app.domain.records import FieldDefinition, FieldType
from app.filters import COMPARISONS, TURNED, Compare, FilterError, chain, literal_value, parse, path_of
from app.nav.definitions import NavTable
from app.nav.expressions import NUMBERS, TEXTS, Expression, expression
from app.nav.values import Unfit, from_stored, to_stored

Condition = ColumnElement[bool]
CASES: Mapping[str, Callable[[Any], Any]] = {"tolower": func.lower, "toupper": func.upper}
SEARCHES = ("contains", "startswith", "endswith")


def condition(table: NavTable, text: str) -> Condition:
    """The filter as an SQL condition. Raises InvalidFilter, which names what cannot be understood."""
    try:
        return _Visitor(table, text).visit(parse(text))
    except FilterError as error:
        raise _invalid(text, error.message) from error


def _invalid(text: str, message: str, suggestion: str | None = None) -> InvalidFilter:
    return InvalidFilter(
        f"The filter '{text}' cannot be used: {message}",
        errors=[FieldProblem("filter", message, suggestion)],
        fix="The fields of a table, their types and options are listed by GET …/nav-tables/{table}.",
    )


@cache
def _unlimited(field: FieldDefinition) -> FieldDefinition:
    """A value to compare with may be longer than the field: then nothing equals it."""
    return replace(field, length=None)


class _Visitor:
    def __init__(self, table: NavTable, text: str) -> None:
        self.table = table
        self.text = text

    def visit(self, node: ast._Node) -> Condition:
        match node:
            case ast.BoolOp(op, _, _):
                parts = [self.visit(part) for part in chain(node, type(op))]
                return and_(*parts) if isinstance(op, ast.And) else or_(*parts)
            case ast.UnaryOp(ast.Not(), operand):
                return not_(self.visit(operand))
            case ast.Compare(ast.In(), left, right):
                return self.member(left, right)
            case ast.Compare(comparator, left, right):
                return self.compare(COMPARISONS[type(comparator)], left, right)
            case ast.Call():
                return self.search(node)
            case ast.Boolean():
                return true() if node.py_val else false()
            case ast.Identifier():
                field, value = self.field(node)
                if field.type is not FieldType.BOOLEAN:
                    self.refuse(f"'{field.name}' stands alone, but is not a yes/no field.")
                return value.is_(true())
        raise self.problem(
            "only comparisons, functions and their combinations with and, or, not are understood."
        )

    def problem(self, message: str) -> InvalidFilter:
        return _invalid(self.text, message)

    def refuse(self, message: str, suggestion: str | None = None) -> NoReturn:
        raise _invalid(self.text, message, suggestion)

    def field(self, node: ast._Node) -> tuple[FieldDefinition, Expression]:
        """A field, and the expression of its value; `tolower(Name)` and `toupper(Name)` count as fields."""
        if isinstance(node, ast.Call) and (change := CASES.get(node.func.name)) and len(node.args) == 1:
            field, value = self.field(node.args[0])
            if field.type not in TEXTS:
                self.refuse(f"the function '{node.func.name}' needs text, which '{field.name}' is not.")
            # Its outcome is text like any other: no longer trimmed, upper-cased or one of the options.
            return replace(field, type=FieldType.TEXT), change(value)
        name = path_of(node)
        if name is None:
            self.refuse("only fields can be compared with values.")
        field_or_none = self.table.fields.get(name)
        if field_or_none is None:
            meant = near(name, self.table.fields)
            hint = f" Did you mean '{meant}'?" if meant else ""
            label = self.table.definition.label
            self.refuse(f"'{label}' has no field '{name}'.{hint}", meant)
        return field_or_none, expression(self.table, name)

    def compare(self, operation: Compare, left: ast._Node, right: ast._Node) -> Condition:
        if not _names_field(left):
            if not _names_field(right):
                self.refuse("a comparison needs a field.")
            return self.compare(TURNED.get(operation, operation), right, left)
        if isinstance(left, ast.Call) and left.func.name in SEARCHES:
            return self.truth(operation, self.visit(left), right)
        field, value = self.field(left)
        if _names_field(right):
            return self.compare_fields(operation, field, value, right)
        wanted = literal_value(right)
        if wanted is None:
            return self.null(operation, field, value)
        if field.type is FieldType.OPTION:
            return self.option(operation, field, value, wanted)
        return _compared(operation, field, value, self.bound(field, wanted))

    def truth(self, operation: Compare, found: Condition, right: ast._Node) -> Condition:
        """`contains(Name,'x') eq true`: how NAV's own clients write it."""
        wanted = literal_value(right)
        if not isinstance(wanted, bool) or operation not in (operator.eq, operator.ne):
            self.refuse("a function is either used alone or compared with true or false.")
        return found if wanted is (operation is operator.eq) else not_(found)

    def compare_fields(
        self, operation: Compare, field: FieldDefinition, value: Expression, right: ast._Node
    ) -> Condition:
        other, other_value = self.field(right)
        if _kind(field) != _kind(other):
            self.refuse(f"'{field.name}' and '{other.name}' hold values of different kinds.")
        return _compared(operation, field, value, other_value)

    def null(self, operation: Compare, field: FieldDefinition, value: Expression) -> Condition:
        if operation is operator.eq:
            return value.is_(None)
        if operation is operator.ne:
            return value.is_not(None)
        raise self.problem(f"'{field.name}' can be equal to null or not, but not less or greater.")

    def option(self, operation: Compare, field: FieldDefinition, value: Expression, wanted: Any) -> Condition:
        name = self.literal(field, wanted)
        number = next(option.value for option in field.options if option.name == name)
        names = [option.name for option in field.options if operation(option.value, number)]
        return value.in_(names)

    def member(self, left: ast._Node, right: ast._Node) -> Condition:
        field, value = self.field(left)
        if not isinstance(right, ast.List):
            self.refuse("after 'in' comes a list of values in parentheses.")
        wanted = [literal_value(item) for item in right.val]
        if None in wanted:
            self.refuse("a list of values cannot hold null.")
        values = [self.literal(field, item) for item in wanted]
        column_type = _sql_type(field)
        if field.type is FieldType.GUID:
            values = [str(item) for item in values]
        return value == any_(literal(values, ARRAY(column_type)))

    def search(self, node: ast.Call) -> Condition:
        name = node.func.name
        if name not in SEARCHES:
            self.refuse(f"the function '{name}' is not supported.")
        field, value = self.field(node.args[0])
        wanted = literal_value(node.args[1])
        if field.type not in TEXTS or not isinstance(wanted, str):
            self.refuse(f"the function '{name}' compares text; '{field.name}' is {field.type}.")
        if "\0" in wanted:
            return false()
        if field.type is FieldType.CODE:
            wanted = capitals(wanted)
        found: Condition = getattr(value, name)(wanted, autoescape=True)
        return found

    def literal(self, field: FieldDefinition, wanted: Any) -> Any:
        """A literal as a value of the field's type."""
        if field.type not in NUMBERS and isinstance(wanted, int | float | Decimal) != (
            field.type is FieldType.BOOLEAN
        ):
            self.refuse(f"{wanted} is not a value of '{field.name}', which is {field.type}.")
        if field.type in NUMBERS:
            if isinstance(wanted, bool) or not isinstance(wanted, int | float | Decimal):
                self.refuse(f"'{wanted}' is not a number, as '{field.name}' is.")
            return Decimal(str(wanted))
        if field.type is FieldType.DATE and isinstance(wanted, dt.datetime):
            wanted = wanted.date()
        try:
            return from_stored(field, to_stored(_unlimited(field), wanted))
        except Unfit as error:
            self.refuse(f"'{wanted}' does not fit '{field.name}': {error.message}", _text(error.suggestion))

    def bound(self, field: FieldDefinition, wanted: Any) -> Expression:
        value = self.literal(field, wanted)
        if field.type is FieldType.GUID:
            value = str(value) if value else None
        return literal(value, _sql_type(field))


def _compared(operation: Compare, field: FieldDefinition, left: Expression, right: Expression) -> Condition:
    if field.type in TEXTS and operation not in (operator.eq, operator.ne):
        left = left.collate("C")  # by code point, whatever the database was created with
    compared: Condition = operation(left, right)
    return compared


def _names_field(node: ast._Node) -> bool:
    return isinstance(node, ast.Identifier | ast.Attribute | ast.Call)


def _kind(field: FieldDefinition) -> str:
    if field.type in TEXTS:
        return "text"
    return "number" if field.type in NUMBERS else str(field.type)


def _sql_type(field: FieldDefinition) -> Any:
    if field.type in NUMBERS:
        return Numeric()
    return {
        FieldType.BOOLEAN: Boolean(),
        FieldType.DATE: Date(),
        FieldType.DATETIME: DateTime(timezone=True),
    }.get(field.type, Text())


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
