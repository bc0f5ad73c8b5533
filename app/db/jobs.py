"""Synch jobs: their rows, and the tickets that the queue carries for them.

Locks are taken in one order everywhere: the parent, then its children, then the mapping's next job.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Integer,
    Row,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import one_of_ids
from app.db.clock import was_set_back
from app.db.coupling_rows import encode_failure
from app.db.job_ends import after_end, priority, send_next, send_tickets, send_waiting
from app.db.job_rows import (
    NOT_ENDED,
    REFERRED_TO,
    decode,
    encode,
    encode_counts,
    fenced,
    is_enabled,
    is_parent,
    mapping_free,
    summed,
    unblocked,
)
from app.db.tables import company, synch_job
from app.db.tickets import Ticket, forget_history, send
from app.db.values import clean
from app.db.violations import translated
from app.domain.coupling import Failure
from app.domain.errors import NotFound
from app.domain.job import WAS_CANCELLED, Counts, JobStatus, Standing, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.ports import CompanyJob, JobFilter


class SqlSynchJobs:
    """The synch jobs of all companies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    # --- reading -----------------------------------------------------------------------

    async def get(self, company_id: int, job_id: UUID) -> SynchJob:
        """Raises NotFound. A parent shows the sums of its children."""
        found = await self._read(
            select(synch_job).where(synch_job.c.company_id == company_id, synch_job.c.id == job_id)
        )
        if not found:
            raise NotFound(f"There is no synch job {job_id}.", fix="GET …/synch-jobs lists those there are.")
        return (await self._with_sums(found))[0]

    async def page(
        self, company_id: int, which: JobFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[SynchJob]:
        """The newest first."""
        query = (
            select(synch_job)
            .where(synch_job.c.company_id == company_id)
            .order_by(synch_job.c.created_at.desc(), synch_job.c.id.desc())
            .limit(limit)
        )
        if which.mapping is not None:
            query = query.where(synch_job.c.mapping == which.mapping)
        if which.status is not None:
            query = query.where(synch_job.c.status == which.status)
        if which.parent_id is not None:
            query = query.where(synch_job.c.parent_id == which.parent_id)
        if which.entry_id is not None:
            query = query.where(synch_job.c.entry_id == which.entry_id)
        if which.has_started:
            query = query.where(synch_job.c.started_at.is_not(None))
        if after is not None:
            query = query.where(tuple_(synch_job.c.created_at, synch_job.c.id) < tuple_(*after))
        return await self._with_sums(await self._read(query))

    async def children(self, parent_ids: Collection[UUID]) -> list[SynchJob]:
        """The children of these parents, the oldest first."""
        if not parent_ids:
            return []
        query = select(synch_job).where(one_of_ids(synch_job.c.parent_id, parent_ids))
        return await self._read(query.order_by(synch_job.c.created_at, synch_job.c.id))

    async def waiting(
        self, company_id: int, mapping: str, mode: SynchMode, direction: Direction | None, kind: str
    ) -> SynchJob | None:
        """A queued job that would do the same, without a parent; whoever asks next waits for our commit."""
        await self._connection.execute(
            select(func.pg_advisory_xact_lock(company_id, func.hashtext(mapping, type_=Integer)))
        )
        query = (
            select(synch_job)
            .where(
                synch_job.c.company_id == company_id,
                synch_job.c.mapping == mapping,
                synch_job.c.kind == kind,
                synch_job.c.mode == mode,
                synch_job.c.direction.is_not_distinct_from(direction),
                synch_job.c.status == JobStatus.QUEUED,
                synch_job.c.parent_id.is_(None),
            )
            .order_by(synch_job.c.created_at)
            .limit(1)
        )
        return next(iter(await self._read(query)), None)

    async def lost(self, before: datetime, limit: int = 100) -> list[CompanyJob]:
        """Running jobs without a sign of life since then."""
        query = (
            select(synch_job)
            .where(synch_job.c.status == JobStatus.RUNNING, synch_job.c.heartbeat_at < before)
            .order_by(synch_job.c.heartbeat_at)
            .limit(limit)
        )
        return [CompanyJob(row.company_id, decode(row)) for row in await self._connection.execute(query)]

    async def failed(self, company_id: int) -> tuple[int, datetime | None]:
        """How many jobs failed since the count was last reset, and when that was."""
        since = (
            await self._connection.execute(select(company.c.failed_since).where(company.c.id == company_id))
        ).scalar_one_or_none()
        query = select(func.count()).where(
            synch_job.c.company_id == company_id,
            synch_job.c.status == JobStatus.FAILED,
            synch_job.c.mapping.is_not(None) | ~is_parent(),
        )
        if since is not None:
            query = query.where(synch_job.c.finished_at > since)
        return (await self._connection.execute(query)).scalar_one(), since

    async def reset_failed(self, company_id: int, at: datetime) -> None:
        """Lets the count of failed jobs begin again."""
        await self._connection.execute(
            update(company).where(company.c.id == company_id).values(failed_since=at)
        )

    # --- the life of a job -------------------------------------------------------------

    async def add(self, company_id: int, jobs: Sequence[SynchJob]) -> None:
        """Saves the jobs and lets the queue carry a ticket for each that can start."""
        if not jobs:
            return
        parents = {job.parent_id for job in jobs}
        # A parent's row first: its children refer to it.
        rows = [encode(company_id, job) for job in sorted(jobs, key=lambda job: job.id not in parents)]
        with translated("a synch job with that id"):
            await self._connection.execute(_INSERT, rows)
        present = {job.id for job in jobs if not job.status.ended}
        ready = [job for job in jobs if job.id not in parents and not job.depends_on & present]
        queued = [job for job in ready if job.status is JobStatus.QUEUED]
        await send_tickets(self._connection, queued)

    async def claim(self, job_id: UUID, worker_id: UUID, now: datetime) -> CompanyJob | None:
        """Makes a queued job a running one; None when it is not to run now."""
        job = (await self._connection.execute(_JOB, {"id": job_id})).one_or_none()
        if job is None or job.status != JobStatus.QUEUED:
            return None
        if job.not_before is not None and job.not_before > now:
            await send(self._connection, [Ticket(job_id, job.not_before - now)])  # it came too early
            return None
        await self._lock(job.parent_id)
        for _ in range(2):
            claimed = await self._try_claim(job_id, worker_id, now)
            if claimed is not None:
                await self._start_parent(job.parent_id, now)
                return CompanyJob(job.company_id, claimed, job.company)
            if job.mapping is None or await self._is_busy(job.company_id, job.mapping):
                return None  # whoever ends the running job sends the next ticket
        return None

    async def heartbeat(self, jobs: Collection[SynchJob], now: datetime) -> dict[UUID, Standing]:
        """A sign of life of running jobs, guarded by their fences; how each stands with us."""
        given = {"ids": [job.id for job in jobs], "fences": [job.fence for job in jobs], "now": now}
        rows = (await self._connection.execute(_HEARTBEAT, given)).all()
        ours = {row.id: _standing(row) for row in rows}
        return {job.id: ours.get(job.id, Standing.LOST) for job in jobs}

    async def progress(
        self, job: SynchJob, direction: str, counts: Counts, expected: int | None = None
    ) -> Standing:
        """Records how far a running job came, guarded by its fence; how it stands with us."""
        counted = func.jsonb_set(
            synch_job.c.counts,
            bindparam(None, [direction], type_=ARRAY(Text)),
            bindparam(None, encode_counts(counts), type_=JSONB),
        )
        statement = (
            update(synch_job)
            .where(fenced(job))
            .values(counts=counted, expected=func.coalesce(expected, synch_job.c.expected))
            .returning(synch_job.c.cancel_requested, _IS_OFF)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        return Standing.LOST if row is None else _standing(row)

    async def finish(
        self,
        job: SynchJob,
        status: JobStatus,
        message: str | None,
        at: datetime,
        error: Failure | None = None,
    ) -> bool:
        """Ends a running job, guarded by its fence; False when it is no longer ours."""
        await self._lock(job.parent_id)
        ended = (
            update(synch_job)
            .where(fenced(job))
            .values(status=status, message=clean(message), finished_at=at, error=encode_failure(error))
            .returning(synch_job.c.company_id)
        )
        company_id = (await self._connection.execute(ended)).scalar_one_or_none()
        if company_id is None:
            return False
        await after_end(self._connection, company_id, [job], at)
        return True

    async def requeue(self, job: SynchJob, not_before: datetime | None, now: datetime) -> bool:
        """Takes a running job back into the queue with its `attempt`, `message` and `error`, guarded by its
        fence."""
        back = (
            update(synch_job)
            .where(fenced(job))
            .values(
                status=JobStatus.QUEUED,
                attempt=job.attempt,
                message=clean(job.message),
                error=encode_failure(job.error),
                not_before=not_before,
                heartbeat_at=None,
            )
            .returning(synch_job.c.company_id)
        )
        company_id = (await self._connection.execute(back)).scalar_one_or_none()
        if company_id is None:
            return False
        delay = timedelta() if not_before is None else not_before - now
        await send(self._connection, [Ticket(job.id, delay, priority(job))])
        if delay > timedelta():
            await send_next(self._connection, company_id, job.mapping, now)
        return True

    async def cancel(self, company_id: int, job_id: UUID, at: datetime) -> SynchJob:
        """A queued job ends at once, a running one is asked to stop; a parent with all its children."""
        job = await self.get(company_id, job_id)
        if job.status.ended:
            return job
        await self._lock(job.parent_id or job.id)
        family = or_(synch_job.c.id == job_id, synch_job.c.parent_id == job_id)
        await self._connection.execute(
            update(synch_job).where(family, synch_job.c.status.in_(NOT_ENDED)).values(cancel_requested=True)
        )
        ended = (
            update(synch_job)
            .where(family, synch_job.c.status == JobStatus.QUEUED, ~is_parent())
            .values(status=JobStatus.CANCELLED, finished_at=at, message=case(_STARTED, else_=_NOT_STARTED))
            .returning(synch_job)
        )
        gone = await self._read(ended)
        await after_end(self._connection, company_id, gone, at)
        return await self.get(company_id, job_id)

    async def send_waiting(self, company_id: int, now: datetime) -> None:
        """New tickets for the queued jobs of the company that nothing keeps any more."""
        await send_waiting(self._connection, company_id, now)

    # --- keeping order -----------------------------------------------------------------

    async def send_missing_tickets(self, now: datetime, older_than: timedelta) -> int:
        """New tickets for queued jobs that could start and have not for so long; how many. A ticket that was sent
        before the clock of the database was set back waits for a time that is long in coming."""
        since = func.coalesce(synch_job.c.not_before, synch_job.c.created_at)
        sent_ahead = and_(synch_job.c.not_before.is_(None), was_set_back(synch_job.c.created_at, now))
        query = (
            select(synch_job)
            .where(
                synch_job.c.status == JobStatus.QUEUED,
                or_(since < now - older_than, sent_ahead),
                unblocked(),
                mapping_free(),
            )
            .order_by(synch_job.c.created_at)
            .limit(1000)
        )
        jobs = await self._read(query)
        tickets = [Ticket(job.id, priority=priority(job), once=f"{job.id}:{job.fence}") for job in jobs]
        return await send(self._connection, tickets)

    async def delete_ended(self, before: datetime, limit: int) -> int:
        """Deletes up to so many jobs that ended before then, with their children; how many. Those stay that a
        skipped coupling refers to (nav-behaviour 14), and the last one of a job queue entry."""
        gone = await self._connection.execute(_DELETE_ENDED, {"before": before, "limit": limit})
        return gone.rowcount

    async def forget_tickets(self, older_than: timedelta) -> None:
        """Empties the queue's own log, but for the latest."""
        await forget_history(self._connection, older_than)

    # --- parts -------------------------------------------------------------------------

    async def _read(self, query: Any) -> list[SynchJob]:
        return [decode(row) for row in await self._connection.execute(query)]

    async def _with_sums(self, jobs: list[SynchJob]) -> list[SynchJob]:
        """Those of the jobs that are parents show the sums of their children."""
        below: defaultdict[UUID | None, list[SynchJob]] = defaultdict(list)
        for child in await self.children(
            [job.id for job in jobs if job.parent_id is None and job.mapping is None]
        ):
            below[child.parent_id].append(child)
        return [summed(job, below[job.id]) if job.id in below else job for job in jobs]

    async def _lock(self, parent_id: UUID | None) -> None:
        """Lets nobody else change the family of that parent until our transaction ends."""
        if parent_id is not None:
            locked = select(synch_job.c.id).where(synch_job.c.id == parent_id)
            await self._connection.execute(locked.with_for_update(key_share=True))

    async def _try_claim(self, job_id: UUID, worker_id: UUID, now: datetime) -> SynchJob | None:
        statement = (
            update(synch_job)
            .where(
                synch_job.c.id == job_id, synch_job.c.status == JobStatus.QUEUED, unblocked(), mapping_free()
            )
            .values(
                status=JobStatus.RUNNING,
                fence=synch_job.c.fence + 1,
                attempt=synch_job.c.attempt + 1,
                worker_id=worker_id,
                heartbeat_at=now,
                started_at=func.coalesce(synch_job.c.started_at, now),
                not_before=None,
                error=None,
            )
            .returning(synch_job)
        )
        try:
            async with self._connection.begin_nested():
                return next(iter(await self._read(statement)), None)
        except IntegrityError:  # another job of the mapping was claimed in the same moment
            return None

    async def _is_busy(self, company_id: int, mapping: str) -> bool:
        """Whether a job of the mapping is running. Waits for one that is ending, which may not have seen
        ours when it looked for the next."""
        running = select(synch_job.c.id).where(
            synch_job.c.company_id == company_id,
            synch_job.c.mapping == mapping,
            synch_job.c.status == JobStatus.RUNNING,
        )
        return (await self._connection.execute(running.with_for_update())).first() is not None

    async def _start_parent(self, parent_id: UUID | None, now: datetime) -> None:
        if parent_id is not None:
            await self._connection.execute(
                update(synch_job)
                .where(synch_job.c.id == parent_id, synch_job.c.status == JobStatus.QUEUED)
                .values(status=JobStatus.RUNNING, started_at=now)
            )


def _standing(row: Row[Any]) -> Standing:
    """How a job that is ours still stands."""
    if row.cancel_requested:
        return Standing.TO_STOP
    return Standing.TO_WAIT if row.is_off else Standing.OURS


_STARTED = (synch_job.c.started_at.is_not(None), WAS_CANCELLED)
_NOT_STARTED = "It was cancelled before it started."

_JOB = select(
    synch_job.c.company_id,
    synch_job.c.mapping,
    synch_job.c.status,
    synch_job.c.parent_id,
    synch_job.c.not_before,
    select(company.c.name).where(company.c.id == synch_job.c.company_id).scalar_subquery().label("company"),
).where(synch_job.c.id == bindparam("id", type_=Uuid))
_IS_OFF = (~is_enabled(synch_job.c.company_id)).label("is_off")
"""Somebody disabled or deleted the connection of the job's company."""
_INSERT = insert(synch_job).values(created_at=func.coalesce(bindparam("created_at"), func.now()))
_HEARTBEAT = text("""
    UPDATE synch_job AS job SET heartbeat_at = :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:fences AS integer[])) AS given(id, fence)
    WHERE job.id = given.id AND job.fence = given.fence AND job.status = 'running'
    RETURNING job.id, job.cancel_requested, NOT EXISTS (
        SELECT 1 FROM crm_connection WHERE company_id = job.company_id AND is_enabled) AS is_off
    """)
_DELETE_ENDED = text(f"""
    DELETE FROM synch_job WHERE id IN (
        SELECT id FROM synch_job
        WHERE parent_id IS NULL AND finished_at < :before AND id NOT IN ({REFERRED_TO})
        ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED)
    """)  # noqa: S608 - both parts are ours
