"""Puts the parts together: the only module that knows NAV, CRM and our memory at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.crm.client import PATIENCE, Contact, Patience
from app.crm.connector import Connector
from app.db import crm_shares, secrets
from app.db.clock import DatabaseClock
from app.db.embedded import embedded_unless_named
from app.db.engine import connect, create_engine
from app.db.idempotency import mark_begun
from app.db.migrate import upgrade
from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.breaker import BreakerPolicy
from app.domain.company import Company, ConnectionSetup, NavKind
from app.domain.errors import IntegrationError, NavUnavailable
from app.domain.ids import time_ordered_id
from app.domain.retention import Retention
from app.jobs.handlers import HANDLERS
from app.jobs.worker import Worker, WorkerOptions
from app.nav.store import EmbeddedNav
from app.ports import ConnectionReport, Context, CrmSide, NavSide
from app.precautions import require_safe
from app.settings import Settings, encryption_keys
from app.telemetry.tracing import configure_tracing, trace_statements

log = structlog.get_logger(__name__)
UPKEEP_EVERY = timedelta(seconds=5)
LISTENER_TIMEOUT = 15.0
"""Seconds for a statement on the connection that a worker listens on: on one that nobody answers any more it would wait
as long as TCP does, take no job and not stop."""
TOLD_AGAIN_AFTER = 30.0  # seconds, with the news that nothing changed


class Sides:
    """Opens the two sides of a company. `numbers` is where long transactions draw the numbers of new NAV records: a
    connection beside the pool, since each of them has one of the pool already."""

    def __init__(self, engine: AsyncEngine, connector: Connector, numbers: AsyncEngine | None = None) -> None:
        self._engine = engine
        self._numbers = numbers
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._connector = connector

    def nav(self, company: Company) -> NavSide:
        """The NAV side: records kept here. Raises NavUnavailable for a connector that is not built in."""
        kind = company.nav.get("kind")
        if kind != NavKind.EMBEDDED:
            raise NavUnavailable(
                f"Company {company.name} asks for the NAV connector {kind}, which this version does not have.",
                fix=f'PATCH /api/v1/companies/{company.name} with "nav": {{"kind": "embedded"}} keeps them here.',
            )
        return EmbeddedNav(self._engine, company, self._reading, self._numbers)

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side behind the connection; the same client as long as the setup stays."""
        return self._connector.open(company.id, connection)

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection step by step."""
        return await self._connector.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Closes what was opened for the company."""
        await self._connector.forget(company.id)


class Upkeep:
    """What this process tells the others every few seconds, and learns from them: what time it is, how many share
    the requests that an organization takes at a time, and what the latest contact with each CRM showed."""

    def __init__(
        self,
        engine: AsyncEngine,
        connector: Connector,
        context: Context,
        clock: DatabaseClock,
        every: timedelta = UPKEEP_EVERY,
    ) -> None:
        self._engine = engine
        self._connector = connector
        self._context = context
        self._clock = clock
        self._every = every
        self._process_id = context.new_id()
        self._told: dict[int, Contact] = {}

    async def run(self) -> None:
        """Until it is cancelled: what went wrong once is tried again, a database that is away or a fault of ours."""
        try:
            while True:
                try:
                    await self._clock.look(self._engine)
                    await self.share()
                    await self.tell()
                except (OSError, SQLAlchemyError, IntegrationError) as error:
                    log.warning("the upkeep of the CRM connections failed", error=str(error))
                except Exception as error:
                    log.error("the upkeep of the CRM connections failed unexpectedly", exc_info=error)
                await asyncio.sleep(self._every.total_seconds())
        finally:
            with suppress(OSError, SQLAlchemyError):
                async with self._engine.begin() as connection:
                    await crm_shares.leave(connection, self._process_id)

    async def share(self) -> None:
        """Takes our share of the requests that each organization takes at a time."""
        organizations = self._connector.organizations()
        if not organizations:
            return
        now = self._context.clock.now()
        async with self._engine.begin() as connection:
            processes = await crm_shares.register(
                connection, self._process_id, organizations, now, 3 * self._every
            )
        for name, number in processes.items():
            organizations[name].resize(max(1, self._connector.lanes // number))

    async def tell(self) -> None:
        """Writes down what the latest contacts showed, where that is news."""
        news = {c: contact for c, contact in self._connector.contacts().items() if self._is_news(c, contact)}
        if not news:
            return
        now, ticks = self._context.clock.now(), time.monotonic()
        async with self._context.uow() as tx:
            for company_id, contact in news.items():
                at = now - timedelta(seconds=ticks - contact.at)
                await tx.connections.contacted(company_id, contact.error, at)
        self._told |= news

    def _is_news(self, company_id: int, contact: Contact) -> bool:
        told = self._told.get(company_id)
        return told is None or contact.error != told.error or contact.at - told.at >= TOLD_AGAIN_AFTER


@dataclass(frozen=True, slots=True)
class Parts:
    """What the doors work with."""

    settings: Settings
    address: str
    engine: AsyncEngine
    connector: Connector
    context: Context

    def worker(self) -> Worker:
        """A worker on these parts, not yet running."""
        settings = self.settings
        options = WorkerOptions(
            concurrency=settings.worker_concurrency,
            heartbeat_timeout=timedelta(seconds=settings.worker_heartbeat_timeout_seconds),
            poll=timedelta(seconds=settings.worker_poll_seconds),
            watch=timedelta(seconds=settings.worker_watch_seconds) if settings.worker_watch_seconds else None,
            retry=timedelta(seconds=settings.worker_retry_seconds),
            breaker=BreakerPolicy(first_probe=timedelta(seconds=settings.crm_probe_seconds)),
            retention=Retention(
                jobs=timedelta(days=settings.keep_jobs_days),
                history=timedelta(days=settings.keep_history_days),
                deletions=timedelta(days=settings.keep_deletions_days),
            ),
        )
        return Worker(lambda: connect(self.address, LISTENER_TIMEOUT), self.context, HANDLERS, options)


def _patience(settings: Settings) -> Patience:
    """How long a request to CRM is tried. A batch has more time with every part, as much as by default in relation."""
    read = settings.crm_timeout_seconds
    return Patience(
        read=read,
        read_per_part=PATIENCE.read_per_part * read / PATIENCE.read,
        first_wait=settings.crm_retry_seconds,
    )


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Opens the database (starting the embedded one where none is named), brings it to the newest schema, and
    closes everything again.

    Raises SettingsRefused, TracingUnavailable, and what the database says when it cannot be reached.
    """
    require_safe(settings)
    vault = Vault(encryption_keys(settings))
    stop_tracing = configure_tracing(settings.otlp_endpoint) if settings.otlp_endpoint is not None else None
    embedded = await asyncio.to_thread(embedded_unless_named, settings)
    try:
        named = settings.database_url.get_secret_value() if settings.database_url else None
        address = named or (embedded.url if embedded else "")
        await upgrade(address)
        engine = create_engine(address, pool_size=settings.database_pool_size)
        mark_begun(engine)
        if settings.otlp_endpoint is not None:
            trace_statements(engine)
        connector = Connector(
            lanes=settings.crm_concurrency,
            allowed_hosts=settings.allowed_outbound_hosts,
            patience=_patience(settings),
        )
        clock = DatabaseClock()
        await clock.look(engine)
        numbers = create_engine(address, pool_size=1)
        sides = Sides(engine, connector, numbers)
        context = Context(SqlUnitOfWork(engine, vault), sides, clock, time_ordered_id)
        upkeep = asyncio.create_task(Upkeep(engine, connector, context, clock).run())
        try:
            yield Parts(settings, address, engine, connector, context)
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await connector.aclose()
            await numbers.dispose()
            await engine.dispose()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)
        if stop_tracing is not None:
            await asyncio.to_thread(stop_tracing)


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Runs a worker beside something else in this process, and lets it end its pages in flight."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task


async def rotate_secrets(settings: Settings) -> secrets.Rotation:
    """Encrypts every stored secret with the first key of the settings; raises as `open_parts` does."""
    async with open_parts(settings) as parts, parts.engine.begin() as connection:
        return await secrets.rotate(connection, Vault(encryption_keys(settings)))
