"""How the service fares, in a fixed number of statements whatever there is to count."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, exists, func, literal, select, table, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.job_rows import is_enabled
from app.db.readiness import SEEN_WITHIN
from app.db.tables import (
    coupling,
    crm_breaker,
    crm_connection,
    job_queue_entry,
    synch_job,
    waiting_record,
    worker,
)
from app.db.tables import integration_table_mapping as mapping
from app.domain.errors import DeletionConflict, UpdateConflict
from app.domain.job import EntryStatus, JobStatus
from app.domain.mapping import Direction
from app.ports import ServiceFigures

RECENTLY = timedelta(hours=1)
CONFLICTS = (UpdateConflict.code, DeletionConflict.code)


async def service_figures(engine: AsyncEngine, now: datetime) -> ServiceFigures:
    """The figures at this moment. Raises what the database says when it does not answer."""
    async with engine.connect() as connection:
        return ServiceFigures(
            jobs=await _jobs(connection, now),
            lag=await _lag(connection, now),
            couplings=await _couplings(connection),
            waiting=await _pairs(
                connection, select(waiting_record.c.mapping, func.count()).group_by(waiting_record.c.mapping)
            ),
            connections=await _pairs(
                connection, select(crm_connection.c.status, func.count()).group_by(crm_connection.c.status)
            ),
            entries=await _entries(connection),
            **await _single(connection, now),
        )


async def _pairs(connection: AsyncConnection, query: Any) -> dict[Any, Any]:
    return {row[0]: row[1] for row in await connection.execute(query)}


async def _jobs(connection: AsyncConnection, now: datetime) -> dict[JobStatus, int]:
    """One part for each of the indexes on them: the table holds a month of jobs."""
    parts = (
        synch_job.c.status == JobStatus.QUEUED,
        synch_job.c.status == JobStatus.RUNNING,
        and_(synch_job.c.finished_at.is_not(None), synch_job.c.finished_at > now - RECENTLY),
    )
    counted = [
        select(synch_job.c.status, func.count()).where(part).group_by(synch_job.c.status) for part in parts
    ]
    return {JobStatus(k): n for k, n in (await _pairs(connection, union_all(*counted))).items()}


async def _lag(connection: AsyncConnection, now: datetime) -> dict[tuple[str, str], timedelta]:
    sleeps = exists().where(
        job_queue_entry.c.company_id == mapping.c.company_id,
        job_queue_entry.c.mapping == mapping.c.name,
        job_queue_entry.c.status == EntryStatus.ON_HOLD_INACTIVITY,
    )
    enabled = and_(crm_connection.c.company_id == mapping.c.company_id, crm_connection.c.is_enabled)
    until = {Direction.TO_CRM: mapping.c.nav_synched_until, Direction.FROM_CRM: mapping.c.crm_synched_until}
    behind = [
        select(mapping.c.name, literal(way.value), func.min(case((sleeps, now), else_=read_until)))
        .join(crm_connection, enabled)
        .where(read_until.is_not(None), mapping.c.direction.in_((way, Direction.BIDIRECTIONAL)))
        .group_by(mapping.c.name)
        for way, read_until in until.items()
    ]
    rows = await connection.execute(union_all(*behind))
    return {(row[0], row[1]): max(now - row[2], timedelta()) for row in rows}


async def _couplings(connection: AsyncConnection) -> dict[tuple[str, str], int]:
    failed = and_(coupling.c.last_error.is_not(None), ~coupling.c.skipped)
    conflict = coupling.c.last_error["code"].astext.in_(CONFLICTS)
    state = case((conflict, "conflict"), else_="failed")
    # Each part has an index of its own, which holds nothing else.
    parts = (
        select(coupling.c.mapping, literal("skipped"), func.count())
        .where(coupling.c.skipped)
        .group_by(coupling.c.mapping),
        select(coupling.c.mapping, state, func.count()).where(failed).group_by(coupling.c.mapping, state),
    )
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in await connection.execute(union_all(*parts)):
        found[row[0], row[1]] += row[2]
    return found


async def _entries(connection: AsyncConnection) -> dict[EntryStatus, int]:
    enabled = and_(crm_connection.c.company_id == job_queue_entry.c.company_id, crm_connection.c.is_enabled)
    query = select(job_queue_entry.c.status, func.count()).join(crm_connection, enabled)
    found = await _pairs(connection, query.group_by(job_queue_entry.c.status))
    return {EntryStatus(status): number for status, number in found.items()}


async def _single(connection: AsyncConnection, now: datetime) -> dict[str, Any]:
    """The figures that are one number each."""
    since = func.coalesce(synch_job.c.not_before, synch_job.c.created_at)
    # Those of a connection that somebody disabled wait for that person.
    enabled = is_enabled(synch_job.c.company_id)
    oldest = select(func.min(since)).where(synch_job.c.status == JobStatus.QUEUED, since <= now, enabled)
    seen = select(func.count()).select_from(worker).where(worker.c.seen_at > func.now() - SEEN_WITHIN)
    tickets = select(func.count()).select_from(table("pgqueuer"))
    shut = select(func.count()).select_from(crm_breaker).where(crm_breaker.c.opened_at.is_not(None))
    row = (
        await connection.execute(
            select(*(query.scalar_subquery() for query in (oldest, seen, tickets, shut)))
        )
    ).one()
    waited = timedelta() if row[0] is None else max(now - row[0], timedelta())
    return {"oldest_waiting": waited, "workers": row[1], "tickets": row[2], "open_breakers": row[3]}
