"""From a stored row to its JSON: chosen columns, annotations, expanded rows."""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from app.sandbox.addresses import Context, split
from app.sandbox.errors import query_error
from app.sandbox.messages import Preferences
from app.sandbox.metadata import LOOKUPS, OPTIONS, Attribute, Many, Single, Table
from app.sandbox.storage import Row

FORMATTED = "OData.Community.Display.V1.FormattedValue"
LOOKUP_TABLE = "Microsoft.Dynamics.CRM.lookuplogicalname"
LOOKUP_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
MAXIMUM_EXPAND = 15


@dataclass(slots=True)
class Expand:
    """One navigation property to follow, with its own options."""

    navigation: Single | Many
    options: dict[str, str]
    targets: dict[str, "Projection"] = field(default_factory=dict)
    query: Any = None  # the prepared query over a collection


@dataclass(slots=True)
class Projection:
    """What to show of the rows of a table."""

    table: Table
    columns: list[Attribute]
    selected: tuple[str, ...] = ()
    expands: list[Expand] = field(default_factory=list)
    preferences: Preferences = field(default_factory=Preferences)

    def context_fragment(self) -> str:
        """What stands in parentheses in the @odata.context."""
        names = [*self.selected, *(f"{e.navigation.name}()" for e in self.expands)]
        return f"({','.join(names)})" if names else ""


def columns(table: Table, select: str | None) -> tuple[list[Attribute], tuple[str, ...]]:
    """The columns of a `$select`, with those that come by themselves; all columns without one.

    Raises:
        DataverseError: 400 for an unknown name.
    """
    if not select or select.strip() == "*":
        return list(table.attributes_shown()), ()
    chosen: dict[str, Attribute] = {}
    names = [name.strip() for name in select.split(",") if name.strip()]
    for name in names:
        if name in table.collections or (name in table.singles and name not in table.properties):
            raise query_error(
                f"The property '{name}' on type '{table.type_name}' is a navigation property: "
                f"select '_{name}_value' or expand it."
            )
        chosen[name] = declared(table, name)
    extras = [table.attributes[table.key]]
    if any(a.type == "Money" for a in chosen.values()) and "transactioncurrencyid" in table.attributes:
        extras.append(table.attributes["transactioncurrencyid"])
    if any(name.startswith("address1_") for name in chosen) and "address1_composite" in table.attributes:
        extras.append(table.attributes["address1_composite"])
    for extra in extras:
        chosen.setdefault(extra.read_name, extra)
    return list(chosen.values()), tuple(names)


def declared(table: Table, name: str) -> Attribute:
    """The column behind a property name.

    Raises:
        DataverseError: 400.
    """
    attribute = table.properties.get(name)
    if attribute is None or attribute.type == "EntityName":
        raise query_error(f"Could not find a property named '{name}' on type '{table.type_name}'.")
    return attribute


def expands(table: Table, text: str | None) -> list[Expand]:
    """The parts of an `$expand`, not yet prepared.

    Raises:
        DataverseError: 400 for an unknown navigation property or an option that is not allowed there.
    """
    found = []
    for part in split(text or "", ","):
        name, _, rest = part.strip().partition("(")
        if not name:
            continue
        navigation = table.singles.get(name) or table.collections.get(name)
        if navigation is None:
            raise query_error(f"Could not find a property named '{name}' on type '{table.type_name}'.")
        options = {}
        for option in split(rest.removesuffix(")"), ";"):
            key, equals, value = option.strip().partition("=")
            if equals:
                options[key.strip()] = value.strip()
        if unknown := set(options) - {"$select", "$filter", "$orderby", "$top", "$expand"}:
            raise query_error(
                f"Only $select, $filter, $orderby, $top and $expand are allowed here, not {unknown}."
            )
        found.append(Expand(navigation, options))
    if len(found) > MAXIMUM_EXPAND:
        raise query_error(f"More than {MAXIMUM_EXPAND} $expand options are not allowed.")
    return found


def show(context: Context, projection: Projection, row: Row) -> dict[str, Any]:
    """The JSON object of a row."""
    prefer = projection.preferences
    shown: dict[str, Any] = {"@odata.etag": etag(row)}
    for attribute in projection.columns:
        value = row.get(attribute.name)
        name = attribute.read_name
        if prefer.annotations and value is not None:
            annotate(context, projection.table, attribute, row, prefer, shown)
        shown[name] = value
    if projection.table.name in ("systemuser", "team"):
        shown["ownerid"] = row[projection.table.key]
    return shown


def etag(row: Row) -> str:
    """The ETag of a row."""
    return f'W/"{row["versionnumber"]}"'


def annotate(
    context: Context,
    table: Table,
    attribute: Attribute,
    row: Row,
    prefer: Preferences,
    shown: dict[str, Any],
    name: str | None = None,
) -> None:
    """Write the annotations of one value; they come before it."""
    name = name or attribute.read_name
    if attribute.type in LOOKUPS:
        target = target_of(attribute, row)
        if prefer.annotated(LOOKUP_NAVIGATION) and target in attribute.navigations:
            shown[f"{name}@{LOOKUP_NAVIGATION}"] = attribute.navigations[target]
        if prefer.annotated(LOOKUP_TABLE):
            shown[f"{name}@{LOOKUP_TABLE}"] = target
    if prefer.annotated(FORMATTED) and (text := formatted(context, table, attribute, row)) is not None:
        shown[f"{name}@{FORMATTED}"] = text


def target_of(attribute: Attribute, row: Row) -> str:
    """The table that a lookup of this row points to."""
    if len(attribute.targets) == 1:
        return attribute.targets[0]
    return str(row.get(f"{attribute.name}type", ""))


def formatted(context: Context, table: Table, attribute: Attribute, row: Row) -> str | None:
    """A value as people read it."""
    value = row[attribute.name]
    if attribute.type in LOOKUPS:
        return name_of(context, target_of(attribute, row), value)
    if attribute.type in OPTIONS:
        return attribute.options.get(value)
    formatter = _FORMATS.get(attribute.type)
    if attribute.type == "Money":
        currency = (
            context.organization.base_currency if attribute.base_of else row.get("transactioncurrencyid")
        )
        symbol = (context.organization.storage.row("transactioncurrency", currency) or {}).get(
            "currencysymbol", ""
        )
        return f"{symbol}{value:,.2f}"
    if attribute.date_only:
        return _day(value)
    return formatter(value) if formatter else None


def name_of(context: Context, table: str, row_id: str) -> str | None:
    """The primary name of a row."""
    definition = context.organization.metadata.tables.get(table)
    row = context.organization.storage.row(table, row_id)
    return row.get(definition.primary_name) if row and definition and definition.primary_name else None


def _day(value: str) -> str:
    day = dt.date.fromisoformat(value)
    return f"{day.month}/{day.day}/{day.year}"


def _moment(value: str) -> str:
    moment = dt.datetime.fromisoformat(value)
    half = "AM" if moment.hour < 12 else "PM"  # noon
    return f"{moment.month}/{moment.day}/{moment.year} {moment.hour % 12 or 12}:{moment.minute:02d} {half}"


def _yes_or_no(value: bool) -> str:
    return "Yes" if value else "No"


def _grouped(value: int | Decimal | float) -> str:
    return f"{value:,}"


_FORMATS: dict[str, Callable[[Any], str]] = {
    "Boolean": _yes_or_no,
    "DateTime": _moment,
    "Integer": _grouped,
    "BigInt": _grouped,
    "Decimal": _grouped,
    "Double": _grouped,
}
