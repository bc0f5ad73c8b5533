"""Records that one side reports as deleted: what becomes of their couplings and partners (nav-behaviour 6.3)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import assert_never
from uuid import UUID

from app.domain.coupling import Base, Coupling, Failure, Outcome, SynchAction
from app.domain.errors import CouplingSkipped, DeletionConflict, IntegrationError, StaleRecord
from app.domain.intents import settled
from app.domain.mapping import DeletionConflictResolution, Direction
from app.domain.plan import covers
from app.domain.records import Side
from app.ports import Context, Delete, RecordStore, Refused, Transaction, Written
from app.use_cases.engine import Exchange
from app.use_cases.items import Item, Options
from app.use_cases.remembering import adopted
from app.use_cases.setting import Setting
from app.use_cases.tally import Tally


@dataclass(slots=True)
class Aftermath:
    """What deletions lead to, decided and acted on, still to be remembered."""

    failed: list[tuple[Coupling, IntegrationError]] = field(default_factory=list)
    skipped: list[tuple[Coupling, IntegrationError]] = field(default_factory=list)
    uncoupled: list[Coupling] = field(default_factory=list)
    deleted: list[Coupling] = field(default_factory=list)
    restored: list[Item] = field(default_factory=list)
    restorer: Exchange | None = None


async def follow(
    ctx: Context,
    setting: Setting,
    run: Direction,
    couplings: Sequence[Coupling],
    *,
    job_id: UUID | None,
    preview: bool = False,
) -> Aftermath:
    """Decides and acts on couplings whose record on the source side of the run is gone; a preview decides and leaves
    it there. Ask the brake first. Skipped ones are left alone, and told."""
    followed = [coupling for coupling in couplings if not coupling.skipped]
    aftermath = await _follow(ctx, setting, run, followed, job_id, preview) if followed else Aftermath()
    aftermath.skipped = [(c, _skipped(setting, run, c)) for c in couplings if c.skipped]
    return aftermath


async def _follow(
    ctx: Context,
    setting: Setting,
    run: Direction,
    couplings: Sequence[Coupling],
    job_id: UUID | None,
    preview: bool,
) -> Aftermath:
    match setting.mapping.deletion_conflict_resolution:
        case DeletionConflictResolution.NONE:
            return Aftermath(failed=[(c, conflict(setting, run, c)) for c in couplings])
        case DeletionConflictResolution.UNCOUPLE:
            return Aftermath(uncoupled=list(couplings))
        case DeletionConflictResolution.PROPAGATE:
            return await _propagate(setting, run, couplings, preview)
        case DeletionConflictResolution.RESTORE:
            return await _restore(ctx, setting, run, couplings, job_id, preview)
        case other:
            assert_never(other)


async def remember(
    ctx: Context,
    setting: Setting,
    run: Direction,
    tx: Transaction,
    aftermath: Aftermath,
    tally: Tally,
    job_id: UUID | None,
) -> None:
    """Records what became of deleted records, in the transaction that moves the watermark over them."""
    company, now = setting.company.id, ctx.clock.now()
    troubled = [*aftermath.failed, *aftermath.skipped]
    failed = [adopted(setting, c).failed(Failure.of(error), now, job_id) for c, error in troubled]
    await tx.couplings.save(company, failed)
    gone = [c.id for c in (*aftermath.uncoupled, *aftermath.deleted)]
    if gone:
        await tx.couplings.delete(company, gone)
    outcomes = outcomes_of(setting, run, aftermath)
    if outcomes:
        await tx.synch_log.add(company, job_id, outcomes, now)
    if aftermath.restorer is not None:
        await aftermath.restorer.remember(tx, aftermath.restored, now)
    count(aftermath, tally)


def count(aftermath: Aftermath, tally: Tally) -> None:
    """Counts what becomes of deleted records."""
    tally.add(aftermath.restored)
    tally.count(SynchAction.FAILED, len(aftermath.failed))
    tally.count(SynchAction.SKIPPED, len(aftermath.skipped) + len(aftermath.uncoupled))
    tally.count(SynchAction.UNCOUPLED, len(aftermath.uncoupled))
    tally.count(SynchAction.DELETED, len(aftermath.deleted))


def outcomes_of(setting: Setting, run: Direction, aftermath: Aftermath) -> list[Outcome]:
    """What becomes of deleted records, as it is logged, without those that are created again. It is logged under the
    mapping that found them deleted and whose rule was followed, whichever made the coupling."""
    name = setting.mapping.name
    return [
        *(outcome(run, c, SynchAction.FAILED, error, mapping=name) for c, error in aftermath.failed),
        *(
            outcome(run, c, SynchAction.SKIPPED, None, CouplingSkipped.code, told.detail, name)
            for c, told in aftermath.skipped
        ),
        *(
            outcome(run, c, SynchAction.SKIPPED, reason="uncoupled", mapping=name)
            for c in aftermath.uncoupled
        ),
        *(outcome(run, c, SynchAction.DELETED, mapping=name) for c in aftermath.deleted),
    ]


async def gone(ctx: Context, setting: Setting, run: Direction, ids: Collection[UUID]) -> Sequence[Coupling]:
    """The couplings of those records that the source of the run reports as deleted and that are not there."""
    company, table = setting.company.id, setting.mapping.nav_table
    async with ctx.uow(reading=True) as tx:
        by_source = tx.couplings.of_nav if run.source is Side.NAV else tx.couplings.of_crm
        found = (await by_source(company, table, ids)).values()
    coupled = [c for c in found if setting.couples_like(c)]
    return await _really_gone(setting, run, coupled)


async def _really_gone(setting: Setting, run: Direction, couplings: Sequence[Coupling]) -> Sequence[Coupling]:
    """Without those whose record is there: one that was restored under its id is reported as deleted all
    the same, and must not be followed into a second copy."""
    if not couplings:
        return couplings
    here = run.source
    ids = [c.id_on(here) for c in couplings]
    alive = await setting.side(here).get(setting.mapping.table_on(here), ids, ())
    return [c for c in couplings if c.id_on(here) not in alive]


def is_known(coupling: Coupling) -> bool:
    """Whether it was told before that a half of the coupling was deleted."""
    return coupling.last_error is not None and coupling.last_error.code == DeletionConflict.code


def to_ask_about(couplings: Sequence[Coupling]) -> int:
    """How many of these deletions the brake counts: those that are to be followed, also when they were told before the
    mapping had a rule for them."""
    return sum(not coupling.skipped for coupling in couplings)


def _skipped(setting: Setting, run: Direction, coupling: Coupling) -> DeletionConflict:
    """What is told of a skipped coupling whose half on the source side of the run was deleted. It is kept with the
    coupling: once that is restored, the deletion is not reported any more."""
    error = conflict(setting, run, coupling)
    return DeletionConflict(
        f"{error.detail} The coupling is skipped.",
        fix=f"POST …/couplings/{coupling.id}/restore lets the next run do about it what the mapping says; {error.fix}",
    )


def conflict(setting: Setting, run: Direction, coupling: Coupling) -> DeletionConflict:
    """The error of a coupled record whose half on the source side of the run was deleted."""
    where = "NAV" if run.source is Side.NAV else "CRM"
    return DeletionConflict(
        f"{setting.shape.definition(run.source).label} "
        f"{coupling.nav_key if run.source is Side.NAV else coupling.crm_id} was deleted in {where}; "
        f"its partner {coupling.crm_id if run.source is Side.NAV else coupling.nav_key} still stands.",
        fix=f"DELETE …/couplings/{coupling.id} uncouples them; deletion_conflict_resolution of mapping "
        f"{setting.mapping.name} says what to do with such records.",
    )


async def _propagate(
    setting: Setting, run: Direction, couplings: Sequence[Coupling], preview: bool
) -> Aftermath:
    """Deletes the partners, guarded by the version both agreed on: a newer edit over there is not lost."""
    there = run.destination
    store, table = setting.side(there), setting.mapping.table_on(there)
    aftermath = Aftermath()
    unsure = [c.id_on(there) for c in couplings if c.intent or setting.version(c, there) is None]
    shown = await store.get(table, unsure, setting.fields(there)) if unsure else {}
    doomed: list[tuple[Coupling, Delete]] = []
    for coupling in couplings:
        partner = shown.get(coupling.id_on(there))
        if partner is not None and coupling.intent is not None and coupling.intent.side is there:
            coupling = settled(setting.shape, coupling, partner.values)
        base = coupling.base or Base()
        if partner is not None and not covers(setting.shape, there, base.on(there), partner.values):
            aftermath.failed.append((coupling, conflict(setting, run, coupling)))
        else:
            version = partner.version if partner is not None else base.version(there)
            doomed.append((coupling, Delete(coupling.id_on(there), version)))
    deletes = [delete for _, delete in doomed]
    answers = await (_foreseen(store, table, deletes) if preview else store.write(table, deletes))
    for (coupling, _), answer in zip(doomed, answers, strict=True):
        if isinstance(answer, Refused):
            aftermath.failed.append((coupling, answer.error))
        else:
            aftermath.deleted.append(coupling)
    return aftermath


async def _foreseen(store: RecordStore, table: str, deletes: Sequence[Delete]) -> list[Written | Refused]:
    """The answers that the deletes would get, without their being sent."""
    shown = await store.get(table, [delete.id for delete in deletes], ())
    return [
        Refused(delete.id, StaleRecord(f"{table} {delete.id} was changed since both sides last agreed."))
        if delete.version is not None and delete.id in shown and shown[delete.id].version != delete.version
        else Written(delete.id, None)
        for delete in deletes
    ]


async def _restore(
    ctx: Context,
    setting: Setting,
    run: Direction,
    couplings: Sequence[Coupling],
    job_id: UUID | None,
    preview: bool,
) -> Aftermath:
    """Creates the deleted records again out of their partners."""
    back = run.opposite
    if not setting.mapping.direction.allows(back):
        return Aftermath(failed=[(c, conflict(setting, run, c)) for c in couplings])
    there = run.destination
    partners = await setting.side(there).get(
        setting.mapping.table_on(there), [c.id_on(there) for c in couplings], setting.fields(there)
    )
    replaced = frozenset(c.id for c in couplings if c.id_on(there) in partners)
    options = Options(create=True, replace=replaced, background=False, preview=preview)
    restorer = Exchange(ctx, setting, back, options, job_id)
    restored = await restorer.synchronize(list(partners.values()))
    orphans = [c for c in couplings if c.id_on(there) not in partners]
    return Aftermath(uncoupled=orphans, restored=restored, restorer=restorer)


def outcome(
    run: Direction | None,
    coupling: Coupling,
    action: SynchAction,
    error: IntegrationError | None = None,
    reason: str | None = None,
    message: str | None = None,
    mapping: str | None = None,
) -> Outcome:
    """What happened to a coupling, as it is logged: in a run of that mapping, or of the one that made the coupling."""
    return Outcome(
        action=action,
        direction=run.value if run else None,
        nav_table=coupling.nav_table,
        nav_key=coupling.nav_key,
        nav_id=coupling.nav_id,
        crm_entity=coupling.crm_entity,
        crm_id=coupling.crm_id,
        coupling_id=coupling.id,
        reason=reason,
        message=message,
        error=Failure.of(error) if error else None,
        extra={"mapping": mapping or coupling.mapping},
    )
