"""Who may be coupled: NAV's rules about a record, told from its values (nav-behaviour 5.3, 10.2, 10.3)."""

from app.domain.errors import (
    ContactTypeNotPerson,
    ContactWithoutCompany,
    CreateNotSupported,
    DirectionNotAllowed,
    DirectionRequired,
    FieldProblem,
    IntegrationError,
)
from app.domain.links import address_of
from app.domain.mapping import Direction, TableMapping
from app.domain.records import Values


def obstacle(nav_table: str, key: str, values: Values) -> IntegrationError | None:
    """What keeps a NAV record from being coupled at all; None when nothing does."""
    if nav_table != "contacts":
        return None
    if values.get("Type") != "Person":
        return ContactTypeNotPerson(
            f"Contact {key} is of type {values.get('Type') or 'Company'}; only contacts of type Person can be coupled.",
            fix=f"Couple the customer of the company instead, or PATCH {address_of(nav_table, key)} with Type Person.",
        )
    if not values.get("Company_No"):
        return ContactWithoutCompany(
            f"Contact {key} belongs to no company.",
            fix=f"PATCH {address_of(nav_table, key)} with the Company_No of its company.",
        )
    return None


SENT_BY_HAND = frozenset({("items", "product"), ("resources", "product")})
"""What people only send to CRM; what comes back of it (whether it is blocked) is the job's (seed-checklist E-43)."""


def by_hand(mapping: TableMapping) -> Direction:
    """The directions that a person may synchronize single records in."""
    if (mapping.nav_table, mapping.crm_entity) in SENT_BY_HAND and mapping.direction.allows(Direction.TO_CRM):
        return Direction.TO_CRM
    return mapping.direction


def one_way(mapping: TableMapping, asked: Direction | None) -> Direction:
    """The direction of a single synchronization: the one asked for, or the only one there is.

    Raises DirectionRequired on a mapping that goes both ways, DirectionNotAllowed for the wrong one.
    """
    possible = by_hand(mapping)
    if asked is None:
        if possible is Direction.BIDIRECTIONAL:
            raise DirectionRequired(
                f"Mapping {mapping.name} goes both ways: choose to_crm (send) or from_crm (get).",
                fix="Repeat the call with direction to_crm or from_crm.",
                errors=[FieldProblem("/direction", "Say to_crm or from_crm.")],
            )
        return possible
    if not possible.allows(asked):
        raise DirectionNotAllowed(
            f"Mapping {mapping.name} only goes {possible.value}: "
            f"{mapping.nav_table} cannot be synchronized {asked.value}.",
            fix=f"Use direction {possible.value}.",
            errors=[FieldProblem("/direction", f"Only {possible.value} is possible.")],
        )
    return asked


def require_creation(mapping: TableMapping, run: Direction) -> None:
    """Raises CreateNotSupported when records of the mapping are never created on that side."""
    possible = by_hand(mapping)
    if not possible.allows(run):
        where = "CRM" if run is Direction.TO_CRM else "NAV"
        raise CreateNotSupported(
            f"Mapping {mapping.name} only goes {possible.value}: its records are never created in {where}.",
            fix="Create the record there by hand and couple it: PUT …/coupling with its crm_id.",
        )
