"""`kill -9` of the API amid a request: with the same Idempotency-Key it is carried out once, or says why not."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import ADMIN_KEY, COMPANY
from tests.integration.crashes.processes import Process, running
from tests.integration.crashes.site import TAG, Site, a_site, customer

pytestmark = pytest.mark.anyio
Request = tuple[str, dict[str, Any]]
SHARES = (0.4, 0.75, 1.0)
"""Where the API dies, as a share of the messages of a whole request."""


class Desk:
    """A client of an API that dies now and then."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self.site = site
        self.stack = stack
        self.process: Process | None = None
        self.client = httpx.AsyncClient()

    async def open(self) -> None:
        """A new API."""
        command = ("serve", "--no-worker", "--port", "0")
        self.process = await self.stack.enter_async_context(
            running(self.site.folder, self.site.wired_database, *command)
        )
        self.client = httpx.AsyncClient(
            base_url=await self.process.address(),
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=30,
        )

    async def send(self, request: Request, key: str) -> httpx.Response:
        """Sends it with this key."""
        path, body = request
        return await self.client.post(path, json=body, headers={"Idempotency-Key": key})

    async def dies_on(self, request: Request, key: str, after: int) -> httpx.Response | None:
        """Sends it to an API that dies after so many messages; the answer, if it came before."""
        assert self.process is not None
        self.site.tripwire.arm(after, self.process.kill)
        try:
            answer = await self.send(request, key)
        except httpx.TransportError:
            answer = None
        if answer is not None:
            self.process.kill()
        assert await self.process.ended() < 0
        self.site.tripwire.disarm()
        await self.client.aclose()
        await self.open()
        return answer

    async def again(self, request: Request, key: str) -> httpx.Response:
        """Sends it again, and once more when the claim of the dead has run out."""
        answer = await self.send(request, key)
        if answer.status_code == 409 and answer.json()["code"] == "busy":
            assert answer.headers["Retry-After"]
            await self._time_passes()
            answer = await self.send(request, key)
        return answer

    async def _time_passes(self) -> None:
        """Longer than a claim that nobody renews is held."""
        async with self.site.engine.begin() as connection:
            await connection.exec_driver_sql(
                "UPDATE idempotency_key SET created_at = created_at - interval '21 seconds' WHERE body IS NULL"
            )


def unnumbered(tag: str) -> Request:
    """A customer that gets its number from the series."""
    return f"{COMPANY}/nav/customers", {"fields": {TAG: tag, "Name": tag}}


def several(tag: str) -> Request:
    """Customers without numbers, in one request."""
    records = [{"fields": {TAG: f"{tag}-{n}", "Name": tag}} for n in range(20)]
    return f"{COMPANY}/nav/customers/bulk", {"records": records}


def into_crm(tag: str) -> Request:
    """A customer that is there already gets its account."""
    return f"{COMPANY}/nav/customers/C{tag.upper()}/create-in-crm", {}


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_a_request_whose_api_was_killed_is_carried_out_once(database: str, tmp_path: Path) -> None:
    times = len(SHARES)
    async with a_site(database, tmp_path) as site, AsyncExitStack() as stack:
        desk = Desk(site, stack)
        await desk.open()
        waiting = [f"crm{n}" for n in range(times + 1)]
        await site.nav_writes([customer(tag, Name=tag) for tag in waiting])
        codes = set()
        for kind, name in ((unnumbered, "one"), (several, "many"), (into_crm, "crm")):
            site.tripwire.passed = 0
            whole = await desk.send(kind(f"{name}{times}"), f"{name} undisturbed")
            assert whole.is_success, whole.text
            messages = site.tripwire.passed
            for n, share in enumerate(SHARES):
                request, key = kind(f"{name}{n}"), f"{name} {share}"
                first = await desk.dies_on(request, key, int(messages * share))
                again = await desk.again(request, key)
                codes.add(again.json().get("code"))
                assert first is None or again.content == first.content
                if again.json().get("code") == "answer-lost" and kind is into_crm:
                    # What the engine began it goes on with, under whichever key.
                    again = await desk.send(request, f"{key} once more")
                    assert again.is_success or again.json()["code"] == "already-coupled", again.text
        await desk.client.aclose()
        assert codes <= {None, "answer-lost"}
        ones = [f"one{n}" for n in range(times + 1)]
        many = [f"many{n}-{each}" for n in range(times + 1) for each in range(20)]
        assert sorted(await site.customers()) == sorted([*waiting, *ones, *many])
        assert sorted(site.accounts()) == waiting
        assert len(await site.couplings()) == len(waiting)
