"""The house that tests of use cases live in."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.use_cases.house import House, a_house
from tests.integration.use_cases.office import Office, an_office


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


@pytest.fixture
async def office(engine: AsyncEngine) -> AsyncIterator[Office]:
    """A company that is set up."""
    async with an_office(engine) as office:
        yield office
