"""A CRM that refuses our user stops the jobs of that connection and no others, says so everywhere, is asked again with
growing patience, and lets them go on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.sandbox import DEFAULT_SECRET, Fault
from tests.database import TestServer
from tests.integration.faults.world import (
    COMPANY,
    CONNECTION,
    Crm,
    World,
    a_service,
    calling,
    happened,
    has_ended,
)

pytestmark = pytest.mark.anyio

NOT_A_MEMBER = "0x80072560"
ENTRIES = f"{COMPANY}/job-queue-entries"


@asynccontextmanager
async def serving(test_server: TestServer, made: str, crm: Crm, **settings: Any) -> AsyncIterator[World]:
    """The company, served with these settings."""
    crm.restore()
    async with (
        test_server.clone(made) as database,
        calling(a_service(database, **settings)) as client,
    ):
        yield World(client, crm, database)


@pytest.fixture
async def patient(test_server: TestServer, made: str, crm: Crm) -> AsyncIterator[World]:
    """A service that would not ask CRM again for a long time."""
    async with serving(test_server, made, crm, crm_probe_seconds=600) as world:
        yield world


async def breaker(world: World) -> dict[str, Any]:
    """As the connection shows it."""
    found: dict[str, Any] = (await world.call("GET", CONNECTION))["breaker"]
    return found


async def is_in(world: World, state: str) -> None:
    """Waits until the breaker is."""

    async def look() -> bool:
        return bool((await breaker(world))["state"] == state)

    await happened(look)


async def opened(world: World, mapping: str = "CURRENCY") -> dict[str, Any]:
    """A job that ended in an open breaker."""
    job = await world.start("full", mapping)
    await is_in(world, "open")
    return await world.until(job, lambda job: job["status"] == "queued")


async def test_a_user_who_is_thrown_out_in_the_middle_stops_the_job_which_then_goes_on_by_itself(
    world: World,
) -> None:
    world.faults(Fault(kind="403", code=NOT_A_MEMBER, after=8))
    job = await world.start()

    await is_in(world, "open")
    stopped = await world.until(job, lambda job: job["status"] == "queued")
    assert stopped["error"]["code"] == "crm-permission-missing"
    assert "application user" in stopped["error"]["fix"]
    assert stopped["message"].startswith("It waits until CRM lets us in.")
    connection = await world.call("GET", CONNECTION)
    assert (connection["status"], connection["is_enabled"]) == ("failed", True)
    assert connection["last_error"] == connection["breaker"]["reason"]
    world.faults()
    job = await world.until(job, has_ended)
    assert (job["status"], job["error"], job["failed"]) == ("succeeded", None, 0), job
    assert (await breaker(world))["state"] == "closed"
    await world.converged()


async def test_while_it_is_open_everything_waits_and_says_why(patient: World) -> None:
    world, user = patient, patient.crm.organization.user
    entry = (await world.call("GET", ENTRIES))["items"][0]
    await world.call("POST", f"{ENTRIES}/{entry['id']}/ready")
    await world.call("PATCH", f"{ENTRIES}/{entry['id']}", {"earliest_start_at": None})
    world.crm.organization.rows("systemuser")[user]["isdisabled"] = True
    await opened(world)
    world.crm.organization.log.clear()
    another = await world.start("full", "SALESPEOPLE")
    assert another["status"] == "queued"
    assert "is disabled" in another["message"]
    shown = await world.call("GET", f"{ENTRIES}/{entry['id']}")
    assert shown["stopped_by"]["code"] == "crm-permission-missing"
    assert shown["stopped_by"]["next_probe_at"] is not None
    status = await world.call("GET", f"{COMPANY}/synch-status")
    assert (status["connection_status"], status["job_queue_entries_ready"]) == ("failed", 0)

    async def ready() -> bool:
        return (await world.client.get("/readyz")).status_code == 200

    await happened(ready)  # one connection is no reason to take the service out
    assert not world.crm.organization.log, "somebody knocked meanwhile"


async def test_crm_is_asked_with_one_request_and_growing_patience(world: World) -> None:
    user = world.crm.organization.user
    world.crm.organization.rows("systemuser")[user]["isdisabled"] = True
    await opened(world)
    before = (await breaker(world))["probes"]
    world.crm.organization.log.clear()
    after = (await breaker(world))["probes"]

    async def asked() -> bool:
        return bool((await breaker(world))["probes"] >= after + 3)

    await happened(asked)
    requests = len(world.crm.organization.log)
    probes = (await breaker(world))["probes"] - before
    assert 2 <= requests <= probes + 1  # the first may have been counted before, the latest may be under way
    world.crm.organization.rows("systemuser")[user]["isdisabled"] = False
    await is_in(world, "closed")


async def test_a_test_of_the_connection_that_succeeds_lets_the_jobs_go_on_at_once(patient: World) -> None:
    world, organization = patient, patient.crm.organization
    organization.rows("systemuser")[organization.user]["isdisabled"] = True
    job = await opened(world)
    assert not (await world.call("POST", f"{CONNECTION}/test"))["ok"]
    assert (await breaker(world))["state"] == "open"
    organization.rows("systemuser")[organization.user]["isdisabled"] = False
    assert (await world.call("POST", f"{CONNECTION}/test"))["ok"]
    assert (await world.until(job, has_ended))["status"] == "succeeded"


async def test_a_corrected_secret_lets_the_jobs_go_on_at_once(patient: World) -> None:
    world, settings = patient, patient.crm.organization.settings
    settings.client_secret = "renewed"
    world.faults(Fault(kind="token_expired", times=1))
    try:
        job = await opened(world)
        assert job["error"]["code"] == "crm-login-refused"
        assert "renewed" not in job["message"]
        assert DEFAULT_SECRET not in job["message"]
        login = world.crm.setup()["authentication"] | {"client_secret": "renewed"}
        await world.call("PATCH", CONNECTION, {"authentication": login})
        assert (await world.until(job, has_ended))["status"] == "succeeded"
        assert (await breaker(world))["state"] == "closed"
    finally:
        settings.client_secret = DEFAULT_SECRET


async def test_all_workers_share_it_and_other_companies_go_on(patient: World) -> None:
    world, organization = patient, patient.crm.organization
    other = "/api/v1/companies/other"
    await world.call("POST", "/api/v1/companies", {"name": "other"})
    await world.call("PUT", f"{other}/crm-connection", world.crm.setup())
    await world.call("PATCH", f"{other}/crm-connection", {"is_enabled": True})
    setup = f"{other}/crm-connection/use-default-synchronization-setup"
    await world.call("POST", setup, {"mappings": ["CURRENCY"]})
    organization.rows("systemuser")[organization.user]["isdisabled"] = True
    job = await opened(world)
    organization.rows("systemuser")[organization.user]["isdisabled"] = False
    async with calling(a_service(world.database, crm_probe_seconds=600)) as client:
        elsewhere = World(client, world.crm, world.database)
        assert (await breaker(elsewhere))["state"] == "open"
        path = f"{other}/integration-table-mappings/CURRENCY/synchronize"
        started = await elsewhere.call("POST", path, {"mode": "full"})

        async def has_run() -> bool:
            found = await elsewhere.call("GET", f"{other}/synch-jobs/{started['id']}")
            return bool(found["status"] == "succeeded")

        await happened(has_run)
        assert (await elsewhere.job(job["id"]))["status"] == "queued"


async def test_a_table_that_is_closed_to_us_is_a_matter_of_its_own_jobs(world: World) -> None:
    world.crm.organization.revoke("prvReadAccount")
    job = await world.synchronize("modified")
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("failed", "crm-permission-missing", 5)
    assert await breaker(world) == {
        "state": "closed",
        "failures": 0,
        **dict.fromkeys(("opened_at", "code", "reason", "fix", "next_probe_at")),
        "probes": 0,
    }
    others = await world.start("full", "CURRENCY")
    assert (await world.until(others, has_ended))["status"] == "succeeded"


async def test_rights_that_were_taken_everywhere_are_a_matter_of_the_connection(world: World) -> None:
    organization = world.crm.organization
    entities = [table.schema_name for table in organization.metadata]
    for name in entities:
        organization.revoke(f"prvRead{name}")
    job = await opened(world, "SALESPEOPLE")
    assert job["error"]["code"] == "crm-permission-missing"
    for name in entities:
        organization.grant(f"prvRead{name}")
    job = await world.until(job, has_ended)
    assert job["status"] == "succeeded", job


async def test_one_record_that_is_closed_to_us_fails_alone(world: World) -> None:
    rule = "SecLib::AccessCheckEx failed: the user has no WriteAccess right for this record."
    partner = await world.partner(3)
    await world.synchronize("modified")
    await world.customers({3: {"Name": "Not for us"}})
    world.faults(Fault(rf"PATCH .*{partner}.*", "403", message=rule))  # alone it goes as a request of its own
    job = await world.synchronize("modified")
    assert (job["status"], job["failed"], job["error"]) == ("partial", 1, None), job
    assert (await breaker(world))["failures"] == 0
