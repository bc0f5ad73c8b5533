"""Paths: segments, keys in parentheses, and references to rows as bodies carry them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

from app.sandbox.errors import (
    DataverseError,
    key_not_found,
    not_found,
    payload_error,
    query_error,
    unknown_segment,
)
from app.sandbox.metadata import LOOKUPS, AlternateKey, Table
from app.sandbox.organization import Organization, is_guid
from app.sandbox.storage import fold
from app.sandbox.values import kept

UNREACHABLE = frozenset("/<>*%&:\\?+")
_SEGMENT = re.compile(r"([^()]+?)(?:\((.*)\))?", re.DOTALL)


@dataclass(slots=True)
class Context:
    """For whom and where a request is carried out."""

    organization: Organization
    api: str  # {org}/api/data/v9.2
    user: str  # systemuserid that acts
    behind: str | None = None  # the real caller, when it impersonates
    content_ids: dict[str, str] = field(default_factory=dict)  # "$1" -> accounts(<guid>), within a change set
    in_batch: bool = False
    detect_duplicates: bool = False


@dataclass(slots=True, frozen=True)
class Segment:
    """One part of a path: a name, and what stands in parentheses after it (None if there are none)."""

    name: str
    key: str | None = None


@dataclass(slots=True, frozen=True)
class RowKey:
    """What a URL says about a row: its id, or the values of an alternate key."""

    id: str | None
    alternate: AlternateKey | None = field(default=None, compare=False)
    values: tuple[tuple[str, Any], ...] = ()


def split(text: str, separator: str) -> Iterator[str]:
    """Split at a separator that stands neither in quotes nor in parentheses."""
    depth, quote, start = 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == separator and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def segments(path: str) -> list[Segment]:
    """The segments of a path below the service root, already percent-decoded."""
    parts = []
    for text in split(path.strip("/"), "/"):
        match = _SEGMENT.fullmatch(text)
        if match is None:
            raise query_error(f"Bad Request - Error in query syntax: '{text}'.")
        parts.append(Segment(match[1], match[2]))
    return parts


def table_of(organization: Organization, name: str) -> Table:
    """The table of an entity set name; names are case-sensitive.

    Raises:
        DataverseError: 404.
    """
    table = organization.metadata.sets.get(name)
    if table is None:
        raise unknown_segment(name)
    return table


def parse_key(table: Table, text: str) -> RowKey:
    """The key in parentheses of a row's URL.

    Raises:
        DataverseError: 400, when it is neither the id nor a declared alternate key that is active.
    """
    if is_guid(text):
        return RowKey(text.lower())
    named = dict(_named(table, text))
    principal = table.name in ("systemuser", "team")
    primary = "ownerid" if principal else table.key
    if set(named) == {primary} and is_guid(named[primary]):
        return RowKey(named[primary].lower())
    for key in table.keys:
        columns = {table.attributes[name].read_name: name for name in key.attributes}
        if set(columns) == set(named) and key.status == "Active":
            values = tuple((columns[name], _key_value(table, columns[name], named[name])) for name in columns)
            return RowKey(None, key, values)
    raise _bad_key(table)


def _bad_key(table: Table) -> DataverseError:
    return query_error(
        f"The key in the request URI is not valid for resource '{table.type_name}'. Ensure that the names and "
        "number of key properties match the declared or alternate key properties for the resource "
        f"'{table.type_name}'."
    )


def _named(table: Table, text: str) -> Iterator[tuple[str, str]]:
    for part in split(text, ","):
        name, equals, value = part.partition("=")
        if not equals:
            raise _bad_key(table)
        yield name.strip(), value.strip()


def _key_value(table: Table, column: str, literal: str) -> Any:
    attribute = table.attributes[column]
    if literal == "null":
        return None
    if literal.startswith("'") and literal.endswith("'") and len(literal) > 1:
        value: Any = literal[1:-1].replace("''", "'")
        if UNREACHABLE & set(value):
            raise DataverseError(
                400, "", "A potentially dangerous Request.Path value was detected from the client."
            )
    elif attribute.type in {*LOOKUPS, "Uniqueidentifier", "DateTime"}:
        value = literal
    else:
        try:
            number = Decimal(literal)
        except ArithmeticError as error:
            raise _bad_key(table) from error
        value = int(number) if number == number.to_integral_value() else number
    return kept(table, attribute, value)


def find(organization: Organization, table: Table, key: RowKey) -> str | None:
    """The id of the row with this key, or None."""
    data = organization.data(table.name)
    if key.id is not None:
        return key.id if key.id in data.rows else None
    return find_by_values(organization, table, dict(key.values))


def find_by_values(organization: Organization, table: Table, values: dict[str, Any]) -> str | None:
    """The id of the row with these values in the columns of an alternate key; null never matches."""
    if not values or any(value is None for value in values.values()):
        return None
    data = organization.data(table.name)
    first, *rest = values.items()
    for row_id in data.ids(*first):
        row = data.rows[row_id]
        if all(fold(row.get(column)) == fold(value) for column, value in rest):
            return row_id
    return None


def require(organization: Organization, table: Table, key: RowKey) -> str:
    """The id of the row with this key.

    Raises:
        DataverseError: 404.
    """
    row_id = find(organization, table, key)
    if row_id is None:
        raise key_not_found(table.name) if key.id is None else not_found(table.name, key.id)
    return row_id


def reference(context: Context, text: Any) -> tuple[Table, str]:
    """The row that a body refers to: `/accounts(<id>)`, with or without slash, absolute, by alternate key, or `$1`.

    Raises:
        DataverseError: 400 for what is no reference, 404 for a row that is not there.
    """
    if not isinstance(text, str):
        raise payload_error(f"The value '{text}' is no reference to a row.")
    path = relative(context, text)
    parts = segments(path)
    if len(parts) != 1 or parts[0].key is None:
        raise payload_error(f"The value '{text}' is no reference to a row.")
    table = table_of(context.organization, parts[0].name)
    return table, require(context.organization, table, parse_key(table, parts[0].key))


def relative(context: Context, url: str) -> str:
    """An address of this service as the decoded path below its root; `$1` becomes the row it stands for."""
    if url.startswith("$"):
        name, slash, rest = url.partition("/")
        if name not in context.content_ids:
            raise payload_error(f"Content-ID Reference: '{name}' does not exist in the batch context.")
        return context.content_ids[name] + slash + rest
    path = unquote(url)
    if path.startswith(context.api):
        path = path[len(context.api) :]
    match = re.match(r"(?:https?://[^/]+)?(?:/[^/]+)?/api/data/v[\d.]+/", path)
    return path[match.end() :] if match else path.lstrip("/")
