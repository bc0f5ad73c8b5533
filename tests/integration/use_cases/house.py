"""A company with everything real behind it: our memory and its NAV records in PostgreSQL, the sandbox as its CRM."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette

from app.crm.connector import Connector
from app.domain.company import Company, ConnectionSetup
from app.nav.store import EmbeddedNav
from app.ports import ConnectionReport, Context, CrmSide, NavSide
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Organization, create_sandbox
from app.use_cases.companies import create_company
from app.use_cases.connection import enable_connection, save_connection
from tests.crm_sandbox import QUICK, Wire
from tests.integration.db.memory import a_memory

CRM = "http://localhost:8089"


class Sides:
    """The two sides of a company, as the service opens them."""

    def __init__(self, engine: AsyncEngine, connector: Connector) -> None:
        self._engine = engine
        self._connector = connector

    def nav(self, company: Company) -> NavSide:
        """The records kept here."""
        return EmbeddedNav(self._engine, company)

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The sandbox."""
        return self._connector.open(company.id, connection)

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection."""
        return await self._connector.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Closes what was opened."""
        await self._connector.forget(company.id)


class SetClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        """The time it was set to."""
        return self.time

    def pass_by(self, **duration: float) -> None:
        """Lets time pass."""
        self.time += timedelta(**duration)


@dataclass(slots=True)
class House:
    """What a test of a use case works with."""

    ctx: Context
    clock: SetClock
    sandbox: Starlette
    company: Company
    connector: Connector

    @property
    def organization(self) -> Organization:
        """The organization behind the sandbox."""
        organization: Organization = self.sandbox.state.organization
        return organization

    async def reload(self) -> Company:
        """The company as it is now."""
        async with self.ctx.uow() as tx:
            self.company = await tx.companies.get(self.company.name)
        return self.company

    async def connect(self) -> None:
        """Saves a connection to the sandbox and enables it."""
        await save_connection(self.ctx, self.company, a_connection(), whole=True)
        await enable_connection(self.ctx, self.company)
        await self.reload()

    async def nav(self) -> NavSide:
        """The company's NAV side."""
        return self.ctx.sides.nav(await self.reload())


def a_connection(**changes: Any) -> dict[str, Any]:
    """What a person enters to reach the sandbox."""
    login = {
        "type": "client_secret",
        "tenant_id": DEFAULT_TENANT,
        "client_id": DEFAULT_CLIENT,
        "client_secret": DEFAULT_SECRET,
        "authority": CRM,
    }
    return {"server_url": CRM, "authentication": login | changes.pop("authentication", {})} | changes


@asynccontextmanager
async def a_house(
    engine: AsyncEngine,
    company: dict[str, Any] | None,
    *,
    wire: Callable[[Starlette], Wire] = Wire,
    **sandbox: Any,
) -> AsyncIterator[House]:
    """A house whose company and sandbox have these properties, with that way from one to the other; its company is
    in the database already if none is given."""
    crm = create_sandbox(**sandbox)
    connector = Connector(transport=lambda: wire(crm), patience=QUICK)
    clock = SetClock()
    ctx = Context(a_memory(engine), Sides(engine, connector), clock, uuid4)
    try:
        if company is not None:
            await create_company(ctx, **{"name": "cronus", "display_name": "CRONUS"} | company)
        async with ctx.uow() as tx:
            present = await tx.companies.get("cronus" if company is None else company.get("name", "cronus"))
        yield House(ctx, clock, crm, present, connector)
    finally:
        await connector.aclose()
