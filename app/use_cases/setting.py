"""What a synchronization of one mapping works with, read once: the mapping with its implied rows, both sides
and what they say about the table and the entity."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from uuid import UUID

from app import filters
from app.domain.cell import EXCHANGE_RATE, Shape
from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.coupling import Coupling
from app.domain.defaults import implied_fields
from app.domain.errors import InvalidFilter, MappingNotFound
from app.domain.mapping import Direction, TableMapping
from app.domain.mapping_rules import logical_name
from app.domain.records import Reference, Side, Snapshot, Values
from app.ports import Context, CrmSide, NavSide, RecordStore, StoredMapping, Transaction


@dataclass(frozen=True)
class Setting:
    """One mapping of one company, ready to be synchronized."""

    company: Company
    connection: ConnectionSetup
    nav: NavSide
    crm: CrmSide
    shape: Shape
    entities: Mapping[str, str]  # NAV table -> CRM entity, of every record mapping
    mapping_of: Mapping[str, str]  # NAV table -> the name of its default mapping
    options: Mapping[tuple[str, str], Mapping[str, int]]
    mappings: frozenset[str] = frozenset()  # the names of all there are
    edition: int = 0  # of the mapping

    @cached_property
    def mapping(self) -> TableMapping:
        """The mapping, its implied rows included."""
        return self.shape.mapping

    @cached_property
    def moves_with_base_rate(self) -> bool:
        """Whether what is sent follows from CRM's base currency too, whose rate changes no other record."""
        base = self.connection.base_currency
        rated = any(row.rule == EXCHANGE_RATE for row in self.mapping.rows(Direction.TO_CRM))
        return rated and base not in (None, self.company.local_currency)

    def refers_to_itself(self, run: Direction) -> bool:
        """Whether records of the mapping may refer to others of it, so that their order counts."""
        table, entity = self.mapping.nav_table, self.mapping.crm_entity
        return any(
            (route.nav is not None and table in route.nav.relation)
            or (route.crm is not None and entity in route.crm.relation)
            for route in self.shape.routes(run)
        )

    def version(self, coupling: Coupling, side: Side) -> str | None:
        """The version that the record of that side had when both agreed last: as long as it has it, it shows what they
        agreed on. None where it is not known, or where the fields were others then and it says nothing about ours."""
        if coupling.base is None or (coupling.mapping, coupling.edition) != (self.mapping.name, self.edition):
            return None
        return coupling.base.version(side)

    def couples_like(self, coupling: Coupling) -> bool:
        """Whether the coupling is with a record of this mapping's entity. Another mapping of the NAV table may have
        another, and records of both may have the same id."""
        return coupling.crm_entity == self.mapping.crm_entity

    def coupling(self, coupling_id: UUID, nav: Snapshot, crm_id: UUID) -> Coupling:
        """The coupling of a NAV record with a row of CRM, which are to be synchronized yet."""
        return Coupling(
            id=coupling_id,
            mapping=self.mapping.name,
            nav_table=self.mapping.nav_table,
            nav_id=nav.id,
            nav_key=nav.key,
            crm_entity=self.mapping.crm_entity,
            crm_id=crm_id,
        )

    def shared(self, sharers: int) -> "Setting":
        """This setting for one of so many who write sets to CRM at the same time."""
        return replace(self, crm=self.crm.shared(sharers))

    def side(self, side: Side) -> RecordStore:
        """The store of that side."""
        return self.nav if side is Side.NAV else self.crm

    def fields(self, side: Side) -> frozenset[str]:
        """What has to be read on that side: mapped fields, filtered fields, the name."""
        return self._fields[side]

    @cached_property
    def _fields(self) -> Mapping[Side, frozenset[str]]:
        return {side: frozenset(self._named(side)) for side in Side}

    def _named(self, side: Side) -> set[str]:
        definition = self.shape.definition(side)
        named = {logical_name(name) for name in filter_names(self.mapping.filter_on(side))}
        wanted = set(self.mapping.names_on(side)) | named | {definition.name_field or ""}
        return wanted & definition.fields.keys()


def filter_names(text: str | None) -> frozenset[str]:
    """The fields a mapping's filter looks at."""
    return filters.names(filters.parse(text)) if text else frozenset()


def passes(text: str | None, values: Values) -> bool:
    """Whether a record lies inside the filter.

    A condition on something the record does not tell (a new record has no state yet) counts as met. Raises
    InvalidFilter for one that compares what cannot be compared.
    """

    def value_of(name: str) -> Any:
        value = values.get(logical_name(name))
        return value.id if isinstance(value, Reference) else value

    try:
        return not text or all(
            holds(value_of) is True
            for holds, names in _conditions(text)
            if all(name in values for name in names)
        )
    except filters.FilterError as error:
        raise InvalidFilter(
            f"The filter {text!r} of the mapping cannot be used: {error.message}",
            fix="PATCH …/integration-table-mappings/{mapping} with another filter.",
        ) from error


@lru_cache(maxsize=1000)
def _conditions(text: str) -> tuple[tuple[filters.Predicate, frozenset[str]], ...]:
    """The conditions that a filter joins by `and`, each with the attributes it asks about: the same for every
    record of a run."""
    conditions = filters.conjuncts(filters.parse(text))
    return tuple(
        (filters.predicate(one), frozenset(map(logical_name, filters.names(one)))) for one in conditions
    )


def is_default_for(mappings: Collection[StoredMapping], nav_table: str) -> StoredMapping | None:
    """The mapping that serves a NAV table unless the caller names one: the first record mapping by position."""
    serving = [m for m in mappings if m.mapping.nav_table == nav_table and m.mapping.option_attribute is None]
    return min(serving, key=_preference, default=None)


def _preference(stored: StoredMapping) -> tuple[bool, int, str]:
    """Of the mappings that serve the same, the one with the least is the default."""
    return not stored.mapping.is_default, stored.mapping.position, stored.mapping.name


def entities_of(stored: Collection[StoredMapping]) -> tuple[dict[str, str], dict[str, str]]:
    """By NAV table, the CRM entity it is mapped to and the name of its default mapping."""
    tables = {each.mapping.nav_table for each in stored}
    serving = {table: found.mapping for table in tables if (found := is_default_for(stored, table))}
    return {t: m.crm_entity for t, m in serving.items()}, {t: m.name for t, m in serving.items()}


def require_fitting(
    mappings: Collection[StoredMapping],
    name: str,
    *,
    nav_table: str | None = None,
    crm_entity: str | None = None,
) -> StoredMapping:
    """The record mapping of that name, provided that it serves the table and the entity. Raises MappingNotFound."""
    found = next((stored for stored in mappings if stored.mapping.name == name), None)
    if found is None:
        raise MappingNotFound(
            f"There is no integration table mapping {name}.",
            fix="GET …/integration-table-mappings lists those there are.",
        )
    mapping = found.mapping
    if mapping.option_attribute is not None:
        raise MappingNotFound(
            _options_only(mapping),
            fix="Leave mapping out, or name one of records: GET …/integration-table-mappings lists them.",
        )
    asked = [(nav_table, mapping.nav_table), (crm_entity, mapping.crm_entity)]
    other = [wanted for wanted, served in asked if wanted not in (None, served)]
    if other:
        raise MappingNotFound(
            f"The integration table mapping {name} couples {mapping.nav_table} with {mapping.crm_entity}; "
            f"it does not serve {' and '.join(filter(None, other))}.",
            fix="Leave mapping out, or name one that does: GET …/integration-table-mappings lists them.",
        )
    return found


def _options_only(mapping: TableMapping) -> str:
    return f"The mapping {mapping.name} couples the options of {mapping.option_attribute}, no records."


async def choose(
    tx: Transaction, company: Company, *, name: str | None, nav_table: str | None, crm_entity: str | None
) -> tuple[StoredMapping, list[StoredMapping]]:
    """The mapping asked for, by name or by table or by entity, and all of them.

    Raises MappingNotFound with the call that makes one.
    """
    stored = await tx.mappings.all(company.id)
    if name is not None:
        return require_fitting(stored, name, nav_table=nav_table, crm_entity=crm_entity), stored
    candidates = [
        m
        for m in stored
        if m.mapping.option_attribute is None
        and (nav_table is None or m.mapping.nav_table == nav_table)
        and (crm_entity is None or m.mapping.crm_entity == crm_entity)
    ]
    if not candidates:
        options = [m.mapping for m in stored if nav_table == m.mapping.nav_table and crm_entity is None]
        if options:
            raise MappingNotFound(
                _options_only(options[0]), fix="GET …/option-review shows what stands for what."
            )
        asked = " and ".join(filter(None, (nav_table, crm_entity))) or "any records"
        here = f"/api/v1/companies/{company.name}"
        fix = f"POST {here}/integration-table-mappings adds one."
        if not stored:
            fix = f"POST {here}/crm-connection/use-default-synchronization-setup creates the default mappings; {fix}"
        raise MappingNotFound(f"There is no integration table mapping for {asked}.", fix=fix)
    return min(candidates, key=_preference), stored


async def open_setting(
    ctx: Context,
    company: Company,
    *,
    mapping: str | None = None,
    nav_table: str | None = None,
    crm_entity: str | None = None,
) -> Setting:
    """Reads what a synchronization needs. Raises ConnectionDisabled, MappingNotFound, InvalidMapping."""
    async with ctx.uow(reading=True) as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        chosen, stored = await choose(tx, company, name=mapping, nav_table=nav_table, crm_entity=crm_entity)
        options = await tx.option_mappings.all(company.id)
    return await setting_of(ctx, company, connection, chosen, stored, options)


async def setting_of(
    ctx: Context,
    company: Company,
    connection: ConnectionSetup,
    chosen: StoredMapping,
    stored: Collection[StoredMapping],
    options: Mapping[tuple[str, str], Mapping[str, int]],
) -> Setting:
    """The setting of a mapping that was read already; asks both sides for their definitions.

    Raises InvalidMapping when one of them no longer has a field that the mapping names.
    """
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    entities, mapping_of = entities_of(stored)
    mapping = chosen.mapping
    foreign = connection.base_currency not in (None, company.local_currency)
    complete = mapping.with_fields((*mapping.fields, *implied_fields(mapping, foreign=foreign)))
    described = await crm.definition(mapping.crm_entity, complete.names_on(Side.CRM))
    shape = Shape(complete, await nav.definition(mapping.nav_table), described)
    for run in mapping.runs():
        shape.routes(run)  # a mapping that cannot work is no failure of any record
    return Setting(
        company=company,
        connection=connection,
        nav=nav,
        crm=crm,
        shape=shape,
        entities=entities,
        mapping_of=mapping_of,
        options=options,
        mappings=frozenset(each.mapping.name for each in stored),
        edition=chosen.edition,
    )
