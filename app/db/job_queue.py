"""Job queue entries: what runs again and again."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db import job_rows
from app.db.arrays import one_of_ids, one_of_texts
from app.db.breaker_rows import let_in
from app.db.clock import was_set_back
from app.db.tables import crm_connection, synch_job
from app.db.tables import job_queue_entry as entry_row
from app.db.values import clean
from app.db.violations import translated
from app.domain.errors import NotFound, PreconditionFailed
from app.domain.job import EntryStatus, JobQueueEntry, SynchJob
from app.ports import CompanyEntry

_AS_IS = (
    "description", "kind", "mapping", "minutes_between_runs", "inactivity_timeout_minutes", "earliest_start_at",
    "last_run_at", "last_job_id", "attempts", "maximum_attempts", "is_default",
)  # fmt: skip


class SqlJobQueue:
    """The job queue entries of all companies."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, company_id: int, entry_id: UUID) -> JobQueueEntry:
        """Raises NotFound."""
        query = _of(company_id).where(entry_row.c.id == entry_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(
                f"There is no job queue entry {entry_id}.",
                fix="GET …/job-queue-entries lists those there are.",
            )
        return _entry(row)

    async def all(self, company_id: int) -> list[JobQueueEntry]:
        """In the order of their descriptions."""
        query = _of(company_id).order_by(entry_row.c.description, entry_row.c.id)
        return [_entry(row) for row in await self._connection.execute(query)]

    async def add(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry:
        """Raises AlreadyExists when there is one with that id."""
        values = _values(entry) | {"id": entry.id, "company_id": company_id, "revision": entry.revision}
        with translated(f"a job queue entry {entry.id}"):
            await self._connection.execute(insert(entry_row).values(values))
        return entry

    async def save(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry:
        """Guarded by revision: raises PreconditionFailed, NotFound."""
        statement = (
            update(entry_row)
            .where(
                entry_row.c.company_id == company_id,
                entry_row.c.id == entry.id,
                entry_row.c.revision == entry.revision,
            )
            .values(_values(entry) | {"revision": entry.revision + 1})
        )
        saved = await self._connection.execute(statement)
        present = await self.get(company_id, entry.id)
        if not saved.rowcount:
            raise PreconditionFailed(
                f"The job queue entry {entry.description} was changed since it was read.",
                fix="Read it again and repeat the change.",
            )
        return present

    async def delete(self, company_id: int, ids: Collection[UUID]) -> None:
        """Deletes these entries. Jobs of theirs that are queued or running go on."""
        which = (entry_row.c.company_id == company_id, one_of_ids(entry_row.c.id, ids))
        await self._connection.execute(delete(entry_row).where(*which))

    async def due(self, now: datetime, limit: int) -> list[CompanyEntry]:
        """Entries whose time has come, of companies whose connection is enabled and whom CRM lets in; locked,
        skipping what another worker has locked. One that is on hold for inactivity is due when its timeout has
        passed; any is after the clock of the database was set back, whose plan goes by the time before."""
        query = (
            select(entry_row)
            .join(crm_connection, crm_connection.c.company_id == entry_row.c.company_id)
            .where(
                crm_connection.c.is_enabled,
                let_in(crm_connection.c.company_id),
                entry_row.c.status.in_((EntryStatus.READY, EntryStatus.ON_HOLD_INACTIVITY)),
                or_(
                    entry_row.c.earliest_start_at.is_(None),
                    entry_row.c.earliest_start_at <= now,
                    was_set_back(entry_row.c.last_run_at, now),
                ),
            )
            .order_by(entry_row.c.earliest_start_at.nulls_first(), entry_row.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True, of=entry_row)
        )
        return [CompanyEntry(row.company_id, _entry(row)) for row in await self._connection.execute(query)]

    async def ended(self, limit: int) -> list[tuple[CompanyEntry, SynchJob | None]]:
        """Entries in process whose job ended or is gone, with that job, locked like `due`."""
        still = select(synch_job.c.id).where(
            synch_job.c.id == entry_row.c.last_job_id, synch_job.c.status.in_(job_rows.NOT_ENDED)
        )
        query = (
            select(entry_row)
            .where(entry_row.c.status == EntryStatus.IN_PROCESS, ~still.exists())
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = [CompanyEntry(row.company_id, _entry(row)) for row in await self._connection.execute(query)]
        jobs = await self._jobs([one.entry.last_job_id for one in found if one.entry.last_job_id])
        return [(one, jobs.get(one.entry.last_job_id)) for one in found]

    async def locked(self, company_id: int, entry_id: UUID) -> JobQueueEntry | None:
        """The entry, locked until this transaction ends."""
        query = _of(company_id).where(entry_row.c.id == entry_id).with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else _entry(row)

    async def wake(self, company_id: int, mappings: Collection[str], at: datetime) -> int:
        """Lets the entries of these mappings that a change starts begin then; how many."""
        statement = (
            update(entry_row)
            .where(
                entry_row.c.company_id == company_id,
                one_of_texts(entry_row.c.mapping, mappings),
                starts_on_change(at),
            )
            .values(status=EntryStatus.READY, earliest_start_at=at, revision=entry_row.c.revision + 1)
        )
        return (await self._connection.execute(statement)).rowcount

    async def _jobs(self, ids: list[UUID]) -> dict[UUID | None, SynchJob]:
        if not ids:
            return {}
        query = select(synch_job).where(one_of_ids(synch_job.c.id, ids))
        return {row.id: job_rows.decode(row) for row in await self._connection.execute(query)}


def starts_on_change(at: datetime) -> ColumnElement[bool]:
    """The entry has an inactivity timeout, and sleeps or is ready and would start later than `at`.

    A start that lies further ahead than one interval was set by a person and stays.
    """
    interval = func.make_interval(0, 0, 0, 0, 0, entry_row.c.minutes_between_runs)
    by_schedule = and_(
        entry_row.c.status == EntryStatus.READY,
        entry_row.c.earliest_start_at > at,
        entry_row.c.earliest_start_at <= at + interval,
    )
    sleeps = entry_row.c.status == EntryStatus.ON_HOLD_INACTIVITY
    return and_(entry_row.c.inactivity_timeout_minutes > 0, or_(sleeps, by_schedule))


def _of(company_id: int) -> Select[Any]:
    return select(entry_row).where(entry_row.c.company_id == company_id)


def _values(entry: JobQueueEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _AS_IS} | {
        "status": entry.status,
        "rerun_delay_seconds": round(entry.rerun_delay.total_seconds()),
        "error_message": clean(entry.error_message),
    }


def _entry(row: Row[Any]) -> JobQueueEntry:
    return JobQueueEntry(
        **{name: getattr(row, name) for name in _AS_IS},
        id=row.id,
        status=EntryStatus(row.status),
        rerun_delay=timedelta(seconds=row.rerun_delay_seconds),
        error_message=row.error_message,
        revision=row.revision,
    )
