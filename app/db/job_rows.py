"""A synch job as a row, there and back; and which jobs may start, said once for every query."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Row, String, and_, cast, exists, or_
from sqlalchemy.sql import alias

from app.db.breaker_rows import let_in
from app.db.coupling_rows import decode_failure, encode_failure
from app.db.tables import crm_connection, synch_job
from app.db.values import clean
from app.domain.job import Counts, JobStatus, SynchJob, SynchMode
from app.domain.mapping import Direction

_AS_IS = (
    "id", "kind", "mapping", "expected", "attempt", "maximum_attempts", "fence", "parent_id", "entry_id", "request",
    "message", "cancel_requested", "created_at", "started_at", "finished_at", "not_before",
)  # fmt: skip
NOT_ENDED = (JobStatus.QUEUED, JobStatus.RUNNING)
REFERRED_TO = """
    SELECT coalesce(job.parent_id, job.id) FROM synch_job AS job
    WHERE job.id IN (SELECT last_job_id FROM coupling WHERE skipped
                     UNION ALL SELECT last_job_id FROM job_queue_entry)
    """
"""The jobs, or their parents, that something present refers to: why a coupling is skipped, how an entry last fared."""


def encode(company_id: int, job: SynchJob) -> dict[str, Any]:
    """The job as the parameters of an insert."""
    return {name: getattr(job, name) for name in _AS_IS} | {
        "company_id": company_id,
        "mode": job.mode,
        "direction": job.direction,
        "status": job.status,
        "counts": {direction: encode_counts(counts) for direction, counts in job.counts.items()},
        "request": dict(job.request),
        "message": clean(job.message),
        "error": encode_failure(job.error),
    }


def decode(row: Row[Any]) -> SynchJob:
    """The job out of its row."""
    return SynchJob(
        **{name: getattr(row, name) for name in _AS_IS},
        mode=SynchMode(row.mode),
        direction=None if row.direction is None else Direction(row.direction),
        status=JobStatus(row.status),
        counts={direction: Counts(**counts) for direction, counts in row.counts.items()},
        error=decode_failure(row.error),
    )


def encode_counts(counts: Counts) -> dict[str, int]:
    """Counts as JSON, without the zeros."""
    return {name: number for name, number in asdict(counts).items() if number}


def summed(parent: SynchJob, children: Iterable[SynchJob]) -> SynchJob:
    """The parent with the sums of its children. How much there is to read is known once each of them knows it."""
    counts: dict[str, Counts] = {}
    expected: int | None = 0
    for child in children:
        for direction, counted in child.counts.items():
            counts[direction] = counts.get(direction, Counts()) + counted
        known = child.expected
        if known is None and child.status.ended:
            known = child.counted.total
        expected = None if expected is None or known is None else expected + known
    return replace(parent, counts=counts, expected=expected)


def unblocked() -> ColumnElement[bool]:
    """No sibling that the job depends on is still to end, it is no parent, the connection of its company is enabled and
    CRM lets the company in."""
    sibling = alias(synch_job)
    awaited = exists().where(
        sibling.c.parent_id == synch_job.c.parent_id,
        synch_job.c.request["depends_on"].op("?")(cast(sibling.c.id, String)),
        sibling.c.status.in_(NOT_ENDED),
    )
    company_id = synch_job.c.company_id
    return and_(~awaited, ~is_parent(), is_enabled(company_id), let_in(company_id))


def is_parent() -> ColumnElement[bool]:
    """Other jobs are the job's children."""
    child = alias(synch_job)
    return exists().where(child.c.parent_id == synch_job.c.id)


def is_enabled(company_id: ColumnElement[int]) -> ColumnElement[bool]:
    """The company has a connection, and it is enabled."""
    return exists().where(crm_connection.c.company_id == company_id, crm_connection.c.is_enabled)


def mapping_free() -> ColumnElement[bool]:
    """No job of the mapping is running."""
    other = alias(synch_job)
    running = exists().where(
        other.c.company_id == synch_job.c.company_id,
        other.c.mapping == synch_job.c.mapping,
        other.c.status == JobStatus.RUNNING,
    )
    return or_(synch_job.c.mapping.is_(None), ~running)


def fenced(job: SynchJob) -> ColumnElement[bool]:
    """The job is running and has not been claimed since."""
    return and_(
        synch_job.c.id == job.id, synch_job.c.fence == job.fence, synch_job.c.status == JobStatus.RUNNING
    )
