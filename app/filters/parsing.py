"""Text to tree."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

from odata_query import ast
from odata_query.exceptions import (
    ArgumentCountException,
    ODataException,
    ODataSyntaxError,
    UnknownFunctionException,
)
from odata_query.grammar import ODataLexer, ODataParser

DATAVERSE = ("Microsoft", "Dynamics", "CRM")
MAXIMUM_DEPTH = 100
"""Levels of parentheses, functions and paths within one another. Whoever walks a tree may count on it; a chain of
conditions joined by the same word is one level."""
LARGEST_EXPONENT = 100
"""Of a number: written out, others would fill the memory."""


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
    ANY = r"any\b"  # type: ignore[assignment]  # as above
    ALL = r"all\b"  # type: ignore[assignment]  # as above
    BOOLEAN = r"(?:true|false)\b"  # type: ignore[assignment]  # as above
    NULL = r"null\b"  # type: ignore[assignment]  # as above
    NOT = r"not\b\s*"  # type: ignore[assignment]  # as above
    STRING = rf"'(?:[^']|'')*'|{_QUOTED}"  # type: ignore[assignment]  # as above


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
    except RecursionError as error:  # the grammar turns long paths inside out, part by part
        raise _too_deep() from error
    except (ODataException, AttributeError) as error:
        # AttributeError: odata-query stumbles over calls with three named arguments.
        raise FilterError(f"The filter '{text}' cannot be read.") from error
    if not isinstance(node, ast._Node):
        raise FilterError(f"The filter '{text}' cannot be read.")
    if _is_too_deep(node):
        raise _too_deep()
    return node


def _too_deep() -> FilterError:
    return FilterError(f"The filter is nested deeper than {MAXIMUM_DEPTH} levels.")


def _is_too_deep(root: ast._Node) -> bool:
    todo = [(root, 1)]
    while todo:
        node, depth = todo.pop()
        if depth > MAXIMUM_DEPTH:
            return True
        for part in _parts(node):
            chained = isinstance(node, ast.BoolOp) and isinstance(part, ast.BoolOp) and part.op == node.op
            todo.append((part, depth if chained else depth + 1))
    return False


def _parts(node: ast._Node) -> Iterator[ast._Node]:
    for value in vars(node).values():
        if isinstance(value, ast._Node):
            yield value
        elif isinstance(value, list):
            yield from (each for each in value if isinstance(each, ast._Node))


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
    return chain(node, ast.And)


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
            for part in chain(node, type(op)):
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
            return _number(text)
        case ast.UnaryOp(ast.USub(), operand):
            return -literal_value(operand)
        case ast._Literal():
            try:
                value = node.py_val
            except (ValueError, OverflowError) as error:
                raise FilterError(f"'{getattr(node, 'val', '')}' is not a valid value.") from error
            if isinstance(value, dt.datetime) and value.tzinfo is None:
                return value.replace(tzinfo=dt.UTC)
            return value
    raise FilterError("Only values and fields can be compared.")


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise FilterError(f"The number {text} is out of range.")
    return number


def chain(node: ast._Node, op: type[ast._Node]) -> list[ast._Node]:
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
