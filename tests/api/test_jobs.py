"""Synch jobs and the job queue through the door, with a worker at work."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.main import opened
from app.settings import Settings
from tests.api.conftest import COMPANY, CONNECTION

pytestmark = pytest.mark.anyio
ENTRIES = f"{COMPANY}/job-queue-entries"
CUSTOMER = f"{COMPANY}/integration-table-mappings/CUSTOMER"


@pytest.fixture
def beginning(template: str) -> str:
    """An empty database: of a company that was set up a while ago, job queue entries might be due."""
    return template


@pytest.fixture
async def app(one_app: FastAPI, settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its door open, and a worker inside."""
    async with opened(one_app, settings, worker=True):
        yield one_app


async def followed(client: httpx.AsyncClient, address: str) -> tuple[str, dict[str, object]]:
    """The last event of a job's stream, which ends with the job."""
    answer = await client.get(f"{address}/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *_, last = [event for event in answer.text.split("\n\n") if "data:" in event]
    lines = dict(line.split(": ", 1) for line in last.splitlines())
    return lines["event"], json.loads(lines["data"])


async def test_a_job_is_followed_until_it_ends(ready: httpx.AsyncClient) -> None:
    started = await ready.post(f"{CUSTOMER}/synchronize", json={"mode": "full"})
    assert started.status_code == 202
    address = started.headers["Location"]
    kind, event = await followed(ready, address)
    assert (kind, event["status"], event["progress"]) == ("end", "succeeded", 100)
    job = (await ready.get(address)).json()
    assert job == {name: value for name, value in event.items() if name not in ("rate", "remaining_seconds")}
    counts = ("inserted", "modified", "unmodified", "deleted", "skipped", "failed")
    assert job["total"] == sum(job[name] for name in counts)
    assert (await ready.get(f"{address}/outcomes")).json()["items"] == []
    assert (await ready.get(f"{address}/errors")).json()["items"] == []
    cancelled = await ready.post(f"{address}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "succeeded")


async def test_all_mappings_run_as_children_of_one_job(ready: httpx.AsyncClient) -> None:
    started = await ready.post(
        f"{COMPANY}/synchronize", json={"mode": "full", "mappings": ["CUSTOMER", "SALESPEOPLE"]}
    )
    _, event = await followed(ready, started.headers["Location"])
    assert event["status"] in ("succeeded", "partial")
    children = event["children"]
    assert isinstance(children, list)
    assert len(children) == 2
    parents = [(await ready.get(f"{COMPANY}/synch-jobs/{each}")).json()["parent_id"] for each in children]
    assert parents == [event["id"]] * 2
    listed = (await ready.get(f"{COMPANY}/synch-jobs", params={"mapping": "CUSTOMER"})).json()["items"]
    assert {job["mapping"] for job in listed} == {"CUSTOMER"}


async def test_a_job_that_does_not_exist_is_not_followed(ready: httpx.AsyncClient) -> None:
    for path in ("", "/events", "/outcomes", "/errors"):
        answer = await ready.get(f"{COMPANY}/synch-jobs/{UUID(int=1)}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_a_held_entry_runs_when_told_to_and_stays_held(ready: httpx.AsyncClient) -> None:
    entries = (await ready.get(ENTRIES)).json()["items"]
    entry = next(each for each in entries if each["mapping"] == "CUSTOMER")
    address = f"{ENTRIES}/{entry['id']}"
    held = await ready.post(f"{address}/hold")
    assert (held.status_code, held.json()["status"]) == (200, "on_hold")
    run = await ready.post(f"{address}/run")
    assert (run.status_code, run.json()["job_queue_entry_id"]) == (202, entry["id"])
    kind, event = await followed(ready, run.headers["Location"])
    assert (kind, event["status"]) == ("end", "succeeded")
    assert (await ready.get(address)).json()["status"] == "on_hold"
    log = (await ready.get(f"{address}/log")).json()["items"]
    assert [job["id"] for job in log] == [event["id"]]
    assert (await ready.post(f"{address}/ready")).json()["status"] in ("ready", "in_process")


async def test_an_entry_is_made_changed_and_deleted(ready: httpx.AsyncClient) -> None:
    new = {
        "description": "Customers at night",
        "mapping": "CUSTOMER",
        "minutes_between_runs": 1440,
        "status": "on_hold",
    }
    made = await ready.post(ENTRIES, json=new)
    assert made.status_code == 201, made.text
    address = made.headers["Location"]
    start = "2031-05-01T02:00:00+02:00"
    changed = await ready.patch(
        address,
        json={"earliest_start_at": start, "maximum_attempts": 3},
        headers={"If-Match": made.headers["ETag"]},
    )
    assert changed.status_code == 200, changed.text
    assert changed.json()["earliest_start_at"] == "2031-05-01T00:00:00Z"
    assert (changed.json()["maximum_attempts"], changed.json()["minutes_between_runs"]) == (3, 1440)
    stale = await ready.patch(
        address, json={"maximum_attempts": 4}, headers={"If-Match": made.headers["ETag"]}
    )
    assert stale.status_code == 412
    assert (await ready.patch(address, json={"kind": "other"})).status_code == 422
    assert (await ready.post(ENTRIES, json=new | {"mapping": "NOTHING"})).json()["errors"][0][
        "pointer"
    ] == "/mapping"
    assert (await ready.delete(address)).status_code == 204
    assert (await ready.get(address)).status_code == 404
    short = (await ready.post(ENTRIES, json={"description": "Customers", "mapping": "CUSTOMER"})).json()
    assert (short["minutes_between_runs"], short["status"], short["kind"]) == (30, "ready", "synchronize")


async def test_the_status_counts_and_is_reset(ready: httpx.AsyncClient) -> None:
    status = (await ready.get(f"{COMPANY}/synch-status")).json()
    assert (status["connection_status"], status["failed_synch_jobs"], status["couplings"]) == (
        "connected",
        0,
        0,
    )
    assert status["job_queue_entries_total"] >= status["job_queue_entries_ready"] >= 1
    reset = (await ready.post(f"{COMPANY}/synch-status/reset")).json()
    assert (reset["failed_synch_jobs"], reset["failed_since"] is not None) == (0, True)
    await ready.patch(CONNECTION, json={"is_enabled": False})
    assert (await ready.get(f"{COMPANY}/synch-status")).json()["connection_status"] == "disabled"


async def test_a_service_with_a_worker_is_ready(anyone: httpx.AsyncClient, ready: httpx.AsyncClient) -> None:
    answer = await anyone.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)


async def test_a_job_whose_records_failed_says_how_many_and_where_to_read_why(
    ready: httpx.AsyncClient,
) -> None:
    records = f"{COMPANY}/nav/customers"
    for no in ("10000", "20000"):
        await ready.post(records, json={"no": no, "fields": {"Name": no}})
    started = await ready.post(
        f"{records}/synchronize", json={"nos": ["10000", "20000"], "direction": "to_crm"}
    )
    assert started.status_code == 202, started.text
    _, event = await followed(ready, started.headers["Location"])
    errors = f"{started.headers['Location']}/errors"
    assert (event["status"], event["failed"]) == ("failed", 2)
    assert event["message"] == f"All 2 records failed; GET …{errors.removeprefix(COMPANY)} tells why."
    assert len((await ready.get(errors)).json()["items"]) == 2
