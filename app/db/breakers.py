"""The circuit breakers of the connections, shared by all processes."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.breaker_rows import decode, encode
from app.db.job_ends import send_waiting
from app.db.tables import crm_breaker, crm_connection
from app.domain.breaker import CLOSED, Breaker
from app.ports import CompanyBreaker


class SqlBreakers:
    """At most one breaker for a connection; it goes with it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, company_id: int) -> Breaker:
        """How it stands; closed where nothing is known."""
        query = select(crm_breaker).where(crm_breaker.c.company_id == company_id)
        row = (await self._connection.execute(query)).one_or_none()
        return CLOSED if row is None else decode(row)

    async def locked(self, company_id: int) -> Breaker | None:
        """How it stands, locked until this transaction ends; None when there is no connection."""
        known = select(crm_connection.c.company_id, literal(0)).where(
            crm_connection.c.company_id == company_id
        )
        made = insert(crm_breaker).from_select(["company_id", "failures"], known)
        await self._connection.execute(made.on_conflict_do_nothing())
        query = select(crm_breaker).where(crm_breaker.c.company_id == company_id).with_for_update()
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else decode(row)

    async def save(self, company_id: int, breaker: Breaker) -> None:
        """Keeps a breaker that was locked."""
        changed = update(crm_breaker).where(crm_breaker.c.company_id == company_id).values(encode(breaker))
        await self._connection.execute(changed)

    async def due(self, now: datetime, limit: int) -> Sequence[CompanyBreaker]:
        """Open breakers of enabled connections whose probe has come due; locked, skipping what another worker
        has locked."""
        query = (
            select(crm_breaker)
            .join(crm_connection, crm_connection.c.company_id == crm_breaker.c.company_id)
            .where(crm_connection.c.is_enabled, crm_breaker.c.probe_at <= now)
            .order_by(crm_breaker.c.probe_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=crm_breaker)
        )
        return [CompanyBreaker(row.company_id, decode(row)) for row in await self._connection.execute(query)]

    async def close(self, company_id: int, now: datetime) -> bool:
        """Lets the jobs of the company go on; False when it was not open."""
        closed = (
            delete(crm_breaker)
            .where(crm_breaker.c.company_id == company_id)
            .returning(crm_breaker.c.opened_at)
        )
        if (await self._connection.execute(closed)).scalar_one_or_none() is None:
            return False
        await send_waiting(self._connection, company_id, now)
        return True
