"""The house that tests of use cases live in."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from tests.database import TestServer, name_of
from tests.integration.use_cases.house import House, a_house
from tests.integration.use_cases.office import Office, an_office, the_office


@pytest.fixture
async def house(engine: AsyncEngine) -> AsyncIterator[House]:
    """A company without a connection."""
    async with a_house(engine, {}) as house:
        yield house


@pytest.fixture
async def connected(engine: AsyncEngine) -> AsyncIterator[House]:
    """A company whose connection is enabled."""
    async with a_house(engine, {}) as house:
        await house.connect()
        yield house


@pytest.fixture(scope="session")
async def set_up(test_server: TestServer, template: str) -> AsyncIterator[str]:
    """Name of a database with a company that is set up."""
    async with test_server.clone(template) as address:
        engine = create_engine(address, pool_size=5)
        async with an_office(engine):
            pass
        await engine.dispose()
        yield name_of(address)


@pytest.fixture
def beginning(request: pytest.FixtureRequest, template: str) -> str:
    """Name of the database that a test begins with."""
    return str(request.getfixturevalue("set_up")) if "office" in request.fixturenames else template


@pytest.fixture
async def office(engine: AsyncEngine) -> AsyncIterator[Office]:
    """A company that is set up."""
    async with the_office(engine) as office:
        yield office
