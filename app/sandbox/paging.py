"""Paging cookies: where the next page begins, as `$skiptoken` carries it."""

import re
from dataclasses import dataclass
from decimal import Decimal
from html import escape, unescape
from typing import Any
from urllib.parse import quote, unquote

from app.sandbox.errors import query_error
from app.sandbox.metadata import Attribute, Table
from app.sandbox.organization import is_guid
from app.sandbox.query import Query
from app.sandbox.storage import Row
from app.sandbox.values import kept

SIMPLE_PAGING_LIMIT = 50_000


@dataclass(slots=True)
class Place:
    """Where a page begins.

    `after` holds the values of the order columns and the id of the last row seen; None = by page number.
    `token` is the start of a tracked read: the delta link of the last page carries it on.
    """

    page: int = 1
    after: tuple[Any, ...] | None = None
    token: str = ""


def encode(text: str) -> str:
    """Percent-encoded with lower-case digits, as .NET does it."""
    return re.sub(r"%[0-9A-F]{2}", lambda m: m[0].lower(), quote(text, safe="-_.!*()"))


def skip_token(query: Query, page: int, first: Row, last: Row, token: str = "") -> str:
    """The `$skiptoken` of a page, encoded for the URL.

    Args:
        query: what is paged.
        page: the number of the next page, from 2.
        first: first row of the page just sent.
        last: last row of it.
        token: the delta token at the start of a tracked read.
    """
    inner = "" if query.linked_order else cookie(query, page - 1, first, last)
    extra = f' deltatoken="{escape(token)}"' if token else ""
    outer = (
        f'<cookie pagenumber="{page}" pagingcookie="{encode(encode(inner))}" '
        f'istracking="{"True" if token else "False"}"{extra} />'
    )
    return encode(outer)


def cookie(query: Query, page: int, first: Row, last: Row) -> str:
    """The paging cookie itself: the values of the order columns and the key, of the first and the last row."""
    table = query.table
    names = [table.properties[key.path].name for key in query.order]
    if table.key not in names:
        names.append(table.key)
    columns = "".join(
        f"<{name} {_bound('last', last.get(name))} {_bound('first', first.get(name))} />" for name in names
    )
    return f'<cookie page="{page}">{columns}</cookie>'


def _bound(name: str, value: Any) -> str:
    if value is None:
        return f'{name}null="1"'
    text = "{" + value.upper() + "}" if isinstance(value, str) and is_guid(value) else str(value)
    return f'{name}="{escape(text)}"'


def read_skip_token(query: Query, text: str) -> Place:
    """The place that a `$skiptoken` names.

    Raises:
        DataverseError: 400, when it is none of ours.
    """
    outer = unquote(text)
    match = re.search(r'pagenumber="(\d+)" pagingcookie="([^"]*)"', outer)
    if match is None:
        raise query_error("Malformed $skiptoken: use the @odata.nextLink as it was given.")
    token = re.search(r'deltatoken="([^"]*)"', outer)
    place = Place(int(match[1]), None, unescape(token[1]) if token else "")
    inner = unquote(unquote(match[2]))
    if inner:
        place.after = read_cookie(query, inner)
    return place


def read_cookie(query: Query, text: str) -> tuple[Any, ...]:
    """The position after the last row that a paging cookie names."""
    table = query.table
    values = {}
    for name, bounds in re.findall(r"<(\w+) ([^>]*?)/>", text):
        if name in table.attributes:
            last = re.search(r'last="([^"]*)"', bounds)
            values[name] = _value(table, table.attributes[name], unescape(last[1])) if last else None
    if table.key not in values:
        raise query_error("Malformed paging cookie.")
    order = [table.properties[key.path].name for key in query.order]
    return (*(values.get(name) for name in order), values[table.key])


def _value(table: Table, attribute: Attribute, text: str) -> Any:
    if text.startswith("{"):
        return text[1:-1].lower()
    match attribute.type:
        case "Integer" | "BigInt" | "Picklist" | "State" | "Status":
            return int(text)
        case "Boolean":
            return text == "True"
        case "Decimal" | "Money" | "Double":
            return kept(table, attribute, Decimal(text))
    return text
