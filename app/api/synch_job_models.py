"""How synch jobs and what they logged look over HTTP."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.breaker_models import Stop
from app.api.models import ChangeOut, FailureOut, changes_out, failure_out
from app.domain.company import ConnectionStatus
from app.domain.coupling import SynchAction
from app.domain.job import Counts, JobStatus, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.ports import LoggedOutcome

OF_MAPPING = "The mapping in whose run it came about; the coupling may belong to another one of the table."


class CountsOut(BaseModel):
    """How many records ended how. `total` is the number of rows read."""

    inserted: int
    modified: int
    unmodified: int
    deleted: int
    skipped: int
    failed: int
    coupled: int
    uncoupled: int
    total: int


class SynchJobOut(CountsOut):
    """One run of one mapping, or the parent of several; a parent's counts are the sums of its children."""

    id: UUID
    kind: str
    mapping: str | None
    direction: Direction | None
    mode: SynchMode
    status: JobStatus
    expected: int | None = Field(description="Rows there will be to read, where it is known.")
    progress: int | None = Field(description="Percent; null while it is unknown.", ge=0, le=100)
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None
    error: FailureOut | None = Field(
        description="Why the job as a whole failed, or waits to be tried again; failed records are counted instead."
    )
    attempt: int
    cancel_requested: bool
    parent_id: UUID | None
    job_queue_entry_id: UUID | None
    children: list[UUID]
    directions: dict[str, CountsOut] = Field(description="The counts by direction: `to_crm`, `from_crm`.")


class SynchJobEvent(SynchJobOut):
    """A job as its event stream tells it."""

    rate: float | None = Field(description="Records a second so far.")
    remaining_seconds: float | None = Field(description="How long it may still take.")

    def moved_since(self, other: "SynchJobEvent") -> bool:
        """Whether there is anything to tell besides the time that went by."""
        timing = {"rate", "remaining_seconds"}
        return self.model_dump(exclude=timing) != other.model_dump(exclude=timing)


class OutcomeOut(BaseModel):
    """What became of one record."""

    mapping: str | None = Field(description=OF_MAPPING)
    nav_table: str | None
    nav_no: str | None
    crm_entity: str | None
    crm_id: UUID | None
    coupling_id: UUID | None
    direction: str | None
    action: SynchAction
    reason: str | None = Field(description="A stable word, such as `filtered`.")
    message: str | None
    error: FailureOut | None
    changes: list[ChangeOut]
    at: datetime


class LoggedErrorOut(FailureOut):
    """A failure of a record."""

    mapping: str | None = Field(description=OF_MAPPING)
    nav_table: str | None
    nav_no: str | None
    crm_entity: str | None
    crm_id: UUID | None
    coupling_id: UUID | None
    synch_job_id: UUID | None
    occurred_at: datetime


class FailureSummaryOut(BaseModel):
    """Failures of one kind: how often they happened, and the last of them."""

    code: str
    count: int
    last_occurred_at: datetime
    last: LoggedErrorOut


class SynchStatusOut(BaseModel):
    """How the integration of the company fares."""

    connection_status: ConnectionStatus
    failed_synch_jobs: int
    failed_since: datetime | None = Field(description="When the count of failed jobs was last reset.")
    skipped_couplings: int
    couplings: int
    job_queue_entries_ready: int = Field(
        description="Those that run by themselves: ready, in process, or waiting for a change; none while the "
        "connection is disabled or CRM refuses our user."
    )
    job_queue_entries_total: int
    last_run_at: datetime | None
    integration_solution_installed: bool | None = Field(
        description="Whether CRM has the solution that the button and the account statistics need."
    )


def counts_out(counts: Counts) -> dict[str, int]:
    """Counts for `CountsOut`."""
    return {name: getattr(counts, name) for name in Counts.__slots__} | {"total": counts.total}


def job_out(job: SynchJob, children: list[UUID], stop: Stop | None = None) -> dict[str, Any]:
    """A job for `SynchJobOut`. One that waits because the connection is not enabled or CRM refuses our user says so."""
    stopped = stop if job.status is JobStatus.QUEUED else None
    return counts_out(job.counted) | {
        "id": job.id,
        "kind": job.kind,
        "mapping": job.mapping,
        "direction": job.direction,
        "mode": job.mode,
        "status": job.status,
        "expected": job.expected,
        "progress": percent(job),
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "message": job.message
        if stopped is None
        else f"It waits until {stopped.until}. {stopped.reason.message}",
        "error": failure_out(job.error if stopped is None else stopped.reason),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "parent_id": job.parent_id,
        "job_queue_entry_id": job.entry_id,
        "children": children,
        "directions": {direction: counts_out(counts) for direction, counts in job.counts.items()},
    }


def percent(job: SynchJob) -> int | None:
    """How far a job came: 100 once it ended, None while nobody knows how much there is."""
    if job.status.ended:
        return 100
    if job.status is JobStatus.QUEUED:
        return 0
    return min(99, 100 * job.counted.total // job.expected) if job.expected else None


def event_out(job: SynchJob, found: dict[str, Any], now: datetime) -> SynchJobEvent:
    """A job at this moment, with its pace."""
    rate = remaining = None
    if job.started_at is not None:
        seconds = ((job.finished_at or now) - job.started_at).total_seconds()
        rate = round(job.counted.total / seconds, 1) if seconds > 0 else None
    if rate and job.expected is not None:
        remaining = 0.0 if job.status.ended else round(max(0, job.expected - job.counted.total) / rate, 1)
    return SynchJobEvent.model_validate(found | {"rate": rate, "remaining_seconds": remaining})


def outcome_out(logged: LoggedOutcome) -> dict[str, Any]:
    """A logged outcome for `OutcomeOut`."""
    outcome = logged.outcome
    return {
        "mapping": logged.mapping,
        "nav_table": outcome.nav_table,
        "nav_no": outcome.nav_key,
        "crm_entity": outcome.crm_entity,
        "crm_id": outcome.crm_id,
        "coupling_id": outcome.coupling_id,
        "direction": outcome.direction,
        "action": outcome.action,
        "reason": outcome.reason,
        "message": outcome.message,
        "error": failure_out(outcome.error),
        "changes": changes_out(outcome.changes),
        "at": logged.at,
    }


def error_out(logged: LoggedOutcome) -> dict[str, Any]:
    """A logged failure for `LoggedErrorOut`."""
    outcome = logged.outcome
    return (failure_out(outcome.error) or {}) | {
        "mapping": logged.mapping,
        "nav_table": outcome.nav_table,
        "nav_no": outcome.nav_key,
        "crm_entity": outcome.crm_entity,
        "crm_id": outcome.crm_id,
        "coupling_id": outcome.coupling_id,
        "synch_job_id": logged.job_id,
        "occurred_at": logged.at,
    }
