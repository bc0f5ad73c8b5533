"""The job queue as its users see it, with a worker that looks often."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.crm.connector import Connector
from app.main import opened
from app.ports import Update
from app.sandbox import Fault
from app.settings import Settings
from tests.api.conftest import ADMIN_KEY, COMPANY, CONNECTION, FERNET_KEY, Sandbox
from tests.crm_sandbox import setup_for

pytestmark = pytest.mark.anyio
ENTRIES = f"{COMPANY}/job-queue-entries"
MAPPING = f"{COMPANY}/integration-table-mappings/CUSTOMER"
STATUS = f"{COMPANY}/synch-status"
ARRIVES_WITHIN = 60.0  # seconds, on a machine that does much else


@pytest.fixture
def beginning(template: str) -> str:
    """An empty database: of a company that was set up a while ago, job queue entries might be due."""
    return template


@pytest.fixture
def settings(database: str) -> Settings:
    """A worker that looks for due entries and for changes twice a second."""
    return Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        worker_poll_seconds=0.5,
        worker_watch_seconds=0.5,
    )


@pytest.fixture
async def app(one_app: FastAPI, settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its door open, and a worker inside."""
    async with opened(one_app, settings, worker=True):
        yield one_app


async def until(happened: Callable[[], Awaitable[bool]], patience: float = ARRIVES_WITHIN) -> None:
    """Waits until it has happened."""
    async with asyncio.timeout(patience):
        while not await happened():  # noqa: ASYNC110 - it happens behind the door
            await asyncio.sleep(0.1)


class Entry:
    """The job queue entry of the mapping CUSTOMER."""

    def __init__(self, client: httpx.AsyncClient, address: str) -> None:
        self._client = client
        self.address = address

    async def now(self) -> dict[str, Any]:
        """As it stands."""
        found: dict[str, Any] = (await self._client.get(self.address)).json()
        return found

    async def change(self, **fields: Any) -> dict[str, Any]:
        """Patches it."""
        answer = await self._client.patch(self.address, json=fields)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def is_in(self, status: str) -> None:
        """Waits until it has that status."""

        async def look() -> bool:
            return bool((await self.now())["status"] == status)

        await until(look)


@pytest.fixture
async def entry(ready: httpx.AsyncClient) -> Entry:
    """The entry of CUSTOMER."""
    items = (await ready.get(ENTRIES)).json()["items"]
    found = next(each for each in items if each["mapping"] == "CUSTOMER")
    return Entry(ready, f"{ENTRIES}/{found['id']}")


async def a_coupled_customer(client: httpx.AsyncClient) -> str:
    """A customer that has an account; the account's id."""
    made = await client.post(f"{COMPANY}/nav/customers", json={"no": "C1", "fields": {"Name": "Adatum"}})
    assert made.status_code == 201, made.text
    created = await client.post(f"{COMPANY}/nav/customers/C1/create-in-crm")
    assert created.status_code == 201, created.text
    coupling = (await client.get(f"{COMPANY}/nav/customers/C1/coupling")).json()
    return str(coupling["crm_id"])


async def test_a_change_on_either_side_reaches_the_other_by_itself(
    ready: httpx.AsyncClient, crm: Sandbox, entry: Entry
) -> None:
    account = await a_coupled_customer(ready)
    answer = await ready.patch(f"{COMPANY}/nav/customers/C1", json={"fields": {"Phone_No": "0123"}})
    assert answer.status_code == 200, answer.text

    async def in_crm() -> bool:
        return bool(crm.organization.rows("account")[account].get("telephone1") == "0123")

    await until(in_crm)
    connector = Connector()
    person = connector.open(1, setup_for(crm.url))
    await person.write("account", [Update(UUID(account), {"telephone1": "0456"})])
    await connector.aclose()

    async def in_nav() -> bool:
        found = (await ready.get(f"{COMPANY}/nav/customers/C1")).json()
        return bool(found["fields"]["Phone_No"] == "0456")

    await until(in_nav)
    runs = (await ready.get(f"{entry.address}/log")).json()["items"]
    assert {run["mode"] for run in runs} == {"modified"}


async def test_an_entry_that_failed_too_often_says_why_and_is_set_ready_again(
    ready: httpx.AsyncClient, crm: Sandbox, entry: Entry, engine: AsyncEngine
) -> None:
    await entry.change(maximum_attempts=3)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE job_queue_entry SET rerun_delay_seconds = 0"))
    crm.organization.faults.append(Fault(".*/api/data/.*", kind="503", retry_after=61))
    run = await ready.post(f"{entry.address}/run")
    assert run.status_code == 202, run.text
    await entry.is_in("error")
    failed = await entry.now()
    assert failed["attempts"] == failed["maximum_attempts"] == 3
    assert failed["error_message"]
    job = (await ready.get(run.headers["Location"])).json()
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 3, "crm-unavailable")
    status = (await ready.get(STATUS)).json()
    assert status["failed_synch_jobs"] == 1
    assert status["job_queue_entries_ready"] == status["job_queue_entries_total"] - 1
    assert (await ready.post(f"{STATUS}/reset")).json()["failed_synch_jobs"] == 0
    crm.organization.faults.clear()
    again = (await ready.post(f"{entry.address}/ready")).json()
    assert (again["attempts"], again["error_message"]) == (0, None)
    status = (await ready.get(STATUS)).json()
    assert status["job_queue_entries_ready"] == status["job_queue_entries_total"]


async def test_an_entry_starts_again_after_its_interval(ready: httpx.AsyncClient, entry: Entry) -> None:
    changed = await entry.change(minutes_between_runs=7, inactivity_timeout_minutes=None, maximum_attempts=4)
    assert (changed["minutes_between_runs"], changed["inactivity_timeout_minutes"]) == (7, None)
    await entry.change(earliest_start_at=None)

    async def ran() -> bool:
        now = await entry.now()
        return now["status"] == "ready" and now["last_run_at"] is not None

    await until(ran)
    after = await entry.now()
    (logged,) = (await ready.get(f"{entry.address}/log")).json()["items"]
    assert logged["id"] == after["last_job_id"]
    start, ended = (datetime.fromisoformat(at) for at in (after["earliest_start_at"], logged["finished_at"]))
    assert start - ended == timedelta(minutes=7)


async def test_entries_wait_while_the_connection_is_disabled_and_go_on_afterwards(
    ready: httpx.AsyncClient, entry: Entry
) -> None:
    await ready.patch(CONNECTION, json={"is_enabled": False})
    status = (await ready.get(STATUS)).json()
    assert (status["job_queue_entries_ready"], status["job_queue_entries_total"] > 0) == (0, True)
    await entry.change(earliest_start_at=None)
    refused = await ready.post(f"{entry.address}/run")
    assert (refused.status_code, refused.json()["code"]) == (409, "connection-disabled")
    await asyncio.sleep(1.5)
    waiting = await entry.now()
    assert (waiting["status"], waiting["last_job_id"]) == ("ready", None)
    answer = await ready.patch(CONNECTION, json={"is_enabled": True})
    assert answer.status_code == 200, answer.text
    await entry.is_in("on_hold_inactivity")
    assert (await entry.now())["last_job_id"] is not None


async def test_the_figures_tell_of_jobs_and_of_mappings_that_are_behind(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient, entry: Entry
) -> None:
    await entry.change(inactivity_timeout_minutes=None)
    run = await ready.post(f"{entry.address}/run")
    await ready.get(f"{run.headers['Location']}/events")
    await entry.is_in("ready")
    lines = dict(line.rsplit(" ", 1) for line in (await anyone.get("/metrics")).text.splitlines())
    assert float(lines['navcrm_synch_jobs{status="queued"}']) == 0
    assert float(lines['navcrm_synch_jobs_ended_last_hour{status="succeeded"}']) == 1
    behind = [float(value) for name, value in lines.items() if name.startswith("navcrm_mapping_lag_seconds{")]
    assert any(0 < seconds < 60 for seconds in behind), lines
    assert "cronus" not in "".join(lines)


async def test_a_job_says_how_much_there_is_to_do(ready: httpx.AsyncClient) -> None:
    records = [{"no": f"C{n}", "fields": {"Name": f"Customer {n}"}} for n in range(5)]
    await ready.post(f"{COMPANY}/nav/customers/bulk", json={"records": records})
    asked = {"mode": "full", "direction": "to_crm", "create_uncoupled": True}
    started = await ready.post(f"{MAPPING}/synchronize", json=asked)
    await ready.get(f"{started.headers['Location']}/events")
    job = (await ready.get(started.headers["Location"])).json()
    assert (job["status"], job["expected"], job["total"], job["progress"]) == ("succeeded", 5, 5, 100)
