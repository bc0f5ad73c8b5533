"""Job queue entries and the synch jobs that carry them out."""

from datetime import datetime
from uuid import UUID

from app.domain.schedule import after_run
from app.ports import Transaction


async def settle_entry(tx: Transaction, company_id: int, job_id: UUID, now: datetime) -> None:
    """Lets the entry of a job that just ended, if it has one, go on (nav-behaviour 13)."""
    job = await tx.jobs.get(company_id, job_id)
    if job.entry_id is None:
        return
    entry = await tx.job_queue.locked(company_id, job.entry_id)
    if entry is not None and entry.last_job_id == job.id:
        await tx.job_queue.save(company_id, after_run(entry, job, now))
