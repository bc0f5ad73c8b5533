"""OData filters: text to tree, the fields a tree names, and whether a record matches it.

The trees are those of the odata-query library, so that each side can walk them into its own terms (SQL on the
NAV side, `$filter` on the CRM side). Added here: surrounding blanks, names that begin with a keyword
(`allowed`, `nullable`), one-element lists, and the Dataverse query functions with values in brackets
(`Microsoft.Dynamics.CRM.In(PropertyName='no',PropertyValues=['10000','20000'])`).

Truth has three values: a comparison with an empty field is unknown (None) unless it asks for null, and a
record matches only where the filter is true. Strings compare without regard to case.
"""

import datetime as dt
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from functools import lru_cache, reduce
from typing import Any
from uuid import UUID

from odata_query import ast
from odata_query.exceptions import (
    ArgumentCountException,
    ODataException,
    ODataSyntaxError,
    UnknownFunctionException,
)
from odata_query.grammar import ODataLexer, ODataParser

Getter = Callable[[str], Any]
Predicate = Callable[[Getter], bool | None]
Literal = Callable[[str, Any], Any]
Related = Callable[[Getter, str], Iterable[Getter]]
Function = Callable[[str, Any], Predicate]

DATAVERSE = ("Microsoft", "Dynamics", "CRM")
MAXIMUM_DEPTH = 200


class FilterError(ValueError):
    """The filter cannot be read, or compares what cannot be compared."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


# Dataverse lets the values of a function stand in double quotes, for those that hold an apostrophe.
_QUOTED = r"\"(?:[^\"\\]|\\.)*\""


class _Lexer(ODataLexer):
    tokens = ODataLexer.tokens
    literals = ODataLexer.literals | {"[", "]"}
    reflags = ODataLexer.reflags
    # A keyword ends where the word ends: `anything` and `nullable` are names. (A pattern under the name of an
    # inherited token replaces that token's pattern: sly's way, which the type checker cannot know.)
    ANY = r"any\b"  # type: ignore[assignment]
    ALL = r"all\b"  # type: ignore[assignment]
    BOOLEAN = r"(?:true|false)\b"  # type: ignore[assignment]
    NULL = r"null\b"  # type: ignore[assignment]
    NOT = r"not\b\s*"  # type: ignore[assignment]
    STRING = rf"'(?:[^']|'')*'|{_QUOTED}"  # type: ignore[assignment]


def parse(text: str) -> ast._Node:
    """The tree of a filter.

    Args:
        text: an OData filter expression; parameter aliases (`@p1`) must have been replaced by their values.
    Raises:
        FilterError: with a message for people and the position (from 0) where reading stopped, if known.
    """
    return _parse(text.strip())


@lru_cache(maxsize=512)
def _parse(text: str) -> ast._Node:
    if not text:
        raise FilterError("The filter is empty.", 0)
    if text.count("'") % 2 and '"' not in text:
        position = text.rindex("'")
        raise FilterError(f"There is an unterminated literal at position {position} in '{text}'.", position)
    try:
        node = ODataParser().parse(_normalized(text, _Lexer().tokenize(text)))
    except UnknownFunctionException as error:
        raise FilterError(f"An unknown function with name '{error.function_name}' was found.") from error
    except ArgumentCountException as error:
        raise FilterError(
            f"The function '{error.function_name}' has the wrong number of arguments."
        ) from error
    except ODataSyntaxError as error:
        raise _syntax_error(text, error) from error
    except (ODataException, AttributeError) as error:
        # AttributeError: odata-query stumbles over calls with three named arguments.
        raise FilterError(f"The filter '{text}' cannot be read.") from error
    if not isinstance(node, ast._Node):
        raise FilterError(f"The filter '{text}' cannot be read.")
    return node


def _syntax_error(text: str, error: ODataSyntaxError) -> FilterError:
    position = getattr(getattr(error, "token", None), "index", None)
    if position is None:
        return FilterError(f"The filter ends too early: '{text}'.", len(text))
    word = text[position : position + 20].strip().split(" ")[0] or " "
    return FilterError(f"Syntax error at position {position} in '{text}', at '{word}'.", position)


def _normalized(text: str, tokens: Iterable[Any]) -> Iterator[Any]:
    """Brackets become parentheses, and a list of one gets the comma by which odata-query knows a list."""
    open_lists: list[tuple[bool, int]] = []  # (is a list, commas seen)
    after_in = False
    for token in tokens:
        if token.type == "STRING" and (quoted := re.compile(_QUOTED).match(text, token.index)):
            token.value = ast.String(_unescaped(quoted[0]))
        if token.type in ("(", "["):
            open_lists.append((token.type == "[" or after_in, 0))
            token.type = token.value = "("
        elif token.type == "," and open_lists:
            open_lists[-1] = (open_lists[-1][0], open_lists[-1][1] + 1)
        elif token.type in (")", "]") and open_lists:
            is_list, commas = open_lists.pop()
            token.type = token.value = ")"
            if is_list and not commas:
                yield _comma_before(token)
        after_in = token.type == "IN"
        yield token


def _unescaped(quoted: str) -> str:
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])


def _comma_before(token: Any) -> Any:
    comma = type(token)()
    comma.type = comma.value = ","
    comma.index, comma.lineno = token.index, token.lineno
    return comma


def path_of(node: ast._Node) -> str | None:
    """`primarycontactid/fullname` for the node that names it, None if the node names no field."""
    if isinstance(node, ast.Identifier):
        return ".".join((*node.namespace, node.name))
    if isinstance(node, ast.Attribute):
        owner = path_of(node.owner)
        return f"{owner}/{node.attr}" if owner else None
    return None


def conjuncts(node: ast._Node) -> list[ast._Node]:
    """The conditions that a filter joins by `and` at its top: it matches exactly where all of them do."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [*conjuncts(node.left), *conjuncts(node.right)]
    return [node]


def names(node: ast._Node) -> frozenset[str]:
    """The paths of all fields that the filter uses; fields inside `any(c:...)` as `collection/field`."""
    return frozenset(_names(node, {}))


def _names(node: ast._Node, variables: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Identifier() | ast.Attribute():
            if path := path_of(node):
                head, _, rest = path.partition("/")
                yield f"{variables[head]}/{rest}" if head in variables else path
        case ast.Call(func, args) if func.namespace == DATAVERSE:
            yield str(parameters(args).get("PropertyName", ""))
        case ast.Call(_, args):
            for argument in args:
                yield from _names(argument, variables)
        case ast.CollectionLambda(owner, _, lambda_):
            collection = path_of(owner) or ""
            if lambda_ is None:
                yield collection
            else:
                yield from _names(lambda_.expression, variables | {lambda_.identifier.name: collection})
        case ast.BoolOp(op, _, _):
            for part in _chain(node, type(op)):
                yield from _names(part, variables)
        case ast.Compare(_, left, right) | ast.BinOp(_, left, right):
            yield from _names(left, variables)
            yield from _names(right, variables)
        case ast.UnaryOp(_, operand):
            yield from _names(operand, variables)


def parameters(arguments: Iterable[ast._Node]) -> dict[str, Any]:
    """The named parameters of a query function.

    Raises:
        FilterError: one has no name.
    """
    found = {}
    for argument in arguments:
        if not isinstance(argument, ast.NamedParam):
            raise FilterError(
                "Query functions take named parameters: PropertyName='...', PropertyValues=[...]."
            )
        found[argument.name.name] = literal_value(argument.param)
    return found


def literal_value(node: ast._Node) -> Any:
    """The value of a literal: str, int, Decimal, bool, UUID, date, aware datetime, None, or a list of them.

    Raises:
        FilterError: the node is no literal, or no such day exists.
    """
    match node:
        case ast.List(items):
            return [literal_value(item) for item in items]
        case ast.Float(text):
            return Decimal(text)
        case ast.UnaryOp(ast.USub(), operand):
            return -literal_value(operand)
        case ast._Literal():
            try:
                value = node.py_val
            except ValueError as error:
                raise FilterError(f"'{getattr(node, 'val', '')}' is not a valid value.") from error
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                return value.replace(tzinfo=dt.UTC)
            return value
    raise FilterError("Only values and fields can be compared.")


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


_COMPARE: dict[type[ast._Node], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
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
        self.depth = 0

    def test(self, node: ast._Node) -> Predicate:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise FilterError(f"The filter is nested deeper than {MAXIMUM_DEPTH} levels.")
        try:
            return self._test(node)
        finally:
            self.depth -= 1

    def _test(self, node: ast._Node) -> Predicate:
        match node:
            case ast.BoolOp(op, _, _):
                parts = [self.test(part) for part in _chain(node, type(op))]
                return _all_of(parts) if isinstance(op, ast.And) else _any_of(parts)
            case ast.UnaryOp(ast.Not(), operand):
                return _negation(self.test(operand))
            case ast.Compare(ast.In(), left, right):
                return self._in(left, right)
            case ast.Compare(comparator, left, right):
                return self._compare(type(comparator), left, right)
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
        return _fold(value)

    def _compare(self, kind: type[ast._Node], left: ast._Node, right: ast._Node) -> Predicate:
        compare = _COMPARE[kind]
        left_path, right_path = path_of(left), path_of(right)
        if left_path is None and right_path is not None:
            return self._compare(_TURNED.get(kind, kind), right, left)
        if left_path is None:
            truth = _compared(compare, _fold(literal_value(left)), _fold(literal_value(right)))
            return lambda get: truth
        name = self._path(left)
        if right_path is not None:
            other = self._path(right)
            return lambda get: _compared(compare, _fold(get(name)), _fold(get(other)))
        value = self._value(name, right)
        if value is None:
            return _null_test(name, kind)
        return lambda get: _compared(compare, _fold(get(name)), value)

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


_TURNED: dict[type[ast._Node], type[ast._Node]] = {
    ast.Lt: ast.Gt,
    ast.Gt: ast.Lt,
    ast.LtE: ast.GtE,
    ast.GtE: ast.LtE,
}


def like_pattern(text: str) -> str:
    """The regular expression of a SQL LIKE pattern: `%` any text, `_` one character, `[abc]` one of these."""
    pieces = re.findall(r"\[[^\]]+\]|%|_|.", text, re.DOTALL)
    return "".join(
        {"%": ".*", "_": "."}.get(piece) or (piece if len(piece) > 1 else re.escape(piece))
        for piece in pieces
    )


def _chain(node: ast._Node, op: type[ast._Node]) -> list[ast._Node]:
    """`a or b or c` as one list, so that long filters do not nest."""
    parts: list[ast._Node] = []
    todo = [node]
    while todo:
        current = todo.pop()
        if isinstance(current, ast.BoolOp) and isinstance(current.op, op):
            todo += [current.right, current.left]
        else:
            parts.append(current)
    return parts


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


def _null_test(name: str, kind: type[ast._Node]) -> Predicate:
    if kind is ast.Eq:
        return lambda get: get(name) is None
    if kind is ast.NotEq:
        return lambda get: get(name) is not None
    return lambda get: None


def _member(name: str, values: list[Any]) -> Predicate:
    def test(get: Getter) -> bool | None:
        found = _fold(get(name))
        return None if found is None else any(_compared(operator.eq, found, value) for value in values)

    return test


def _as_bool(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise FilterError("A field that stands alone in a filter must be a yes/no field.")


def _fold(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if type(left) is not type(right):
        left, right = _alike(left, right)
    try:
        return compare(left, right)
    except TypeError as error:
        raise _incompatible(left, right) from error


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
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
                raise _incompatible(left, right) from error
    raise _incompatible(left, right)


def _number(value: int | Decimal | float) -> Decimal | int:
    return Decimal(str(value)) if isinstance(value, float) else value


def _moment(value: Any) -> dt.datetime:
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    moment = dt.datetime.fromisoformat(value.upper())
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _day(value: Any) -> dt.date:
    return dt.date.fromisoformat(value)


def _incompatible(left: Any, right: Any) -> FilterError:
    kinds = type(left).__name__, type(right).__name__
    return FilterError(f"A value of kind {kinds[0]} cannot be compared with one of kind {kinds[1]}.")


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
        found = _fold(get(name))
        return None if found is None else any(_like_kind(found, value) == found for value in values)

    return test


def _between(name: str, low: Any, high: Any) -> Predicate:
    def test(get: Getter) -> bool | None:
        found = _fold(get(name))
        return None if found is None else _like_kind(found, low) <= found <= _like_kind(found, high)

    return test


def _like_kind(found: Any, value: Any) -> Any:
    """A parameter of a query function, which is text, as the kind of the field's value."""
    if isinstance(value, type(found)) or not isinstance(value, str):
        return _fold(value)
    try:
        match found:
            case bool():
                return value.casefold() == "true"
            case int() | Decimal() | float():
                return Decimal(value)
            case UUID() | dt.datetime() | dt.date():
                return _alike(found, value)[1]
    except InvalidOperation as error:
        raise _incompatible(found, value) from error
    raise _incompatible(found, value)


def conjunction(nodes: Iterable[ast._Node]) -> ast._Node | None:
    """One filter that asks for all of them; None if there is none."""
    found = list(nodes)
    return reduce(lambda left, right: ast.BoolOp(ast.And(), left, right), found) if found else None
