"""A PostgreSQL for the session, a migrated database of its own for every test that asks for one."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from tests.database import TestServer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The service runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def test_server() -> Iterator[TestServer]:
    """The PostgreSQL of this session; test processes that run beside each other share it."""
    server = TestServer.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def template(test_server: TestServer) -> str:
    """Name of a migrated database to make clones of."""
    return asyncio.run(test_server.template())


@pytest.fixture
async def database(test_server: TestServer, template: str) -> AsyncIterator[str]:
    """Address of an empty, migrated database that is this test's alone."""
    async with test_server.clone(template) as address:
        yield address


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A pool on the test's database."""
    engine = create_engine(database, pool_size=10)
    yield engine
    await engine.dispose()
