"""The status of a connection is what the latest contact with CRM showed."""

import asyncio
from datetime import timedelta

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

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


class Stumbling(DatabaseClock):
    """Fails in a way that nobody thought of, the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.goes_on = asyncio.Event()

    async def look(self, engine: AsyncEngine) -> None:
        self.looks += 1
        if self.looks == 1:
            raise ZeroDivisionError
        self.goes_on.set()


async def test_the_upkeep_goes_on_after_an_error_that_nobody_expected(
    connected: House, engine: AsyncEngine
) -> None:
    clock = Stumbling()
    upkeep = Upkeep(engine, connected.connector, connected.ctx, clock, every=timedelta(milliseconds=10))
    with capture_logs() as told:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upkeep.run)
            with anyio.fail_after(30):
                await clock.goes_on.wait()
            tasks.cancel_scope.cancel()
    assert [type(line["exc_info"]) for line in told if line["log_level"] == "error"] == [ZeroDivisionError]
