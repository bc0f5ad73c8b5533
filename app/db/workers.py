"""The workers and their signs of life."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import worker
from app.ports import WorkerSeen


class SqlWorkers:
    """The workers on this database."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def heartbeat(self, worker_id: UUID, name: str, now: datetime) -> None:
        """A sign of life of a worker."""
        seen = insert(worker).values(id=worker_id, name=name, started_at=now, seen_at=now)
        await self._connection.execute(
            seen.on_conflict_do_update(index_elements=[worker.c.id], set_={"seen_at": now})
        )

    async def leave(self, worker_id: UUID) -> None:
        """The worker stops."""
        await self._connection.execute(delete(worker).where(worker.c.id == worker_id))

    async def seen_since(self, moment: datetime) -> list[WorkerSeen]:
        """The workers that gave a sign of life since then."""
        query = select(worker).where(worker.c.seen_at >= moment).order_by(worker.c.started_at, worker.c.id)
        return [
            WorkerSeen(row.id, row.name, row.started_at, row.seen_at)
            for row in await self._connection.execute(query)
        ]

    async def forget(self, before: datetime) -> int:
        """Forgets workers not seen since then; how many."""
        return (await self._connection.execute(delete(worker).where(worker.c.seen_at < before))).rowcount
