"""Bodies: JSON of a row into the columns it sets."""

import json
from decimal import Decimal
from typing import Any

from app.sandbox.addresses import Context, reference
from app.sandbox.errors import invalid, payload_error
from app.sandbox.metadata import LOOKUPS, Attribute, Single, Table
from app.sandbox.storage import Row
from app.sandbox.values import kept

BIND = "@odata.bind"
PRINCIPALS = ("systemuser", "team")


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; numbers with a point as Decimal.

    Raises:
        DataverseError: 400.
    """
    if not body.strip():
        return {}
    try:
        value = json.loads(body, parse_float=Decimal, parse_constant=_no_constant)
    except ValueError as error:
        raise payload_error(f"An error occurred while reading the body: {error}") from error
    if not isinstance(value, dict):
        raise payload_error("The body must be a JSON object.")
    return value


def _no_constant(text: str) -> None:
    raise ValueError(f"'{text}' is no JSON value")


def columns(context: Context, table: Table, body: dict[str, Any]) -> Row:
    """The columns that a body sets, in the form in which rows keep them; cleared ones are None.

    The target table of a lookup with several targets stands beside it as `<lookup>type`. Columns that the service
    maintains are left out silently.

    Raises:
        DataverseError: 400 for an undeclared name or a refused value, 404 for a bind to a missing row.
    """
    changes: Row = {}
    for name, value in body.items():
        if name.endswith(BIND):
            _bind(context, table, name[: -len(BIND)], value, changes)
        elif "@" not in name:
            _set(context, table, name, value, changes)
    return changes


def _set(context: Context, table: Table, name: str, value: Any, changes: Row) -> None:
    if (single := table.singles.get(name)) is not None:
        if value is None:
            _clear(table, single, changes)
            return
        if isinstance(value, dict) and "@odata.id" in value:
            _bind(context, table, name, value["@odata.id"], changes)
            return
        raise payload_error(f"The property '{name}' is a navigation property: set it with '{name}{BIND}'.")
    attribute = table.properties.get(name)
    if attribute is None:
        raise payload_error(
            f"Invalid property '{name}' was found in entity '{table.type_name}'. ---> The property '{name}' does "
            f"not exist on type '{table.type_name}'. Make sure to only use property names that are defined by "
            "the type."
        )
    if attribute.type in LOOKUPS:
        raise payload_error(
            f"CRM do not support direct update of Entity Reference properties, Use Navigation properties instead: "
            f"'{name}'."
        )
    if attribute.type == "State" or attribute.create or attribute.update:
        changes[attribute.name] = _value(table, attribute, value)


def _value(table: Table, attribute: Attribute, value: Any) -> Any:
    if value is None and attribute.required == "SystemRequired":
        raise invalid(f"Attribute '{attribute.name}' of entity '{table.name}' cannot be set to null.")
    return kept(table, attribute, value)


def _clear(table: Table, single: Single, changes: Row) -> None:
    attribute = table.attributes[single.attribute]
    if attribute.required == "SystemRequired" or attribute.type == "Owner":
        raise invalid(f"Attribute '{attribute.name}' of entity '{table.name}' cannot be set to null.")
    if attribute.create or attribute.update:
        # Another navigation property of the same lookup may have been set in this very body.
        changes.setdefault(attribute.name, None)
        changes.setdefault(f"{attribute.name}type", None)


def _bind(context: Context, table: Table, name: str, value: Any, changes: Row) -> None:
    single = table.singles.get(name)
    if single is None:
        raise payload_error(
            f"An undeclared property '{name}' which only has property annotations in the payload but no property "
            "value was found in the payload. In OData, only declared navigation properties and declared named "
            "streams can be represented as properties without values."
        )
    if value is None:
        _clear(table, single, changes)
        return
    target, row_id = reference(context, value)
    allowed = PRINCIPALS if single.target == "principal" else (single.target,)
    if target.name not in allowed:
        raise payload_error(
            f"The navigation property '{name}' of '{table.type_name}' points to '{single.target}', "
            f"not to '{target.name}'."
        )
    attribute = table.attributes[single.attribute]
    if attribute.create or attribute.update:
        changes[attribute.name] = row_id
        if len(attribute.targets) > 1:
            changes[f"{attribute.name}type"] = target.name
