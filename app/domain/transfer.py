"""One side's values in the other side's terms: lookups, options, constants, and the rules NAV keeps in code.

Source of the rules: nav-behaviour 7 and 8. Everything a translation needs to know of other records comes
in as `Lookups`, resolved beforehand in sets; `needs` says what to resolve.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from app.domain import conversion
from app.domain.cell import (
    CURRENCIES,
    KEEP,
    LOCAL_CURRENCY,
    NEW_IN_LOCAL_CURRENCY,
    Cell,
    Keep,
    Lookups,
    Shape,
    uncoupled,
)
from app.domain.coded import RULES
from app.domain.errors import Awaited, IntegrationError, InvalidMapping, LookupNotCoupled
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.records import FieldDefinition, FieldType, Reference, Value, Values


class Need(NamedTuple):
    """One reference to resolve: a NAV key on the way to CRM, a CRM id on the way back."""

    nav_table: str
    key: str | None = None
    crm_id: UUID | None = None


@dataclass(slots=True)
class Translation:
    """What the source asks of the destination. Nobody changes it (see Snapshot).

    `wanted` holds a value per destination field; fields in `kept` stay as they are. `notes` tell what
    was left out and why, `awaited` what has to be coupled before what was cleared can be filled. `error` says why
    the record cannot be transferred at all.
    """

    wanted: Values
    kept: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    awaited: tuple[Awaited, ...] = ()
    error: IntegrationError | None = None


NOTHING: Final = Translation({})
"""What a record asks that was not translated yet."""


def needs(shape: Shape, run: Direction, source: Values) -> Iterator[Need]:
    """The references that one record's translation will ask for."""
    for route in shape.references(run):
        if route.row.rule in (LOCAL_CURRENCY, NEW_IN_LOCAL_CURRENCY):
            yield Need(CURRENCIES, key="")
        nav, crm = route.nav, route.crm
        if nav is None or crm is None or crm.type is not FieldType.LOOKUP or not nav.relation:
            continue
        value = source.get(nav.name if run is Direction.TO_CRM else crm.name)
        if isinstance(value, Reference):
            yield Need(nav.relation[0], crm_id=value.id)
        elif isinstance(value, str) and (value or nav.relation[0] == CURRENCIES):
            yield Need(nav.relation[0], key=value)


def translate(
    shape: Shape, run: Direction, source: Values, found: Values | None, lookups: Lookups
) -> Translation:
    """The source record in the destination's terms.

    `found` is the destination record as far as it is known, None when it is to be created. Rows are taken
    in their order; the first that cannot be transferred decides the error.
    """
    wanted: dict[str, Value] = {}
    kept: set[str] = set()
    notes: list[str] = []
    awaited: list[Awaited] = []
    try:
        for route in shape.routes(run):
            target = route.target
            if target is None:
                continue
            if found is not None and not target.updatable:
                kept.add(target.name)  # it can be given to a new record only
                continue
            if route.convert is None or route.option in lookups.options:
                value = _value(Cell(shape, route, run, source, found, lookups, notes, awaited), target)
            else:
                value = route.convert(source.get(route.from_name))
            if isinstance(value, Keep) or (route.not_null and value in (None, "")):
                kept.add(target.name)
            else:
                wanted[target.name] = value
    except IntegrationError as error:
        return Translation({}, error=error)
    return Translation(wanted, frozenset(kept), tuple(notes), tuple(awaited))


def _value(cell: Cell, target: FieldDefinition) -> Value | Keep:
    """A value for which more counts than the field it comes from."""
    if target.type is FieldType.ENTITY_NAME:
        return KEEP  # the type half of a polymorphic lookup travels with the lookup itself
    row = cell.route.row
    if row.rule is not None:
        return RULES[row.rule](cell)
    if cell.route.origin is None:
        return conversion.constant(row.constant_value or "", target, cell.run.destination)
    return _lookup(cell) if cell.crm.type is FieldType.LOOKUP else _option(cell)


def _lookup(cell: Cell) -> Value | Keep:
    nav, crm = cell.nav, cell.crm
    if not nav.relation:
        raise InvalidMapping(
            f"{nav.label} refers to no NAV table, so it cannot follow the lookup {crm.name}.",
            fix=f"Change or disable that row of mapping {cell.shape.mapping.name}.",
        )
    table = nav.relation[0]
    if table not in cell.lookups.entities:
        to_crm = cell.run is Direction.TO_CRM
        refers = cell.source.get(nav.name if to_crm else crm.name) not in (None, "")
        if not refers and table != CURRENCIES:  # a blank currency stands for the local one
            return None if to_crm else ""
        raise InvalidMapping(
            f"Table {table} must be mapped to transfer between {nav.label} and {crm.name}.",
            fix="POST …/integration-table-mappings adds the mapping.",
        )
    if cell.run is Direction.TO_CRM:
        return _reference(cell, table)
    return _nav_key(cell, table)


def _reference(cell: Cell, table: str) -> Value | Keep:
    key = str(cell.source.get(cell.nav.name) or "")
    if not key and table != CURRENCIES:
        return None
    crm_id = cell.lookups.crm_ids.get((table, key))
    if crm_id is None:
        shown = key or cell.lookups.local_currency
        return cell.missing(
            LookupNotCoupled,
            uncoupled(cell, table, shown),
            f"PUT {address_of(table, shown)}/coupling couples it.",
            # The local currency is found by its ISO code; it is never coupled.
            Awaited(table, nav_key=key) if key else None,
        )
    return Reference(crm_id, cell.lookups.entities[table])


def _nav_key(cell: Cell, table: str) -> Value | Keep:
    value = cell.source.get(cell.crm.name)
    if not isinstance(value, Reference):
        return ""
    key = cell.lookups.nav_keys.get((table, value.id))
    if key is None:
        return cell.missing(
            LookupNotCoupled,
            f"{cell.crm.name} {value.id} in CRM must be coupled to a record of {table} first.",
            f"PUT …/nav/{table}/{{no}}/coupling with crm_id {value.id} couples it.",
            Awaited(table, crm_id=value.id),
        )
    return key


def _option(cell: Cell) -> Value | Keep:
    """NAV codes that stand for options of CRM. A code without an option leaves the attribute as it is,
    and says so (seed-checklist E-35)."""
    nav, crm = cell.nav, cell.crm
    values = cell.lookups.options[(nav.relation[0], crm.name)]
    if cell.run is Direction.TO_CRM:
        key = str(cell.source.get(nav.name) or "")
        if not key:
            return None
        if key in values:
            return values[key]
        if cell.row.clear_value_on_failed_synch:
            return None
        cell.notes.append(f"{crm.name} was left alone: {nav.label} {key} stands for none of its options.")
        return KEEP
    number = cell.source.get(crm.name)
    if number is None:
        return ""
    return next((key for key, value in values.items() if value == number), KEEP)
