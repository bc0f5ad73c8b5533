"""The JSON of creates and updates: our values as CRM takes them."""

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any
from uuid import UUID

from app.crm.metadata import CrmTable
from app.crm.odata import moment
from app.domain.errors import FieldProblem, InvalidValues
from app.domain.records import FieldDefinition, FieldType, Reference, Value, Values

NULL = "null"
Write = Callable[[Value, Values], str]
"""A value, and all that are written with it, as a pair of name and value; nothing where it says nothing by itself."""


class Bodies:
    """What writes to one entity say. How an attribute is written is worked out once."""

    def __init__(self, table: CrmTable) -> None:
        self._table = table
        self._writers: dict[str, Write] = {}

    def of(self, values: Values, *, creating: bool) -> bytes:
        """The JSON of a create or an update, without blanks. Raises InvalidValues, naming every field that is wrong.

        The entity half of a lookup (`owneridtype`) is not written: the bind says it. A create leaves out what is
        empty, so that CRM's defaults hold.
        """
        pairs: list[str] = []
        problems: list[FieldProblem] = []
        for name, value in values.items():
            try:
                write = self._writers.get(name) or self._prepared(name)
                if creating and (value is None or value == ""):
                    continue
                if pair := write(value, values):
                    pairs.append(pair)
            except ValueError as error:
                problems.append(FieldProblem(f"/{name}", str(error)))
        if problems:
            text = "; ".join(problem.message for problem in problems)
            raise InvalidValues(f"CRM cannot take these values: {text}.", errors=problems)
        try:
            return ("{" + ",".join(pairs) + "}").encode()
        except UnicodeEncodeError as error:
            raise InvalidValues(
                "CRM cannot take text with half a character in it (a lone surrogate)."
            ) from error

    def _prepared(self, name: str) -> Write:
        field = self._table.field(name)
        if field is None:
            raise ValueError(f"{self._table.name} has no attribute '{name}'")
        self._writers[name] = writer = _writer(self._table, field)
        return writer


def _writer(table: CrmTable, field: FieldDefinition) -> Write:
    if field.type is FieldType.LOOKUP:
        return lambda value, values: _bind(table, field, value, values)
    if field.type is FieldType.ENTITY_NAME:
        return lambda value, values: ""
    start, text_of = f"{json.dumps(field.name)}:", _TO_WIRE.get(field.type, _nothing)

    def write(value: Value, values: Values) -> str:
        text = NULL if value is None or value == "" else text_of(value)  # CRM keeps empty text as null
        if text is None:
            raise ValueError(f"'{field.name}' is of type {field.type.value} and cannot hold {value!r}")
        return start + text

    return write


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


# --- values by their type; None: the type cannot hold it ---------------------------------------------------


def _text(value: Value) -> str | None:
    return encode_basestring(value) if isinstance(value, str) else None


def _boolean(value: Value) -> str | None:
    return ("true" if value else "false") if isinstance(value, bool) else None


def _whole(value: Value) -> str | None:
    number = _number(value)
    return str(int(number)) if number is not None and number == int(number) else None


def _decimal(value: Value) -> str | None:
    number = _number(value)
    return None if number is None else format(number, "f") if isinstance(number, Decimal) else str(number)


def _number(value: Value) -> int | Decimal | None:
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _date(value: Value) -> str | None:
    if isinstance(value, datetime):
        value = value.date()
    return f'"{value.isoformat()}"' if isinstance(value, date) else None


def _datetime(value: Value) -> str | None:
    if isinstance(value, datetime):
        return f'"{moment(value)}"'
    return f'"{value.isoformat()}T00:00:00Z"' if isinstance(value, date) else None


def _guid(value: Value) -> str | None:
    return f'"{value}"' if isinstance(value, UUID) else None


def _nothing(value: Value) -> None:
    return None


_TO_WIRE: Mapping[FieldType, Callable[[Any], str | None]] = {
    FieldType.TEXT: _text,
    FieldType.MEMO: _text,
    FieldType.CODE: _text,
    FieldType.BOOLEAN: _boolean,
    FieldType.INTEGER: _whole,
    FieldType.BIG_INTEGER: _whole,
    FieldType.OPTION: _whole,
    FieldType.DECIMAL: _decimal,
    FieldType.MONEY: _decimal,
    FieldType.DATE: _date,
    FieldType.DATETIME: _datetime,
    FieldType.GUID: _guid,
}
