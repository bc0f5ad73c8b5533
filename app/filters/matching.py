"""Whether a record matches a filter, in three truth values."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from odata_query import ast

from app.filters.parsing import (
    DATAVERSE,
    FilterError,
    chain,
    literal_value,
    parameters,
    path_of,
)
from app.filters.values import compared, fold, like_kind, like_pattern

Getter = Callable[[str], Any]
Predicate = Callable[[Getter], bool | None]
Literal = Callable[[str, Any], Any]
Related = Callable[[Getter, str], Iterable[Getter]]
Function = Callable[[str, Any], Predicate]


def matches(node: ast._Node, getter: Getter) -> bool | None:
    """Whether a record matches: True, False, or None where an empty field leaves it unknown.

    Args:
        node: what `parse` returned.
        getter: the value of a field by its path; None for an empty one. Values may be str, int, Decimal,
            float, bool, UUID, date or datetime (without zone = UTC).
    Raises:
        FilterError: the filter compares values of kinds that cannot be compared, or uses an unknown function.
    """
    return predicate(node)(getter)


def predicate(
    node: ast._Node,
    *,
    literal: Literal | None = None,
    related: Related | None = None,
    function: Function | None = None,
    wildcards: bool = False,
) -> Predicate:
    """A filter made ready to test many records.

    Args:
        node: what `parse` returned.
        literal: turns a literal into the form in which the field of that path keeps its values.
        related: the getters of the records behind a collection (`any`, `all`), from the record's getter.
        function: the predicate of a Dataverse query function, from its name and its parameters (as text).
        wildcards: `%`, `_` and `[]` in contains, startswith and endswith are wildcards, as in SQL.
    """
    return _Compiler(literal, related, function or _query_function, wildcards).test(node)


Compare = Callable[[Any, Any], Any]
COMPARISONS: Mapping[type[ast._Node], Compare] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
TURNED: Mapping[Compare, Compare] = {
    operator.lt: operator.gt,
    operator.gt: operator.lt,
    operator.le: operator.ge,
    operator.ge: operator.le,
}
"""The comparison that says the same with its sides exchanged, where that is another."""
_TEXT: dict[str, tuple[Callable[[str, str], bool], str, str]] = {
    "contains": (operator.contains, ".*", ".*"),
    "startswith": (str.startswith, "", ".*"),
    "endswith": (str.endswith, ".*", ""),
}


class _Compiler:
    def __init__(
        self, literal: Literal | None, related: Related | None, function: Function, wildcards: bool
    ) -> None:
        self.literal = literal
        self.related = related
        self.function = function
        self.wildcards = wildcards
        self.variable: str | None = None
        self.collection = ""

    def test(self, node: ast._Node) -> Predicate:
        match node:
            case ast.BoolOp(op, _, _):
                parts = [self.test(part) for part in chain(node, type(op))]
                return _all_of(parts) if isinstance(op, ast.And) else _any_of(parts)
            case ast.UnaryOp(ast.Not(), operand):
                return _negation(self.test(operand))
            case ast.Compare(ast.In(), left, right):
                return self._in(left, right)
            case ast.Compare(comparator, left, right):
                return self._compare(COMPARISONS[type(comparator)], left, right)
            case ast.Call(func, args) if func.namespace == DATAVERSE:
                return self.function(func.name, parameters(args))
            case ast.Call(func, args):
                return self._text(".".join((*func.namespace, func.name)), args)
            case ast.CollectionLambda(owner, op, lambda_):
                return self._lambda(owner, isinstance(op, ast.All), lambda_)
            case ast.Boolean():
                value = bool(node.py_val)
                return lambda get: value
            case ast.Identifier() | ast.Attribute():
                name = self._path(node)
                return lambda get: _as_bool(get(name))
        raise FilterError("The filter must be a comparison, a function, or several joined by and, or, not.")

    def _path(self, node: ast._Node) -> str:
        path = path_of(node)
        if path is None:
            raise FilterError("Only fields of the record can be compared with values.")
        if self.variable and path.startswith(self.variable + "/"):
            return path[len(self.variable) + 1 :]
        return path

    def _value(self, path: str, node: ast._Node) -> Any:
        value = literal_value(node)
        return self._kept(path, value)

    def _kept(self, path: str, value: Any) -> Any:
        if self.literal is not None and value is not None:
            value = self.literal(f"{self.collection}/{path}" if self.variable else path, value)
        return fold(value)

    def _compare(self, compare: Compare, left: ast._Node, right: ast._Node) -> Predicate:
        left_path, right_path = path_of(left), path_of(right)
        if left_path is None and right_path is not None:
            return self._compare(TURNED.get(compare, compare), right, left)
        if left_path is None:
            truth = compared(compare, fold(literal_value(left)), fold(literal_value(right)))
            return lambda get: truth
        name = self._path(left)
        if right_path is not None:
            other = self._path(right)
            return lambda get: compared(compare, fold(get(name)), fold(get(other)))
        value = self._value(name, right)
        if value is None:
            return _null_test(name, compare)
        return lambda get: compared(compare, fold(get(name)), value)

    def _in(self, left: ast._Node, right: ast._Node) -> Predicate:
        name = self._path(left)
        if not isinstance(right, ast.List):
            raise FilterError("After 'in' comes a list of values in parentheses.")
        return _member(name, [self._value(name, item) for item in right.val])

    def _text(self, name: str, arguments: list[ast._Node]) -> Predicate:
        if name not in _TEXT:
            raise FilterError(f"The function '{name}' is not supported in filters.")
        test, before, after = _TEXT[name]
        path = self._path(arguments[0])
        wanted = literal_value(arguments[1])
        if not isinstance(wanted, str):
            raise FilterError(f"The function '{name}' compares text: put the value in single quotes.")
        folded = wanted.casefold()
        if self.wildcards and re.search(r"[%_\[]", folded):
            pattern = re.compile(before + like_pattern(folded) + after, re.DOTALL)
            return lambda get: (
                None if (v := get(path)) is None else bool(pattern.fullmatch(str(v).casefold()))
            )
        return lambda get: None if (v := get(path)) is None else test(str(v).casefold(), folded)

    def _lambda(self, owner: ast._Node, every: bool, lambda_: ast.Lambda | None) -> Predicate:
        if self.related is None or self.variable:
            raise FilterError("'any' and 'all' cannot be used here.")
        related, collection = self.related, self._path(owner)
        if lambda_ is None:
            return lambda get: any(True for _ in related(get, collection))
        self.variable, self.collection = lambda_.identifier.name, collection
        inner = self.test(lambda_.expression)
        self.variable, self.collection = None, ""
        if every:
            return lambda get: all(inner(item) is True for item in related(get, collection))
        return lambda get: any(inner(item) is True for item in related(get, collection))


def _all_of(parts: list[Predicate]) -> Predicate:
    def test(get: Getter) -> bool | None:
        truth: bool | None = True
        for part in parts:
            outcome = part(get)
            if outcome is False:
                return False
            if outcome is None:
                truth = None
        return truth

    return test


def _any_of(parts: list[Predicate]) -> Predicate:
    def test(get: Getter) -> bool | None:
        truth: bool | None = False
        for part in parts:
            outcome = part(get)
            if outcome:
                return True
            if outcome is None:
                truth = None
        return truth

    return test


def _negation(part: Predicate) -> Predicate:
    def test(get: Getter) -> bool | None:
        outcome = part(get)
        return None if outcome is None else not outcome

    return test


def _null_test(name: str, compare: Compare) -> Predicate:
    if compare is operator.eq:
        return lambda get: get(name) is None
    if compare is operator.ne:
        return lambda get: get(name) is not None
    return lambda get: None


def _member(name: str, values: list[Any]) -> Predicate:
    def test(get: Getter) -> bool | None:
        found = fold(get(name))
        return None if found is None else any(compared(operator.eq, found, value) for value in values)

    return test


def _as_bool(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise FilterError("A field that stands alone in a filter must be a yes/no field.")


def _query_function(kind: str, parameters: dict[str, Any]) -> Predicate:
    """In, NotIn and Between: the query functions that need nothing but the record."""
    name, values = str(parameters.get("PropertyName", "")), parameters.get("PropertyValues")
    if not name or not isinstance(values, list):
        raise FilterError(f"The function '{kind}' needs PropertyName and PropertyValues.")
    if kind == "In":
        return _text_member(name, values)
    if kind == "NotIn":
        return _negation(_text_member(name, values))
    if kind in ("Between", "NotBetween") and len(values) == 2:
        inside = _between(name, values[0], values[1])
        return inside if kind == "Between" else _negation(inside)
    raise FilterError(f"The function '{kind}' is not supported in filters.")


def _text_member(name: str, values: list[Any]) -> Predicate:
    def test(get: Getter) -> bool | None:
        found = fold(get(name))
        return None if found is None else any(like_kind(found, value) == found for value in values)

    return test


def _between(name: str, low: Any, high: Any) -> Predicate:
    def test(get: Getter) -> bool | None:
        found = fold(get(name))
        return None if found is None else like_kind(found, low) <= found <= like_kind(found, high)

    return test
