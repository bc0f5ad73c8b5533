"""The tick: what time brings, whichever worker looks first.

Every worker ticks; rows are locked and locked ones passed over, so each thing is done once.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from app.domain.coupling import Failure
from app.domain.errors import Busy
from app.domain.job import WAS_CANCELLED, JobStatus, SynchJob
from app.domain.retry import RetryIn, after_loss
from app.domain.schedule import after_run, job_of, started
from app.jobs.entries import settle_entry
from app.ports import Context

AT_ONCE = 100
TICKET_LATE = timedelta(seconds=15)
"""A job that could have started so long ago lost its ticket, or every worker is busy; another does no harm."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """What a tick did."""

    lost: int
    settled: int
    started: int
    tickets: int


async def tick(ctx: Context, heartbeat_timeout: timedelta) -> Ticked:
    """Takes lost jobs back, lets entries whose job ended go on, starts those that are due."""
    return Ticked(
        lost=await take_back_lost(ctx, heartbeat_timeout),
        settled=await settle_ended(ctx),
        started=await start_due(ctx),
        tickets=await send_missing_tickets(ctx),
    )


async def take_back_lost(ctx: Context, heartbeat_timeout: timedelta) -> int:
    """Jobs whose worker gives no sign of life go back to the queue; one that was cancelled ends, and one that kills its
    workers fails."""
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        lost = await tx.jobs.lost(now - heartbeat_timeout, AT_ONCE)
    for each in lost:
        job = each.job
        async with ctx.uow() as tx:
            if job.cancel_requested:  # in the queue it might wait for long: until its connection is enabled
                ours = await tx.jobs.finish(job, JobStatus.CANCELLED, WAS_CANCELLED, now)
            elif isinstance(after_loss(job.attempt, job.maximum_attempts), RetryIn):
                await tx.jobs.requeue(job, None, now)
                continue
            else:
                why = Busy(
                    f"The worker of this job vanished {job.attempt} times.",
                    fix="See the logs of the workers.",
                )
                ours = await tx.jobs.finish(job, JobStatus.FAILED, why.detail, now, Failure.of(why))
            if ours:
                await settle_entry(tx, each.company_id, job, now)
    return len(lost)


async def settle_ended(ctx: Context) -> int:
    """Entries in process whose job ended without a runner seeing it, cancelled in the queue or deleted."""
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        ended = await tx.job_queue.ended(AT_ONCE)
        for each, job in ended:
            await tx.job_queue.save(each.company_id, after_run(each.entry, job, now))
    return len(ended)


async def start_due(ctx: Context) -> int:
    """One synch job for each entry whose time has come and whose company's connection is enabled."""
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        due = await tx.job_queue.due(now, AT_ONCE)
        jobs: defaultdict[int, list[SynchJob]] = defaultdict(list)
        for each in due:
            job = job_of(each.entry, ctx.new_id(), now)
            jobs[each.company_id].append(job)
            await tx.job_queue.save(each.company_id, started(each.entry, job, now))
        for company_id, of_company in jobs.items():
            await tx.jobs.add(company_id, of_company)
    return len(due)


async def send_missing_tickets(ctx: Context) -> int:
    """New tickets for jobs that wait although nothing keeps them."""
    async with ctx.uow() as tx:
        return await tx.jobs.send_missing_tickets(ctx.clock.now(), TICKET_LATE)
