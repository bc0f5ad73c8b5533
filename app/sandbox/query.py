"""Queries: which rows, in which order."""

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial, total_ordering
from typing import Any
from uuid import UUID

from odata_query import ast

from app import filters
from app.sandbox.addresses import Context, split
from app.sandbox.conditions import condition
from app.sandbox.errors import DataverseError, query_error
from app.sandbox.metadata import LOOKUPS, NUMBERS, OPTIONS, Attribute, Single, Table
from app.sandbox.projection import declared, name_of, target_of
from app.sandbox.storage import Row, fold
from app.sandbox.values import edm_type, moment_text

QUERY_FUNCTION = "Microsoft.Dynamics.CRM."  # may look at the clock
Accessor = Callable[[Row], Any]


@dataclass(slots=True, frozen=True)
class OrderKey:
    """One column to sort by."""

    path: str
    descending: bool


@dataclass(slots=True)
class Query:
    """A prepared query over one table."""

    context: Context
    table: Table
    test: Callable[[Row], bool | None] | None = None
    order: list[OrderKey] = field(default_factory=list)
    candidates: "Callable[[], set[str] | None]" = lambda: None
    text: tuple[str, str] = ("", "")

    @property
    def linked_order(self) -> bool:
        """Whether it sorts by what another row says: then there is no position to continue from."""
        return any("/" in k.path or self.table.properties[k.path].type in LOOKUPS for k in self.order)

    def rows(self, after: tuple[Any, ...] | None = None) -> Iterator[tuple[str, Row]]:
        """The matching rows in order, from behind a position.

        Args:
            after: the values of the order columns, then the id, of the last row seen.
        """
        data = self.context.organization.data(self.table.name)
        if self.order:
            for row_id in self._ordered(after):
                yield row_id, data.rows[row_id]
            return
        last = after[-1] if after else None
        found = self.candidates()
        ids: Iterable[str]
        if found is not None:
            ids = sorted(i for i in found if last is None or i > last)
        else:
            ids = data.keys.irange(minimum=last, inclusive=(False, True))
        for row_id in ids:
            row = data.rows.get(row_id)
            if row is not None and (self.test is None or self.test(row)):
                yield row_id, row

    def count(self, limit: int) -> int:
        """How many rows match, counted up to a limit."""
        data = self.context.organization.data(self.table.name)
        found = self.candidates()
        if self.test is None and found is None:
            return min(len(data.rows), limit)
        total = 0
        for row_id in data.rows if found is None else found:
            row = data.rows.get(row_id)
            if row is not None and (self.test is None or self.test(row)):
                total += 1
                if total >= limit:
                    break
        return total

    def position(self, row: Row) -> tuple[Any, ...]:
        """The values of the order columns of a row, then its id."""
        return (*(accessor(self.context, self.table, k.path)(row) for k in self.order), row[self.table.key])

    def _ordered(self, after: tuple[Any, ...] | None) -> list[str]:
        storage = self.context.organization.storage
        name = (self.table.name, self.context.user, *self.text)
        cached = storage.ordered.get(name)
        data = storage.tables[self.table.name]
        accessors = [accessor(self.context, self.table, key.path, for_order=True) for key in self.order]

        def sort_key(row_id: str) -> tuple[Any, ...]:
            row = data.rows[row_id]
            parts = (_sortable(get(row), k.descending) for get, k in zip(accessors, self.order, strict=True))
            return (*parts, row_id)

        if cached is not None and cached[0] == storage.version:
            ids = cached[1]
        else:
            unordered = Query(self.context, self.table, self.test, [], self.candidates)
            ids = sorted((row_id for row_id, _ in unordered.rows()), key=sort_key)
            if QUERY_FUNCTION not in self.text[0]:
                storage.keep_order(name, ids)
        if after is None:
            return ids
        *values, last = after
        place = (*(_sortable(v, k.descending) for v, k in zip(values, self.order, strict=True)), last)
        return ids[bisect_right(ids, place, key=sort_key) :]


@total_ordering
class _Descending:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.value == other.value)

    def __lt__(self, other: "_Descending") -> bool:
        return bool(other.value < self.value)

    __hash__ = None  # type: ignore[assignment]  # only ever compared


def _sortable(value: Any, descending: bool) -> Any:
    """Nulls first, as SQL Server sorts them."""
    key = (0, 0) if value is None else (1, fold(value))
    return _Descending(key) if descending else key


def prepare(context: Context, table: Table, options: dict[str, str]) -> Query:
    """A query from `$filter` and `$orderby`; aliases must have been replaced.

    Raises:
        DataverseError: 400.
    """
    query = Query(context, table, text=(options.get("$filter", ""), options.get("$orderby", "")))
    if "$filter" in options:
        try:
            node = filters.parse(options["$filter"])
            _refuse_unsupported(node)
            query.test = _test(context, table, node)
            query.candidates = partial(_candidates, context, table, node)
        except filters.FilterError as error:
            raise query_error(error.message) from error
    query.order = list(_order(context, table, options.get("$orderby", "")))
    return query


def _order(context: Context, table: Table, text: str) -> Iterator[OrderKey]:
    for part in split(text, ","):
        words = part.split()
        if not words:
            continue
        if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
            raise query_error(f"Syntax error in '{part.strip()}' of $orderby.")
        accessor(context, table, words[0])
        yield OrderKey(words[0], words[-1] == "desc")


# -- filters


def _refuse_unsupported(node: ast._Node) -> None:
    """What OData knows and this service does not: `in`, arithmetic, `not` before a query function."""
    todo: list[Any] = [node]
    while todo:
        current = todo.pop()
        match current:
            case ast.Compare(ast.In(), _, _):
                raise query_error("The operator 'in' is not supported: use Microsoft.Dynamics.CRM.In.")
            case ast.BinOp():
                raise query_error("Arithmetic is not supported in $filter.")
            case ast.UnaryOp(ast.Not(), ast.Call(func, _)) if func.namespace:
                raise query_error(
                    "Not operator along with the Custom Named Condition operators is not allowed."
                )
            case ast.BoolOp(_, left, right):
                todo += [left, right]
            case ast.UnaryOp(_, operand):
                todo.append(operand)
            case ast.CollectionLambda(_, _, lambda_) if lambda_ is not None:
                todo.append(lambda_.expression)


def _test(context: Context, table: Table, node: ast._Node) -> Callable[[Row], bool | None]:
    accessors = {}
    for path in filters.names(node):
        if path.partition("/")[0] not in table.collections:
            # Query functions name a lookup as `ownerid`, not as `_ownerid_value`.
            known = table.attributes.get(path)
            accessors[path] = accessor(context, table, known.read_name if known else path)
    test = filters.predicate(
        node,
        literal=partial(_literal, context, table),
        related=partial(_related, context, table),
        function=partial(condition, context, table),
        wildcards=True,
    )
    return lambda row: test(_RowGetter(row, accessors))


class _RowGetter:
    """The values of a row by path; collections are reached through the row itself."""

    __slots__ = ("accessors", "row")

    def __init__(self, row: Row, accessors: dict[str, Accessor]) -> None:
        self.row = row
        self.accessors = accessors

    def __call__(self, path: str) -> Any:
        return self.accessors[path](self.row)


def _related(context: Context, table: Table, get: Any, collection: str) -> Iterator[Callable[[str], Any]]:
    many = table.collections.get(collection)
    if many is None:
        raise query_error(f"Could not find a property named '{collection}' on type '{table.type_name}'.")
    target = context.organization.metadata.tables[many.table]
    for row_id in related_ids(context, table, collection, get.row[table.key]):
        yield partial(_value_at, context, target, context.organization.rows(many.table)[row_id])


def _value_at(context: Context, table: Table, row: Row, path: str) -> Any:
    return accessor(context, table, path)(row)


def related_ids(context: Context, table: Table, collection: str, row_id: str) -> list[str]:
    """The ids behind a collection-valued navigation property, sorted."""
    many = table.collections[collection]
    organization = context.organization
    if many.intersect is not None:
        links = organization.data(many.intersect)
        ids = [links.rows[link][many.far] for link in links.ids(many.near, row_id)]
        return sorted(i for i in ids if i in organization.rows(many.table))
    data = organization.data(many.table)
    attribute = data.table.attributes[many.attribute]
    found = data.ids(many.attribute, row_id)
    return sorted(i for i in found if target_of(attribute, data.rows[i]) == table.name)


def accessor(context: Context, table: Table, path: str, for_order: bool = False) -> Accessor:
    """How to get the value of a path from a row: `name`, `_ownerid_value`, `primarycontactid/fullname`.

    Args:
        context: the organization.
        table: where the path starts.
        path: property names, joined by slashes.
        for_order: lookups give the primary name of what they point to, by which they sort.
    Raises:
        DataverseError: 400 for an unknown name.
    """
    head, slash, rest = path.partition("/")
    if not slash:
        attribute = declared(table, head)
        name = attribute.name
        if for_order and attribute.type in LOOKUPS:
            return lambda row: row.get(name) and name_of(context, target_of(attribute, row), row[name])
        return lambda row: row.get(name)
    single = table.singles.get(head)
    if single is None:
        raise query_error(f"Could not find a property named '{head}' on type '{table.type_name}'.")
    return _through(context, table, single, rest, for_order)


def _through(context: Context, table: Table, single: Single, rest: str, for_order: bool) -> Accessor:
    lookup = table.attributes[single.attribute]
    targets = lookup.targets if single.target == "principal" else (single.target,)
    tables = {name: context.organization.metadata.tables[name] for name in targets}
    inner = {name: accessor(context, target, rest, for_order) for name, target in tables.items()}

    def get(row: Row) -> Any:
        kind = target_of(lookup, row)
        found = context.organization.storage.row(kind, row.get(lookup.name)) if kind in inner else None
        return inner[kind](found) if found is not None else None

    return get


def attribute_at(context: Context, table: Table, path: str) -> Attribute:
    """The column at the end of a path, through lookups and collections."""
    head, slash, rest = path.partition("/")
    if not slash:
        return declared(table, head)
    tables = context.organization.metadata.tables
    if (single := table.singles.get(head)) is not None:
        target = "systemuser" if single.target == "principal" else single.target
        return attribute_at(context, tables[target], rest)
    if (many := table.collections.get(head)) is not None:
        return attribute_at(context, tables[many.table], rest)
    raise query_error(f"Could not find a property named '{head}' on type '{table.type_name}'.")


def _literal(context: Context, table: Table, path: str, value: Any) -> Any:
    """A literal of a filter in the form in which rows keep the column.

    Raises:
        DataverseError: 400 for a literal of another type.
    """
    attribute = attribute_at(context, table, path)
    if attribute.type in ("String", "Memo") and isinstance(value, str):
        return value
    if attribute.type == "Boolean" and isinstance(value, bool):
        return value
    is_number = not isinstance(value, (str, bool, UUID, dt.date))
    if attribute.type in NUMBERS | OPTIONS and is_number:
        return value
    if (attribute.type in LOOKUPS or attribute.type == "Uniqueidentifier") and isinstance(value, UUID):
        return str(value)
    if attribute.type == "DateTime" and isinstance(value, dt.date):
        return moment_literal(attribute, value)
    raise mismatch(attribute, value)


def moment_literal(attribute: Attribute, value: dt.date) -> str:
    """A day or a moment as rows keep it; fractions of a second sort between two whole seconds."""
    if attribute.date_only:
        return value.isoformat()[:10]
    if not isinstance(value, dt.datetime):
        return f"{value.isoformat()}T00:00:00Z"
    text = moment_text(value)
    return text[:-1] + "~" if value.microsecond else text


def mismatch(attribute: Attribute, value: Any) -> DataverseError:
    """A literal of a type that the column cannot be compared with."""
    kinds = (
        (bool, "Boolean"),
        (int, "Int32"),
        (str, "String"),
        (UUID, "Guid"),
        (dt.datetime, "DateTimeOffset"),
    )
    kind = next((name for python, name in kinds if isinstance(value, python)), "Decimal")
    return query_error(
        "A binary operator with incompatible types was detected. Found operand types "
        f"'{edm_type(attribute)}' and 'Edm.{kind}' for operator kind 'Equal'."
    )


# -- which rows can match at all


def _candidates(context: Context, table: Table, node: ast._Node) -> set[str] | None:
    """The ids that an equality in the filter leaves, by index; None = any row may match."""
    match node:
        case ast.BoolOp(op, left, right):
            one, other = _candidates(context, table, left), _candidates(context, table, right)
            if isinstance(op, ast.Or):
                return None if one is None or other is None else one | other
            sets = [found for found in (one, other) if found is not None]
            return min(sets, key=len) if sets else None
        case ast.Compare(ast.Eq(), ast.Identifier(name, _), right) if isinstance(right, ast._Literal):
            value = filters.literal_value(right)
            return None if value is None else _equal(context, table, name, value)
        case ast.Compare(ast.Gt() | ast.GtE(), ast.Identifier("modifiedon", _), ast.DateTime() as right):
            moment = _literal(context, table, "modifiedon", filters.literal_value(right))
            return context.organization.storage.modified_since(table.name, moment[:19])
        case ast.Call(func, args) if func.name == "In" and func.namespace == filters.DATAVERSE:
            return _any_equal(context, table, filters.parameters(args))
    return None


def _equal(context: Context, table: Table, name: str, value: Any) -> set[str] | None:
    attribute = declared(table, name)
    if attribute.type in OPTIONS or attribute.type == "Boolean":
        return None  # half of the table, or all of it: no better than reading on
    return _with_value(context, table, attribute, _literal(context, table, name, value))


def _with_value(context: Context, table: Table, attribute: Attribute, value: Any) -> set[str]:
    data = context.organization.data(table.name)
    if attribute.name == table.key:
        return {value} if value in data.rows else set()
    return data.ids(attribute.name, value)


def _any_equal(context: Context, table: Table, parameters: dict[str, Any]) -> set[str] | None:
    attribute = table.properties.get(str(parameters.get("PropertyName")))
    values = parameters.get("PropertyValues")
    if attribute is None or not isinstance(values, list) or attribute.type in NUMBERS | OPTIONS | {"Boolean"}:
        return None
    found: set[str] = set()
    for value in values:
        found |= _with_value(context, table, attribute, fold(str(value)))
    return found
