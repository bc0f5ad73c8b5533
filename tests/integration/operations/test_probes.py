"""How a process is seen from outside: it lives, it is ready or says why not, and it can be asked by a command."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.db.readiness import PATIENCE, readiness
from app.main import create_app
from app.settings import Settings
from tests.database import TestServer

pytestmark = pytest.mark.anyio
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]
SECRET_KEYS = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
ROOT = Path(__file__).parents[3]


def environment(**settings: str) -> dict[str, str]:
    """For a process of its own, whatever the environment of the tests says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NAVCRM_", "OTEL_"))}
    return (
        kept
        | {"PYTHONPATH": str(ROOT)}
        | {f"NAVCRM_{name.upper()}": value for name, value in settings.items()}
    )


async def healthcheck(port: int, **settings: str) -> int:
    """The exit code of the command that the image asks."""
    asked = [*NAVCRM, "healthcheck"]
    return (
        await anyio.run_process(asked, env=environment(port=str(port), **settings), check=False)
    ).returncode


@asynccontextmanager
async def a_worker(database: str) -> AsyncIterator[tuple[httpx.AsyncClient, anyio.abc.Process]]:
    """`navcrm worker` with a port of its own."""
    given = environment(database_url=database, secret_keys=SECRET_KEYS, worker_poll_seconds="0.2")
    async with await anyio.open_process(
        [*NAVCRM, "worker", "--port", "0"], env=given, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        said = ""
        while "/readyz" not in said:
            said += (await process.stdout.receive()).decode()
        address = next(word for word in said.split() if word.startswith("http")).removesuffix("/readyz")
        try:
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:
                yield client, process
        finally:
            if process.returncode is None:
                process.kill()


async def test_a_worker_with_a_port_tells_how_it_fares_and_can_be_asked_by_a_command(database: str) -> None:
    async with a_worker(database) as (client, process):
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        with anyio.fail_after(60):
            while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - it is another process
                await anyio.sleep(0.05)
        told = (await client.get("/metrics")).text
        assert "navcrm_synch_jobs_running_here 0.0" in told
        assert "navcrm_workers 1.0" in told
        assert (await client.get("/api/v1/companies")).status_code == 404
        assert client.base_url.port is not None
        with anyio.fail_after(60):
            # The command waits two seconds for an answer; who asks has more patience, as Docker has.
            while await healthcheck(client.base_url.port, host="0.0.0.0") != 0:
                pass
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(60):
            assert await process.wait() == 0
        assert await healthcheck(client.base_url.port) == 1


async def test_the_service_is_not_ready_while_its_database_is_away_and_says_so_soon(
    test_server: TestServer, template: str
) -> None:
    async with test_server.clone(template) as address:
        settings = Settings(_env_file=None, database_url=address, secret_keys=SECRET_KEYS)
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://navcrm.test") as client:
                await back(client)
                gone = create_engine(address)
                async with gone.connect() as connection:
                    name = await connection.scalar(text("SELECT current_database()"))
                await gone.dispose()
                await test_server.administer(f'DROP DATABASE "{name}" WITH (FORCE)')
                await away(client)
                await test_server.administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
                await back(client)


async def back(client: httpx.AsyncClient) -> None:
    """The database is there: who asks again and again is told so."""
    with anyio.fail_after(60):
        while (await client.get("/readyz")).json()["checks"]["database"] != "ok":
            pass


async def away(client: httpx.AsyncClient) -> None:
    """What is told while the database is away."""
    with anyio.fail_after(PATIENCE + 20):
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    checks: Mapping[str, Any] = answer.json()["checks"]
    assert checks["database"].startswith("it does not answer")
    assert checks["worker"].startswith("unknown")
    assert (await client.get("/healthz")).status_code == 200
    told = await client.get("/metrics")
    assert told.status_code == 200
    assert "navcrm_database_up 0.0" in told.text
    assert "navcrm_http_requests_total" in told.text


async def test_a_database_that_hangs_keeps_nobody_waiting(database: str) -> None:
    engine = create_engine(database, pool_size=2)
    async with engine.connect(), engine.connect():  # every connection is in use
        with anyio.fail_after(PATIENCE + 20):
            found = await readiness(engine)
    assert found["database"] == "it does not answer (TimeoutError)"
    await engine.dispose()


async def patiently(engine: AsyncEngine) -> Mapping[str, str | None]:
    """The readiness, asked again where a busy machine took too long to find it out."""
    with anyio.fail_after(60):
        while (found := await readiness(engine))["database"] is not None:
            pass
    return found


async def test_a_worker_that_was_not_seen_for_a_minute_is_no_worker(engine: AsyncEngine) -> None:
    seen = "INSERT INTO worker (id, name, seen_at) VALUES (gen_random_uuid(), 'w', now() - interval '{}')"
    async with engine.begin() as connection:
        await connection.execute(text(seen.format("61 seconds")))
    assert str((await patiently(engine))["worker"]).startswith("no worker")
    async with engine.begin() as connection:
        await connection.execute(text(seen.format("30 seconds")))
    assert set((await patiently(engine)).values()) == {None}


async def test_a_database_of_another_version_is_not_ready(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'of_tomorrow'"))
    found = await patiently(engine)
    assert "newer version" in str(found["migrations"])
