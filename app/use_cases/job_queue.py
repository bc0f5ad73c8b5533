"""The job queue: entries that run by themselves, by hand, or not at all (nav-behaviour 13)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.errors import FieldProblem, Invalid, MappingNotFound, NotFound, PreconditionFailed
from app.domain.job import EntryStatus, JobKind, JobQueueEntry, SynchJob
from app.domain.schedule import awake, changed, job_of, started
from app.ports import Context, Transaction

CHANGEABLE: Final = (
    "description",
    "earliest_start_at",
    "minutes_between_runs",
    "inactivity_timeout_minutes",
    "maximum_attempts",
)
LONGEST_MINUTES: Final = 366 * 24 * 60
MOST_ATTEMPTS: Final = 100


async def create_entry(
    ctx: Context,
    company: Company,
    *,
    description: str,
    kind: JobKind,
    mapping: str | None,
    minutes_between_runs: int,
    inactivity_timeout_minutes: int | None = None,
    maximum_attempts: int = 10,
    earliest_start_at: datetime | None = None,
    status: EntryStatus = EntryStatus.READY,
) -> JobQueueEntry:
    """A new recurring entry, ready or on hold. Raises Invalid with what is wrong per field."""
    now = ctx.clock.now()
    entry = JobQueueEntry(
        id=ctx.new_id(),
        description=description,
        kind=kind,
        mapping=mapping,
        minutes_between_runs=minutes_between_runs,
        inactivity_timeout_minutes=inactivity_timeout_minutes,
        status=status,
        earliest_start_at=earliest_start_at or now + timedelta(minutes=minutes_between_runs),
        maximum_attempts=maximum_attempts,
    )
    problems = _problems(entry)
    if status not in (EntryStatus.READY, EntryStatus.ON_HOLD):
        problems.append(FieldProblem("/status", "A new entry is ready or on hold.", EntryStatus.READY))
    if not kind.has_mapping and mapping is not None:
        problems.append(FieldProblem("/mapping", f"An entry of kind {kind} belongs to no mapping."))
    if kind.has_mapping and mapping is None:
        problems.append(FieldProblem("/mapping", "Name the mapping that the entry synchronizes."))
    async with ctx.uow() as tx:
        if mapping is not None:
            try:
                await tx.mappings.get(company.id, mapping)
            except MappingNotFound as error:
                problems.append(FieldProblem("/mapping", error.detail))
        _refuse(problems)
        return await tx.job_queue.add(company.id, entry)


async def change_entry(
    ctx: Context,
    company: Company,
    entry_id: UUID,
    changes: Mapping[str, Any],
    revision: int | None = None,
) -> JobQueueEntry:
    """Changes what `changes` names. Raises NotFound, PreconditionFailed, Invalid with what is wrong per field."""
    _refuse(
        [FieldProblem(f"/{name}", "This cannot be changed.") for name in changes if name not in CHANGEABLE]
    )
    async with ctx.uow() as tx:
        entry = await _locked(tx, company, entry_id)
        _require_revision(entry, revision)
        _refuse(_problems(replace(entry, **changes)))
        after = changed(entry, changes, ctx.clock.now())
        if after == entry:
            return entry
        return await tx.job_queue.save(company.id, after)


async def delete_entry(ctx: Context, company: Company, entry_id: UUID, revision: int | None = None) -> None:
    """Deletes the entry; a job of it that is queued or running goes on. Raises NotFound, PreconditionFailed."""
    async with ctx.uow() as tx:
        _require_revision(await _locked(tx, company, entry_id), revision)
        await tx.job_queue.delete(company.id, [entry_id])


async def run_entry(ctx: Context, company: Company, entry_id: UUID) -> SynchJob:
    """Runs the entry now, held or not; one that is held stays so. While its last job has not ended,
    that job is the answer. Raises NotFound, ConnectionDisabled."""
    async with ctx.uow() as tx:
        require_enabled(await tx.connections.find(company.id))
        entry = await _locked(tx, company, entry_id)
        current = await _at_work(tx, company, entry)
        if current is not None:
            return current
        now = ctx.clock.now()
        job = job_of(entry, ctx.new_id(), now)
        await tx.job_queue.save(company.id, started(entry, job, now, by_hand=True))
        await tx.jobs.add(company.id, [job])
        return job


async def hold_entry(ctx: Context, company: Company, entry_id: UUID) -> JobQueueEntry:
    """Puts the entry on hold until somebody sets it ready; a job at work goes on. Raises NotFound."""
    async with ctx.uow() as tx:
        entry = await _locked(tx, company, entry_id)
        return await tx.job_queue.save(company.id, awake(entry, EntryStatus.ON_HOLD, ctx.clock.now()))


async def set_entry_ready(ctx: Context, company: Company, entry_id: UUID) -> JobQueueEntry:
    """Lets the entry run again: when its time comes, at once when that has passed. Its attempts start over.

    Raises NotFound.
    """
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        entry = await _locked(tx, company, entry_id)
        at_work = await _at_work(tx, company, entry) is not None
        waited = entry.status is EntryStatus.ON_HOLD_INACTIVITY or entry.earliest_start_at is None
        ready = replace(
            entry,
            status=EntryStatus.IN_PROCESS if at_work else EntryStatus.READY,
            earliest_start_at=now if waited else max(now, entry.earliest_start_at or now),
            attempts=entry.attempts if at_work else 0,
            error_message=None,
        )
        return await tx.job_queue.save(company.id, ready)


async def _locked(tx: Transaction, company: Company, entry_id: UUID) -> JobQueueEntry:
    entry = await tx.job_queue.locked(company.id, entry_id)
    if entry is None:
        raise NotFound(
            f"There is no job queue entry {entry_id}.", fix="GET …/job-queue-entries lists those there are."
        )
    return entry


async def _at_work(tx: Transaction, company: Company, entry: JobQueueEntry) -> SynchJob | None:
    """The last job of the entry while it is queued or running."""
    if entry.last_job_id is None:
        return None
    try:
        job = await tx.jobs.get(company.id, entry.last_job_id)
    except NotFound:  # long ended, and deleted since
        return None
    return None if job.status.ended else job


def _require_revision(entry: JobQueueEntry, revision: int | None) -> None:
    if revision is not None and revision != entry.revision:
        raise PreconditionFailed(
            f"The job queue entry {entry.description} was changed since you read it.",
            fix=f"GET …/job-queue-entries/{entry.id} and repeat the change.",
        )


def _problems(entry: JobQueueEntry) -> list[FieldProblem]:
    problems = []
    if not entry.description.strip():
        problems.append(FieldProblem("/description", "An entry needs a description."))
    if not 1 <= entry.minutes_between_runs <= LONGEST_MINUTES:
        problems.append(FieldProblem("/minutes_between_runs", f"From 1 to {LONGEST_MINUTES} minutes.", 30))
    timeout = entry.inactivity_timeout_minutes
    if timeout is not None and not 0 <= timeout <= LONGEST_MINUTES:
        problems.append(
            FieldProblem("/inactivity_timeout_minutes", f"From 0 (never) to {LONGEST_MINUTES} minutes.")
        )
    if not 1 <= entry.maximum_attempts <= MOST_ATTEMPTS:
        problems.append(FieldProblem("/maximum_attempts", f"From 1 to {MOST_ATTEMPTS}.", 10))
    return problems


def _refuse(problems: list[FieldProblem]) -> None:
    if problems:
        raise Invalid("The job queue entry cannot be saved like this.", errors=problems)
