"""Clocks that are five minutes apart, on every machine and at CRM: nothing is stolen, late, early or taken for dead."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import ADMIN_KEY, COMPANY
from tests.integration.crashes.processes import is_ready, running
from tests.integration.crashes.site import a_site, customer
from tests.integration.jobs.workers import until

pytestmark = pytest.mark.anyio
APART = 300.0


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_machines_whose_clocks_are_five_minutes_off_work_together(
    database: str, tmp_path: Path
) -> None:
    def clock_of_crm() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=APART)

    async with (
        a_site(database, tmp_path, clock=clock_of_crm, row_latency=0.01) as site,
        running(tmp_path, database, "worker", clock=-APART),
        running(tmp_path, database, "worker", clock=APART),
        running(tmp_path, database, "serve", "--no-worker", "--port", "0", clock=-APART) as api,
    ):

        async def both_are_there() -> bool:
            return bool((await site.rows("SELECT count(*) FROM worker"))[0][0] == 2)

        await until(both_are_there)
        await site.nav_writes([customer(f"N{n}", Name=f"Customer {n}") for n in range(200)])
        async with httpx.AsyncClient(
            base_url=await api.address(), headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60
        ) as client:
            asked = datetime.now(UTC)
            # Both workers look for lost jobs meanwhile, more than once.
            long_job = await site.start(mode="full", create_uncoupled=True)
            await until(lambda: is_ready(client))
            job = await site.ended(long_job)
            took = datetime.now(UTC) - asked
            assert (job["status"], job["attempt"], job["inserted"]) == ("succeeded", 1, 200), job
            assert took > timedelta(seconds=1.5)
            for moment in (job["started_at"], job["finished_at"]):
                assert abs(datetime.fromisoformat(moment) - asked) < took + timedelta(seconds=5)

            entries = (await client.get(f"{COMPANY}/job-queue-entries")).json()["items"]
            entry = next(one for one in entries if one["mapping"] == "CUSTOMER")
            began = asyncio.get_running_loop().time()
            soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
            address = f"{COMPANY}/job-queue-entries/{entry['id']}"
            changed = await client.patch(address, json={"earliest_start_at": soon})
            assert changed.status_code == 200, changed.text

            async def it_ran() -> bool:
                shown = (await client.get(address)).json()
                return bool(shown["last_job_id"] != entry["last_job_id"])

            await until(it_ran)
            assert asyncio.get_running_loop().time() - began > 0.9

            edited = await client.patch(f"{COMPANY}/nav/customers/CN1", json={"fields": {"Name": "Edited"}})
            assert edited.status_code == 200
            again = await site.ended(await site.start(mode="modified"))
            assert (again["status"], again["attempt"]) == ("succeeded", 1)
            assert (await site.agreed())["N1"]["Name"] == "Edited"
