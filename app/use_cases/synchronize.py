"""Synchronize Now: one record, in the direction the user chose, or merged by field. Create in CRM, create in NAV."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.domain.company import Company
from app.domain.coupling import Coupling, CouplingStatus, SynchAction
from app.domain.eligibility import one_way, require_creation
from app.domain.errors import (
    AlreadyCoupled,
    DeletionConflict,
    DirectionNotAllowed,
    FieldProblem,
    Filtered,
    IntegrationError,
)
from app.domain.job import Counts, JobKind, SynchJob, SynchMode, ended_as, failures_told
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.records import Side, Snapshot
from app.ports import Context, Transaction
from app.use_cases import remembering
from app.use_cases.carrying import carry_out
from app.use_cases.engine import Exchange
from app.use_cases.items import Item, Options
from app.use_cases.reading import chunks
from app.use_cases.results import COMPLETED, CoupledRecord, PairOutcome, RecordResult
from app.use_cases.setting import Setting, open_setting, passes
from app.use_cases.subject import Subject, linked, readable_row, subject

MERGE = "merge"


async def synchronize_record(
    ctx: Context,
    company: Company,
    table: str,
    key: str,
    *,
    direction: str | None = None,
    preview: bool = False,
    mapping: str | None = None,
) -> RecordResult:
    """Synchronize Now of one NAV record.

    Args:
        direction: `to_crm` or `from_crm`: that side wins every field. `merge`: by field, as a run of the
            mapping would. Left out on a one-way mapping: its only direction.
    Raises:
        DirectionRequired, DirectionNotAllowed, NotCoupled, and whatever keeps the record from being
        synchronized; nothing is written then.
    """
    about = await subject(ctx, company, table, key, mapping=mapping, make_id=not preview)
    runs = _runs(about, direction)
    coupling = about.coupled
    options = Options(
        force=direction != MERGE, look=direction == MERGE or preview, background=False, preview=preview
    )
    items: list[tuple[Direction, Item]] = []
    known: Coupling | None = coupling
    for run in runs:
        source = await _source(about, coupling, run)
        items.append((run, await _one(ctx, about.setting, run, source, options, known)))
        known = None  # the first run may have changed it
    return _result([item for _, item in items], about.id_generated, preview)


def _runs(about: Subject, direction: str | None) -> tuple[Direction, ...]:
    mapping = about.setting.mapping
    if direction != MERGE:
        return (one_way(mapping, Direction(direction) if direction else None),)
    if mapping.direction is not Direction.BIDIRECTIONAL:
        raise DirectionNotAllowed(
            f"Mapping {mapping.name} only goes {mapping.direction.value}, so there is nothing to merge.",
            fix=f"Use direction {mapping.direction.value}.",
            errors=[FieldProblem("/direction", f"Only {mapping.direction.value} is possible.")],
        )
    return mapping.runs()


async def _source(about: Subject, coupling: Coupling, run: Direction) -> Snapshot:
    if run is Direction.TO_CRM:
        return about.snapshot
    found = await about.setting.crm.get(
        coupling.crm_entity, [coupling.crm_id], about.setting.fields(Side.CRM)
    )
    if coupling.crm_id not in found:
        key = about.snapshot.key
        address = address_of(coupling.nav_table, key)
        raise DeletionConflict(
            f"The {coupling.crm_entity} {coupling.crm_id} that {key} is coupled with was deleted in CRM.",
            fix=f"DELETE {address}/coupling uncouples it, POST {address}/create-in-crm creates it again.",
        )
    return found[coupling.crm_id]


async def _one(
    ctx: Context,
    setting: Setting,
    run: Direction,
    source: Snapshot,
    options: Options,
    known: Coupling | None = None,
) -> Item:
    """One record through the engine, logged as a synch job of its own; `known` is its coupling, if it was just read.
    Raises what kept it from succeeding."""
    coupled = {source.id: known} if known is not None else None
    items = await synchronize_set(ctx, setting, run, [source], options, coupled)
    if not items:
        raise remembering.vanished(f"{setting.shape.definition(run.source).label} {source.key}")
    (item,) = items
    if item.error is not None:
        raise item.error
    return item


async def synchronize_set(
    ctx: Context,
    setting: Setting,
    run: Direction,
    sources: Sequence[Snapshot],
    options: Options,
    coupled: Mapping[UUID, Coupling] | None = None,
) -> list[Item]:
    """Records through the engine together, logged as one synch job. What kept one from succeeding is in its item.

    Raises SideUnavailable, Throttled and the like, which concern all of them.
    """
    job_id = ctx.new_id()
    started = ctx.clock.now()
    exchange = Exchange(ctx, setting, run, replace(options, log_unmodified=True), job_id)

    done: list[Item] = []

    async def log_job(tx: Transaction, items: Sequence[Item], last: bool) -> None:
        done.extend(items)
        if last:
            await tx.jobs.add(
                setting.company.id, [_job(setting, run, done, job_id, started, ctx.clock.now())]
            )

    try:
        items = await carry_out(exchange, sources, log_job, coupled)
    except IntegrationError:
        if done:  # what is remembered of them names the job
            async with ctx.uow() as tx:
                await log_job(tx, (), last=True)
        raise
    for item in items:
        item.job_id = job_id
    return items


def _job(
    setting: Setting, run: Direction, items: Sequence[Item], job_id: UUID, started: datetime, ended: datetime
) -> SynchJob:
    counts = Counts.of(Counter(item.action or SynchAction.UNMODIFIED for item in items))
    message = failures_told(counts, job_id)
    if len(items) == 1 and items[0].error is not None:
        message = items[0].error.detail
    return SynchJob(
        id=job_id,
        kind=JobKind.SYNCHRONIZE,
        mapping=setting.mapping.name,
        mode=SynchMode.SELECTION,
        direction=run,
        status=ended_as(counts),
        counts={run.value: counts},
        message=message or COMPLETED,
        created_at=started,
        started_at=started,
        finished_at=ended,
    )


async def synchronize_pairs(
    ctx: Context, setting: Setting, run: Direction, sources: Sequence[Snapshot]
) -> dict[UUID, RecordResult | IntegrationError]:
    """Synchronize Now of coupled records together, by source record: what was done, or what kept it from that."""
    options = Options(force=True, background=False)
    items = await synchronize_set(ctx, setting, run, sources, options)
    return {item.source.id: item.error or _result([item], False, preview=False) for item in items}


async def preview_pair(
    ctx: Context, setting: Setting, run: Direction, coupling: Coupling, records: Mapping[Side, Snapshot]
) -> RecordResult:
    """What Synchronize Now would do to two records once they are coupled. Raises what would keep it from that."""
    options = Options(force=True, look=True, background=False, preview=True)
    item = Item(records[run.source], coupling, records[run.destination], looked=True)
    item = await Exchange(ctx, setting, run, options).foresee(item)
    if item.error is not None:
        raise item.error
    return _result([item], False, preview=True)


def _result(items: Sequence[Item], id_generated: bool, preview: bool) -> RecordResult:
    changes = tuple(change for item in items for change in item.changes)
    notes = "; ".join(filter(None, (remembering.told(item) for item in items))) or None
    return RecordResult(
        message="Preview: nothing was written" if preview else COMPLETED,
        action=_action(items),
        changes=changes,
        synch_job_id=None if preview else items[-1].job_id,
        integration_id_generated=id_generated,
        notes=notes,
    )


def _action(items: Sequence[Item]) -> SynchAction:
    actions = [item.action or SynchAction.UNMODIFIED for item in items]
    written = [action for action in actions if action is not SynchAction.UNMODIFIED]
    return written[0] if written else SynchAction.UNMODIFIED


# --- creating the partner ---------------------------------------------------------------------------


async def create_in_crm(
    ctx: Context,
    company: Company,
    table: str,
    key: str,
    *,
    replace_existing: bool = False,
    outside_filter: bool = False,
    preview: bool = False,
    mapping: str | None = None,
) -> tuple[CoupledRecord | None, RecordResult]:
    """Creates the CRM record of a NAV record and couples the two.

    A record that is coupled already is refused (AlreadyCoupled), unless its CRM record is gone or
    `replace_existing`: then the new record takes over the coupling once it exists. One outside the filter of the
    mapping is refused (Filtered) unless `outside_filter`.
    """
    about = await subject(ctx, company, table, key, mapping=mapping, make_id=not preview)
    require_creation(about.setting.mapping, Direction.TO_CRM)
    coupling = about.coupling
    if coupling is not None and coupling.status is CouplingStatus.COUPLED and not replace_existing:
        alive = await about.setting.crm.get(coupling.crm_entity, [coupling.crm_id], ())
        if coupling.crm_id in alive:
            raise already_coupled(f"{about.setting.shape.nav.label} {key}", coupling, Side.NAV)
    if not outside_filter:
        require_inside(about.setting, Side.NAV, about.snapshot)
    return await create_partner(
        ctx,
        about.setting,
        Direction.TO_CRM,
        about.snapshot,
        coupling,
        preview=preview,
        id_generated=about.id_generated,
    )


async def create_in_nav(
    ctx: Context,
    company: Company,
    entity_set: str,
    crm_id: UUID,
    *,
    replace_existing: bool = False,
    outside_filter: bool = False,
    preview: bool = False,
    mapping: str | None = None,
) -> tuple[CoupledRecord | None, RecordResult]:
    """Creates the NAV record of a CRM row and couples the two; refusals as `create_in_crm`."""
    setting = await setting_of_set(ctx, company, entity_set, mapping)
    sources, present, refused = await _creatable(ctx, setting, [crm_id], replace_existing, outside_filter)
    if crm_id in refused:
        raise refused[crm_id]
    return await create_partner(
        ctx, setting, Direction.FROM_CRM, sources[0], present.get(crm_id), preview=preview
    )


async def create_in_nav_many(
    ctx: Context,
    company: Company,
    entity_set: str,
    ids: Sequence[UUID],
    *,
    replace_existing: bool = False,
    outside_filter: bool = False,
    preview: bool = False,
    mapping: str | None = None,
) -> list[PairOutcome]:
    """Creates the NAV records of several CRM rows; an outcome for each id as it is named, one bad row harms no other.
    What is named twice is created once."""
    setting = await setting_of_set(ctx, company, entity_set, mapping)
    wanted = list(dict.fromkeys(ids))
    sources, present, refused = await _creatable(ctx, setting, wanted, replace_existing, outside_filter)
    made: dict[UUID, Item] = {}
    options = _creation(present.values(), preview)
    for chunk in chunks(sources):
        items = await synchronize_set(ctx, setting, Direction.FROM_CRM, chunk, options)
        made |= {item.source.id: item for item in items}
        refused |= {item.source.id: item.error for item in items if item.error is not None}
    outcomes = []
    for crm_id in ids:
        coupled, result = None, None
        if crm_id not in refused:
            coupled, result = _created(setting, made[crm_id], preview)
        outcomes.append(
            PairOutcome(
                setting.mapping.nav_table,
                coupled.coupling.nav_key if coupled else None,
                setting.mapping.crm_entity,
                crm_id,
                coupled,
                result,
                refused.get(crm_id),
            )
        )
    return outcomes


async def setting_of_set(ctx: Context, company: Company, entity_set: str, mapping: str | None) -> Setting:
    """The setting of the mapping that serves an entity set. Raises TableNotFound, MappingNotFound."""
    first = await open_setting(ctx, company, mapping=mapping)
    definition = await first.crm.definition_of_set(entity_set)
    if first.mapping.crm_entity == definition.name:
        return first
    return await open_setting(ctx, company, mapping=mapping, crm_entity=definition.name)


async def _creatable(
    ctx: Context, setting: Setting, ids: Sequence[UUID], replace_existing: bool, outside_filter: bool
) -> tuple[list[Snapshot], dict[UUID, Coupling], dict[UUID, IntegrationError]]:
    """The CRM rows that may get a NAV record, the couplings they have now, and what keeps the others from it."""
    table, refused = setting.mapping.nav_table, dict[UUID, IntegrationError]()
    try:
        require_creation(setting.mapping, Direction.FROM_CRM)
    except IntegrationError as error:
        return [], {}, dict.fromkeys(ids, error)
    found = await setting.crm.get(setting.mapping.crm_entity, ids, setting.fields(Side.CRM))
    async with ctx.uow(reading=True) as tx:
        present = await tx.couplings.of_crm(setting.company.id, table, ids)
    coupled = {i: c for i, c in present.items() if c.status is CouplingStatus.COUPLED}
    alive: Mapping[UUID, Snapshot] = {}
    if coupled and not replace_existing:
        alive = await setting.nav.get(table, [c.nav_id for c in coupled.values()], ())
    sources = []
    for crm_id in ids:
        partner = alive.get(coupled[crm_id].nav_id) if crm_id in coupled else None
        try:
            source = readable_row(setting, crm_id, found)
            if partner is not None:
                current = replace(coupled[crm_id], nav_key=partner.key)
                raise already_coupled(f"{setting.shape.crm.label} {crm_id}", current, Side.CRM)
            if not outside_filter:
                require_inside(setting, Side.CRM, source)
        except IntegrationError as error:
            refused[crm_id] = error
        else:
            sources.append(source)
    return sources, present, refused


async def create_partner(
    ctx: Context,
    setting: Setting,
    run: Direction,
    source: Snapshot,
    present: Coupling | None,
    *,
    preview: bool = False,
    id_generated: bool = False,
) -> tuple[CoupledRecord | None, RecordResult]:
    """Creates the partner of a record on the other side, coupled; the present coupling is replaced."""
    options = _creation([present] if present is not None else [], preview)
    item = await _one(ctx, setting, run, source, options)
    return _created(setting, item, preview, id_generated)


def _creation(present: Iterable[Coupling], preview: bool) -> Options:
    """Partners are created; the couplings that are there now are replaced, reserved ones are kept to."""
    replaced = frozenset(c.id for c in present if c.status is CouplingStatus.COUPLED)
    return Options(force=True, create=True, replace=replaced, background=False, preview=preview)


def _created(
    setting: Setting, item: Item, preview: bool, id_generated: bool = False
) -> tuple[CoupledRecord | None, RecordResult]:
    result = _result([item], id_generated, preview)
    if preview or item.coupling is None:
        return None, result
    return linked(setting.company, setting.connection, item.coupling), result


def require_inside(setting: Setting, side: Side, record: Snapshot) -> None:
    """Raises Filtered for a record whose changes background runs would leave alone (seed-checklist E-20)."""
    mapping = setting.mapping
    told_better = _WITHOUT_ACCOUNT if side is Side.CRM and mapping.nav_table == "contacts" else ()
    values = {
        name: value for name, value in record.values.items() if value is not None or name not in told_better
    }
    if passes(mapping.filter_on(side), values):
        return
    shown = record.key if side is Side.NAV else record.id
    raise Filtered(
        f"{setting.shape.definition(side).label} {shown} lies outside the filter of mapping {mapping.name}: "
        f"{mapping.filter_on(side)}",
        fix="Choose another record, or repeat the call with outside_filter: background runs will not carry over "
        "what changes in it, only what changes in its partner.",
    )


_WITHOUT_ACCOUNT = frozenset({"parentcustomerid", "accountid"})
"""What a CRM contact without an account lacks; the rule about such contacts says it in words of its own."""


def already_coupled(what: str, coupling: Coupling, side: Side) -> AlreadyCoupled:
    """The refusal that names the present partner and both ways out."""
    partner = (
        f"{coupling.crm_entity} {coupling.crm_id}"
        if side is Side.NAV
        else f"{coupling.nav_table} {coupling.nav_key}"
    )
    return AlreadyCoupled(
        f"{what} is already coupled with {partner}.",
        fix="Repeat the call with replace_existing: the old record stays, its coupling goes. "
        f"DELETE …/couplings/{coupling.id} uncouples them.",
        extra={
            "coupling_id": str(coupling.id),
            "nav_table": coupling.nav_table,
            "nav_no": coupling.nav_key,
            "crm_entity": coupling.crm_entity,
            "crm_id": str(coupling.crm_id),
        },
    )
