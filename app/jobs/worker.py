"""A worker: listens for tickets, keeps its jobs alive, and ticks."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import structlog
from pgqueuer.domain.models import Job

from app.domain.breaker import BreakerPolicy
from app.domain.retention import Retention
from app.domain.retry import FIRST_DELAY
from app.jobs import schedule
from app.jobs.retention import clean_up
from app.jobs.runner import Runner
from app.jobs.tickets import Tickets
from app.jobs.watch import watch
from app.ports import Context, Handler
from app.use_cases.admission import probe_due

log = structlog.get_logger(__name__)
Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]
CLEANED_EVERY = timedelta(hours=1)
LONGEST_WAIT = 30.0  # seconds between two attempts to reach the database


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works."""

    concurrency: int = 4
    """Synch jobs at once."""
    heartbeat_timeout: timedelta = timedelta(seconds=30)
    """After so long without a sign of life a job is given to another worker."""
    poll: timedelta = timedelta(seconds=5)
    """How often it looks for what nobody announced: due entries, lost jobs."""
    watch: timedelta | None = None
    """How often it looks at both sides of every company for changes; None: it does not."""
    retry: timedelta = FIRST_DELAY
    """The delay before the second attempt of a job that does not say one itself."""
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    """When the jobs of a connection whose user CRM refuses wait, and how soon CRM is asked again."""
    retention: Retention = field(default_factory=Retention)
    """How long is kept what nobody needs for the work itself."""
    drain: timedelta = timedelta(seconds=25)
    """How long jobs have to end the page in flight when the worker stops."""


class Worker:
    """Runs synch jobs until told to stop. Several may run on one database, in one process or in many."""

    def __init__(
        self,
        connect: Connect,
        ctx: Context,
        handlers: Mapping[str, Handler],
        options: WorkerOptions | None = None,
        name: str | None = None,
    ) -> None:
        """`connect` opens a bare connection to the database of `ctx.uow`, past any pooler: it listens."""
        self.id: UUID = uuid4()
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._connect = connect
        self._ctx = ctx
        self._options = options or WorkerOptions()
        self._runner = Runner(
            ctx, handlers, self.id, retry=self._options.retry, breaker=self._options.breaker
        )
        self._stopping = asyncio.Event()
        self._queue: Tickets | None = None

    async def run(self) -> None:
        """Works until `stop` is called, or this is cancelled; either way jobs end their page in flight first."""
        beat = self._options.heartbeat_timeout / 4
        background = [
            asyncio.create_task(self._every(self._options.poll, self._tick)),
            asyncio.create_task(self._every(beat, self._runner.heartbeat)),
            asyncio.create_task(self._every(self._options.poll, self._probe)),
            asyncio.create_task(self._every(CLEANED_EVERY, self._clean_up)),
            asyncio.create_task(self._lose_patience()),
        ]
        if self._options.watch is not None:
            background.append(asyncio.create_task(self._every(self._options.watch, self._watch)))
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self.stop()
            await serving
            raise
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._leave()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Lets the jobs end their page in flight and `run` return. May be called from a signal handler."""
        self._stopping.set()
        self._runner.drain()
        if self._queue is not None:
            self._queue.stop()

    async def _serve(self) -> None:
        """Listens; when the database goes away, until it is back."""
        wait = 0.5
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            try:
                await self._listen()
            except Exception as error:
                if asyncio.get_running_loop().time() - began > LONGEST_WAIT:
                    wait = 0.5
                log.warning("the worker lost the database", exc_info=error, next_attempt_seconds=wait)
                await self._pause(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    async def _listen(self) -> None:
        connection = await self._connect()
        try:
            self._queue = Tickets(connection, self._options.concurrency, self._take)
            if not self._stopping.is_set():
                await self._queue.take(self._options.poll, self._options.heartbeat_timeout)
        finally:
            self._queue = None
            await connection.close(timeout=5)

    async def _take(self, ticket: Job) -> None:
        if ticket.payload is not None:
            await self._runner.execute(UUID(bytes=ticket.payload))

    async def _tick(self) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.uow() as tx:
            await tx.workers.heartbeat(self.id, self.name, now)
        if self._stopping.is_set():
            return
        await schedule.tick(self._ctx, self._options.heartbeat_timeout)

    async def _clean_up(self) -> None:
        await clean_up(self._ctx, self._options.retention)

    async def _watch(self) -> None:
        if self._options.watch is not None and not self._stopping.is_set():
            await watch(self._ctx, self._options.watch, self._options.breaker)

    async def _probe(self) -> None:
        if not self._stopping.is_set():
            await probe_due(self._ctx, self._options.breaker)

    async def _every(self, period: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        """Does it again and again; what went wrong once is tried again."""
        while True:
            try:
                await work()
            except Exception as error:
                log.warning("the worker could not do its round", exc_info=error)
            await asyncio.sleep(period.total_seconds())

    async def _lose_patience(self) -> None:
        """Interrupts the jobs that did not come to the end of their page in time."""
        await self._stopping.wait()
        await asyncio.sleep(self._options.drain.total_seconds())
        self._runner.interrupt()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _leave(self) -> None:
        with suppress(Exception):  # the database may be what made us stop
            async with self._ctx.uow() as tx:
                await tx.workers.leave(self.id)
