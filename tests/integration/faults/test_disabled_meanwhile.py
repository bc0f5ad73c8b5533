"""Somebody disables or deletes the connection while a worker in another process runs a job: it waits until there is an
enabled one again, and goes on."""

from collections import Counter

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


@pytest.mark.parametrize("way", ["disabled", "deleted"])
async def test_a_run_elsewhere_waits_while_the_connection_is_off_and_goes_on(
    crm: Crm, made: str, test_server: TestServer, way: str
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
            if way == "disabled":
                await world.call("PATCH", CONNECTION, {"is_enabled": False})
            else:
                await world.call("DELETE", CONNECTION)
            waits = await world.until(job, lambda found: found["status"] != "running")
            assert (waits["status"], waits["error"]["code"]) == ("queued", "connection-disabled")
            assert waits["message"].startswith("It waits until the connection is enabled.")
            assert waits["inserted"] < MORE
            world.faults()
            if way == "deleted":
                await world.call("PUT", CONNECTION, crm.setup())
            await world.call("PATCH", CONNECTION, {"is_enabled": True})
            ended = await world.until(job, has_ended)
            assert (ended["status"], ended["attempt"], ended["message"]) == ("succeeded", 1, None)
            names = Counter(row["name"] for row in crm.accounts.values())
            assert sum(name.startswith("More ") for name in names) == MORE
            assert set(names.values()) == {1}
