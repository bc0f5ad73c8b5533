"""A PostgreSQL for the session, a migrated database of its own for every test that asks for one."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from tests.database import TestServer

SELDOM = (10_000, 20, 50)
"""How often cycles among objects are looked for. What is loaded to be tested stays until the end, so the look is not
worth the tenth of the time that it takes by default."""

# With the values of all variables, a traceback takes longer to tell than many a test.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# The same examples in every run, and as long as a busy machine takes for each.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


def pytest_collection_finish() -> None:
    """Everything is loaded; none of it is ever garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)


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
def beginning(template: str) -> str:
    """Name of the database that a test begins with: an empty one. Folders whose tests begin elsewhere say where."""
    return template


@pytest.fixture
async def database(test_server: TestServer, beginning: str) -> AsyncIterator[str]:
    """Address of a migrated database that is this test's alone."""
    async with test_server.clone(beginning) as address:
        yield address


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A pool on the test's database."""
    engine = create_engine(database, pool_size=10)
    yield engine
    await engine.dispose()
