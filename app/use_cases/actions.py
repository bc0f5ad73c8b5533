"""What can be done with NAV records now, and why not: the refusals of the calls themselves, told beforehand."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.domain.cell import Shape
from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Coupling
from app.domain.defaults import implied_fields
from app.domain.eligibility import by_hand, obstacle
from app.domain.errors import DeletionConflict
from app.domain.mapping import Direction, TableMapping
from app.domain.records import FieldDefinition, FieldType, TableDefinition
from app.domain.transfer import needs, translate
from app.ports import Context, NavRecord, StoredMapping
from app.use_cases.lookups import Resolver
from app.use_cases.results import ActionState
from app.use_cases.setting import Setting, entities_of, is_default_for, passes, require_fitting

PARTNER_RULES = frozenset({"owner", "parent_account"})
"""Rules about a record that must be coupled before the one that refers to it."""
NOT_COUPLED = "The record is not coupled."


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a list of NAV records needs to know besides the records."""

    company: Company
    connection: ConnectionSetup | None
    mapping: TableMapping | None
    stored: Sequence[StoredMapping]

    @property
    def enabled(self) -> ConnectionSetup | None:
        """The connection, if it is enabled."""
        return self.connection if self.connection is not None and self.connection.is_enabled else None


async def surroundings(ctx: Context, company: Company, table: str, mapping: str | None) -> Surroundings:
    """The connection and the mapping that serves the table: the named one or the default."""

    async def read() -> tuple[ConnectionSetup | None, Sequence[StoredMapping]]:
        async with ctx.uow(reading=True) as tx:
            return await tx.connections.find(company.id), await tx.mappings.all(company.id)

    known = company.settings
    place = ("surroundings", company.id)
    connection, stored = await (read() if known is None else ctx.remembered.get(place, known, read))
    if mapping is None:
        chosen = is_default_for(stored, table)
    else:
        chosen = require_fitting(stored, mapping, nav_table=table)
    return Surroundings(company, connection, chosen.mapping if chosen else None, stored)


async def missing_partners(
    ctx: Context, around: Surroundings, table: str, records: Collection[NavRecord]
) -> dict[str, str]:
    """By key, what the rules about coupled partners refuse: an uncoupled salesperson, an uncoupled company.

    Looked up for all the records at once, in our memory and in NAV; CRM is not asked.
    """
    setting = await _setting(ctx, around, table)
    if setting is None or not records:
        return {}
    shape, run = setting.shape, Direction.TO_CRM
    lookups = await Resolver(ctx, setting).resolve(
        need for record in records for need in needs(shape, run, record.values)
    )
    found = {}
    for record in records:
        error = translate(shape, run, record.values, None, lookups).error
        if error is not None:
            found[record.key] = error.detail
    return found


async def _setting(ctx: Context, around: Surroundings, table: str) -> Setting | None:
    """The mapping, narrowed to the rules about partners; None where there are none or nothing is open."""
    connection, mapping = around.enabled, around.mapping
    if connection is None or mapping is None:
        return None
    rows = [row for row in implied_fields(mapping) if row.rule in PARTNER_RULES]
    if not rows:
        return None
    # The attributes of these rows are lookups by the rules themselves: no need to ask CRM what they are.
    names = [row.crm_attribute for row in rows if row.crm_attribute is not None]
    fields = {name: FieldDefinition(name, name, FieldType.LOOKUP) for name in names}
    entity = TableDefinition(mapping.crm_entity, mapping.crm_entity, fields, ())
    nav = ctx.sides.nav(around.company)
    shape = Shape(mapping.with_fields(rows), await nav.definition(table), entity)
    entities, mapping_of = entities_of(around.stored)
    crm = ctx.sides.crm(around.company, connection)
    return Setting(around.company, connection, nav, crm, shape, entities, mapping_of, {})


def actions(
    around: Surroundings,
    table: str,
    record: NavRecord,
    coupling: Coupling | None,
    missing: Mapping[str, str],
) -> list[ActionState]:
    """What can be done with the record now, and why not (seed-checklist D3-40).

    Args:
        missing: what `missing_partners` said about the page of the record.
    """
    mapping = around.mapping
    closed = None if around.enabled else "The connection to CRM is not enabled."
    if mapping is None:
        closed = closed or f"There is no integration table mapping for {table}."
    problem = obstacle(table, record.key, record.values)
    unfit = closed or (problem.detail if problem else None)
    uncoupled = unfit or (None if coupling else NOT_COUPLED)
    failed = coupling.last_error if coupling else None
    gone = failed is not None and failed.code == DeletionConflict.code
    is_coupled = "The record is coupled already." if coupling and not gone else None
    to_crm, from_crm = _wrong_way(mapping, Direction.TO_CRM), _wrong_way(mapping, Direction.FROM_CRM)
    partner = missing.get(record.key)
    outside = None
    if mapping is not None and not passes(mapping.nav_filter, record.values):
        outside = (
            f"It lies outside the filter of mapping {mapping.name}; with outside_filter the call does it."
        )
    # A contact may be coupled before its company is; only the transfer needs the account.
    found = [
        _action("set_up_coupling", unfit or (partner if table == "customers" else None) or outside),
        _action("create_in_crm", unfit or is_coupled or to_crm or partner or outside),
        _action("synchronize_to_crm", uncoupled or to_crm or partner),
        _action("synchronize_from_crm", uncoupled or from_crm),
        _action("delete_coupling", None if coupling else NOT_COUPLED),
        _action("open_in_crm", None if coupling else NOT_COUPLED),
        _action("open_from_crm", uncoupled or _without_solution(around) or _without_client(around)),
    ]
    if table == "customers":
        found.append(_action("update_account_statistics", uncoupled or _without_solution(around)))
    return found


@lru_cache(maxsize=1000)  # the same few for nearly every record
def _action(name: str, reason: str | None) -> ActionState:
    return ActionState(name, reason is None, reason)


def _without_solution(around: Surroundings) -> str | None:
    installed = around.connection is not None and around.connection.integration_solution_installed
    return None if installed else "The integration solution is not installed in CRM."


def _without_client(around: Surroundings) -> str | None:
    return None if around.company.nav_web_client_url else "The company has no address of a NAV client."


def _wrong_way(mapping: TableMapping | None, run: Direction) -> str | None:
    if mapping is None or by_hand(mapping).allows(run):
        return None
    return f"Mapping {mapping.name} only goes {by_hand(mapping).value}."
