"""When a recurring job queue entry runs, and how it stands after a run (nav-behaviour 13)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.domain.errors import LoginRefused, PermissionMissing
from app.domain.job import EntryStatus, JobQueueEntry, JobStatus, SynchJob, SynchMode

RERUN_DELAY = "rerun_delay_seconds"
"""Where the request of a job holds the delay before its second attempt."""
REFUSED = frozenset({LoginRefused.code, PermissionMissing.code})
"""CRM gave no right to a run. That ends where CRM is administered, without a word to us."""


def job_of(entry: JobQueueEntry, job_id: UUID, now: datetime) -> SynchJob:
    """The synch job that carries out one run of the entry."""
    return SynchJob(
        id=job_id,
        kind=entry.kind,
        mapping=entry.mapping,
        mode=SynchMode.MODIFIED,
        maximum_attempts=entry.maximum_attempts,
        entry_id=entry.id,
        request={RERUN_DELAY: entry.rerun_delay.total_seconds()},
        created_at=now,
    )


def started(entry: JobQueueEntry, job: SynchJob, now: datetime, *, by_hand: bool = False) -> JobQueueEntry:
    """The entry while that job is in the queue or running. One that is held stays so.

    A start that was planned for later is still to come where somebody started this run `by_hand`, unless the plan
    was only how long the entry may sleep.
    """
    held = entry.status is EntryStatus.ON_HOLD
    planned = by_hand and entry.status is not EntryStatus.ON_HOLD_INACTIVITY
    return replace(
        entry,
        earliest_start_at=entry.earliest_start_at if planned else now,
        status=entry.status if held else EntryStatus.IN_PROCESS,
        last_job_id=job.id,
        attempts=0,
        error_message=None,
    )


def awake(entry: JobQueueEntry, status: EntryStatus, now: datetime) -> JobQueueEntry:
    """The entry with that status. How long it may have slept is no plan any more: it would be taken for a person's."""
    asleep = entry.status is EntryStatus.ON_HOLD_INACTIVITY
    return replace(entry, status=status, earliest_start_at=now if asleep else entry.earliest_start_at)


def changed(entry: JobQueueEntry, changes: Mapping[str, Any], now: datetime) -> JobQueueEntry:
    """The entry as a person changed it. Without a word about its next start that goes by the new interval or timeout
    where it went by the old one; who wants an entry to sleep no more wakes it."""
    after = replace(entry, **changes)
    if "earliest_start_at" in changes or entry.earliest_start_at is None:
        return after
    minutes = after.minutes_between_runs
    if entry.status is EntryStatus.ON_HOLD_INACTIVITY:
        if not after.inactivity_timeout_minutes:
            return awake(after, EntryStatus.READY, now)
        minutes = after.inactivity_timeout_minutes
    elif entry.status is not EntryStatus.READY or _planned(entry, now):
        return after
    return replace(after, earliest_start_at=min(entry.earliest_start_at, now + timedelta(minutes=minutes)))


def after_run(entry: JobQueueEntry, job: SynchJob | None, now: datetime) -> JobQueueEntry:
    """The entry after its job ended, or was deleted (None).

    Records that failed are no failure of the run. After one to which CRM gave no right the entry goes on later: its
    next run finds out whether that has ended. One that failed otherwise, its attempts used up, needs a person. After a
    run with nothing to do an entry with an inactivity timeout sleeps until a change wakes it, or the timeout.
    An entry that a person has meanwhile put on hold stays there, and a start that lies further ahead than the next one
    by the interval was set by a person, and stands.
    """
    if job is None:
        return entry if entry.status is not EntryStatus.IN_PROCESS else _ready(entry, now)
    ran_at = job.started_at or now
    entry = replace(
        entry,
        last_run_at=ran_at,
        attempts=job.attempt,
        error_message=job.message if job.status is JobStatus.FAILED else None,
    )
    if entry.status is not EntryStatus.IN_PROCESS:
        return entry
    # A job that was cancelled while it waited for another attempt still tells why it waited.
    if job.status is JobStatus.FAILED and job.error is not None:
        if job.error.code in REFUSED:
            # Twice as far ahead: the change that it could not write does not wake it at once.
            return _ready(entry, now, pauses=2)
        return replace(entry, status=EntryStatus.ERROR)
    if entry.inactivity_timeout_minutes and not _planned(entry, now) and _had_nothing_to_do(job):
        wakes_at = ran_at + timedelta(minutes=entry.inactivity_timeout_minutes)
        return replace(entry, status=EntryStatus.ON_HOLD_INACTIVITY, earliest_start_at=wakes_at)
    return _ready(entry, now)


def _planned(entry: JobQueueEntry, now: datetime) -> datetime | None:
    """The start that a person set, if one did."""
    start, next_one = entry.earliest_start_at, now + timedelta(minutes=entry.minutes_between_runs)
    return start if start is not None and start > next_one else None


def _ready(entry: JobQueueEntry, now: datetime, pauses: int = 1) -> JobQueueEntry:
    start = now + pauses * timedelta(minutes=entry.minutes_between_runs)
    start = max(start, _planned(entry, now) or start)
    return replace(entry, status=EntryStatus.READY, earliest_start_at=start)


def _had_nothing_to_do(job: SynchJob) -> bool:
    """Whether the run came to its end without inserting, modifying or deleting anything, and without failures."""
    done = job.counted
    acted = done.inserted or done.modified or done.deleted or done.failed
    return job.status is JobStatus.SUCCEEDED and not acted
