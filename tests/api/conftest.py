"""The service behind its door: HTTP in, PostgreSQL real."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Organization, create_sandbox
from app.settings import Settings
from tests.crm_sandbox import served

ADMIN_KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
ADDRESS = "http://navcrm.test"
COMPANY = "/api/v1/companies/cronus"
CONNECTION = f"{COMPANY}/crm-connection"


@pytest.fixture
def settings(database: str) -> Settings:
    """The settings of a service on the database of the test."""
    return Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        worker_watch_seconds=0,  # the tests say when what runs
    )


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its door open; no worker runs."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


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
    return httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers)


@pytest.fixture
async def cronus(admin: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client with an admin key, and a company to work in."""
    given = {"name": "cronus", "nav_web_client_url": "https://nav.cronus.example:8080/DynamicsNAV110"}
    answer = await admin.post("/api/v1/companies", json=given)
    assert answer.status_code == 201, answer.text
    return admin


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


@pytest.fixture
async def crm() -> AsyncIterator[Sandbox]:
    """A CRM that answers."""
    sandbox = create_sandbox()
    async with served(sandbox) as url:
        yield Sandbox(url, sandbox.state.organization)


@pytest.fixture
async def connected(cronus: httpx.AsyncClient, crm: Sandbox) -> httpx.AsyncClient:
    """The company with an enabled connection, nothing set up yet."""
    answer = await cronus.put(CONNECTION, json=crm.setup())
    assert answer.status_code == 200, answer.text
    answer = await cronus.patch(CONNECTION, json={"is_enabled": True})
    assert answer.status_code == 200, answer.text
    return cronus


@pytest.fixture
async def ready(connected: httpx.AsyncClient) -> httpx.AsyncClient:
    """The company with the default synchronization setup."""
    answer = await connected.post(f"{CONNECTION}/use-default-synchronization-setup")
    assert answer.status_code == 200, answer.text
    return connected
