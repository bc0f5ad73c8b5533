"""One row of one record on its way to the other side, and everything its translation may ask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, wraps
from operator import itemgetter
from typing import Any, Final, TypeVar
from uuid import UUID

from app.domain.conversion import Converter, converter, transformed, unit_group_name
from app.domain.errors import Awaited, IntegrationError, InvalidMapping
from app.domain.mapping import Direction, FieldMapping, TableMapping
from app.domain.records import FieldDefinition, FieldType, Side, TableDefinition, Value, Values

CURRENCIES: Final = "currencies"
UNITS: Final = "units-of-measure"
LOCAL_CURRENCY: Final = "local_currency"
NEW_IN_LOCAL_CURRENCY: Final = "new_in_local_currency"
BASE_UNIT: Final = "base_unit"
EXCHANGE_RATE: Final = "exchange_rate"
NEVER_NEGATIVE: Final = frozenset({("product", "price"), ("product", "quantityonhand")})
"""Attributes that NAV sends as zero where its own figure is below zero (nav-behaviour 10.6)."""


@dataclass(frozen=True, slots=True)
class Route:
    """A row of a one-way run, with what both sides say about its fields."""

    row: FieldMapping
    nav: FieldDefinition | None
    crm: FieldDefinition | None
    origin: FieldDefinition | None  # the one it comes from; a constant has none
    target: FieldDefinition | None  # the one it goes to
    convert: Converter | None  # what becomes of the source's value where nothing else counts
    option: tuple[str, str] | None  # the NAV table and the attribute whose option mapping would count too
    from_name: str  # of the origin; empty for a constant
    not_null: bool  # whether a blank of the source leaves the target alone

    @property
    def refers(self) -> bool:
        """Whether its value is found through another record's coupling."""
        if self.row.rule in (LOCAL_CURRENCY, NEW_IN_LOCAL_CURRENCY):
            return True
        lookup = self.crm is not None and self.crm.type is FieldType.LOOKUP
        return lookup and self.nav is not None and bool(self.nav.relation)


Asked = TypeVar("Asked", Direction, Side)
Answer = TypeVar("Answer")


def _once(ask: Callable[["Shape", Asked], Answer]) -> Callable[["Shape", Asked], Answer]:
    """A question about a shape that is worked out once: every record of a run asks it."""

    @wraps(ask)
    def known(shape: "Shape", asked: Asked) -> Answer:
        place = ask, asked
        try:
            found: Answer = shape._known[place]
        except KeyError:
            found = shape._known[place] = ask(shape, asked)
        return found

    return known


@dataclass(frozen=True)
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
        table, name = (self.nav, row.nav_field) if side is Side.NAV else (self.crm, row.crm_attribute)
        if name is None:
            return None
        found = table.fields.get(name)
        if found is None:
            raise InvalidMapping(
                f"Mapping {self.mapping.name} names {name}, which {table.label} does not have.",
                fix=f"Change or disable that row: PATCH …/integration-table-mappings/{self.mapping.name}/fields.",
            )
        return found

    def required(self, row: FieldMapping, side: Side) -> FieldDefinition:
        """The same, for a row that needs a field on that side. Raises InvalidMapping."""
        definition = self.field(row, side)
        if definition is None:
            raise self.missing(side)
        return definition

    def missing(self, side: Side) -> InvalidMapping:
        """The error of a row that needs a field on that side and names none."""
        return InvalidMapping(
            f"A row of mapping {self.mapping.name} needs a field on the {side.value} side.",
            fix=f"PATCH …/integration-table-mappings/{self.mapping.name}/fields/{{id}} names it.",
        )

    @_once
    def routes(self, run: Direction) -> tuple[Route, ...]:
        """The rows of a one-way run. Raises InvalidMapping."""
        return tuple(self._route(row, run) for row in self.mapping.rows(run))

    @_once
    def references(self, run: Direction) -> tuple[Route, ...]:
        """The rows of a one-way run whose values are found through couplings."""
        return tuple(route for route in self.routes(run) if route.refers)

    @_once
    def left_alone(self, run: Direction) -> tuple[tuple[str | None, str | None], ...]:
        """The fields of rows that only go the other way: the source's, and the destination's where a rule of ours
        fills it in new records."""
        rows = (row for row in self.mapping.rows(run.opposite) if row.direction is run.opposite)
        return tuple(
            (row.name_on(run.source), row.name_on(run.destination) if row.rule is not None else None)
            for row in rows
        )

    @_once
    def mapped(self, side: Side) -> Callable[[Values], object]:
        """What takes the mapped values of that side out of a record, to compare them all at once. What it answers
        raises KeyError for a record without one of them."""
        names = sorted(self.mapping.names_on(side))
        return itemgetter(*names) if names else lambda values: None

    @_once
    def two_way(self, run: Direction) -> tuple[tuple[str, str], ...]:
        """The fields of both sides that go either way, the source's first."""
        rows = (row for row in self.mapping.rows(run) if row.direction is Direction.BIDIRECTIONAL)
        named = ((row.name_on(run.source), row.name_on(run.destination)) for row in rows)
        return tuple((ours, theirs) for ours, theirs in named if ours and theirs)

    @_once
    def one_way(self, run: Direction) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The fields that go in this direction only, the source's and the destination's; and those of the source that
        go nowhere."""
        routes = [r for r in self.routes(run) if r.target is None or r.row.direction is run]
        sent = tuple(route.from_name for route in routes if route.from_name)
        return sent, tuple(route.target.name for route in routes if route.target is not None)

    @_once
    def either_way(self, run: Direction) -> tuple[tuple[Route, str, str], ...]:
        """The other rows of a one-way run, with the names of their fields; the source's is empty for a constant."""
        return tuple(
            (route, route.from_name, route.target.name)
            for route in self.routes(run)
            if route.target is not None and route.row.direction is not run
        )

    def _route(self, row: FieldMapping, run: Direction) -> Route:
        nav, crm = self.field(row, Side.NAV), self.field(row, Side.CRM)
        origin, target = (nav, crm) if run is Direction.TO_CRM else (crm, nav)
        option = (nav.relation[0], crm.name) if nav is not None and crm is not None and nav.relation else None
        return Route(
            row=row,
            nav=nav,
            crm=crm,
            origin=origin,
            target=target,
            convert=self._converter(row, run, origin, target),
            option=option,
            from_name=origin.name if origin is not None else "",
            not_null=row.not_null and row.rule is None and origin is not None,
        )

    def _converter(
        self,
        row: FieldMapping,
        run: Direction,
        origin: FieldDefinition | None,
        target: FieldDefinition | None,
    ) -> Converter | None:
        if row.rule is not None or origin is None or target is None:
            return None
        if FieldType.LOOKUP in (origin.type, target.type) or target.type is FieldType.ENTITY_NAME:
            return None
        plain, rule = converter(origin, target, run.destination), row.transformation
        convert = plain
        if run is Direction.TO_CRM and (self.crm.name, target.name) in NEVER_NEGATIVE:
            convert = _never_negative(plain)
        return convert if rule is None else lambda value: convert(transformed(value, rule))

    @cached_property
    def _known(self) -> dict[tuple[object, Direction | Side], Any]:
        return {}


def _never_negative(plain: Converter) -> Converter:
    def convert(value: Value) -> Value:
        sent = plain(value)
        return max(sent, Decimal(0)) if isinstance(sent, Decimal) else sent

    return convert


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the records of a page refer to, resolved through the couplings."""

    crm_ids: Mapping[tuple[str, str], UUID] = field(default_factory=dict)  # (NAV table, key) -> CRM id
    nav_keys: Mapping[tuple[str, UUID], str] = field(default_factory=dict)  # (NAV table, CRM id) -> key
    options: Mapping[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)
    entities: Mapping[str, str] = field(default_factory=dict)  # NAV table -> CRM entity it is mapped to
    local_currency: str = ""
    base_currency: str | None = None  # ISO code of CRM's
    base_factor: Decimal | None = None  # units of it per unit of the local one; None where NAV has no rate
    base_units: Mapping[str, UUID | IntegrationError] = field(default_factory=dict)  # unit code -> CRM unit


class Keep:
    """The destination keeps its value."""

    def __repr__(self) -> str:
        return "KEEP"


KEEP: Final = Keep()


@dataclass(slots=True)
class Cell:
    """One row of one record on its way. Nobody changes it: it is not frozen because there are so many."""

    shape: Shape
    route: Route
    run: Direction
    source: Values
    found: Values | None
    lookups: Lookups
    notes: list[str]
    awaited: list[Awaited]

    @property
    def row(self) -> FieldMapping:
        """The row of the mapping."""
        return self.route.row

    @property
    def nav(self) -> FieldDefinition:
        """What NAV says about the row's field."""
        if self.route.nav is None:
            raise self.shape.missing(Side.NAV)
        return self.route.nav

    @property
    def crm(self) -> FieldDefinition:
        """What CRM says about the row's attribute."""
        if self.route.crm is None:
            raise self.shape.missing(Side.CRM)
        return self.route.crm

    @property
    def target(self) -> FieldDefinition:
        """The field it goes to."""
        if self.route.target is None:
            raise self.shape.missing(self.run.destination)
        return self.route.target

    def missing(
        self, kind: type[IntegrationError], detail: str, fix: str, waits_for: Awaited | None
    ) -> Value | Keep:
        """What an unresolved lookup becomes: blank where the row says so, else an error."""
        if self.row.clear_value_on_failed_synch:
            self.notes.append(f"{self.target.name} was cleared: {detail}")
            if waits_for is not None:
                self.awaited.append(waits_for)
            return blank(self.target)
        raise kind(detail, fix=fix, waits_for=waits_for)


def blank(definition: FieldDefinition) -> Value:
    """What a cleared lookup becomes."""
    return "" if definition.type in (FieldType.CODE, FieldType.TEXT, FieldType.OPTION) else None


def uncoupled(cell: Cell, table: str, key: str) -> str:
    """What to say of a NAV key whose record has no partner in CRM."""
    said = (
        f"{cell.nav.label} {key} must be coupled to a CRM {cell.lookups.entities.get(table, 'record')} first."
    )
    if table == UNITS:
        return f"{said} CRM has no active unit group named {unit_group_name(key)}, either."
    return said
