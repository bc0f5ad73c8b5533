"""The text of queries, and the values of rows as CRM shows them. Text in, text out."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

from app.crm.metadata import CrmTable
from app.domain.records import FieldDefinition, FieldType, Reference, Value

TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
IDS_A_QUERY = 500  # an id takes about 43 characters; a URL inside a batch may have 65,536
LIST_LENGTH = 24_000  # characters of the values in one In(...)
STATE = frozenset({"statecode", "statuscode"})

_SAFE = "!$'()*,/:;@=-._~"
_SKIP_TOKEN = re.compile(r"[?&](?:\$|%24)skiptoken=([^&]+)", re.IGNORECASE)


# --- queries --------------------------------------------------------------------------------------


def query(path: str, options: Mapping[str, str | None]) -> str:
    """A path with its query options, encoded once; options that are None are left out."""
    pairs = [f"{name}={quote(text, safe=_SAFE)}" for name, text in options.items() if text is not None]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def row_path(table: CrmTable, record_id: UUID) -> str:
    """`accounts(9f0f4c5e-…)`."""
    return f"{table.entity_set}({record_id})"


def literal(text: str) -> str:
    """A string literal: in single quotes, quotes doubled."""
    return "'" + text.replace("'", "''") + "'"


def any_of(name: str, values: Iterable[str]) -> str:
    """The attribute has one of these values; `in` is no operator of Dataverse."""
    # Values in double quotes may hold apostrophes (Dataverse: query functions).
    inside = ",".join(json.dumps(value, ensure_ascii=False) for value in values)
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{name}',PropertyValues=[{inside}])"


def contains(name: str, text: str) -> str:
    """The text occurs in the attribute. `%`, `_` and `[` would be SQL wildcards, so they stand in brackets."""
    escaped = re.sub(r"[%_\[]", lambda match: f"[{match[0]}]", text)
    return f"contains({name},{literal(escaped)})"


def moment(value: datetime) -> str:
    """A moment as CRM writes it: UTC, whole seconds."""
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


def chunks(
    values: Collection[str], most: int = IDS_A_QUERY, length: int = LIST_LENGTH
) -> Iterator[list[str]]:
    """Values in lists that fit into one query each."""
    chunk: list[str] = []
    size = 0
    for value in values:
        cost = len(quote(value)) + 7
        if chunk and (len(chunk) >= most or size + cost > length):
            yield chunk
            chunk, size = [], 0
        chunk.append(value)
        size += cost
    if chunk:
        yield chunk


def cursor_of(next_link: str | None) -> str | None:
    """A cursor for others: the place in the list, without the host or the query that it belongs to."""
    found = _SKIP_TOKEN.search(next_link or "")
    return found[1] if found else None


def with_cursor(path: str, cursor: str) -> str:
    """The path of the page at the cursor. Raises ValueError if it is no cursor of ours."""
    if not re.fullmatch(r"[A-Za-z0-9%._~!*'()+-]+", cursor):
        raise ValueError("The cursor was not made by this service.")
    return f"{path}&$skiptoken={cursor}"


# --- values from the wire -------------------------------------------------------------------------

Read = Callable[[Mapping[str, Any]], Value]
REFERENCES = 4096  # kept: nearly all rows have the same owner and currency


def reader(table: CrmTable, field: FieldDefinition) -> Read | None:
    """What reads one attribute out of a row; None where its value is the one that stands there."""
    if field.type is FieldType.LOOKUP:
        return _lookup_reader(table.property_of(field), field.relation)
    if field.type is FieldType.ENTITY_NAME:
        return _target_reader(table, field)
    convert, name = _FROM_WIRE.get(field.type), field.name
    if convert is None:
        return None
    return lambda row: None if (found := row.get(name)) is None else convert(found)


def _lookup_reader(name: str, targets: Sequence[str]) -> Callable[[Mapping[str, Any]], Reference | None]:
    only = targets[0] if len(targets) == 1 else None
    annotation = f"{name}@{TARGET}"

    def read(row: Mapping[str, Any]) -> Reference | None:
        found = row.get(name)
        return None if found is None else _reference(found, only or row.get(annotation))

    return read


@lru_cache(REFERENCES)
def _reference(text: str, entity: str | None) -> Reference:
    return Reference(UUID(text), entity)


def _target_reader(table: CrmTable, field: FieldDefinition) -> Read:
    lookup = table.lookup_of(field)
    if lookup is None or lookup.type is not FieldType.LOOKUP:
        return lambda row: None
    read_lookup = _lookup_reader(table.property_of(lookup), lookup.relation)
    return lambda row: None if (found := read_lookup(row)) is None else found.entity


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value)


_FROM_WIRE: dict[FieldType, Callable[[Any], Value]] = {
    FieldType.DECIMAL: _decimal,
    FieldType.MONEY: _decimal,
    FieldType.DATE: lambda text: date.fromisoformat(text[:10]),
    FieldType.DATETIME: datetime.fromisoformat,
    FieldType.GUID: UUID,
}
