"""The queue of tickets as a worker sees it: it takes one only when it can run it at once.

Left to itself the library takes tickets ahead: its limit may not be less than two. A ticket taken ahead lies with a
busy worker while others idle.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Context, Job
from pgqueuer.domain.types import JobId
from pgqueuer.ports.driver import NotifyCallback

from app.ports import TICKET

Run = Callable[[Job], Awaitable[None]]


class Tickets(QueueManager):
    """The library's queue, with room for so many tickets as are run at once."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", room: int, run: Run) -> None:
        """`run` runs the job of a ticket."""
        super().__init__(Queries(Driver(connection, self._is_news)))
        self.entrypoint(TICKET, accepts_context=False)(run)
        self._room = room
        self._moved = asyncio.Event()

    async def take(self, poll: timedelta, heartbeat_timeout: timedelta) -> None:
        """Takes tickets until told to stop; looks for those that nobody announced every `poll`."""
        await self.run(
            batch_size=1,
            dequeue_timeout=poll,
            heartbeat_timeout=heartbeat_timeout,
            shutdown_on_listener_failure=True,
        )

    def stop(self) -> None:
        """Takes no more tickets; `take` returns when the last one was run."""
        self.shutdown.set()
        self._moved.set()

    async def fetch_jobs(
        self, batch_size: int, global_concurrency_limit: int | None, heartbeat_timeout: timedelta
    ) -> AsyncGenerator[Job, None]:
        """The tickets that are there, each when there is room for it."""
        fetched = super().fetch_jobs(batch_size, global_concurrency_limit, heartbeat_timeout)
        async with aclosing(fetched) as tickets:
            while await self._has_room():
                ticket = await anext(tickets, None)
                if ticket is None:
                    return
                yield ticket

    def forget_job(self, job_id: JobId, context: Context, task: asyncio.Task[None]) -> None:
        """A ticket was run: there is room for another."""
        super().forget_job(job_id, context, task)
        self._moved.set()

    @property
    def _is_full(self) -> bool:
        return len(self.job_context) >= self._room

    async def _has_room(self) -> bool:
        """Waits for it; False when told to stop."""
        while self._is_full and not self.shutdown.is_set():
            self._moved.clear()
            await self._moved.wait()
        return not self.shutdown.is_set()

    def _is_news(self, payload: str | bytes | bytearray) -> bool:
        """Whether something happened that may be of use. Tickets that are taken or have been run are not; new ones
        are looked for as soon as there is room."""
        event = json.loads(payload)
        if event.get("type") != "table_changed_event":
            return True
        return event.get("operation") == "insert" and not self._is_full


class Driver(AsyncpgDriver):
    """The library's connection, which passes on only news."""

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        is_news: Callable[[str | bytes | bytearray], bool],
    ) -> None:
        super().__init__(connection)
        self._is_news = is_news

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Listens for news."""

        def hear(payload: str | bytes | bytearray) -> None:
            if self._is_news(payload):
                callback(payload)

        await super().add_listener(channel, hear)
