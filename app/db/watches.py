"""Which companies are to be looked at for changes, and where each mapping's changes begin."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.breaker_rows import let_in
from app.db.clock import was_set_back
from app.db.job_queue import starts_on_change
from app.db.job_rows import NOT_ENDED
from app.db.tables import coupling, crm_connection, job_queue_entry, synch_job
from app.db.tables import integration_table_mapping as mapping
from app.db.waiting import HAS_RELEASED
from app.domain.mapping import Direction
from app.ports import Watch


class SqlWatches:
    """What the watch for changes needs to know."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(self, now: datetime, before: datetime, limit: int) -> list[int]:
        """Takes companies whose connection is enabled, whom CRM lets in, and that nobody looked at since `before`;
        their ids.

        Another worker that asks meanwhile gets others.
        """
        due = (
            select(crm_connection.c.company_id)
            .where(
                crm_connection.c.is_enabled,
                let_in(crm_connection.c.company_id),
                or_(
                    crm_connection.c.watched_at.is_(None),
                    crm_connection.c.watched_at <= before,
                    was_set_back(crm_connection.c.watched_at, now),
                ),
            )
            .order_by(crm_connection.c.watched_at.nulls_first())
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = (
            update(crm_connection)
            .where(crm_connection.c.company_id.in_(due))
            .values(watched_at=now)
            .returning(crm_connection.c.company_id)
        )
        return list((await self._connection.execute(statement)).scalars())

    async def of_company(self, company_id: int, now: datetime, ended_before: datetime) -> Sequence[Watch]:
        """The mappings with an entry that a change would start, unless one of their jobs waits, runs or
        ended just now."""
        job, entry = synch_job.c, job_queue_entry.c
        at_work = exists().where(
            job.company_id == mapping.c.company_id, job.mapping == mapping.c.name, job.status.in_(NOT_ENDED)
        )
        just_ended = exists().where(
            job.company_id == mapping.c.company_id,
            job.mapping == mapping.c.name,
            job.finished_at > ended_before,
            ~was_set_back(job.finished_at, now),
        )
        startable = exists().where(
            entry.company_id == mapping.c.company_id,
            entry.mapping == mapping.c.name,
            starts_on_change(now),
        )
        coupled = exists().where(
            coupling.c.company_id == mapping.c.company_id, coupling.c.mapping == mapping.c.name
        )
        query = select(
            mapping.c.name,
            mapping.c.nav_table,
            mapping.c.crm_entity,
            mapping.c.direction,
            mapping.c.nav_watermark,
            mapping.c.crm_watermark,
            coupled.label("is_coupled"),
            HAS_RELEASED.label("has_released"),
        ).where(
            mapping.c.company_id == company_id,
            mapping.c.option_attribute.is_(None),
            startable,
            ~at_work,
            ~just_ended,
        )
        return [
            Watch(
                mapping=row.name,
                nav_table=row.nav_table,
                crm_entity=row.crm_entity,
                direction=Direction(row.direction),
                nav_watermark=row.nav_watermark,
                crm_watermark=row.crm_watermark,
                is_coupled=row.is_coupled,
                has_released=row.has_released,
            )
            for row in await self._connection.execute(query)
        ]
