"""`kill -9` at any moment: whoever comes next ends with the same records, none twice, no edit lost."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.database import TestServer
from tests.integration.crashes.processes import Process, running
from tests.integration.crashes.site import Site, a_site, account, change, customer
from tests.integration.jobs.workers import long_silent

pytestmark = pytest.mark.anyio

COUPLED, NEW, CHANGED = 80, 40, 60
"""Records coupled at first; new ones and changed ones on either side, each time. Half of the changed ones change on
both sides, so a job carries 180 records over, in both directions."""
SHARES = ((0.0, 0.45, 0.8), (0.3, 0.6, 0.95))
"""Where the worker dies, as a share of the messages of a whole job; by site."""
NEVER = 10**9


class Story:
    """What the people of a site did, and the workers that came and went."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self.site = site
        self.stack = stack
        self.expected: dict[str, dict[str, str]] = {}
        self.times = 0
        self.worker: Process | None = None

    async def begins(self) -> None:
        """A worker, and the first records coupled."""
        await self._hire()
        tags = [f"N{n}" for n in range(COUPLED)]
        self.expected = {tag: {"Name": f"Customer {tag}", "Phone_No": "", "City": ""} for tag in tags}
        await self.site.nav_writes([customer(tag, Name=f"Customer {tag}") for tag in tags])
        job = await self.site.ended(await self.site.start(mode="full", create_uncoupled=True))
        assert (job["status"], job["inserted"]) == ("succeeded", COUPLED), job

    async def goes_on(self, dies_after: int = NEVER) -> tuple[int, int]:
        """People work, and a job carries it over; its worker dies after so many messages, and another one comes.

        How many messages the job had until then, and how many requests CRM got in all.
        """
        await self._people_work()
        self.site.organization.log.clear()
        assert self.worker is not None
        self.site.tripwire.arm(dies_after, self.worker.kill)
        address = await self.site.start(mode="modified", create_uncoupled=True)
        passed = 0
        if dies_after != NEVER:
            await asyncio.wait_for(self.site.tripwire.tripped.wait(), 60)
            assert await self.worker.ended() < 0
            self.site.tripwire.disarm()
            await long_silent(self.site.engine)
            await self._hire()
        job = await self.site.ended(address)
        passed = self.site.tripwire.passed
        await self._job_is_true(job)
        await self._nothing_is_lost()
        return passed, len([one for one in self.site.organization.log if "/api/data/" in one.path])

    async def _hire(self) -> None:
        self.worker = await self.stack.enter_async_context(
            running(self.site.folder, self.site.wired_database, "worker")
        )

    async def _people_work(self) -> None:
        self.times += 1
        told = f"{self.times}"
        in_nav = [f"N{n}" for n in range(CHANGED)]
        in_crm = [f"N{n}" for n in range(CHANGED // 2, CHANGED // 2 + COUPLED // 2)]
        new = {side: [f"{side}{told}-{n}" for n in range(NEW)] for side in ("N", "A")}
        for tag in in_nav:
            self.expected[tag]["Phone_No"] = f"+45 {told}"
        for tag in in_crm:
            self.expected[tag]["City"] = f"City {told}"
        for tag in (*new["N"], *new["A"]):
            self.expected[tag] = {"Name": f"New {tag}", "Phone_No": "", "City": ""}
        created = [customer(tag, Name=f"New {tag}") for tag in new["N"]]
        await self.site.nav_writes([customer(tag, Phone_No=f"+45 {told}") for tag in in_nav] + created)
        changes = [change(self.site, tag, address1_city=f"City {told}") for tag in in_crm]
        await self.site.crm_writes([*changes, *(account(tag, name=f"New {tag}") for tag in new["A"])])

    async def _nothing_is_lost(self) -> None:
        """Each record has one partner, and both show what everybody did."""
        shown = await self.site.agreed()
        assert {
            tag: {name: record[name] for name in self.expected[tag]} for tag, record in shown.items()
        } == (self.expected)

    async def _job_is_true(self, job: dict[str, Any]) -> None:
        """What it counted is what it logged, and every record was counted once."""
        assert job["status"] == "succeeded", job
        assert (job["inserted"], job["failed"], job["skipped"]) == (2 * NEW, 0, 0)
        parts = ("inserted", "modified", "unmodified", "deleted", "skipped", "failed")
        assert job["total"] == sum(job[name] for name in parts)
        logged = await self.site.logged(job["id"])
        assert {action: logged.get(action, 0) for action in ("inserted", "modified")} == {
            action: job[action] for action in ("inserted", "modified")
        }


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_a_worker_may_be_killed_at_any_message(
    test_server: TestServer, template: str, tmp_path: Path
) -> None:
    async def one(name: str, shares: Sequence[float]) -> None:
        async with (
            test_server.clone(template) as database,
            a_site(database, tmp_path / name) as site,
            AsyncExitStack() as stack,
        ):
            story = Story(site, stack)
            await story.begins()
            messages, requests = await story.goes_on()
            for share in shares:
                _, again = await story.goes_on(3 + int(messages * share))
                # The page in flight is done again, and nothing else.
                assert again <= 2 * requests + 10

    await asyncio.gather(*(one(f"site-{n}", shares) for n, shares in enumerate(SHARES)))
