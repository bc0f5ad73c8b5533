"""The service behind its door: HTTP in, PostgreSQL real."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import cast
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.readiness import readiness
from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.main import create_app, door
from app.ports import Context, SideFactory
from app.settings import Settings

ADMIN_KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
ADDRESS = "http://navcrm.test"


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@pytest.fixture
def settings() -> Settings:
    return Settings(_env_file=None, bootstrap_api_key=ADMIN_KEY, secret_keys=FERNET_KEY)  # type: ignore[call-arg]


@pytest.fixture
async def app(settings: Settings, engine: AsyncEngine) -> FastAPI:
    """The application with its door open."""
    ctx = Context(SqlUnitOfWork(engine, Vault([FERNET_KEY])), cast(SideFactory, None), SystemClock(), uuid4)
    app = create_app(settings)
    async with httpx.AsyncClient() as http:
        app.state.door = door(settings, ctx, partial(readiness, engine), http)
        return app


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ADDRESS) as client:
        yield client


@pytest.fixture
async def admin(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with an admin key."""
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers) as client:
        yield client
