"""Job queue entries and the synch jobs that carry them out."""

from dataclasses import replace
from datetime import datetime

from app.domain.job import SynchJob
from app.domain.schedule import after_run
from app.ports import Transaction


async def note_attempt(tx: Transaction, company_id: int, job: SynchJob) -> None:
    """Lets the entry of a job that is going to be tried again, if it has one, tell how often it was, and why."""
    entry = await tx.job_queue.locked(company_id, job.entry_id) if job.entry_id is not None else None
    if entry is not None and entry.last_job_id == job.id:
        await tx.job_queue.save(company_id, replace(entry, attempts=job.attempt, error_message=job.message))


async def settle_entry(tx: Transaction, company_id: int, job: SynchJob, now: datetime) -> None:
    """Lets the entry of a job that just ended, if it has one, go on (nav-behaviour 13)."""
    if job.entry_id is None:
        return
    ended = await tx.jobs.get(company_id, job.id)
    entry = await tx.job_queue.locked(company_id, job.entry_id)
    if entry is not None and entry.last_job_id == ended.id:
        await tx.job_queue.save(company_id, after_run(entry, ended, now))
