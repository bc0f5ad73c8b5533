"""More machines with `navcrm worker` is all it takes: real processes share the jobs of one database."""

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.main import create_app
from app.sandbox import Organization, create_sandbox
from app.settings import Settings
from tests.api.conftest import ADMIN_KEY, COMPANY, CONNECTION, FERNET_KEY, Sandbox, client_of
from tests.crm_sandbox import served
from tests.integration.jobs.workers import long_silent, until

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
MAPPINGS = ("CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT")
STARTS_WITHIN = 60.0  # seconds for Python to load the service on a busy machine


@dataclass(slots=True)
class Plant:
    """An API without a worker, a CRM, and worker processes on the same database."""

    api: httpx.AsyncClient
    crm: Organization
    engine: AsyncEngine

    async def customers(self, count: int) -> None:
        """New customers in NAV."""
        records = [{"no": f"C{n:04}", "fields": {"Name": f"Customer {n}"}} for n in range(count)]
        answer = await self.api.post(f"{COMPANY}/nav/customers/bulk", json={"records": records})
        assert answer.status_code == 200, answer.text

    async def start(self, mapping: str, **asked: Any) -> str:
        """A synch job of the mapping; its address."""
        answer = await self.api.post(
            f"{COMPANY}/integration-table-mappings/{mapping}/synchronize", json=asked
        )
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    async def job(self, address: str) -> dict[str, Any]:
        """A synch job."""
        found: dict[str, Any] = (await self.api.get(address)).json()
        return found

    async def ended(self, *addresses: str) -> list[dict[str, Any]]:
        """The jobs, when all of them have ended."""
        jobs: list[dict[str, Any]] = []

        async def look() -> bool:
            jobs[:] = [await self.job(address) for address in addresses]
            return all(job["finished_at"] for job in jobs)

        await until(look, STARTS_WITHIN)
        return jobs

    async def rows(self, statement: str) -> list[Any]:
        """What the database says."""
        async with self.engine.connect() as connection:
            return list(await connection.execute(text(statement)))

    async def worker_of_running_job(self) -> int | None:
        """The process that runs a job at the moment."""
        rows = await self.rows(
            "SELECT name FROM synch_job JOIN worker ON worker.id = worker_id WHERE status = 'running'"
        )
        return int(rows[0].name.rpartition(":")[2]) if rows else None


@asynccontextmanager
async def workers(database: str, folder: Path, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """`navcrm worker`, so many times, each with one job at once."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "NAVCRM_DATABASE_URL": database,
        "NAVCRM_DATABASE_POOL_SIZE": "5",
        "NAVCRM_SECRET_KEYS": FERNET_KEY,
        "NAVCRM_WORKER_CONCURRENCY": "1",
        "NAVCRM_WORKER_POLL_SECONDS": "0.5",
        "NAVCRM_WORKER_WATCH_SECONDS": "0",
    }
    started: list[asyncio.subprocess.Process] = []
    try:
        for _ in range(count):
            command = (sys.executable, "-m", "app.cli", "worker")
            started.append(
                await asyncio.create_subprocess_exec(
                    *command, cwd=folder, env=environment, stdout=asyncio.subprocess.DEVNULL
                )
            )
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
        for process in started:
            try:
                await asyncio.wait_for(process.wait(), STARTS_WITHIN)
            except TimeoutError:
                process.kill()
                await process.wait()


@pytest.fixture
async def plant(database: str, engine: AsyncEngine) -> AsyncIterator[Plant]:
    """A company with four mappings, nobody at work."""
    async with AsyncExitStack() as stack:
        sandbox = create_sandbox(latency=0.05)
        url = await stack.enter_async_context(served(sandbox))
        settings = Settings(
            _env_file=None, database_url=database, bootstrap_api_key=ADMIN_KEY, secret_keys=FERNET_KEY
        )
        app = create_app(settings)
        await stack.enter_async_context(app.router.lifespan_context(app))
        api = await stack.enter_async_context(client_of(app, ADMIN_KEY))
        crm = Sandbox(url, sandbox.state.organization)
        calls: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/api/v1/companies", {"name": "cronus"}),
            ("PUT", CONNECTION, crm.setup()),
            ("PATCH", CONNECTION, {"is_enabled": True}),
            ("POST", f"{CONNECTION}/use-default-synchronization-setup", {"mappings": list(MAPPINGS)}),
        ]
        for method, path, body in calls:
            answer = await api.request(method, path, json=body)
            assert answer.is_success, answer.text
        yield Plant(api, crm.organization, engine)


async def all_at_work(plant: Plant, count: int) -> bool:
    """Whether so many workers have given a sign of life."""
    return bool((await plant.rows("SELECT count(*) FROM worker"))[0][0] == count)


async def note_turns(engine: AsyncEngine) -> None:
    """Lets the database note which run of which mapping began and ended, in the order in which that was so."""
    for statement in (
        "CREATE TABLE turn (number bigserial, mapping text, worker_id uuid, status text)",
        "CREATE FUNCTION note_turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO turn (mapping, worker_id, status) VALUES (NEW.mapping, NEW.worker_id, NEW.status);"
        " RETURN NULL; END $$",
        "CREATE TRIGGER note_turn AFTER UPDATE ON synch_job FOR EACH ROW"
        " WHEN (NEW.status IS DISTINCT FROM OLD.status) EXECUTE FUNCTION note_turn()",
    ):
        async with engine.begin() as connection:
            await connection.exec_driver_sql(statement)


async def test_two_processes_share_the_jobs_and_never_run_a_mapping_twice_at_once(
    plant: Plant, database: str, tmp_path: Path
) -> None:
    await note_turns(plant.engine)
    await plant.customers(50)
    plant.crm.settings.latency = 1  # nobody is done with all of it before the other has begun
    async with workers(database, tmp_path, 2):
        await until(lambda: all_at_work(plant, 2), STARTS_WITHIN)
        addresses = [
            await plant.start(mapping, mode=mode)
            for mode in ("modified", "full", "modified", "full")
            for mapping in MAPPINGS
        ]

        async def both_have_a_job() -> bool:
            rows = await plant.rows(
                "SELECT count(DISTINCT worker_id) FROM synch_job WHERE status = 'running'"
            )
            return bool(rows[0][0] == 2)

        await until(both_have_a_job)
        plant.crm.settings.latency = 0.05
        jobs = await plant.ended(*dict.fromkeys(addresses))
    assert {job["status"] for job in jobs} == {"succeeded"}
    turns = defaultdict(list)
    for row in await plant.rows("SELECT mapping, status FROM turn ORDER BY number"):
        turns[row.mapping].append(row.status)
    assert set(turns) == set(MAPPINGS)
    for of_mapping in turns.values():
        assert len(of_mapping) >= 4
        assert of_mapping == ["running", "succeeded"] * (len(of_mapping) // 2)


async def test_a_job_whose_worker_was_killed_goes_on_elsewhere(
    plant: Plant, database: str, tmp_path: Path
) -> None:
    await plant.customers(120)
    plant.crm.settings.row_latency = 0.3  # it is not done before its worker is killed
    async with workers(database, tmp_path, 2) as processes:
        await until(lambda: all_at_work(plant, 2), STARTS_WITHIN)
        address = await plant.start("CUSTOMER", mode="full", direction="to_crm", create_uncoupled=True)

        async def writes() -> bool:
            return bool(plant.crm.rows("account"))

        await until(writes, STARTS_WITHIN)
        killed = await plant.worker_of_running_job()
        assert killed in {process.pid for process in processes}
        os.kill(killed, signal.SIGKILL)
        plant.crm.settings.row_latency = 0.02
        (dead,) = [process for process in processes if process.pid == killed]
        await dead.wait()
        await long_silent(plant.engine)

        async def goes_on() -> bool:
            return await plant.worker_of_running_job() not in (None, killed)

        await until(goes_on)
        (job,) = await plant.ended(address)
    assert (job["status"], job["attempt"], job["failed"]) == ("succeeded", 2, 0)
    assert len(plant.crm.rows("account")) == 120
    assert (await plant.rows("SELECT count(*) FROM coupling WHERE status = 'coupled'"))[0][0] == 120
