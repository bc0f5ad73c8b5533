"""FetchXML: conditions, order, linked tables and paging. Columns that are null are left out of the answer."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import unescape
from itertools import islice
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from app import filters
from app.sandbox import paging, projection, query
from app.sandbox.addresses import Context
from app.sandbox.conditions import converted, value_test
from app.sandbox.errors import query_error
from app.sandbox.messages import MAXIMUM_PAGE, STREAMED, ApiRequest, ApiResponse, Preferences, applied
from app.sandbox.metadata import Attribute, Table
from app.sandbox.query import OrderKey, Query
from app.sandbox.storage import Row, fold

COOKIE = "Microsoft.Dynamics.CRM.fetchxmlpagingcookie"
MORE = "Microsoft.Dynamics.CRM.morerecords"
NAMED_TESTS = {
    "in": "In",
    "not-in": "NotIn",
    "between": "Between",
    "not-between": "NotBetween",
    "on": "On",
    "on-or-after": "OnOrAfter",
    "on-or-before": "OnOrBefore",
    "today": "Today",
    "yesterday": "Yesterday",
    "last-x-days": "LastXDays",
    "last-x-hours": "LastXHours",
    "next-x-days": "NextXDays",
    "olderthan-x-days": "OlderThanXDays",
    "eq-userid": "EqualUserId",
    "ne-userid": "NotEqualUserId",
    "eq-businessid": "EqualBusinessId",
    "ne-businessid": "NotEqualBusinessId",
}
LIKE = {
    "like": "{}",
    "begins-with": "{}%",
    "ends-with": "%{}",
    "contains": "%{}%",
}
Test = Callable[[Row], bool]
Shown = dict[str, Any]


@dataclass(slots=True)
class Link:
    """A linked table: how it is reached, what it shows, what it demands."""

    table: Table
    alias: str
    from_column: str
    to_column: str
    outer: bool
    exists_only: bool
    negated: bool
    columns: list[tuple[Attribute, str | None]]
    test: Test
    links: "list[Link]" = field(default_factory=list)


def answer(context: Context, table: Table, request: ApiRequest) -> ApiResponse:
    """A page of what a FetchXML query finds.

    Raises:
        DataverseError: 400, for what cannot be understood.
    """
    context.organization.require(context.user, "Read", table.name)
    try:
        root = ElementTree.fromstring(request.options["fetchXml"])  # noqa: S314  # expat refuses to expand entities at length
    except ElementTree.ParseError as error:
        raise query_error(f"Invalid Fetch Xml: {error}.") from error
    entity = root.find("entity")
    if root.tag != "fetch" or entity is None:
        raise query_error("Invalid Fetch Xml: it needs <fetch><entity name='...'>.")
    if entity.get("name") != table.name:
        raise query_error(
            f"The entity '{entity.get('name')}' does not fit the entity set '{table.set_name}'."
        )
    if root.get("aggregate") == "true":
        raise query_error("Aggregates are answered by $apply, not by FetchXML.")
    columns = _columns(table, entity)
    test = _filters(context, table, entity)
    links = [_link(context, table, item) for item in entity.findall("link-entity")]
    wanted = Query(context, table, lambda row: test(row) and _reaches(context, row, links))
    wanted.order = [_order(table, item) for item in entity.findall("order")]
    wanted.text = (ElementTree.tostring(entity, encoding="unicode"), QUERY)
    content: Shown = {"@odata.context": f"{context.api}/$metadata#{table.set_name}"}
    content |= _page(context, root, wanted, columns, links, request.prefer)
    return applied(request, ApiResponse(200, content, content_type=STREAMED))


QUERY = query.QUERY_FUNCTION  # conditions may look at the clock: their order is not kept for later


def _whole(root: ElementTree.Element, name: str, default: int) -> int:
    text = root.get(name, str(default))
    if not text.isdigit():
        raise query_error(f"Invalid Fetch Xml: '{name}' must be a whole number.")
    return int(text)


def _page(
    context: Context,
    root: ElementTree.Element,
    wanted: Query,
    columns: list[tuple[Attribute, str | None]],
    links: list[Link],
    prefer: Preferences,
) -> Shown:
    if root.get("top") and (root.get("page") or root.get("count")):
        raise query_error("Invalid Fetch Xml: top and paging exclude each other.")
    size = min(_whole(root, "top", 0) or _whole(root, "count", MAXIMUM_PAGE), MAXIMUM_PAGE)
    number = _whole(root, "page", 1)
    after = _after(wanted, root.get("paging-cookie"))
    skip = 0 if after is not None else size * (number - 1)
    found = list(islice(_combined(context, wanted, links, after), skip, skip + size + 1))
    more, found = len(found) > size, found[:size]
    context.organization.storage.rows_read += len(found)
    content: Shown = {"value": [_shown(context, wanted.table, columns, item, prefer) for item in found]}
    if root.get("returntotalrecordcount") == "true":
        content["@odata.count"] = wanted.count(MAXIMUM_PAGE)
    if more and not root.get("top"):
        if prefer.annotated(COOKIE) and not links and not wanted.linked_order:
            inner = paging.cookie(wanted, number, found[0][0], found[-1][0])
            twice = paging.encode(paging.encode(inner))
            content[f"@{COOKIE}"] = (
                f'<cookie pagenumber="{number + 1}" pagingcookie="{twice}" istracking="False" />'
            )
        if prefer.annotated(MORE):
            content[f"@{MORE}"] = True
    elif prefer.annotated(MORE):
        content[f"@{MORE}"] = False
    return content


def _after(wanted: Query, text: str | None) -> tuple[Any, ...] | None:
    if not text:
        return None
    inner = unescape(unquote(unquote(text))) if text.startswith("%") else unescape(text)
    return paging.read_cookie(wanted, inner)


Linked = tuple[Row, list[tuple[Link, Row]]]


def _combined(
    context: Context, wanted: Query, links: list[Link], after: tuple[Any, ...] | None
) -> Iterator[Linked]:
    for _, row in wanted.rows(after):
        for joined in _joined(context, row, [link for link in links if not link.exists_only]):
            yield row, joined


def _joined(context: Context, row: Row, links: list[Link]) -> Iterator[list[tuple[Link, Row]]]:
    """Each combination of linked rows, as an SQL join gives them."""
    if not links:
        yield []
        return
    first, *rest = links
    matches = [m for m in _linked_rows(context, row, first) if _reaches(context, m, first.links)]
    here: list[list[tuple[Link, Row]]] = []
    for match in matches:
        below = [link for link in first.links if not link.exists_only]
        here += [[(first, match), *deeper] for deeper in _joined(context, match, below)]
    if not here and first.outer:
        here = [[]]
    for combination in here:
        for others in _joined(context, row, rest):
            yield combination + others


def _linked_rows(context: Context, row: Row, link: Link) -> list[Row]:
    value = row.get(link.to_column)
    if value is None:
        return []
    data = context.organization.data(link.table.name)
    ids = {value} if link.from_column == link.table.key else data.ids(link.from_column, value)
    return [data.rows[i] for i in sorted(ids) if i in data.rows and link.test(data.rows[i])]


def _reaches(context: Context, row: Row, links: list[Link]) -> bool:
    """Whether all linked tables that are demanded have a row."""
    for link in links:
        if link.outer:
            continue
        found = any(_reaches(context, linked, link.links) for linked in _linked_rows(context, row, link))
        if found == link.negated:
            return False
    return True


def _columns(table: Table, element: ElementTree.Element) -> list[tuple[Attribute, str | None]]:
    if element.find("all-attributes") is not None:
        return [(attribute, None) for attribute in table.attributes_shown()]
    return [
        (_column(table, item.get("name", "")), item.get("alias")) for item in element.findall("attribute")
    ]


def _column(table: Table, name: str) -> Attribute:
    attribute = table.attributes.get(name)
    if attribute is None:
        raise query_error(f"'{table.name}' entity doesn't contain attribute with Name = '{name}'.")
    return attribute


def _order(table: Table, element: ElementTree.Element) -> OrderKey:
    attribute = _column(table, element.get("attribute", ""))
    return OrderKey(attribute.read_name, element.get("descending") == "true")


def _link(context: Context, table: Table, element: ElementTree.Element) -> Link:
    target = context.organization.metadata.tables.get(element.get("name", ""))
    if target is None:
        raise query_error(f"The entity with a name = '{element.get('name')}' was not found.")
    kind = element.get("link-type", "inner")
    if kind not in ("inner", "outer", "any", "not any", "exists", "in"):
        raise query_error(f"The link type '{kind}' is not supported.")
    link = Link(
        table=target,
        alias=element.get("alias") or target.name,
        from_column=_column(target, element.get("from", "")).name,
        to_column=_column(table, element.get("to", "")).name,
        outer=kind == "outer",
        exists_only=kind in ("any", "not any", "exists", "in"),
        negated=kind == "not any",
        columns=_columns(target, element),
        test=_filters(context, target, element),
    )
    link.links = [_link(context, target, item) for item in element.findall("link-entity")]
    return link


def _shown(
    context: Context,
    table: Table,
    columns: list[tuple[Attribute, str | None]],
    item: Linked,
    prefer: Preferences,
) -> Shown:
    row, linked = item
    shown: Shown = {"@odata.etag": projection.etag(row)}
    chosen = columns or [(attribute, None) for attribute in table.attributes_shown()]
    _add(context, table, chosen, row, "", prefer, shown)
    shown[table.key] = row[table.key]
    for link, other in linked:
        _add(context, link.table, link.columns, other, f"{link.alias}.", prefer, shown)
    return shown


def _add(
    context: Context,
    table: Table,
    columns: list[tuple[Attribute, str | None]],
    row: Row,
    prefix: str,
    prefer: Preferences,
    shown: Shown,
) -> None:
    for attribute, alias in columns:
        value = row.get(attribute.name)
        if value is None:
            continue
        name = alias or (f"{prefix}{attribute.name}" if prefix else attribute.read_name)
        if prefer.annotations:
            projection.annotate(context, table, attribute, row, prefer, shown, name)
        shown[name] = value


# -- conditions


def _filters(context: Context, table: Table, element: ElementTree.Element) -> Test:
    tests = [_filter(context, table, item) for item in element.findall("filter")]
    return lambda row: all(test(row) for test in tests)


def _filter(context: Context, table: Table, element: ElementTree.Element) -> Test:
    tests = [_condition(context, table, item) for item in element.findall("condition")]
    tests += [_filter(context, table, item) for item in element.findall("filter")]
    if element.get("type") == "or":
        return lambda row: not tests or any(test(row) for test in tests)
    return lambda row: all(test(row) for test in tests)


def _condition(context: Context, table: Table, element: ElementTree.Element) -> Test:
    attribute = _column(table, element.get("attribute", ""))
    kind, name = element.get("operator", ""), attribute.name
    values = [item.text or "" for item in element.findall("value")] or [element.get("value", "")]
    if kind == "null":
        return lambda row: row.get(name) is None
    if kind == "not-null":
        return lambda row: row.get(name) is not None
    test = _value_test(context, attribute, kind, values)
    return lambda row: row.get(name) is not None and test(row[name])


def _value_test(
    context: Context, attribute: Attribute, kind: str, values: list[str]
) -> Callable[[Any], bool]:
    try:
        if kind in NAMED_TESTS:
            return value_test(context, attribute, NAMED_TESTS[kind], values)
        text = kind.removeprefix("not-").replace("not-begin-with", "begins-with")
        if text in LIKE:
            pattern = re.compile(filters.like_pattern(LIKE[text].format(values[0].casefold())), re.DOTALL)
            wanted = not kind.startswith("not-")
            return lambda value: bool(pattern.fullmatch(str(value).casefold())) is wanted
        value = fold(_guid(attribute, converted(attribute, values[0])))
    except filters.FilterError as error:
        raise query_error(error.message) from error
    tests: dict[str, Callable[[Any], bool]] = {
        "eq": lambda found: bool(fold(found) == value),
        "ne": lambda found: bool(fold(found) != value),
        "neq": lambda found: bool(fold(found) != value),
        "gt": lambda found: bool(fold(found) > value),
        "ge": lambda found: bool(fold(found) >= value),
        "lt": lambda found: bool(fold(found) < value),
        "le": lambda found: bool(fold(found) <= value),
    }
    if kind not in tests:
        raise query_error(f"Invalid Fetch Xml: the operator '{kind}' is not supported.")
    return tests[kind]


def _guid(attribute: Attribute, value: Any) -> Any:
    """GUIDs may stand in braces."""
    return value.strip("{}") if isinstance(value, str) and attribute.type not in ("String", "Memo") else value
