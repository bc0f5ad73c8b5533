"""The text of queries and the values of rows: ours to the wire's and back. Text in, text out."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID

from app.crm.metadata import CrmTable
from app.domain.errors import FieldProblem, InvalidValues
from app.domain.records import FieldDefinition, FieldType, Reference, Value, Values

TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
IDS_A_QUERY = 500  # an id takes about 43 characters; a URL inside a batch may have 65,536
LIST_LENGTH = 24_000  # characters of the values in one In(...)
STATE = ("statecode", "statuscode")

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
    return base64.urlsafe_b64encode(found[1].encode()).decode().rstrip("=") if found else None


def with_cursor(path: str, cursor: str) -> str:
    """The path of the page at the cursor. Raises ValueError if it is no cursor of ours."""
    try:
        token = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("The cursor was not made by this service.") from error
    if not re.fullmatch(r"[A-Za-z0-9%._~!*'()+-]+", token):
        raise ValueError("The cursor was not made by this service.")
    return f"{path}&$skiptoken={token}"


# --- values to the wire ---------------------------------------------------------------------------


def body_of(table: CrmTable, values: Values, *, creating: bool) -> bytes:
    """The JSON of a create or an update, without blanks. Raises InvalidValues, naming every field that is wrong.

    The entity half of a lookup (`owneridtype`) is not written: the bind says it. A create leaves out what is
    empty, so that CRM's defaults hold.
    """
    pairs: list[str] = []
    problems: list[FieldProblem] = []
    for name, value in values.items():
        field = table.field(name)
        try:
            if field is None:
                raise ValueError(f"{table.name} has no attribute '{name}'")
            if field.type is FieldType.ENTITY_NAME or (creating and value in (None, "")):
                continue
            pairs.append(_pair(table, field, value, values))
        except ValueError as error:
            problems.append(FieldProblem(f"/{name}", str(error)))
    if problems:
        text = "; ".join(problem.message for problem in problems)
        raise InvalidValues(f"CRM cannot take these values: {text}.", errors=problems)
    try:
        return ("{" + ",".join(pairs) + "}").encode()
    except UnicodeEncodeError as error:
        raise InvalidValues("CRM cannot take text with half a character in it (a lone surrogate).") from error


def _pair(table: CrmTable, field: FieldDefinition, value: Value, values: Values) -> str:
    if field.type is FieldType.LOOKUP:
        return _bind(table, field, value, values)
    return f"{json.dumps(field.name)}:{_json(field, value)}"


def _bind(table: CrmTable, field: FieldDefinition, value: Value, values: Values) -> str:
    if value is None or value == "":
        navigation = table.navigations[field.name, field.relation[0]]
        return f'"{navigation}@odata.bind":null'
    if isinstance(value, UUID):
        value = Reference(value)
    if not isinstance(value, Reference):
        raise ValueError(f"'{field.name}' takes a reference, not {value!r}")
    target = value.entity or _named_target(field, values)
    navigation = table.navigations.get((field.name, target), "")
    entity_set = table.entity_sets.get(target)
    if not navigation or entity_set is None:
        raise ValueError(f"'{field.name}' points to {' or '.join(field.relation)}, not to '{target}'")
    return f'"{navigation}@odata.bind":"/{entity_set}({value.id})"'


def _named_target(field: FieldDefinition, values: Values) -> str:
    """The entity of a reference that does not name it: its type half beside it, or the only one possible."""
    named = values.get(f"{field.name}type")
    if isinstance(named, str) and named:
        return named
    if len(field.relation) == 1:
        return field.relation[0]
    raise ValueError(f"'{field.name}' may point to {' or '.join(field.relation)}: say to which")


def _json(field: FieldDefinition, value: Value) -> str:
    if value is None or value == "":
        return "null"  # CRM keeps empty text as null
    match field.type:
        case FieldType.TEXT | FieldType.MEMO | FieldType.CODE if isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        case FieldType.BOOLEAN if isinstance(value, bool):
            return "true" if value else "false"
        case FieldType.INTEGER | FieldType.BIG_INTEGER | FieldType.OPTION if _is_whole(value):
            return str(int(value))  # type: ignore[arg-type]  # whole, hence a number
        case FieldType.DECIMAL | FieldType.MONEY if _is_number(value):
            return format(value, "f") if isinstance(value, Decimal) else str(value)
        case FieldType.DATE if isinstance(value, date):
            return f'"{(value.date() if isinstance(value, datetime) else value).isoformat()}"'
        case FieldType.DATETIME if isinstance(value, datetime):
            return f'"{moment(value)}"'
        case FieldType.DATETIME if isinstance(value, date):
            return f'"{value.isoformat()}T00:00:00Z"'
        case FieldType.GUID if isinstance(value, UUID):
            return f'"{value}"'
    raise ValueError(f"'{field.name}' is of type {field.type.value} and cannot hold {value!r}")


def _is_number(value: Value) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: Value) -> bool:
    return _is_number(value) and isinstance(value, (int, Decimal)) and value == int(value)


# --- values from the wire -------------------------------------------------------------------------

Read = Callable[[Mapping[str, Any]], Value]


def reader(table: CrmTable, field: FieldDefinition) -> Read:
    """What reads one attribute out of a row."""
    if field.type is FieldType.LOOKUP:
        return _lookup_reader(table.property_of(field), field.relation)
    if field.type is FieldType.ENTITY_NAME:
        return _target_reader(table, field)
    convert, name = _FROM_WIRE.get(field.type), field.name
    if convert is None:
        return lambda row: row.get(name)
    return lambda row: None if (found := row.get(name)) is None else convert(found)


def _lookup_reader(name: str, targets: Sequence[str]) -> Read:
    only = targets[0] if len(targets) == 1 else None
    annotation = f"{name}@{TARGET}"

    def read(row: Mapping[str, Any]) -> Value:
        found = row.get(name)
        return None if found is None else Reference(UUID(found), only or row.get(annotation))

    return read


def _target_reader(table: CrmTable, field: FieldDefinition) -> Read:
    lookup = table.lookup_of(field)
    if lookup is None or lookup.type is not FieldType.LOOKUP:
        return lambda row: None
    read_lookup = reader(table, lookup)

    def read(row: Mapping[str, Any]) -> Value:
        found = read_lookup(row)
        return found.entity if isinstance(found, Reference) else None

    return read


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(value)


_FROM_WIRE: dict[FieldType, Callable[[Any], Value]] = {
    FieldType.DECIMAL: _decimal,
    FieldType.MONEY: _decimal,
    FieldType.DATE: lambda text: date.fromisoformat(text[:10]),
    FieldType.DATETIME: datetime.fromisoformat,
    FieldType.GUID: UUID,
}
