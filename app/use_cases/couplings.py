"""Couplings: set up, compare, delete, restore."""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass, replace
from uuid import UUID

from app.domain import conversion
from app.domain.company import Company
from app.domain.coupling import Coupling, CouplingStatus, SynchAction
from app.domain.eligibility import by_hand, require_creation
from app.domain.errors import (
    DirectionNotAllowed,
    FieldProblem,
    IntegrationError,
    Invalid,
    NoCoupling,
)
from app.domain.links import address_of
from app.domain.mapping import Direction, FieldMapping
from app.domain.records import FieldDefinition, FieldType, Side, Snapshot
from app.domain.transfer import needs, translate
from app.ports import Context
from app.use_cases import deleted, synchronize
from app.use_cases.lookups import Resolver
from app.use_cases.rehearsal import rehearsal
from app.use_cases.results import (
    ComparedField,
    Comparison,
    CoupledRecord,
    CoupleResult,
    RecordResult,
)
from app.use_cases.setting import Setting
from app.use_cases.subject import Subject, crm_snapshot, linked, nav_record, subject

RUN_OF = {"nav_data": Direction.TO_CRM, "crm_data": Direction.FROM_CRM, "no": None}
"""Synchronize After Coupling: which side's data overwrite the other's."""


async def couple(
    ctx: Context,
    company: Company,
    table: str,
    key: str,
    *,
    crm_id: UUID | None = None,
    create_new: bool = False,
    then: str | None = None,
    replace_existing: bool = False,
    outside_filter: bool = False,
    preview: bool = False,
    mapping: str | None = None,
) -> CoupleResult:
    """Set Up Coupling: with an existing CRM row, or with one created for it.

    Args:
        then: Synchronize After Coupling, `no` (the default), `nav_data` or `crm_data`; `create_new` implies
            `nav_data`.
        outside_filter: the records may be ones that the filters of the mapping leave out (nav-behaviour 5.1).
    Raises:
        AlreadyCoupled: either record has another partner, and `replace_existing` is off.
        Filtered: a record lies outside the filter of the mapping, and `outside_filter` is off.
        CrmRecordNotFound, NavRecordNotFound, NotEligible, DirectionNotAllowed, CreateNotSupported, Invalid.
    """
    run = _checked(crm_id, create_new, then)
    about = await subject(ctx, company, table, key, mapping=mapping, make_id=not preview)
    if crm_id is None:
        require_creation(about.setting.mapping, Direction.TO_CRM)
        await _check_references(ctx, about)
        coupled, result = await synchronize.create_in_crm(
            ctx,
            company,
            table,
            key,
            replace_existing=replace_existing,
            outside_filter=outside_filter,
            preview=preview,
            mapping=mapping,
        )
        return CoupleResult(coupled, result)
    require_way(about.setting, run)
    target = await crm_snapshot(about.setting, crm_id)
    made = await make_coupling(ctx, about, target, replace_existing, outside_filter, preview)
    if preview:
        return await foreseen_result(ctx, made, run)
    synchronization = await _synchronize_after(ctx, about, run, made.coupling if made.news else None)
    return CoupleResult(await _current(ctx, about.setting, made.coupling), synchronization)


@dataclass(frozen=True, slots=True)
class Made:
    """A coupling, the records that it couples, and whether it is new."""

    about: Subject
    target: Snapshot
    coupling: Coupling
    news: bool


async def make_coupling(
    ctx: Context,
    about: Subject,
    target: Snapshot,
    replace_existing: bool,
    outside_filter: bool,
    preview: bool,
) -> Made:
    """Couples the record after all the checks; what is to be synchronized afterwards is still to be."""
    if not outside_filter:
        synchronize.require_inside(about.setting, Side.NAV, about.snapshot)
        synchronize.require_inside(about.setting, Side.CRM, target)
    await _check_references(ctx, about)
    return Made(about, target, *await _couple(ctx, about, target, replace_existing, preview))


def require_way(setting: Setting, run: Direction | None) -> None:
    """Raises DirectionNotAllowed where the mapping does not go the way that is asked for."""
    if run is not None and not by_hand(setting.mapping).allows(run):
        raise _wrong_way(setting, run)


def _checked(crm_id: UUID | None, create_new: bool, then: str | None) -> Direction | None:
    """Which way is synchronized afterwards. Raises Invalid unless one is asked for: that record, or a new one."""
    if create_new and crm_id is not None:
        problem = FieldProblem("/crm_id", "create_new makes a new CRM record; leave crm_id out.")
        raise Invalid("crm_id and create_new exclude each other.", errors=[problem])
    if not create_new and crm_id is None:
        problem = FieldProblem("/crm_id", "Name the CRM record, or set create_new.")
        raise Invalid("Say which CRM record to couple with.", errors=[problem])
    if create_new and then not in (None, "nav_data"):
        problem = FieldProblem("/synchronize_after_coupling", "A new record takes the NAV data.", "nav_data")
        raise Invalid("create_new implies nav_data and allows nothing else.", errors=[problem])
    return RUN_OF[then or "no"]


def _wrong_way(setting: Setting, run: Direction) -> DirectionNotAllowed:
    mapping = setting.mapping
    allowed = "crm_data" if run is Direction.TO_CRM else "nav_data"
    problem = FieldProblem("/synchronize_after_coupling", f"Only no and {allowed} are possible.", allowed)
    return DirectionNotAllowed(
        f"Mapping {mapping.name} only goes {by_hand(mapping).value}.",
        fix=f"Use {allowed} or no.",
        errors=[problem],
    )


async def _check_references(ctx: Context, about: Subject) -> None:
    """A customer's salesperson must be coupled before the customer is (seed-checklist, decisions)."""
    setting = about.setting
    owner_rows = [row for row in setting.mapping.rows(Direction.TO_CRM) if row.rule == "owner"]
    if not owner_rows or setting.mapping.nav_table != "customers":
        return
    shape = replace(setting.shape, mapping=setting.mapping.with_fields(owner_rows))
    wanted = needs(shape, Direction.TO_CRM, about.snapshot.values)
    lookups = await Resolver(ctx, setting).resolve(wanted)
    translation = translate(shape, Direction.TO_CRM, about.snapshot.values, None, lookups)
    if translation.error is not None:
        raise translation.error


async def _couple(
    ctx: Context, about: Subject, target: Snapshot, replace_existing: bool, preview: bool
) -> tuple[Coupling, bool]:
    """The coupling of the two, and whether it is new."""
    setting, table = about.setting, about.setting.mapping.nav_table
    ours = await _living(about)
    if ours is not None and ours.crm_id == target.id:
        return ours, False
    async with ctx.uow(reading=True) as tx:
        theirs = (await tx.couplings.of_crm(setting.company.id, table, [target.id])).get(target.id)
    stale = [c for c in (ours, theirs) if c is not None and c.status is CouplingStatus.RESERVED]
    if theirs is not None and theirs not in stale and not replace_existing:
        alive = await setting.nav.get(table, [theirs.nav_id], ())
        if theirs.nav_id in alive:
            present = replace(theirs, nav_key=alive[theirs.nav_id].key)
            raise synchronize.already_coupled(f"{setting.shape.crm.label} {target.id}", present, Side.CRM)
    if ours is not None and ours not in stale and not replace_existing:
        named = f"{setting.shape.nav.label} {about.snapshot.key}"
        raise synchronize.already_coupled(named, ours, Side.NAV)
    coupling = setting.coupling(ctx.new_id(), about.snapshot, target.id)
    if preview:
        return coupling, True
    gone = [c.id for c in (ours, theirs) if c is not None]
    async with ctx.uow() as tx:
        if gone:
            await tx.couplings.delete(setting.company.id, gone)
        (held,) = await tx.couplings.reserve(setting.company.id, [coupling])
        if held.id != coupling.id and (held.nav_id, held.crm_id) != (coupling.nav_id, coupling.crm_id):
            side = Side.NAV if held.nav_id == coupling.nav_id else Side.CRM
            raise synchronize.already_coupled(f"{setting.shape.nav.label} {about.snapshot.key}", held, side)
        outcome = deleted.outcome(None, held, SynchAction.COUPLED)
        await tx.synch_log.add(setting.company.id, None, [outcome], ctx.clock.now())
    return held, held.id == coupling.id


async def _living(about: Subject) -> Coupling | None:
    """The record's coupling; a reserved one only counts when its partner was created after all."""
    coupling = about.coupling
    if coupling is None or coupling.status is CouplingStatus.COUPLED:
        return coupling
    created = await about.setting.crm.get(coupling.crm_entity, [coupling.crm_id], ())
    return replace(coupling, status=CouplingStatus.COUPLED) if coupling.crm_id in created else coupling


async def foreseen_result(ctx: Context, made: Made, run: Direction | None) -> CoupleResult:
    """What coupling would do. Raises what would keep the records from being synchronized."""
    if run is None:
        return CoupleResult(None, None, made.coupling)
    records = {Side.NAV: made.about.snapshot, Side.CRM: made.target}
    result = await synchronize.preview_pair(ctx, made.about.setting, run, made.coupling, records)
    return CoupleResult(None, result, made.coupling)


async def _synchronize_after(
    ctx: Context, about: Subject, run: Direction | None, new: Coupling | None
) -> RecordResult | None:
    """The synchronization that was asked for. When it fails the answer says that the coupling stands."""
    if run is None:
        return None
    mapping = about.setting.mapping
    try:
        return await synchronize.synchronize_record(
            ctx,
            about.setting.company,
            mapping.nav_table,
            about.snapshot.key,
            direction=run.value,
            mapping=mapping.name,
        )
    except IntegrationError as error:
        raise not_synchronized(error, new) from error


def not_synchronized(error: IntegrationError, new: Coupling | None) -> IntegrationError:
    """The failure of the synchronization after coupling, which says that the coupling stands."""
    told = copy(error)
    told.detail = f"{error.detail} The records are coupled, but not synchronized."
    told.extra = error.extra | {"coupled": True} | ({"coupling_id": str(new.id)} if new else {})
    return told


async def _current(ctx: Context, setting: Setting, coupling: Coupling) -> CoupledRecord:
    async with ctx.uow(reading=True) as tx:
        current = await tx.couplings.get(setting.company.id, coupling.id)
    return linked(setting.company, setting.connection, current)


# --- the coupling of a record ------------------------------------------------------------------------


async def coupling_of(ctx: Context, company: Company, table: str, key: str) -> CoupledRecord:
    """The coupling of a NAV record. Raises NavRecordNotFound, NoCoupling. Needs no enabled connection."""
    record = await nav_record(ctx.sides.nav(company), table, key)
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
        ids = [record.integration_id] if record.integration_id else []
        found = list((await tx.couplings.of_nav(company.id, table, ids)).values())
    coupled = [c for c in found if c.status is CouplingStatus.COUPLED]
    if not coupled or connection is None:
        raise NoCoupling(
            f"The record {key} of {table} is not coupled.",
            fix=f"PUT {address_of(table, key)}/coupling couples it.",
        )
    return linked(company, connection, replace(coupled[0], nav_key=record.key))


async def uncouple(ctx: Context, company: Company, table: str, key: str) -> None:
    """Removes the coupling of a NAV record; both records stay. Raises NavRecordNotFound, NoCoupling."""
    coupled = await coupling_of(ctx, company, table, key)
    await delete_coupling(ctx, company, coupled.coupling.id)


async def delete_coupling(ctx: Context, company: Company, coupling_id: UUID) -> None:
    """Removes a coupling; both records stay. Raises NoCoupling."""
    async with ctx.uow() as tx:
        coupling = await tx.couplings.get(company.id, coupling_id)
        await tx.couplings.delete(company.id, [coupling.id])
        outcome = deleted.outcome(None, coupling, SynchAction.UNCOUPLED)
        await tx.synch_log.add(company.id, None, [outcome], ctx.clock.now())


# --- the Coupled Records FastTab ------------------------------------------------------------------


async def comparison(
    ctx: Context,
    company: Company,
    table: str,
    key: str,
    *,
    crm_id: UUID | None = None,
    mapping: str | None = None,
) -> Comparison:
    """Both records side by side, read just now, before or after coupling.

    Raises NotCoupled when the record has no partner and no `crm_id` names one.
    """
    about = await subject(ctx, company, table, key, mapping=mapping, make_id=False)
    partner = crm_id or about.coupled.crm_id
    row = await crm_snapshot(about.setting, partner)
    rows = [r for r in about.setting.mapping.fields if r.rule != "blocked_when_inactive"]
    resolver = Resolver(ctx, about.setting)
    fields = [await _compared(about, resolver, r, row) for r in rows]
    return Comparison(_newer(about.snapshot, row), [field for field in fields if field is not None])


async def _compared(
    about: Subject, resolver: Resolver, row: FieldMapping, crm: Snapshot
) -> ComparedField | None:
    setting = about.setting
    if row.nav_field is None or row.crm_attribute is None:
        return None  # a constant stands for no pair of values
    run = Direction.TO_CRM if row.takes_part(Direction.TO_CRM) else Direction.FROM_CRM
    shape = replace(setting.shape, mapping=setting.mapping.with_fields([row]))
    source, found = (about.snapshot, crm) if run is Direction.TO_CRM else (crm, about.snapshot)
    lookups = await resolver.resolve(needs(shape, run, source.values))
    target = shape.required(row, run.destination)
    # What only a new record is given is compared, too.
    known = found.values if target.updatable else None
    translation = translate(shape, run, source.values, known, lookups)
    origin = shape.field(row, run.source)
    wanted = translation.wanted.get(target.name)
    equal = target.name in translation.wanted and conversion.equal(
        wanted, found.values.get(target.name), target, origin
    )
    return ComparedField(
        nav_field=row.nav_field,
        label=shape.required(row, Side.NAV).label,
        nav_value=about.snapshot.values.get(row.nav_field),
        crm_attribute=row.crm_attribute,
        crm_value=crm.values.get(row.crm_attribute),
        equal=equal or (target.name in translation.kept and _stays_equal(about.snapshot, crm, row, target)),
        direction=row.direction.value,
    )


def _stays_equal(nav: Snapshot, crm: Snapshot, row: FieldMapping, target: FieldDefinition) -> bool:
    """Whether a field that the transfer leaves alone counts as equal: where a rule says that it fits as it is, for
    the type half of a lookup, and where both sides are blank. A code without an option in CRM does not."""
    values = (nav.values.get(row.nav_field or ""), crm.values.get(row.crm_attribute or ""))
    by_rule = row.rule is not None or target.type is FieldType.ENTITY_NAME
    return by_rule or all(value in (None, "") for value in values)


def _newer(nav: Snapshot, crm: Snapshot) -> Side | None:
    if nav.modified_at is None or crm.modified_at is None:
        return None
    return Side.NAV if nav.modified_at > crm.modified_at else Side.CRM


# --- skipped couplings ------------------------------------------------------------------------------


RESTORED_SHOWN = 1000
"""So many restored couplings are told one by one."""


@dataclass(frozen=True, slots=True)
class Restored:
    """How many couplings were taken back into synchronization, and the first of them as they are now."""

    number: int
    first: Sequence[Coupling]


async def restore(
    ctx: Context,
    company: Company,
    *,
    ids: Collection[UUID] | None = None,
    mapping: str | None = None,
    error_code: str | None = None,
    preview: bool = False,
) -> Restored:
    """Takes skipped couplings back into synchronization: these, those of a mapping, those with an error
    code, or all; job queue entries that slept because nothing happened run for them. Raises MappingNotFound for a name
    that neither a mapping nor a skipped coupling has."""
    ctx = rehearsal(ctx, preview)
    number, first, after = 0, list[Coupling](), None
    while True:
        async with ctx.uow() as tx:
            page = await tx.couplings.page(company.id, mapping=mapping, skipped=True, after=after, limit=1000)
            chosen = [
                c.restored()
                for c in page
                if (ids is None or c.id in ids)
                and (error_code is None or (c.last_error is not None and c.last_error.code == error_code))
            ]
            saved = await tx.couplings.save(company.id, chosen) if chosen else set()
            if chosen:  # after a run that skipped them their job may sleep for hours
                await tx.job_queue.wake(company.id, {c.mapping for c in chosen}, ctx.clock.now())
            if after is None and not page and mapping is not None:
                await tx.mappings.get(company.id, mapping)  # a mistyped name is nothing to restore
        number += len(saved)
        first += [c for c in chosen if c.id in saved][: RESTORED_SHOWN - len(first)]
        if len(page) < 1000:
            return Restored(number, first)
        after = page[-1].id
