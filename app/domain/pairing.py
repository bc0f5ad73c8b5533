"""Which kinds of fields can be paired, and where nothing can be written. Source of the rules: nav-behaviour 7."""

from collections.abc import Collection, Mapping
from typing import Final

from app.domain.mapping import Direction
from app.domain.records import BROKEN, TEXTS, TIMES, WHOLE, FieldDefinition, FieldType

_ACCEPTED: Final[Mapping[FieldType, frozenset[FieldType]]] = {
    # destination: sources that always fit (text may be cut, money rounded)
    FieldType.TEXT: frozenset(FieldType) - {FieldType.LOOKUP},
    FieldType.CODE: frozenset(FieldType) - {FieldType.LOOKUP},
    FieldType.MEMO: frozenset(FieldType) - {FieldType.LOOKUP},
    FieldType.INTEGER: frozenset({FieldType.INTEGER}),
    FieldType.BIG_INTEGER: WHOLE,
    FieldType.DECIMAL: WHOLE | BROKEN,
    FieldType.MONEY: WHOLE | BROKEN,
    FieldType.BOOLEAN: frozenset({FieldType.BOOLEAN}),
    FieldType.OPTION: TEXTS | {FieldType.OPTION},
    FieldType.DATE: TIMES,
    FieldType.DATETIME: TIMES,
    FieldType.TIME: frozenset({FieldType.TIME}),
    FieldType.GUID: frozenset({FieldType.GUID, FieldType.LOOKUP}),
    FieldType.LOOKUP: frozenset(),  # through couplings only, see `reference_problem`
    FieldType.ENTITY_NAME: frozenset(),
}


def convertible(
    nav: FieldDefinition,
    crm: FieldDefinition,
    direction: Direction,
    mapped: Collection[tuple[str, str]] = (),
) -> str | None:
    """Why the two fields cannot be mapped in that direction; None when they can.

    `mapped` are the pairs of NAV table and CRM entity that have a mapping: a lookup is translated
    through the couplings of such a pair.
    """
    for run in direction.runs:
        source, destination = (nav, crm) if run is Direction.TO_CRM else (crm, nav)
        if problem := unwritable(destination) or _problem(nav, crm, source, destination, mapped):
            return problem
    return None


def unwritable(destination: FieldDefinition) -> str | None:
    """Why nothing can be written there; None when something can."""
    if destination.type is FieldType.ENTITY_NAME:
        return None  # written with the lookup whose type it says
    if destination.computed or not (destination.insertable or destination.updatable):
        return f"{destination.name} cannot be written."
    return None


def _problem(
    nav: FieldDefinition,
    crm: FieldDefinition,
    source: FieldDefinition,
    destination: FieldDefinition,
    mapped: Collection[tuple[str, str]],
) -> str | None:
    if crm.type is FieldType.LOOKUP and nav.type is not FieldType.GUID:
        return reference_problem(nav, crm, mapped)
    if source.type in _ACCEPTED[destination.type]:
        return None
    return f"{source.name} ({source.type}) cannot be converted to {destination.name} ({destination.type})."


def reference_problem(
    nav: FieldDefinition, crm: FieldDefinition, mapped: Collection[tuple[str, str]]
) -> str | None:
    """Why a NAV field cannot stand for what a lookup points to; None when it can."""
    if not nav.relation:
        return f"{nav.name} refers to no NAV table, so it cannot follow the lookup {crm.name}."
    if any((table, entity) in mapped for table in nav.relation for entity in crm.relation):
        return None
    tables, entities = " or ".join(nav.relation), " or ".join(crm.relation)
    return f"Table {tables} must be mapped to {entities} to transfer between {nav.name} and {crm.name}."
