"""Puts the parts together: the only module that knows NAV, CRM and our memory at once."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.crm.connector import Connector
from app.db import crm_shares
from app.db.embedded import embedded_unless_named
from app.db.engine import connect, create_engine
from app.db.migrate import upgrade
from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company, ConnectionSetup, NavKind
from app.domain.errors import NavUnavailable
from app.jobs.handlers import ACCOUNT_STATISTICS, SYNCHRONIZE, registry
from app.jobs.worker import Worker, WorkerOptions
from app.nav.store import EmbeddedNav
from app.ports import ConnectionReport, Context, CrmSide, Handler, NavSide
from app.settings import Settings, encryption_keys
from app.use_cases.run import run_job
from app.use_cases.statistics import run_account_statistics

log = structlog.get_logger(__name__)
SHARED_EVERY = timedelta(seconds=5)


class SystemClock:
    """The time of this machine, in UTC."""

    def now(self) -> datetime:
        """Now."""
        return datetime.now(UTC)


def time_ordered_id() -> UUID:
    """A UUID of version 7 (RFC 9562): milliseconds first, so that rows written together lie together."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


class Sides:
    """Opens the two sides of a company."""

    def __init__(self, engine: AsyncEngine, connector: Connector) -> None:
        self._engine = engine
        self._connector = connector

    def nav(self, company: Company) -> NavSide:
        """The NAV side: records kept here. Raises NavUnavailable for a connector that is not built in."""
        kind = company.nav.get("kind")
        if kind != NavKind.EMBEDDED:
            raise NavUnavailable(
                f"Company {company.name} asks for the NAV connector {kind}, which this version does not have.",
                fix=f'PATCH /api/v1/companies/{company.name} with "nav": {{"kind": "embedded"}} keeps them here.',
            )
        return EmbeddedNav(self._engine, company)

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side behind the connection; the same client as long as the setup stays."""
        return self._connector.open(company.id, connection)

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection step by step."""
        return await self._connector.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Closes what was opened for the company."""
        await self._connector.forget(company.id)


async def share_lanes(engine: AsyncEngine, connector: Connector, clock: SystemClock) -> None:
    """Keeps the requests to each organization within its limit, however many processes there are: each takes
    an equal share, and learns within seconds that others came or went. Runs until it is cancelled."""
    process_id = time_ordered_id()
    try:
        while True:
            organizations = connector.organizations()
            try:
                async with engine.begin() as connection:
                    processes = await crm_shares.register(
                        connection, process_id, organizations, clock.now(), 3 * SHARED_EVERY
                    )
            except (OSError, SQLAlchemyError) as error:
                log.warning("the shares of CRM requests could not be renewed", error=str(error))
            else:
                for name, number in processes.items():
                    organizations[name].resize(max(1, connector.lanes // number))
            await asyncio.sleep(SHARED_EVERY.total_seconds())
    finally:
        with suppress(OSError, SQLAlchemyError):
            async with engine.begin() as connection:
                await crm_shares.leave(connection, process_id)


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
        )
        return Worker(lambda: connect(self.address), self.context, HANDLERS, options)


HANDLERS: Mapping[str, Handler] = registry(
    ((SYNCHRONIZE,), run_job), ((ACCOUNT_STATISTICS,), run_account_statistics)
)


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Opens the database (starting the embedded one where none is named), brings it to the newest schema, and
    closes everything again.

    Raises SecretKeysError, and what the database says when it cannot be reached.
    """
    vault = Vault(encryption_keys(settings))
    embedded = await asyncio.to_thread(embedded_unless_named, settings)
    try:
        named = settings.database_url.get_secret_value() if settings.database_url else None
        address = named or (embedded.url if embedded else "")
        await upgrade(address)
        engine = create_engine(address, pool_size=settings.database_pool_size)
        connector = Connector(lanes=settings.crm_concurrency, allowed_hosts=settings.allowed_outbound_hosts)
        context = Context(
            SqlUnitOfWork(engine, vault), Sides(engine, connector), SystemClock(), time_ordered_id
        )
        sharing = asyncio.create_task(share_lanes(engine, connector, SystemClock()))
        try:
            yield Parts(settings, address, engine, connector, context)
        finally:
            sharing.cancel()
            await asyncio.gather(sharing, return_exceptions=True)
            await connector.aclose()
            await engine.dispose()
    finally:
        if embedded is not None:
            await asyncio.to_thread(embedded.stop)


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Runs a worker beside something else in this process, and lets it end its pages in flight."""
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await task
