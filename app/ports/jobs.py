"""What we remember of work: synch jobs, their log, job queue entries, workers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from app.domain.coupling import Failure, Outcome
from app.domain.job import Counts, JobQueueEntry, JobStatus, Standing, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.domain.records import Side


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which synch jobs a list shows."""

    mapping: str | None = None
    status: JobStatus | None = None
    parent_id: UUID | None = None
    entry_id: UUID | None = None  # of this job queue entry
    has_started: bool = False  # none of those that still wait for their first run


TICKET = "synch_job"
"""The name under which the queue carries tickets: "run that synch job", its id as 16 bytes."""


@dataclass(frozen=True, slots=True)
class CompanyJob:
    """A synch job and the company it belongs to."""

    company_id: int
    job: SynchJob
    company: str | None = None  # its name, where it is known


class SynchJobs(Protocol):
    """The synch jobs. Whatever ends a job, or takes it from its worker, also lets the queue carry the
    tickets of those that waited for it: the next of its mapping, and its dependants."""

    async def add(self, company_id: int, jobs: Sequence[SynchJob]) -> None:
        """Saves the jobs and lets the queue carry a ticket for each that can start.

        A job that another of them names as its parent is a parent: it gets no ticket and ends with its
        children. A job whose `request["depends_on"]` names others of them waits until those ended.
        """
        ...

    async def get(self, company_id: int, job_id: UUID) -> SynchJob:
        """Raises NotFound. A parent shows the sums of its children."""
        ...

    async def page(
        self, company_id: int, which: JobFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[SynchJob]:
        """The newest first."""
        ...

    async def children(self, parent_ids: Collection[UUID]) -> list[SynchJob]:
        """The children of these parents, the oldest first."""
        ...

    async def waiting(
        self, company_id: int, mapping: str, mode: SynchMode, direction: Direction | None, kind: str
    ) -> SynchJob | None:
        """A queued job that would do the same, without a parent. Whoever asks next waits until this
        transaction ends, so that asking and adding cannot pile up jobs."""
        ...

    async def claim(self, job_id: UUID, worker_id: UUID, now: datetime) -> CompanyJob | None:
        """Makes a queued job a running one. None when it is not to run now: it is gone or not queued,
        its mapping is busy, it waits for siblings, its `not_before` has not come, the connection of its company is
        not enabled, or CRM refuses our user."""
        ...

    async def heartbeat(self, jobs: Collection[SynchJob], now: datetime) -> dict[UUID, Standing]:
        """A sign of life of running jobs, guarded by their fences; how each stands with us."""
        ...

    async def progress(
        self, job: SynchJob, direction: str, counts: Counts, expected: int | None = None
    ) -> Standing:
        """Records how far a running job came, guarded by its fence; how it stands with us.

        `counts` are all of that direction so far. Call it in the transaction that commits the page, and
        undo that when the answer is LOST.
        """
        ...

    async def finish(
        self,
        job: SynchJob,
        status: JobStatus,
        message: str | None,
        at: datetime,
        error: Failure | None = None,
    ) -> bool:
        """Ends a running job, guarded by its fence; False when it is no longer ours.

        `error` says that the job as a whole failed, apart from records that did.
        """
        ...

    async def requeue(self, job: SynchJob, not_before: datetime | None, now: datetime) -> bool:
        """Takes a running job back into the queue with its `attempt`, `message` and `error`, guarded by its
        fence."""
        ...

    async def cancel(self, company_id: int, job_id: UUID, at: datetime) -> SynchJob:
        """A queued job ends at once, a running one is asked to stop; a parent with all its children.
        One that ended is left as it is. Raises NotFound."""
        ...

    async def send_waiting(self, company_id: int, now: datetime) -> None:
        """New tickets for the queued jobs of the company that nothing keeps any more."""
        ...

    async def lost(self, before: datetime, limit: int = 100) -> list[CompanyJob]:
        """Running jobs without a sign of life since then."""
        ...

    async def send_missing_tickets(self, now: datetime, older_than: timedelta) -> int:
        """New tickets for queued jobs that could start and have not for so long; how many."""
        ...

    async def failed(self, company_id: int) -> tuple[int, datetime | None]:
        """How many jobs failed since the count was last reset, and when that was."""
        ...

    async def reset_failed(self, company_id: int, at: datetime) -> None:
        """Lets the count of failed jobs begin again."""
        ...

    async def delete_ended(self, before: datetime, limit: int) -> int:
        """Deletes up to so many jobs that ended before then, with their children; how many. Those stay that a
        skipped coupling refers to (nav-behaviour 14), and the last one of a job queue entry."""
        ...

    async def forget_tickets(self, older_than: timedelta) -> None:
        """Empties the queue's own log, but for the latest."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedOutcome:
    """An outcome as the log keeps it. `mapping` is the one in whose run it came about."""

    outcome: Outcome
    job_id: UUID | None
    at: datetime
    position: int = 0
    mapping: str | None = None


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """Failures of one code: how often, and the last of them."""

    count: int
    last: LoggedOutcome


class SynchLog(Protocol):
    async def add(
        self, company_id: int, job_id: UUID | None, outcomes: Sequence[Outcome], at: datetime
    ) -> None:
        """Records outcomes, their errors and the history of what was written, in sets."""
        ...

    async def outcomes(
        self, company_id: int, job_id: UUID, result: str | None, after: int, limit: int
    ) -> list[LoggedOutcome]: ...

    async def errors(
        self,
        company_id: int,
        *,
        job_id: UUID | None = None,
        mapping: str | None = None,
        code: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[LoggedOutcome]:
        """The newest first; `position` continues."""
        ...

    async def failures(self, company_id: int) -> list[FailureSummary]:
        """By code, those that happened last first."""
        ...

    async def forget(self, before: datetime, limit: int, *, history: bool) -> int:
        """Deletes up to so many rows from before then, whose job goes too or is gone; how many. With `history`
        those that say what was written to a record, without it the others."""
        ...

    async def history(
        self, company_id: int, coupling_id: UUID, after: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Every write of one coupling: when, by which job, side, field, old, new. The newest first."""
        ...


@dataclass(frozen=True, slots=True)
class CompanyEntry:
    """A job queue entry and the company it belongs to."""

    company_id: int
    entry: JobQueueEntry


class JobQueue(Protocol):
    async def get(self, company_id: int, entry_id: UUID) -> JobQueueEntry:
        """Raises NotFound."""
        ...

    async def all(self, company_id: int) -> list[JobQueueEntry]:
        """In the order of their descriptions."""
        ...

    async def add(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry: ...
    async def save(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry:
        """Guarded by revision: raises PreconditionFailed, NotFound."""
        ...

    async def delete(self, company_id: int, ids: Collection[UUID]) -> None:
        """Deletes these entries. Jobs of theirs that are queued or running go on."""
        ...

    async def due(self, now: datetime, limit: int) -> list[CompanyEntry]:
        """Entries whose time has come, of companies whose connection is enabled and whom CRM lets in, locked
        until this transaction ends; what another worker has locked is left out."""
        ...

    async def ended(self, limit: int) -> list[tuple[CompanyEntry, SynchJob | None]]:
        """Entries in process whose job ended or is gone, with that job, locked like `due`."""
        ...

    async def locked(self, company_id: int, entry_id: UUID) -> JobQueueEntry | None:
        """The entry, locked until this transaction ends."""
        ...

    async def wake(self, company_id: int, mappings: Collection[str], at: datetime) -> int:
        """Lets the entries of these mappings that a change starts begin then; how many.

        These are entries with an inactivity timeout that sleep, or are ready and would start later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """A mapping whose job queue entry a change would start, and where its changes begin."""

    mapping: str
    nav_table: str
    crm_entity: str
    direction: Direction
    nav_watermark: str | None
    crm_watermark: str | None
    is_coupled: bool  # whether it has couplings
    has_released: bool  # whether its next run would find a record whose wait is over

    def watermark(self, side: Side) -> str | None:
        """Up to where the changes of that side are recorded; None before its first run."""
        return self.nav_watermark if side is Side.NAV else self.crm_watermark

    def table(self, side: Side) -> str:
        """The table or entity on that side."""
        return self.nav_table if side is Side.NAV else self.crm_entity


class Watches(Protocol):
    """What the watch for changes needs to know."""

    async def claim(self, now: datetime, before: datetime, limit: int) -> list[int]:
        """Takes companies whose connection is enabled, whom CRM lets in, and that nobody looked at since `before`;
        their ids."""
        ...

    async def of_company(self, company_id: int, now: datetime, ended_before: datetime) -> Sequence[Watch]:
        """The mappings with an entry that a change would start. One of which a job waits, runs or ended later
        than `ended_before` is left out."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker and its last sign of life."""

    id: UUID
    name: str
    started_at: datetime
    seen_at: datetime


class Workers(Protocol):
    async def heartbeat(self, worker_id: UUID, name: str, now: datetime) -> None:
        """A sign of life of a worker."""
        ...

    async def leave(self, worker_id: UUID) -> None:
        """The worker stops."""
        ...

    async def seen_since(self, moment: datetime) -> list[WorkerSeen]:
        """The workers that gave a sign of life since then."""
        ...

    async def forget(self, before: datetime) -> int:
        """Forgets workers not seen since then; how many."""
        ...
