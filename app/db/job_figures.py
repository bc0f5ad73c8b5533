"""Figures about the synch jobs of all companies, in two statements."""

from datetime import datetime, timedelta

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.job_rows import NOT_ENDED
from app.db.tables import crm_connection, job_queue_entry, synch_job
from app.db.tables import integration_table_mapping as mapping
from app.domain.job import EntryStatus, JobStatus
from app.ports import JobFigures

RECENTLY = timedelta(hours=1)


async def job_figures(connection: AsyncConnection, now: datetime) -> JobFigures:
    """Jobs by status, ended ones of the last hour; and how far each mapping is behind where that is furthest."""
    jobs = (
        select(synch_job.c.status, func.count())
        .where(or_(synch_job.c.status.in_(NOT_ENDED), synch_job.c.finished_at > now - RECENTLY))
        .group_by(synch_job.c.status)
    )
    counted = {JobStatus(row[0]): row[1] for row in await connection.execute(jobs)}
    sleeps = exists().where(
        job_queue_entry.c.company_id == mapping.c.company_id,
        job_queue_entry.c.mapping == mapping.c.name,
        job_queue_entry.c.status == EntryStatus.ON_HOLD_INACTIVITY,
    )
    oldest = func.min(func.least(mapping.c.nav_synched_until, mapping.c.crm_synched_until))
    enabled = and_(crm_connection.c.company_id == mapping.c.company_id, crm_connection.c.is_enabled)
    behind = (
        select(mapping.c.name, oldest)
        .join(crm_connection, enabled)
        .where(~sleeps)
        .group_by(mapping.c.name)
        .having(oldest.is_not(None))
    )
    lag = {row[0]: now - row[1] for row in await connection.execute(behind)}
    return JobFigures(counted, lag)
