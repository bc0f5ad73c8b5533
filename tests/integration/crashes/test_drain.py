"""SIGTERM: what was begun is ended or handed over, nobody new is taken in, and the exit code is 0."""

import asyncio
import errno
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import ADMIN_KEY, COMPANY
from tests.integration.crashes.processes import running
from tests.integration.crashes.site import a_site, customer
from tests.integration.jobs.workers import until

pytestmark = pytest.mark.anyio
GRACE = 60.0
SETTINGS = {"NAVCRM_STOP_NOTICE_SECONDS": "60"}


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_a_service_that_is_told_to_stop_ends_what_it_began(database: str, tmp_path: Path) -> None:
    # The page takes long enough for the stream to end before the job does, on a busy machine too.
    async with a_site(database, tmp_path, latency=0.3, row_latency=0.1) as site:
        await site.nav_writes([customer(f"N{n}", Name=f"Customer {n}") for n in range(200)])
        serve = running(tmp_path, database, "serve", "--port", "0", settings=SETTINGS)
        async with (
            serve as service,
            httpx.AsyncClient(
                base_url=await service.address(), headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60
            ) as client,
        ):
            job = await site.start(mode="full", create_uncoupled=True, direction="to_crm")
            following = asyncio.create_task(client.get(f"{job}/events"))

            async def wrote_all() -> bool:
                return len(site.organization.rows("account")) == 200

            await until(wrote_all)  # and answers in a while
            site.organization.settings.row_latency = 0
            in_flight = asyncio.create_task(client.post(f"{COMPANY}/crm-connection/test"))
            service.stop()

            async def not_ready() -> bool:
                return (await client.get("/readyz")).status_code == 503

            await until(not_ready)
            assert "draining" in (await client.get("/readyz")).json()["checks"]
            # Whoever has not heard of it yet is still served.
            assert (await client.get(f"{COMPANY}/synch-status")).status_code == 200
            assert (await in_flight).status_code == 200
            assert "event: end" not in (await following).text
            began = time.monotonic()
            service.stop()  # enough notice
            assert await service.ended() == 0
            assert time.monotonic() - began < GRACE
        left = (await site.api.get(job)).json()
        assert (left["status"] == "queued" and left["attempt"] == 0) or left["status"] == "succeeded", left
        assert not await site.rows("SELECT 1 FROM worker")
        site.organization.settings.latency = 0
        async with running(tmp_path, database, "worker") as worker:
            ended = await site.ended(job)
            assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
            assert len(await site.agreed()) == 200
            worker.stop()
            assert await worker.ended() == 0


async def test_without_notice_the_door_closes_at_once_and_requests_in_flight_are_answered(
    database: str, tmp_path: Path
) -> None:
    async with (
        a_site(database, tmp_path, latency=0.2) as site,
        running(tmp_path, database, "serve", "--no-worker", "--port", "0") as service,
    ):
        address = await service.address()
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
            site.organization.log.clear()
            in_flight = asyncio.create_task(client.post(f"{COMPANY}/crm-connection/test"))

            async def crm_was_asked() -> bool:
                return bool(site.organization.log)

            await until(crm_was_asked)  # the first of its many questions
            service.stop()
            assert (await in_flight).status_code == 200
            assert await service.ended() == 0
        with socket.socket() as door:
            url = httpx.URL(address)
            assert door.connect_ex((url.host, url.port or 80)) == errno.ECONNREFUSED
        assert site.organization.log
