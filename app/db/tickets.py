"""Tickets: "run that synch job", carried by the queue and delivered at least once.

They are written in the caller's transaction, as statements of its own SQLAlchemy connection: on the raw
connection beneath it they would escape a rollback while no other statement has begun the transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.ports import TICKET

_QUEUE = QueryQueueBuilder()
_FORGET = (
    text("DELETE FROM pgqueuer_log WHERE created < now() - CAST(:older_than AS interval)"),
    text("DELETE FROM pgqueuer_statistics WHERE created < now() - CAST(:older_than AS interval)"),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job to run after so long; a higher priority goes first. Of those with the same `once` one is kept."""

    job_id: UUID
    delay: timedelta = timedelta()
    priority: int = 0
    once: str | None = None


async def send(connection: AsyncConnection, tickets: Sequence[Ticket]) -> int:
    """Lets the queue carry these tickets when the transaction commits; how many were not there already."""
    if not tickets:
        return 0
    written = await connection.exec_driver_sql(
        _QUEUE.build_enqueue_query("skip"),
        (
            [ticket.priority for ticket in tickets],
            [TICKET] * len(tickets),
            [ticket.job_id.bytes for ticket in tickets],
            [max(ticket.delay, timedelta()) for ticket in tickets],
            [ticket.once for ticket in tickets],
            [None] * len(tickets),
        ),
    )
    return len(written.all())


async def forget_history(connection: AsyncConnection, older_than: timedelta) -> None:
    """Empties the queue's own log, which only ever grows; the history of jobs is ours."""
    for statement in _FORGET:
        await connection.execute(statement, {"older_than": older_than})
