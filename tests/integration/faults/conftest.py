"""The world, made once for all tests of faults, and a copy of it for each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.database import TestServer, name_of
from tests.integration.faults.world import Crm, World, a_crm, a_service, calling


@pytest.fixture(scope="module")
def crm() -> Iterator[Crm]:
    """CRM over HTTP."""
    with a_crm() as crm:
        yield crm


@pytest.fixture(scope="module")
async def made(crm: Crm, test_server: TestServer, template: str) -> AsyncIterator[str]:
    """Name of a database in which the company is set up."""
    async with test_server.clone(template) as database:
        async with calling(a_service(database)) as client:
            await World(client, crm, database).make()
        crm.keep()
        yield name_of(database)


@pytest.fixture
async def world(crm: Crm, made: str, test_server: TestServer) -> AsyncIterator[World]:
    """The company as it was made, nothing carried over yet."""
    crm.restore()
    async with test_server.clone(made) as database, calling(a_service(database)) as client:
        yield World(client, crm, database)


@pytest.fixture
async def impatient(crm: Crm, made: str, test_server: TestServer) -> AsyncIterator[World]:
    """The same, with a service that waits for CRM's answers two seconds, and as much more for a batch."""
    crm.restore()
    async with (
        test_server.clone(made) as database,
        calling(a_service(database, crm_timeout_seconds=2)) as client,
    ):
        yield World(client, crm, database)
