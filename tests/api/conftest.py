"""The service behind its door: HTTP in, PostgreSQL real."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings

ADMIN_KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ADDRESS = "http://navcrm.test"


@pytest.fixture
def settings(database: str) -> Settings:
    """The settings of a service on the database of the test."""
    return Settings(
        _env_file=None, database_url=database, bootstrap_api_key=ADMIN_KEY, secret_keys=FERNET_KEY
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
