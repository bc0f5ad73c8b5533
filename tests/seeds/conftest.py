"""Companies to work in: connected ones, set up ones, and ones with a worker.

Setting a company up takes longer than most tests, so it is done once for the session and cloned with its database;
CRM begins anew for each test, with the same ids.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.crm.connector import Connector
from app.db.clock import DatabaseClock
from app.db.engine import create_engine
from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.ids import time_ordered_id
from app.main import create_app, door
from app.ports import Context
from app.probes import vitals
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, create_sandbox
from app.sandbox.imports import Solution
from app.sandbox.imports import read as read_solution
from app.settings import Settings
from app.solution import build
from app.wiring import Parts, Sides, Upkeep, working
from tests.crm_sandbox import served
from tests.database import TestServer, name_of
from tests.integration.jobs.workers import SystemClock
from tests.seeds.world import ADDRESS, NAV_CLIENT, SALESPERSON, USER, CrmPeople, World

ADMIN_KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
SETUP = "crm-connection/use-default-synchronization-setup"


@pytest.fixture(scope="session")
async def organization() -> AsyncIterator[CrmPeople]:
    """One CRM for the session, at one address."""
    sandbox = create_sandbox()
    async with served(sandbox) as url:
        people = CrmPeople(sandbox, url)
        yield people
        await people.aclose()


@pytest.fixture
async def crm(organization: CrmPeople) -> CrmPeople:
    """CRM as new."""
    await organization.begin()
    return organization


@pytest.fixture(scope="session")
async def set_up(
    test_server: TestServer, template: str, service: "Service", organization: CrmPeople
) -> AsyncIterator[str]:
    """Name of a database whose company is connected and set up by default, with one coupled salesperson."""
    async with test_server.clone(template) as address:
        await organization.begin()
        async with service.world(address, organization) as world:
            await connect(world)
            await world.post(SETUP)
            await world.new("salespeople", SALESPERSON, Name="Peter Saddow")
            await world.put(f"nav/salespeople/{SALESPERSON}/coupling", {"crm_id": USER})
            # Jobs run when a test says so, not because the session has lasted longer than their interval.
            tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
            for entry in await world.items("job-queue-entries"):
                await world.patch(f"job-queue-entries/{entry['id']}", {"earliest_start_at": tomorrow})
        yield name_of(address)


class Service:
    """The service of the session; each test puts a database of its own behind it.

    Routes are compiled once, and CRM is asked once what entities it has.
    """

    def __init__(self) -> None:
        self.app = create_app(Settings(_env_file=None))
        self.connector = Connector()
        self.http = httpx.AsyncClient()

    async def aclose(self) -> None:
        """Closes its connections."""
        await self.connector.aclose()
        await self.http.aclose()

    @asynccontextmanager
    async def opened(self, address: str, connector: Connector | None = None) -> AsyncIterator[Parts]:
        """The parts on a database, behind the door of the application."""
        settings = Settings(
            _env_file=None,
            database_url=address,
            bootstrap_api_key=ADMIN_KEY,
            secret_keys=FERNET_KEY,
            worker_poll_seconds=0.2,
            worker_watch_seconds=0,
        )
        engine = create_engine(address, pool_size=settings.database_pool_size)
        connector = connector or self.connector
        uow = SqlUnitOfWork(engine, Vault((FERNET_KEY,)))
        context = Context(uow, Sides(engine, connector), SystemClock(), time_ordered_id)
        try:
            self.app.state.door = door(settings, context, self.http)
            parts = Parts(settings, address, engine, connector, context)
            self.app.state.vitals = vitals(parts, lambda: False)
            yield parts
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def world(
        self, address: str, crm: CrmPeople, connector: Connector | None = None, *, worker: bool = False
    ) -> AsyncIterator[World]:
        """What a test works with, with or without a worker."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with (
            self.opened(address, connector) as parts,
            working(parts.worker()) if worker else nullcontext(),
            httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers) as http,
        ):
            upkeep = Upkeep(parts.engine, parts.connector, parts.context, DatabaseClock())
            yield World(http, crm, upkeep.tell)


@pytest.fixture(scope="session")
async def service() -> AsyncIterator[Service]:
    """The service of the session."""
    service = Service()
    yield service
    await service.aclose()


def a_connection(url: str) -> dict[str, object]:
    """What a person enters to reach CRM at that address."""
    login = {
        "type": "client_secret",
        "tenant_id": DEFAULT_TENANT,
        "client_id": DEFAULT_CLIENT,
        "client_secret": DEFAULT_SECRET,
        "authority": url,
    }
    return {"server_url": url, "authentication": login}


async def connect(world: World) -> None:
    """A company whose connection is enabled; nothing is set up."""
    await world.post("/api/v1/companies", {"name": "cronus", "nav_web_client_url": NAV_CLIENT})
    await world.put("crm-connection", a_connection(world.crm.url))
    await world.patch("crm-connection", {"is_enabled": True})


@pytest.fixture
async def connected(database: str, service: Service, crm: CrmPeople) -> AsyncIterator[World]:
    """A connected company with nothing else."""
    async with service.world(database, crm) as world:
        await connect(world)
        yield world


@pytest.fixture
async def world(
    test_server: TestServer, set_up: str, service: Service, crm: CrmPeople
) -> AsyncIterator[World]:
    """A company that is set up by default, with salesperson PS coupled."""
    async with test_server.clone(set_up) as address, service.world(address, crm) as world:
        yield world


@pytest.fixture
async def at_work(
    test_server: TestServer, set_up: str, service: Service, crm: CrmPeople
) -> AsyncIterator[World]:
    """The same with a worker, for calls that answer with a synch job."""
    async with test_server.clone(set_up) as address, service.world(address, crm, worker=True) as world:
        yield world


@asynccontextmanager
async def _with_solutions(
    database: str, service: Service, people: CrmPeople, solutions: tuple[Solution, ...], mappings: list[str]
) -> AsyncIterator[World]:
    """A company set up on a CRM into which these solutions were imported, and Microsoft's never."""
    settings = people.organization.settings
    settings.solution_installed, settings.solutions = False, solutions
    connector = Connector()
    try:
        await people.begin()
        async with service.world(database, people, connector) as world:
            await connect(world)
            await world.post(SETUP, {"mappings": mappings})
            yield world
    finally:
        await connector.aclose()
        settings.solution_installed, settings.solutions = True, ()


@pytest.fixture
async def without_solution(database: str, service: Service, organization: CrmPeople) -> AsyncIterator[World]:
    """A company set up on a CRM that the integration solution was never imported into."""
    mappings = ["SALESPEOPLE", "CUSTOMER", "CONTACT", "CURRENCY"]
    async with _with_solutions(database, service, organization, (), mappings) as world:
        yield world


@pytest.fixture
async def our_solution(database: str, service: Service, organization: CrmPeople) -> AsyncIterator[World]:
    """A company set up on a CRM into which the solution that navcrm writes was imported, and no other."""
    solutions = (read_solution(build("1.0")),)
    mappings = ["SALESPEOPLE", "CUSTOMER", "CONTACT", "CURRENCY"]
    async with _with_solutions(database, service, organization, solutions, mappings) as world:
        await world.new("salespeople", SALESPERSON, Name="Peter Saddow")
        await world.put(f"nav/salespeople/{SALESPERSON}/coupling", {"crm_id": USER})
        yield world
