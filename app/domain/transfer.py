"""One side's values in the other side's terms: lookups, options, constants, and the rules NAV keeps in code.

Source of the rules: nav-behaviour 7 and 8. Everything a translation needs to know of other records comes
in as `Lookups`, resolved beforehand in sets; `needs` says what to resolve.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.domain import conversion
from app.domain.errors import (
    ContactWithoutAccount,
    ContactWithoutCompany,
    IntegrationError,
    InvalidMapping,
    LookupNotCoupled,
    SalespersonNotCoupled,
)
from app.domain.mapping import Direction, FieldMapping, TableMapping
from app.domain.records import FieldDefinition, FieldType, Reference, Side, TableDefinition, Value, Values


@dataclass(frozen=True, slots=True)
class Shape:
    """A mapping together with what both sides say about its table and entity."""

    mapping: TableMapping
    nav: TableDefinition
    crm: TableDefinition

    def definition(self, side: Side) -> TableDefinition:
        """The definition of that side's table."""
        return self.nav if side is Side.NAV else self.crm

    def field(self, row: FieldMapping, side: Side) -> FieldDefinition | None:
        """What that side says about the row's field. Raises InvalidMapping when it is gone."""
        name = row.name_on(side)
        if name is None:
            return None
        try:
            return self.definition(side).fields[name]
        except KeyError:
            raise InvalidMapping(
                f"Mapping {self.mapping.name} names {name}, which {self.definition(side).label} does not have.",
                fix=f"Change or disable that row: PATCH …/integration-table-mappings/{self.mapping.name}/fields.",
            ) from None

    def required(self, row: FieldMapping, side: Side) -> FieldDefinition:
        """The same, for a row that needs a field on that side. Raises InvalidMapping."""
        definition = self.field(row, side)
        if definition is None:
            raise InvalidMapping(
                f"A row of mapping {self.mapping.name} needs a field on the {side.value} side.",
                fix=f"PATCH …/integration-table-mappings/{self.mapping.name}/fields/{{id}} names it.",
            )
        return definition


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the records of a page refer to, resolved through the couplings."""

    crm_ids: Mapping[tuple[str, str], UUID] = field(default_factory=dict)  # (NAV table, key) -> CRM id
    nav_keys: Mapping[tuple[str, UUID], str] = field(default_factory=dict)  # (NAV table, CRM id) -> key
    options: Mapping[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)
    entities: Mapping[str, str] = field(default_factory=dict)  # NAV table -> CRM entity it is mapped to
    local_currency: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """One reference to resolve: a NAV key on the way to CRM, a CRM id on the way back."""

    nav_table: str
    key: str | None = None
    crm_id: UUID | None = None


class _Keep:
    """The destination keeps its value."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = _Keep()


@dataclass(frozen=True, slots=True)
class Translation:
    """What the source asks of the destination.

    `wanted` holds a value per destination field; fields in `kept` stay as they are. `notes` tell what
    was left out and why. `error` says why the record cannot be transferred at all.
    """

    wanted: Values
    kept: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    error: IntegrationError | None = None


CURRENCIES: Final = "currencies"


def needs(shape: Shape, run: Direction, source: Values) -> Iterator[Need]:
    """The references that one record's translation will ask for."""
    for row in shape.mapping.rows(run):
        nav, crm = shape.field(row, Side.NAV), shape.field(row, Side.CRM)
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
    for row in shape.mapping.rows(run):
        name = row.name_on(run.destination)
        if name is None:
            continue
        try:
            value = _value(_Cell(shape, row, run, source, found, lookups, notes))
        except IntegrationError as error:
            return Translation({}, error=error)
        if isinstance(value, _Keep):
            kept.add(name)
        else:
            wanted[name] = value
    return Translation(wanted, frozenset(kept), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Cell:
    """One row of one record on its way."""

    shape: Shape
    row: FieldMapping
    run: Direction
    source: Values
    found: Values | None
    lookups: Lookups
    notes: list[str]

    @property
    def nav(self) -> FieldDefinition:
        return self.shape.required(self.row, Side.NAV)

    @property
    def crm(self) -> FieldDefinition:
        return self.shape.required(self.row, Side.CRM)

    @property
    def origin(self) -> FieldDefinition | None:
        return self.shape.field(self.row, self.run.source)

    @property
    def target(self) -> FieldDefinition:
        return self.shape.required(self.row, self.run.destination)

    def missing(self, kind: type[IntegrationError], detail: str, fix: str) -> Value | _Keep:
        """What an unresolved lookup becomes: blank where the row says so, else an error."""
        if self.row.clear_value_on_failed_synch:
            self.notes.append(f"{self.target.name} was cleared: {detail}")
            return _blank(self.target)
        raise kind(detail, fix=fix)


def _value(cell: _Cell) -> Value | _Keep:
    if cell.target.type is FieldType.ENTITY_NAME:
        return KEEP  # the type half of a polymorphic lookup travels with the lookup itself
    if cell.row.rule is not None:
        return RULES[cell.row.rule](cell)
    if cell.origin is None:
        return conversion.constant(cell.row.constant_value or "", cell.target, cell.run.destination)
    value = _plain(cell)
    if cell.row.not_null and value in (None, ""):
        return KEEP
    return value


def _plain(cell: _Cell) -> Value | _Keep:
    nav, crm = cell.nav, cell.crm
    if crm.type is FieldType.LOOKUP:
        return _lookup(cell)
    if nav.relation and (nav.relation[0], crm.name) in cell.lookups.options:
        return _option(cell)
    value = conversion.transformed(
        cell.source.get(cell.shape.required(cell.row, cell.run.source).name), cell.row.transformation
    )
    if cell.run is Direction.TO_CRM:
        return conversion.to_crm(value, nav, crm)
    return conversion.to_nav(value, crm, nav)


def _lookup(cell: _Cell) -> Value | _Keep:
    nav, crm = cell.nav, cell.crm
    if not nav.relation:
        raise InvalidMapping(
            f"{nav.label} refers to no NAV table, so it cannot follow the lookup {crm.label}.",
            fix=f"Change or disable that row of mapping {cell.shape.mapping.name}.",
        )
    table = nav.relation[0]
    if table not in cell.lookups.entities:
        raise InvalidMapping(
            f"Table {table} must be mapped to transfer between {nav.label} and {crm.label}.",
            fix="POST …/integration-table-mappings adds the mapping.",
        )
    if cell.run is Direction.TO_CRM:
        return _reference(cell, table)
    return _nav_key(cell, table)


def _reference(cell: _Cell, table: str) -> Value | _Keep:
    key = str(cell.source.get(cell.nav.name) or "")
    if not key and table != CURRENCIES:  # a blank currency stands for the local one
        return None
    crm_id = cell.lookups.crm_ids.get((table, key))
    if crm_id is None:
        shown = key or cell.lookups.local_currency
        return cell.missing(
            LookupNotCoupled,
            f"{cell.nav.label} {shown} must be coupled to a CRM {cell.lookups.entities[table]} first.",
            f"PUT …/nav/{table}/{shown}/coupling couples it.",
        )
    return Reference(crm_id, cell.lookups.entities[table])


def _nav_key(cell: _Cell, table: str) -> Value | _Keep:
    value = cell.source.get(cell.crm.name)
    if not isinstance(value, Reference):
        return ""
    key = cell.lookups.nav_keys.get((table, value.id))
    if key is None:
        return cell.missing(
            LookupNotCoupled,
            f"The {cell.crm.label} {value.id} in CRM must be coupled to a record of {table} first.",
            f"PUT …/nav/{table}/{{no}}/coupling with crm_id {value.id} couples it.",
        )
    return key


def _option(cell: _Cell) -> Value | _Keep:
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
        cell.notes.append(f"{crm.label} was left alone: {nav.label} {key} stands for none of its options.")
        return KEEP
    number = cell.source.get(crm.name)
    if number is None:
        return ""
    return next((key for key, value in values.items() if value == number), KEEP)


def _blank(definition: FieldDefinition) -> Value:
    return "" if definition.type in (FieldType.CODE, FieldType.TEXT, FieldType.OPTION) else None


# --- what NAV keeps in code instead of in a row ----------------------------------------------------


def _owner(cell: _Cell) -> Value | _Keep:
    """Owner and salesperson (nav-behaviour 8.3): a blank side leaves the other alone; towards CRM the
    salesperson must be coupled; towards NAV an owner that stands for no salesperson changes nothing."""
    if cell.run is Direction.FROM_CRM:
        owner = cell.source.get(cell.crm.name)
        if not isinstance(owner, Reference):
            return KEEP
        return cell.lookups.nav_keys.get(("salespeople", owner.id), KEEP)
    code = str(cell.source.get(cell.nav.name) or "")
    if not code:
        return KEEP
    user = cell.lookups.crm_ids.get(("salespeople", code))
    if user is None:
        raise SalespersonNotCoupled(
            f"Salesperson {code} must be coupled to a CRM user first.",
            fix=f"PUT …/nav/salespeople/{code}/coupling couples the salesperson.",
        )
    return Reference(user, "systemuser")


def _parent_account(cell: _Cell) -> Value | _Keep:
    """The company of a contact and its parent account (nav-behaviour 10.3)."""
    if cell.run is Direction.FROM_CRM:
        parent = cell.source.get(cell.crm.name)
        if not isinstance(parent, Reference):
            raise ContactWithoutAccount(
                "The CRM contact belongs to no account, so there is no company for it in NAV.",
                fix="Set the contact's company in CRM to an account that is coupled to a customer.",
            )
        customer = cell.lookups.nav_keys.get(("customers", parent.id))
        if customer is None:
            raise ContactWithoutAccount(
                f"The account {parent.id} of the CRM contact is not coupled to a customer.",
                fix=f"PUT …/nav/customers/{{no}}/coupling with crm_id {parent.id} couples it.",
            )
        return customer
    customer_no = str(cell.source.get(cell.nav.name) or "")
    if not customer_no:
        raise ContactWithoutCompany(
            "The contact's company is not related to a customer, so it has no account in CRM.",
            fix="Give the contact a company that is a customer: PATCH …/nav/contacts/{no} with Company_No.",
        )
    account = cell.lookups.crm_ids.get(("customers", customer_no))
    if account is None:
        raise LookupNotCoupled(
            f"Customer {customer_no}, the contact's company, must be coupled to an account first.",
            fix=f"PUT …/nav/customers/{customer_no}/coupling couples it.",
        )
    return Reference(account, "account")


def _blocked_when_inactive(cell: _Cell) -> Value | _Keep:
    """An inactive account blocks its customer, if it is not blocked already; nothing ever unblocks it
    (nav-behaviour 10.2)."""
    inactive = cell.source.get(cell.crm.name) == 2
    blocked = bool(cell.found and cell.found.get(cell.nav.name))
    return "All" if inactive and not blocked else KEEP


RULES: Final[Mapping[str, Callable[[_Cell], Value | _Keep]]] = {
    "owner": _owner,
    "parent_account": _parent_account,
    "blocked_when_inactive": _blocked_when_inactive,
}
"""The rules that implied rows name (`domain.defaults.implied_fields`)."""
