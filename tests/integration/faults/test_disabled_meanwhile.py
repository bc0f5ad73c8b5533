"""Somebody disables the connection while a worker in another process runs a job."""

import pytest

from app.main import create_app
from app.sandbox import Fault
from app.settings import Settings
from tests.database import TestServer
from tests.integration.faults.world import (
    CONNECTION,
    FERNET_KEY,
    KEY,
    Crm,
    World,
    a_service,
    calling,
    has_ended,
)

pytestmark = pytest.mark.anyio
MORE = 8000


async def test_a_run_elsewhere_stops_when_the_connection_is_disabled(
    crm: Crm, made: str, test_server: TestServer
) -> None:
    crm.restore()
    async with test_server.clone(made) as database:
        settings = Settings(
            _env_file=None, database_url=database, bootstrap_api_key=KEY, secret_keys=FERNET_KEY
        )
        worker = a_service(database, crm_concurrency=1)
        async with worker.router.lifespan_context(worker), calling(create_app(settings)) as client:
            world = World(client, crm, database)
            await world.customers(
                {number: {"Name": f"More {number}"} for number in range(2000, 2000 + MORE // 2)}
            )
            await world.customers(
                {number: {"Name": f"More {number}"} for number in range(6000, 6000 + MORE // 2)}
            )
            world.faults(Fault(match=r"POST .*\$batch", kind="hang", seconds=0.5))
            job = await world.start()
            await world.until(job, lambda found: found["inserted"] > 0)
            await world.call("PATCH", CONNECTION, {"is_enabled": False})
            ended = await world.until(job, has_ended)
            assert (ended["status"], ended["error"]["code"]) == ("failed", "connection-disabled")
            assert ended["inserted"] < MORE
