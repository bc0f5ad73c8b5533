"""The service behind its door: HTTP in, PostgreSQL real.

Setting a company up takes longer than most tests, so it is done once for the session and cloned with its database;
CRM begins anew for each test, at the same address and with the same ids.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from app.main import create_app, opened
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Organization, create_sandbox
from app.sandbox.organization import Settings as CrmSettings
from app.settings import Settings
from tests.crm_sandbox import served
from tests.database import TestServer, name_of
from tests.declared import check_answer

ADMIN_KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
ADDRESS = "http://navcrm.test"
COMPANY = "/api/v1/companies/cronus"
CONNECTION = f"{COMPANY}/crm-connection"


def a_service(database: str) -> Settings:
    """The settings of a service on a database."""
    return Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        worker_watch_seconds=0,  # the tests say when what runs
    )


@pytest.fixture
def settings(database: str) -> Settings:
    """The settings of a service on the database of the test."""
    return a_service(database)


@pytest.fixture(scope="session")
def one_app() -> FastAPI:
    """The application of the session: its routes are compiled once. Each test opens it with settings of its own."""
    return create_app(a_service("postgresql://nowhere.invalid/none"))


@pytest.fixture
async def app(one_app: FastAPI, settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its door open; no worker runs."""
    async with opened(one_app, settings):
        yield one_app


def for_a_server(app: FastAPI) -> Starlette:
    """The application for a server of a test: it is open already, and who opened it closes it."""
    return Starlette(routes=[Mount("/", app)])


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with client_of(app, None) as client:
        yield client


@pytest.fixture
async def admin(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an admin key."""
    async with client_of(app, ADMIN_KEY) as client:
        yield client


def client_of(app: FastAPI, key: str | None) -> httpx.AsyncClient:
    """A client of the application; what goes wrong in it comes back as an answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    hooks = {"response": [_compare]}
    return httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers, event_hooks=hooks)


async def _compare(answer: httpx.Response) -> None:
    """Every answer that a test gets is one that the contract declares."""
    await answer.aread()
    check_answer(answer)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A CRM over HTTP on this machine."""

    url: str
    organization: Organization

    def setup(self, **changes: str) -> dict[str, object]:
        """A connection setup for it, as it is sent."""
        login = {
            "type": "client_secret",
            "tenant_id": DEFAULT_TENANT,
            "client_id": DEFAULT_CLIENT,
            "client_secret": DEFAULT_SECRET,
            "authority": self.url,
        }
        return {"server_url": self.url, "authentication": login | changes}


@pytest.fixture(scope="session")
async def one_crm() -> AsyncIterator[Sandbox]:
    """One CRM for the session, at one address."""
    sandbox = create_sandbox()
    async with served(sandbox) as url:
        yield Sandbox(url, sandbox.state.organization)


@pytest.fixture
def crm(one_crm: Sandbox) -> Sandbox:
    """A CRM that answers, as new."""
    organization = one_crm.organization
    organization.settings, organization.limits = CrmSettings(), None
    organization.faults.clear()
    organization.reset()
    return one_crm


@pytest.fixture(scope="session")
async def set_up(
    test_server: TestServer, template: str, one_crm: Sandbox, one_app: FastAPI
) -> AsyncIterator[str]:
    """Name of a database with a company that is connected and set up by default."""
    async with test_server.clone(template) as address:
        async with opened(one_app, a_service(address)), client_of(one_app, ADMIN_KEY) as client:
            await make(client)
            await connect(client, one_crm)
            await use_default_setup(client)
        yield name_of(address)


@pytest.fixture
def beginning(request: pytest.FixtureRequest, template: str) -> str:
    """Name of the database that a test begins with."""
    return str(request.getfixturevalue("set_up")) if "ready" in request.fixturenames else template


async def make(client: httpx.AsyncClient) -> None:
    """A company."""
    given = {"name": "cronus", "nav_web_client_url": "https://nav.cronus.example:8080/DynamicsNAV110"}
    answer = await client.post("/api/v1/companies", json=given)
    assert answer.status_code == 201, answer.text


async def connect(client: httpx.AsyncClient, crm: Sandbox) -> None:
    """Its connection, enabled."""
    answer = await client.put(CONNECTION, json=crm.setup())
    assert answer.status_code == 200, answer.text
    answer = await client.patch(CONNECTION, json={"is_enabled": True})
    assert answer.status_code == 200, answer.text


async def use_default_setup(client: httpx.AsyncClient) -> None:
    """Its mappings and job queue entries."""
    answer = await client.post(f"{CONNECTION}/use-default-synchronization-setup")
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def cronus(admin: httpx.AsyncClient, beginning: str, template: str) -> httpx.AsyncClient:
    """A client with an admin key, and a company to work in."""
    if beginning == template:
        await make(admin)
    return admin


@pytest.fixture
async def connected(
    cronus: httpx.AsyncClient, crm: Sandbox, beginning: str, template: str
) -> httpx.AsyncClient:
    """The company with an enabled connection, nothing set up yet."""
    if beginning == template:
        await connect(cronus, crm)
    return cronus


@pytest.fixture
async def ready(connected: httpx.AsyncClient, beginning: str, template: str) -> httpx.AsyncClient:
    """The company with the default synchronization setup."""
    if beginning == template:
        await use_default_setup(connected)
    return connected
