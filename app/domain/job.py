"""Synch jobs and job queue entries: when something runs, how it stands, whether it is tried again."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.domain.coupling import Failure, SynchAction
from app.domain.mapping import Direction


class JobKind(StrEnum):
    """What a synch job does, and what a job queue entry does again and again."""

    SYNCHRONIZE = "synchronize"
    ACCOUNT_STATISTICS = "account_statistics"
    TIMELINE_POSTS = "timeline_posts"

    @property
    def has_mapping(self) -> bool:
        """Whether a job of the kind runs a mapping."""
        return self is JobKind.SYNCHRONIZE


class JobStatus(StrEnum):
    """The life of a synch job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


WAS_CANCELLED = "It was cancelled."
"""The message of a job that somebody cancelled while it ran."""


class Standing(StrEnum):
    """How a running job stands with the worker that runs it."""

    OURS = "ours"
    TO_STOP = "to_stop"  # ours still, but somebody cancelled it
    TO_WAIT = "to_wait"  # ours still, but the connection was disabled or deleted
    LOST = "lost"  # another worker took it, or it ended


class SynchMode(StrEnum):
    """Which records a job looks at."""

    MODIFIED = "modified"  # what changed since the last run
    FULL = "full"  # every record; creates uncoupled ones when asked
    SELECTION = "selection"  # the records named in the job
    UNCOUPLE = "uncouple"  # removes the couplings of the mapping


READ = (
    SynchAction.INSERTED,
    SynchAction.MODIFIED,
    SynchAction.UNMODIFIED,
    SynchAction.DELETED,
    SynchAction.SKIPPED,
    SynchAction.FAILED,
)
"""The actions whose counts add up to the rows a job read."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records of a job ended how. `total` is the number of rows read."""

    inserted: int = 0
    modified: int = 0
    unmodified: int = 0
    deleted: int = 0
    skipped: int = 0
    failed: int = 0
    coupled: int = 0
    uncoupled: int = 0

    @classmethod
    def of(cls, counted: Mapping[SynchAction, int]) -> "Counts":
        """Counts from a tally by action."""
        return cls(**{action.value: number for action, number in counted.items()})

    @property
    def total(self) -> int:
        """The rows read."""
        return sum(getattr(self, action.value) for action in READ)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class SynchJob:
    """One run of one mapping, or the parent of several.

    `fence` rises with every claim: a worker that was taken for dead finds at its next page that it is
    no longer the one. `request` holds what the job was asked to do.
    """

    id: UUID
    kind: str  # a JobKind, or one of a later version
    mapping: str | None
    mode: SynchMode
    direction: Direction | None = None
    status: JobStatus = JobStatus.QUEUED
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by one-way direction
    expected: int | None = None  # rows there will be to read, where it is known
    attempt: int = 0
    maximum_attempts: int = 1
    fence: int = 0
    parent_id: UUID | None = None
    entry_id: UUID | None = None  # the job queue entry it belongs to
    request: Mapping[str, object] = field(default_factory=dict)
    message: str | None = None
    cancel_requested: bool = False
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = None
    error: Failure | None = None  # why it failed as a whole, or its last attempt; failed records are counted

    @property
    def counted(self) -> Counts:
        """The counts of both directions together."""
        return sum(self.counts.values(), Counts())

    @property
    def depends_on(self) -> frozenset[UUID]:
        """The sibling jobs that must have ended before this one starts."""
        named = self.request.get("depends_on")
        return (
            frozenset(UUID(str(name)) for name in named) if isinstance(named, list | tuple) else frozenset()
        )


def ended_as(counts: Counts) -> JobStatus:
    """How a job that ran to its end is called: `failed` when nothing could be done, `partial` when
    some records failed (seed-checklist, decisions)."""
    if not counts.failed:
        return JobStatus.SUCCEEDED
    return JobStatus.FAILED if counts.failed == counts.total else JobStatus.PARTIAL


def failures_told(counts: Counts, job_id: UUID) -> str | None:
    """What the message of a job that ran to its end says about records that failed, and where they are told."""
    if not counts.failed:
        return None
    number = f"{counts.failed} of {counts.total} records"
    if counts.failed == counts.total:
        number = f"All {counts.total} records" if counts.total > 1 else "The only record"
    return f"{number} failed; GET …/synch-jobs/{job_id}/errors tells why."


def family_ended_as(statuses: Collection[JobStatus]) -> JobStatus:
    """How a parent is called when all of its children ended: as they all did, or `partial`."""
    kinds = set(statuses)
    if kinds <= {JobStatus.SUCCEEDED}:
        return JobStatus.SUCCEEDED
    return kinds.pop() if len(kinds) == 1 else JobStatus.PARTIAL


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the end of one child means for its siblings: who can start now, who never will and why, and
    how the parent ended, if all have."""

    startable: tuple[SynchJob, ...]
    ended: Mapping[UUID, tuple[JobStatus, str]]
    parent: JobStatus | None


def settle(children: Collection[SynchJob], just_ended: Collection[UUID]) -> Settlement:
    """Decides after some children ended.

    A child that depends on one that failed outright fails too, one that depends on a cancelled one is
    cancelled; both may befall others. One that ran to its end, even if every record of it failed, keeps
    nobody back: the lookups of each record decide. Dependencies that are not among the children are ignored
    (nav-behaviour 12.1).
    """
    status = {child.id: child.status for child in children}
    tried = {child.id for child in children if child.error is None and child.counted.total}
    name = {child.id: child.mapping or child.kind for child in children}
    news = set(just_ended)
    ended: dict[UUID, tuple[JobStatus, str]] = {}
    queued = [child for child in children if child.status is JobStatus.QUEUED]
    for _ in queued:  # each round ends at least one, or is the last
        doomed = {
            child.id: (
                status[cause],
                f"{name[cause]} {_WORDS[status[cause]]}, and {name[child.id]} depends on it.",
            )
            for child in queued
            if child.id not in ended
            for cause in [_obstacle(child, status, tried)]
            if cause is not None
        }
        if not doomed:
            break
        ended |= doomed
        news |= doomed.keys()
        status |= {child: fate for child, (fate, _) in doomed.items()}
    startable = tuple(
        child
        for child in queued
        if child.id not in ended
        and child.depends_on & news
        and all(status[other].ended for other in child.depends_on & status.keys())
    )
    over = family_ended_as(status.values()) if all(each.ended for each in status.values()) else None
    return Settlement(startable, ended, over)


_WORDS = {JobStatus.FAILED: "failed", JobStatus.CANCELLED: "was cancelled"}


def _obstacle(child: SynchJob, status: Mapping[UUID, JobStatus], tried: Collection[UUID]) -> UUID | None:
    """A sibling that keeps the child from ever starting."""
    for other in child.depends_on:
        fate = status.get(other)
        if fate is JobStatus.CANCELLED or (fate is JobStatus.FAILED and other not in tried):
            return other
    return None


class EntryStatus(StrEnum):
    """The life of a recurring job queue entry (nav-behaviour 13)."""

    READY = "ready"
    IN_PROCESS = "in_process"
    ERROR = "error"
    ON_HOLD = "on_hold"
    ON_HOLD_INACTIVITY = "on_hold_inactivity"


@dataclass(frozen=True, slots=True)
class JobQueueEntry:
    """A recurring job."""

    id: UUID
    description: str
    kind: str
    mapping: str | None
    minutes_between_runs: int
    inactivity_timeout_minutes: int | None = None
    status: EntryStatus = EntryStatus.READY
    earliest_start_at: datetime | None = None
    last_run_at: datetime | None = None
    last_job_id: UUID | None = None
    attempts: int = 0
    maximum_attempts: int = 10
    rerun_delay: timedelta = timedelta(seconds=30)
    error_message: str | None = None
    is_default: bool = False
    revision: int = 0
