"""PostgreSQL is restarted under load: clear answers meanwhile, everything goes on by itself, nothing is lost."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db.embedded import EmbeddedPostgres
from app.db.postgres_keeper import postmaster
from tests.api.conftest import ADMIN_KEY, COMPANY
from tests.integration.crashes.processes import is_ready, running
from tests.integration.crashes.site import Site, a_site, customer
from tests.integration.jobs.workers import until

pytestmark = pytest.mark.anyio
WRITERS, BATCHES, BATCH = 3, 12, 5
PATIENCE = 60.0
"""Three times as long as a request that was cut off keeps its key."""
SETTINGS = {"NAVCRM_WORKER_HEARTBEAT_TIMEOUT_SECONDS": "5"}


@pytest.fixture
async def database_of_its_own() -> AsyncIterator[tuple[EmbeddedPostgres, Path]]:
    """A server that may be restarted without harm to other tests."""
    folder = Path(tempfile.mkdtemp(prefix="navcrm-away-"))
    try:
        with EmbeddedPostgres.start(folder) as server:
            yield server, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Restarts:
    """Ends the server; its keeper starts it again."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "postgres" / "data"

    async def restart(self, how: signal.Signals) -> None:
        """Sends it the signal and waits until it is another one, and ready."""
        before = postmaster(self.data)
        assert before is not None
        os.kill(before[0], how)

        async def another() -> bool:
            now = postmaster(self.data)
            return now is not None and now[0] != before[0] and now[2]

        await until(another)


async def write_until_it_works(client: httpx.AsyncClient, writer: int, refused: list[httpx.Response]) -> None:
    """Batches of new customers, each sent until it is accepted."""
    for batch in range(BATCHES):
        records = [customer(f"W{writer}-{batch}-{n}", Name="By load") for n in range(BATCH)]
        async with asyncio.timeout(PATIENCE):
            while not await is_written(client, records, f"{writer} {batch}", refused):  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.05)


async def is_written(
    client: httpx.AsyncClient, records: list[dict[str, Any]], key: str, refused: list[httpx.Response]
) -> bool:
    """Whether the service accepts them, or did so before it lost its answer."""
    answer = await client.post(
        f"{COMPANY}/nav/customers/bulk", json={"records": records}, headers={"Idempotency-Key": key}
    )
    if answer.is_success:
        return True
    refused.append(answer)
    return bool(answer.json()["code"] == "answer-lost")


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_a_restart_of_postgresql_is_a_pause(
    database_of_its_own: tuple[EmbeddedPostgres, Path], tmp_path: Path
) -> None:
    server, folder = database_of_its_own
    restarts = Restarts(folder)
    refused: list[httpx.Response] = []
    async with a_site(server.url, tmp_path, row_latency=0.005) as site:
        await site.nav_writes([customer(f"N{n}", Name=f"Customer {n}") for n in range(150)])
        async with running(tmp_path, server.url, "serve", "--port", "0", settings=SETTINGS) as service:
            client = httpx.AsyncClient(
                base_url=await service.address(), headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60
            )
            async with client:
                started = await client.post(
                    f"{COMPANY}/integration-table-mappings/CUSTOMER/synchronize",
                    json={"mode": "full", "create_uncoupled": True},
                )
                load = [
                    asyncio.create_task(write_until_it_works(client, writer, refused))
                    for writer in range(WRITERS)
                ]
                await asyncio.sleep(0.4)
                await restarts.restart(signal.SIGKILL)
                await asyncio.sleep(0.4)
                await restarts.restart(signal.SIGINT)
                await asyncio.gather(*load)
                job = await site.ended(started.headers["Location"])
                assert job["status"] == "succeeded", job
                await until(lambda: is_ready(client))
                await after_a_last_run(site)
            assert service.alive
    for answer in refused:
        problem = answer.json()
        assert (answer.status_code, answer.headers["Content-Type"]) in (
            (503, "application/problem+json"),
            (409, "application/problem+json"),
        )
        assert problem["code"] in ("database-unavailable", "busy", "answer-lost"), problem
        assert "Retry-After" in answer.headers or problem["code"] == "answer-lost"
    assert "database-unavailable" in {answer.json()["code"] for answer in refused}


async def after_a_last_run(site: Site) -> None:
    """What the load created meanwhile is carried over, too, and everybody is there once."""
    job = await site.ended(await site.start(mode="full", create_uncoupled=True))
    assert job["status"] == "succeeded", job
    assert len(await site.agreed()) == 150 + WRITERS * BATCHES * BATCH
