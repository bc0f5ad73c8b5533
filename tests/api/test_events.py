"""The event stream of a synch job, while no worker takes the job."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI

from tests.api.conftest import ADMIN_KEY, COMPANY, for_a_server
from tests.crm_sandbox import served

pytestmark = pytest.mark.anyio
CUSTOMER = f"{COMPANY}/integration-table-mappings/CUSTOMER"


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it has happened."""
    async with asyncio.timeout(60):
        while not await happened():  # noqa: ASYNC110 - it happens in a server
            await asyncio.sleep(0.05)


def requests_at_work() -> int:
    """How many requests the server in this process is busy with."""
    return sum("run_asgi" in repr(task.get_coro()) for task in asyncio.all_tasks())


def listening_at(url: str) -> httpx.AsyncClient:
    """A client of the server, who has time."""
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return httpx.AsyncClient(base_url=url, headers=key, trust_env=False, timeout=60)


async def a_job(client: httpx.AsyncClient) -> str:
    """The address of a job that waits."""
    started = await client.post(f"{CUSTOMER}/synchronize", json={"mode": "modified"})
    assert started.status_code == 202, started.text
    return str(started.headers["Location"])


async def test_a_listener_that_goes_away_leaves_nothing_behind(
    ready: httpx.AsyncClient, app: FastAPI
) -> None:
    address = await a_job(ready)
    async with served(for_a_server(app)) as url, listening_at(url) as client:
        for _ in range(3):
            async with client.stream("GET", f"{address}/events") as stream:
                async for line in stream.aiter_lines():
                    assert line == "event: progress"
                    break
                assert requests_at_work() >= 1

        async def nobody() -> bool:
            return requests_at_work() == 0

        await until(nobody)


async def test_a_stream_ends_when_its_job_is_cancelled_or_gone(
    ready: httpx.AsyncClient, app: FastAPI
) -> None:
    async with served(for_a_server(app)) as url, listening_at(url) as client:
        seen: list[list[str]] = []
        for end in ("cancel", "delete"):
            address = await a_job(ready)
            async with asyncio.timeout(60), client.stream("GET", f"{address}/events") as stream:
                events = []
                async for line in stream.aiter_lines():
                    if line.startswith("event:"):
                        events.append(line.removeprefix("event: "))
                    if events == ["progress"] and not line:
                        answer = await (
                            ready.post(f"{address}/cancel") if end == "cancel" else ready.delete(COMPANY)
                        )
                        assert answer.is_success, answer.text
            seen.append(events)
        assert seen == [["progress", "end"], ["progress"]]


async def test_a_stream_that_is_asked_for_its_head_alone_ends_with_it(
    ready: httpx.AsyncClient, app: FastAPI
) -> None:
    address = await a_job(ready)
    async with served(for_a_server(app)) as url, listening_at(url) as client:
        head = await client.head(f"{address}/events")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"].startswith("text/event-stream")

        async def nobody() -> bool:
            return requests_at_work() == 0

        await until(nobody)
        assert (await client.get(address)).status_code == 200
