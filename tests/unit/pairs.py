"""A small pair of tables for tests of the rules: two fields that go both ways, one to CRM, one to NAV."""

from collections.abc import Mapping
from uuid import UUID

from app.domain.cell import Lookups, Shape
from app.domain.coupling import Base
from app.domain.mapping import Direction, FieldMapping, TableMapping, UpdateConflictResolution
from app.domain.plan import Plan, decide, rebase
from app.domain.records import FieldDefinition, FieldType, Side, Snapshot, TableDefinition, Value, Values
from app.domain.transfer import Translation, translate

BOTH, TO, FROM = Direction.BIDIRECTIONAL, Direction.TO_CRM, Direction.FROM_CRM
ROWS = (
    FieldMapping("Name", "name", BOTH),
    FieldMapping("City", "city", BOTH),
    FieldMapping("Terms", "terms", TO),
    FieldMapping("Contact", "contact", FROM),
)
TWO_WAY = {"Name": "name", "City": "city"}
PAIRS = TWO_WAY | {"Terms": "terms", "Contact": "contact"}
NO_LOOKUPS = Lookups()


def text(name: str, length: int = 50, kind: FieldType = FieldType.TEXT) -> FieldDefinition:
    """A text field."""
    return FieldDefinition(name, name.title(), kind, length=length)


def table(name: str, *fields: FieldDefinition) -> TableDefinition:
    """A table of these fields."""
    return TableDefinition(name, name.title(), {field.name: field for field in fields}, ("No",))


def a_shape(
    policy: UpdateConflictResolution = UpdateConflictResolution.MERGE,
    rows: tuple[FieldMapping, ...] = ROWS,
) -> Shape:
    """Customers and accounts, mapped by these rows."""
    mapping = TableMapping(
        "CUSTOMER", "customers", "account", BOTH, update_conflict_resolution=policy, fields=rows
    )
    nav = table("customers", *(text(row.nav_field) for row in rows if row.nav_field))
    crm = table("account", *(text(row.crm_attribute) for row in rows if row.crm_attribute))
    return Shape(mapping, nav, crm)


def blank_or(value: Value, side: Side) -> Value:
    """A value as that side keeps it: NAV has no null texts, CRM no blank ones."""
    if side is Side.NAV:
        return value or ""
    return value or None


def shown(side: Side, values: Values, version: str = "1") -> Snapshot:
    """A record of that side with these values."""
    kept = {name: blank_or(value, side) for name, value in values.items()}
    return Snapshot(UUID(int=1), "10000", version, kept)


def translated(shape: Shape, run: Direction, source: Snapshot, found: Snapshot | None = None) -> Translation:
    """The source in the destination's terms."""
    return translate(shape, run, source.values, found.values if found else None, NO_LOOKUPS)


def planned(
    shape: Shape,
    run: Direction,
    source: Snapshot,
    found: Snapshot | None,
    base: Base | None,
    force: bool = False,
) -> Plan:
    """What synchronizing the record in that direction would do."""
    translation = translated(shape, run, source, found)
    return decide(shape, run, source.values, found.values if found else None, translation, base, force=force)


def written(found: Snapshot, changes: Mapping[str, Value], version: str = "2") -> Snapshot:
    """The record after a write."""
    return Snapshot(found.id, found.key, version, {**found.values, **changes})


def rebased(shape: Shape, run: Direction, source: Snapshot, after: Snapshot, base: Base | None) -> Base:
    """What both sides agree on after the run."""
    return rebase(shape, run, source, after, translated(shape, run, source, after), base)
