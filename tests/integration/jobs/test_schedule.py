"""Job queue entries run when they are due, once, and stand as NAV's do afterwards."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company
from app.domain.coupling import Failure
from app.domain.errors import (
    ConnectionDisabled,
    CrmUnavailable,
    InvalidMapping,
    LoginRefused,
    PermissionMissing,
)
from app.domain.job import WAS_CANCELLED, Counts, EntryStatus, JobQueueEntry, JobStatus, SynchJob
from app.domain.retry import LOSSES
from app.jobs import schedule
from app.jobs.entries import settle_entry
from app.jobs.schedule import tick
from app.ports import Context, JobFilter, Report
from app.use_cases.job_queue import change_entry, hold_entry, run_entry, set_entry_ready
from tests.integration.db.memory import NOON, a_company, a_job, a_memory, a_setup
from tests.integration.jobs.workers import a_context, a_worker, until

pytestmark = pytest.mark.anyio
TIMEOUT = timedelta(seconds=30)
WORKER = UUID(int=1)
NOTHING = Counts()
WAITS: dict[str, Any] = {
    "inactivity_timeout_minutes": 720,
    "earliest_start_at": NOON + timedelta(minutes=20),
}
"""An entry that would sleep, and starts in a while."""


class SetClock:
    """A clock that is set by hand."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """What it was set to."""
        return self._now

    def after(self, **passed: float) -> None:
        """Lets time pass."""
        self._now += timedelta(**passed)


def an_entry(mapping: str = "CUSTOMER", **changes: Any) -> JobQueueEntry:
    values: dict[str, Any] = {
        "id": uuid4(),
        "description": f"{mapping} synchronization",
        "kind": "synchronize",
        "mapping": mapping,
        "minutes_between_runs": 30,
        "earliest_start_at": NOON,
    }
    return JobQueueEntry(**values | changes)


async def a_tenant(memory: SqlUnitOfWork, *entries: JobQueueEntry, is_enabled: bool = True) -> Company:
    company = await a_company(memory)
    async with memory() as tx:
        await tx.connections.save(company.id, a_setup(is_enabled=is_enabled))
        for entry in entries:
            await tx.job_queue.add(company.id, entry)
    return company


async def jobs_of(ctx: Context, company: Company) -> list[SynchJob]:
    async with ctx.uow() as tx:
        return await tx.jobs.page(company.id, JobFilter(), None, 100)


async def entry_of(ctx: Context, company: Company, entry: JobQueueEntry) -> JobQueueEntry:
    async with ctx.uow() as tx:
        return await tx.job_queue.get(company.id, entry.id)


async def run_to_its_end(
    ctx: Context, company: Company, job_id: UUID, counts: Counts = NOTHING, error: Failure | None = None
) -> None:
    """What a runner does, without the time it takes."""
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        claimed = await tx.jobs.claim(job_id, WORKER, now)
        assert claimed is not None
        await tx.jobs.progress(claimed.job, "to_crm", counts)
        status = JobStatus.SUCCEEDED if error is None else JobStatus.FAILED
        await tx.jobs.finish(claimed.job, status, error.message if error else None, now, error)
        await settle_entry(tx, company.id, claimed.job, now)


def scene(engine: AsyncEngine) -> tuple[SqlUnitOfWork, SetClock, Context]:
    memory, clock = a_memory(engine), SetClock(NOON)
    return memory, clock, replace(a_context(memory), clock=clock)


@pytest.mark.parametrize("timeout", [None, 720])
async def test_an_entry_does_not_sleep_until_a_time_before_the_clock_was_set_back(
    engine: AsyncEngine, timeout: int | None
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry(inactivity_timeout_minutes=timeout)
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    await run_to_its_end(ctx, company, job.id)
    clock.after(hours=-3)
    assert (await tick(ctx, TIMEOUT)).started == 1
    again = (await jobs_of(ctx, company))[-1]
    await run_to_its_end(ctx, company, again.id)
    after = await entry_of(ctx, company, entry)
    assert after.earliest_start_at == clock.now() + timedelta(minutes=timeout or 30)
    assert (await tick(ctx, TIMEOUT)).started == 0


async def test_a_start_that_a_person_set_is_kept_though_clocks_are_a_little_apart(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    ran_at, start = NOON + timedelta(seconds=5), NOON + timedelta(days=2)
    await a_tenant(memory, an_entry(last_run_at=ran_at, earliest_start_at=start))
    assert (await tick(ctx, TIMEOUT)).started == 0
    clock.after(days=2)
    assert (await tick(ctx, TIMEOUT)).started == 1


async def test_a_job_whose_ticket_is_of_a_time_before_the_clock_was_set_back_gets_another(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    company = await a_tenant(memory)
    async with memory() as tx:
        await tx.jobs.add(company.id, [a_job()])
    assert (await tick(ctx, TIMEOUT)).tickets == 0
    clock.after(hours=-3)
    assert (await tick(ctx, TIMEOUT)).tickets == 1


async def test_workers_that_tick_at_once_start_each_due_entry_once(engine: AsyncEngine) -> None:
    memory, clock, ctx = scene(engine)
    entries = [an_entry(f"M{number}") for number in range(20)]
    company = await a_tenant(memory, *entries, an_entry("LATER", earliest_start_at=NOON + timedelta(hours=1)))
    clock.after(seconds=1)
    ticked = await asyncio.gather(*(schedule.start_due(ctx) for _ in range(4)))
    jobs = await jobs_of(ctx, company)
    assert sum(ticked) == 20
    assert sorted(str(job.mapping) for job in jobs) == sorted(str(entry.mapping) for entry in entries)
    async with memory() as tx:
        stored = {entry.id: entry for entry in await tx.job_queue.all(company.id)}
    for job in jobs:
        assert job.entry_id is not None
        entry = stored[job.entry_id]
        assert (entry.status, entry.last_job_id) == (EntryStatus.IN_PROCESS, job.id)
        assert job.maximum_attempts == entry.maximum_attempts


async def test_jobs_wait_while_the_connection_is_disabled(engine: AsyncEngine) -> None:
    memory, _, ctx = scene(engine)
    company = await a_tenant(memory, an_entry(), is_enabled=False)
    assert (await tick(ctx, TIMEOUT)).started == 0
    async with memory() as tx:
        setup = await tx.connections.find(company.id)
        assert setup is not None
        await tx.connections.save(company.id, replace(setup, is_enabled=True))
    assert (await tick(ctx, TIMEOUT)).started == 1


async def test_an_entry_runs_again_after_its_minutes(engine: AsyncEngine) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    clock.after(minutes=2)
    await run_to_its_end(ctx, company, job.id, Counts(modified=1, failed=3))
    after = await entry_of(ctx, company, entry)
    assert (after.status, after.earliest_start_at) == (EntryStatus.READY, NOON + timedelta(minutes=32))
    assert (after.last_run_at, after.attempts) == (NOON + timedelta(minutes=2), 1)
    assert (await tick(ctx, TIMEOUT)).started == 0
    clock.after(minutes=30)
    assert (await tick(ctx, TIMEOUT)).started == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failure.of(InvalidMapping("No such field.")), EntryStatus.ERROR),
        (Failure.of(CrmUnavailable("No answer.")), EntryStatus.ERROR),
        (Failure.of(LoginRefused("The secret has expired.")), EntryStatus.READY),
        (Failure.of(PermissionMissing("missing prvWriteAccount privilege")), EntryStatus.READY),
    ],
)
async def test_a_run_that_failed_for_good_needs_a_person_unless_crm_was_closed_to_us(
    engine: AsyncEngine, error: Failure, status: EntryStatus
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    await run_to_its_end(ctx, company, job.id, error=error)
    after = await entry_of(ctx, company, entry)
    assert (after.status, after.error_message) == (status, error.message)
    clock.after(hours=2)
    assert (await tick(ctx, TIMEOUT)).started == (status is EntryStatus.READY)
    if status is EntryStatus.ERROR:
        again = await set_entry_ready(ctx, company, entry.id)
        assert (again.status, again.error_message) == (EntryStatus.READY, None)
        assert (await tick(ctx, TIMEOUT)).started == 1


async def test_a_change_that_crm_gives_no_right_to_write_does_not_start_run_after_run(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry(inactivity_timeout_minutes=60)
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    refused = Failure.of(PermissionMissing("missing prvWriteAccount privilege"))
    await run_to_its_end(ctx, company, job.id, error=refused)

    async def a_change_wakes() -> int:
        async with ctx.uow() as tx:
            return await tx.job_queue.wake(company.id, ["CUSTOMER"], clock.now())

    clock.after(minutes=29)
    assert await a_change_wakes() == 0
    clock.after(minutes=1)
    assert await a_change_wakes() == 1
    assert (await tick(ctx, TIMEOUT)).started == 1


async def test_an_entry_without_work_sleeps_until_it_is_woken_or_its_timeout_passes(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry(inactivity_timeout_minutes=60)
    company = await a_tenant(memory, entry)

    async def a_run(counts: Counts) -> JobQueueEntry:
        assert (await tick(ctx, TIMEOUT)).started == 1
        job_id = (await entry_of(ctx, company, entry)).last_job_id
        assert job_id is not None
        await run_to_its_end(ctx, company, job_id, counts)
        return await entry_of(ctx, company, entry)

    for counts in (Counts(inserted=1), Counts(modified=1), Counts(deleted=1), Counts(failed=1)):
        assert (await a_run(counts)).status is EntryStatus.READY
        clock.after(minutes=30)
    held = await a_run(Counts(unmodified=5, skipped=1))
    assert held.status is EntryStatus.ON_HOLD_INACTIVITY
    assert held.earliest_start_at == clock.now() + timedelta(minutes=60)

    clock.after(minutes=59)
    assert (await tick(ctx, TIMEOUT)).started == 0
    clock.after(minutes=1)
    assert (await a_run(Counts(unmodified=5))).status is EntryStatus.ON_HOLD_INACTIVITY
    async with memory() as tx:
        assert await tx.job_queue.wake(company.id, ["CONTACT"], clock.now()) == 0
        assert await tx.job_queue.wake(company.id, ["CUSTOMER"], clock.now()) == 1
    assert (await a_run(Counts(modified=5))).status is EntryStatus.READY


@pytest.mark.parametrize(
    ("changes", "wakes"),
    [
        ({"status": EntryStatus.ON_HOLD_INACTIVITY}, True),
        ({"status": EntryStatus.READY}, True),
        ({"status": EntryStatus.ON_HOLD}, False),
        ({"status": EntryStatus.ERROR}, False),
        ({"status": EntryStatus.IN_PROCESS}, False),
        ({"inactivity_timeout_minutes": None}, False),
        ({"inactivity_timeout_minutes": 0}, False),
        ({"earliest_start_at": NOON}, False),  # it starts anyway
        ({"earliest_start_at": NOON + timedelta(hours=2)}, False),  # a person wants it then
    ],
)
async def test_a_change_starts_entries_with_an_inactivity_timeout_that_run_by_themselves(
    engine: AsyncEngine, changes: dict[str, Any], wakes: bool
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry(**WAITS | changes)
    company = await a_tenant(memory, entry)
    clock.after(minutes=1)
    async with memory() as tx:
        assert await tx.job_queue.wake(company.id, ["CUSTOMER"], clock.now()) == wakes
    found = await entry_of(ctx, company, entry)
    if wakes:
        assert (found.status, found.earliest_start_at) == (EntryStatus.READY, clock.now())
    else:
        assert found == entry


@pytest.mark.parametrize("timeout", [None, 720])
@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_start_that_a_person_plans_is_not_overwritten_by_the_end_of_a_run(
    engine: AsyncEngine, timeout: int | None, by_hand: bool
) -> None:
    memory, clock, ctx = scene(engine)
    entry, planned = an_entry(inactivity_timeout_minutes=timeout), NOON + timedelta(days=2)
    company = await a_tenant(memory, entry)
    if by_hand:
        await change_entry(ctx, company, entry.id, {"earliest_start_at": planned})
        await run_entry(ctx, company, entry.id)
    else:
        await tick(ctx, TIMEOUT)
        await change_entry(ctx, company, entry.id, {"earliest_start_at": planned})
    (job,) = await jobs_of(ctx, company)
    await run_to_its_end(ctx, company, job.id)
    after = await entry_of(ctx, company, entry)
    assert (after.status, after.earliest_start_at) == (EntryStatus.READY, planned)
    clock.after(days=1)
    assert (await tick(ctx, TIMEOUT)).started == 0
    clock.after(days=1)
    assert (await tick(ctx, TIMEOUT)).started == 1


@pytest.mark.parametrize(
    ("entry", "changes", "minutes"),
    [
        ({"minutes_between_runs": 1440}, {"minutes_between_runs": 5}, 5),
        ({"minutes_between_runs": 30}, {"minutes_between_runs": 1440}, 20),
        ({"minutes_between_runs": 10}, {"minutes_between_runs": 5}, 20),  # planned by a person
        ({"status": EntryStatus.ON_HOLD_INACTIVITY}, {"inactivity_timeout_minutes": 15}, 15),
        ({"status": EntryStatus.ON_HOLD_INACTIVITY}, {"inactivity_timeout_minutes": None}, 0),
        ({"status": EntryStatus.ON_HOLD_INACTIVITY}, {"description": "Other"}, 20),
    ],
)
async def test_an_entry_that_is_changed_starts_by_what_it_says_now(
    engine: AsyncEngine, entry: dict[str, Any], changes: dict[str, Any], minutes: int
) -> None:
    memory, _, ctx = scene(engine)
    there = an_entry(**WAITS | entry)
    company = await a_tenant(memory, there)
    after = await change_entry(ctx, company, there.id, changes)
    assert after.earliest_start_at == NOON + timedelta(minutes=minutes)
    assert (await tick(ctx, TIMEOUT)).started == (minutes == 0)


def a_sleeping_entry() -> JobQueueEntry:
    """An entry whose last run had nothing to do; nothing has happened since."""
    return an_entry(
        status=EntryStatus.ON_HOLD_INACTIVITY,
        inactivity_timeout_minutes=720,
        earliest_start_at=NOON + timedelta(hours=12),
    )


async def test_an_entry_that_is_held_while_it_sleeps_runs_as_soon_as_it_is_ready(engine: AsyncEngine) -> None:
    memory, _, ctx = scene(engine)
    asleep = a_sleeping_entry()
    company = await a_tenant(memory, asleep)
    await hold_entry(ctx, company, asleep.id)
    assert (await tick(ctx, TIMEOUT)).started == 0
    assert (await set_entry_ready(ctx, company, asleep.id)).status is EntryStatus.READY
    assert (await tick(ctx, TIMEOUT)).started == 1


async def test_an_entry_that_slept_and_was_run_by_hand_goes_by_its_interval_again(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    asleep = a_sleeping_entry()
    company = await a_tenant(memory, asleep)
    job = await run_entry(ctx, company, asleep.id)
    await run_to_its_end(ctx, company, job.id, Counts(modified=1))
    after = await entry_of(ctx, company, asleep)
    assert (after.status, after.earliest_start_at) == (EntryStatus.READY, clock.now() + timedelta(minutes=30))


async def test_a_run_that_was_cancelled_puts_no_entry_to_sleep(engine: AsyncEngine) -> None:
    memory, _, ctx = scene(engine)
    entry = an_entry(inactivity_timeout_minutes=60)
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    async with memory() as tx:
        await tx.jobs.cancel(company.id, job.id, NOON)
    await tick(ctx, TIMEOUT)
    assert (await entry_of(ctx, company, entry)).status is EntryStatus.READY


async def test_a_held_entry_is_run_on_demand_and_stays_held(engine: AsyncEngine) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    assert (await hold_entry(ctx, company, entry.id)).status is EntryStatus.ON_HOLD
    clock.after(hours=1)
    assert (await tick(ctx, TIMEOUT)).started == 0
    job = await run_entry(ctx, company, entry.id)
    assert await run_entry(ctx, company, entry.id) == job
    await run_to_its_end(ctx, company, job.id, Counts(modified=1))
    after = await entry_of(ctx, company, entry)
    assert (after.status, after.last_job_id, after.last_run_at) == (EntryStatus.ON_HOLD, job.id, clock.now())
    assert (await tick(ctx, TIMEOUT)).started == 0
    assert (await set_entry_ready(ctx, company, entry.id)).status is EntryStatus.READY
    assert (await tick(ctx, TIMEOUT)).started == 1


async def test_an_entry_is_not_run_while_the_connection_is_disabled(engine: AsyncEngine) -> None:
    memory, _, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry, is_enabled=False)
    with pytest.raises(ConnectionDisabled):
        await run_entry(ctx, company, entry.id)


async def test_an_entry_whose_job_was_cancelled_in_the_queue_goes_on(engine: AsyncEngine) -> None:
    memory, _, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    async with memory() as tx:
        await tx.jobs.cancel(company.id, job.id, NOON)
    assert (await tick(ctx, TIMEOUT)).settled == 1
    assert (await entry_of(ctx, company, entry)).status is EntryStatus.READY


async def test_an_entry_whose_job_was_cancelled_between_two_attempts_goes_on(engine: AsyncEngine) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    async with memory() as tx:
        claimed = await tx.jobs.claim(job.id, WORKER, NOON)
        assert claimed is not None
        tried = replace(claimed.job, error=Failure.of(CrmUnavailable("CRM is away.")))
        await tx.jobs.requeue(tried, NOON + timedelta(minutes=5), NOON)
        await tx.jobs.cancel(company.id, job.id, NOON)
        assert (await tx.jobs.get(company.id, job.id)).message == WAS_CANCELLED
    await tick(ctx, TIMEOUT)
    after = await entry_of(ctx, company, entry)
    assert (after.status, after.attempts) == (EntryStatus.READY, 1)
    assert after.earliest_start_at == clock.now() + timedelta(minutes=30)


async def test_a_cancelled_job_whose_worker_died_ends_though_the_connection_is_disabled(
    engine: AsyncEngine,
) -> None:
    memory, clock, ctx = scene(engine)
    entry = an_entry()
    company = await a_tenant(memory, entry)
    await tick(ctx, TIMEOUT)
    (job,) = await jobs_of(ctx, company)
    async with memory() as tx:
        assert await tx.jobs.claim(job.id, WORKER, clock.now()) is not None
        await tx.jobs.cancel(company.id, job.id, clock.now())
        setup = await tx.connections.find(company.id)
        assert setup is not None
        await tx.connections.save(company.id, replace(setup, is_enabled=False))
    clock.after(minutes=1)
    await tick(ctx, TIMEOUT)
    (ended,) = await jobs_of(ctx, company)
    assert (ended.status, ended.message) == (JobStatus.CANCELLED, "It was cancelled.")
    assert (await entry_of(ctx, company, entry)).status is EntryStatus.READY


async def test_a_job_that_kills_its_workers_fails_in_the_end(engine: AsyncEngine) -> None:
    memory, clock, ctx = scene(engine)
    company = await a_tenant(memory)
    job = a_job()
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
    for attempt in range(1, LOSSES + 2):
        async with memory() as tx:
            claimed = await tx.jobs.claim(job.id, WORKER, clock.now())
        assert claimed is not None
        assert claimed.job.attempt == attempt
        assert (await tick(ctx, TIMEOUT)).lost == 0
        clock.after(minutes=1)
        assert (await tick(ctx, TIMEOUT)).lost == 1
    (failed,) = await jobs_of(ctx, company)
    assert failed.status is JobStatus.FAILED
    assert "vanished 4 times" in str(failed.message)


async def test_two_workers_run_every_due_entry_once(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    entries = [an_entry(f"M{number}", earliest_start_at=None) for number in range(10)]
    company = await a_tenant(memory, *entries)

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, report: Report) -> None:
        await report.progress("to_crm", Counts(modified=1))

    async def all_ran() -> bool:
        async with memory() as tx:
            stored = await tx.job_queue.all(company.id)
        return all(entry.status is EntryStatus.READY and entry.last_run_at for entry in stored)

    async with (
        a_worker(database, memory, {"synchronize": handler}),
        a_worker(database, memory, {"synchronize": handler}),
    ):
        await until(all_ran)
    async with memory() as tx:
        jobs = await tx.jobs.page(company.id, JobFilter(), None, 100)
    assert sorted(str(job.mapping) for job in jobs) == [f"M{number}" for number in range(10)]
    assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}


async def test_an_entry_tells_how_often_its_job_was_tried_and_why_it_waits(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    entry = an_entry(rerun_delay=timedelta(hours=1))
    company = await a_tenant(memory, entry)
    ctx = a_context(memory)

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        raise CrmUnavailable("CRM is away.")

    async def tried() -> bool:
        return (await entry_of(ctx, company, entry)).attempts == 1

    async with a_worker(database, memory, {"synchronize": handler}):
        await until(tried)
    waiting = await entry_of(ctx, company, entry)
    assert (waiting.status, waiting.error_message) == (EntryStatus.IN_PROCESS, "CRM is away.")
