"""The plant that the counts are taken in."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.counts.plant import CrmClock, Plant
from tests.integration.use_cases.office import an_office


@pytest.fixture
async def plant(engine: AsyncEngine) -> AsyncIterator[Plant]:
    """A company with the default setup and no records."""
    clock = CrmClock()
    async with an_office(engine, clock=clock, token_lifetime=1_000_000) as office:
        yield Plant(office, clock)
