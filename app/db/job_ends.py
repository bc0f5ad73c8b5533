"""What the end of a synch job sets free: the next job of its mapping, its dependants, its parent."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.job_rows import NOT_ENDED, decode, mapping_free, unblocked
from app.db.tables import synch_job
from app.db.tickets import Ticket, send
from app.domain.job import JobStatus, SynchJob, settle

ASKED_FOR = 10
"""The priority of what a person asked for, over what the schedule brings."""


def priority(job: SynchJob) -> int:
    """A job's priority in the queue."""
    return ASKED_FOR if job.entry_id is None else 0


async def send_tickets(
    connection: AsyncConnection, jobs: Iterable[SynchJob], now: datetime | None = None
) -> None:
    """A ticket for each of these jobs, for when its time comes. Without `now` they were made just now."""
    await send(connection, [Ticket(job.id, _delay(job, now), priority(job)) for job in jobs])


async def send_next(connection: AsyncConnection, company_id: int, mapping: str | None, now: datetime) -> None:
    """A ticket for the queued job of the mapping that is to run next: asked for before scheduled, then the
    oldest. Those that wait for their time have a ticket that comes then."""
    if mapping is None:
        return
    query = (
        select(synch_job)
        .where(
            synch_job.c.company_id == company_id,
            synch_job.c.mapping == mapping,
            synch_job.c.status == JobStatus.QUEUED,
            func.coalesce(synch_job.c.not_before, now) <= now,
            unblocked(),
        )
        .order_by(synch_job.c.entry_id.is_not(None), synch_job.c.created_at, synch_job.c.id)
        .limit(1)
    )
    await send_tickets(connection, [decode(row) for row in await connection.execute(query)], now)


async def send_waiting(connection: AsyncConnection, company_id: int, now: datetime) -> None:
    """A ticket for each queued job of the company that nothing keeps any more."""
    query = select(synch_job).where(
        synch_job.c.company_id == company_id,
        synch_job.c.status == JobStatus.QUEUED,
        func.coalesce(synch_job.c.not_before, now) <= now,
        unblocked(),
        mapping_free(),
    )
    await send_tickets(connection, [decode(row) for row in await connection.execute(query)], now)


async def after_end(
    connection: AsyncConnection, company_id: int, jobs: Sequence[SynchJob], at: datetime
) -> None:
    """Follows the end of these jobs, all of one family whose parent the caller has locked."""
    for mapping in {job.mapping for job in jobs}:
        await send_next(connection, company_id, mapping, at)
    for parent_id in {job.parent_id for job in jobs if job.parent_id is not None}:
        await _settle(connection, parent_id, {job.id for job in jobs}, at)


async def _settle(
    connection: AsyncConnection, parent_id: UUID, just_ended: Collection[UUID], at: datetime
) -> None:
    children = await connection.execute(select(synch_job).where(synch_job.c.parent_id == parent_id))
    settlement = settle([decode(row) for row in children], just_ended)
    for job_id, (status, message) in settlement.ended.items():
        await _end(connection, job_id, status, message, at)
    await send_tickets(connection, settlement.startable, at)
    if settlement.parent is not None:
        await _end(connection, parent_id, settlement.parent, None, at)


async def _end(
    connection: AsyncConnection, job_id: UUID, status: JobStatus, message: str | None, at: datetime
) -> None:
    await connection.execute(
        update(synch_job)
        .where(synch_job.c.id == job_id, synch_job.c.status.in_(NOT_ENDED))
        .values(status=status, message=message, finished_at=at)
    )


def _delay(job: SynchJob, now: datetime | None) -> timedelta:
    now = now or job.created_at
    if job.not_before is None or now is None:
        return timedelta()
    return job.not_before - now
