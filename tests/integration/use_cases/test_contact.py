"""The status of a connection is what the latest contact with CRM showed."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.clock import DatabaseClock
from app.domain.company import ConnectionSetup, ConnectionStatus
from app.domain.errors import IntegrationError
from app.sandbox import Fault
from app.wiring import Upkeep
from tests.integration.use_cases.house import House

pytestmark = pytest.mark.anyio


async def _setup(house: House) -> ConnectionSetup:
    async with house.ctx.uow() as tx:
        found = await tx.connections.find(house.company.id)
    assert found is not None
    return found


async def test_a_crm_that_stops_answering_shows_and_so_does_its_return(
    connected: House, engine: AsyncEngine
) -> None:
    upkeep = Upkeep(engine, connected.connector, connected.ctx, DatabaseClock())
    before = await _setup(connected)
    crm = connected.ctx.sides.crm(connected.company, before)

    connected.clock.pass_by(minutes=1)
    connected.organization.faults[:] = [Fault("GET .*", kind="503", retry_after=999)]
    with pytest.raises(IntegrationError):
        await crm.count("account", "statecode eq 0")
    await upkeep.tell()
    failed = await _setup(connected)
    assert failed.status is ConnectionStatus.FAILED
    assert failed.last_error
    assert failed.revision == before.revision

    connected.clock.pass_by(minutes=1)
    connected.organization.faults.clear()
    await crm.count("account", "statecode eq 0")
    await upkeep.tell()
    mended = await _setup(connected)
    assert (mended.status, mended.last_error) == (ConnectionStatus.CONNECTED, None)
