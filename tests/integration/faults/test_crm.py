"""Whatever CRM does, a full synchronization of two thousand records finishes, or stops with a state that says why; and
once CRM is well again, both sides tell the same story: nobody twice, no edit lost, every number right."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from app.sandbox import Fault
from tests.integration.faults.world import (
    COMPANY,
    NEW,
    World,
    has_ended,
)

pytestmark = pytest.mark.anyio

BATCHES = r"POST .*/\$batch"
ACCOUNTS = r"GET .*/accounts"
ALL = {"inserted": 2 * NEW, "deleted": 0, "failed": 0, "skipped": 0}

# What is no limit strikes three times in all: a request is tried four times, and may be the one that is struck each
# time; which one it is depends on who comes first.
PASSING: dict[str, Callable[[], list[Fault]]] = {
    "all three service limits": lambda: [
        Fault(kind="429", every=4, retry_after=0.05),
        Fault(kind="429", every=5, retry_after=0.05, code="0x80072321"),
        Fault(kind="429", every=6, retry_after=0.05, code="0x80072326"),
    ],
    "a service that fails": lambda: [
        Fault(kind="500", every=5, times=2),
        Fault(kind="503", every=6, times=1, retry_after=0.05),
    ],
    "tokens that expire": lambda: [Fault(kind="token_expired", every=5)],
    "connections that break before the commit": lambda: [
        Fault(BATCHES, "reset_before_commit", every=3, times=3),
        Fault(ACCOUNTS, "reset_before_commit", times=2),
    ],
    "connections that break after the commit": lambda: [
        Fault(BATCHES, "reset_after_commit", every=3, times=3),
        Fault(ACCOUNTS, "reset_after_commit", times=2),
    ],
    "answers that cannot be read": lambda: [
        Fault(kind="truncated", every=5, times=1),
        Fault(kind="not_json", every=6, times=1),
        Fault(kind="html", every=7, times=1),
    ],
    "rows that others change at the same time": lambda: [
        Fault(BATCHES, "overtaken", every=2, times=3, values={"fax": "555"}),
    ],
}
LASTING: dict[str, Callable[[], Fault]] = {
    "nothing but 503": lambda: Fault(kind="503", retry_after=0.01),
    "writes whose answer is lost": lambda: Fault(BATCHES, "reset_after_commit"),
}


def counts(job: dict[str, Any]) -> dict[str, int]:
    """What matters of them."""
    return {name: job[name] for name in ALL}


async def well_again(world: World, edits: dict[int, str] | None = None) -> None:
    """The fault is over: one more full synchronization, and all is as it should be."""
    world.faults()
    job = await world.synchronize()
    assert (job["status"], job["failed"], job["skipped"]) == ("succeeded", 0, 0), job
    await world.converged(edits)
    await world.is_quiet()


@pytest.mark.parametrize("trouble", PASSING)
async def test_trouble_that_passes_is_outlasted(world: World, trouble: str) -> None:
    faults = PASSING[trouble]()
    world.faults(*faults)
    job = await world.synchronize()
    assert all(fault.struck for fault in faults), faults
    assert (job["status"], job["error"]) == ("succeeded", None), job
    assert counts(job) == ALL, job
    world.faults()
    await world.converged()
    await world.is_quiet()


@pytest.mark.parametrize("trouble", LASTING)
async def test_trouble_that_lasts_ends_the_job_with_its_reason(world: World, trouble: str) -> None:
    world.faults(LASTING[trouble]())
    job = await world.synchronize()
    assert (job["status"], job["error"]["code"]) == ("failed", "crm-unavailable"), job
    assert job["message"] == job["error"]["message"]
    assert job["error"]["fix"]
    await well_again(world)


async def test_a_crm_that_hangs_is_asked_again(impatient: World) -> None:
    reading, writing = (Fault(match, "hang", times=1, seconds=20) for match in (ACCOUNTS, BATCHES))
    world = impatient
    world.faults(reading, writing)
    job = await world.synchronize()
    assert reading.struck
    assert writing.struck
    assert (job["status"], counts(job)) == ("succeeded", ALL), job
    await world.converged()
    await world.is_quiet()


async def test_a_crm_that_stays_away_ends_the_job(world: World) -> None:
    world.crm.line.down()
    try:
        job = await world.synchronize()
    finally:
        world.crm.line.up()
    assert (job["status"], job["error"]["code"], job["attempt"]) == ("failed", "crm-unavailable", 5), job
    assert job["error"]["fix"].startswith("Check server_url")
    await well_again(world)


async def test_delta_links_that_expired_cost_a_full_read_and_nothing_else(world: World) -> None:
    await world.synchronize()
    partner = await world.partner(7)
    world.crm_changes(partner, telephone1="7007")
    world.crm.organization.expire_delta_tokens()
    job = await world.synchronize("modified")
    assert (job["status"], job["modified"], job["failed"]) == ("succeeded", 1, 0), job
    await world.converged({7: "7007"})
    await world.is_quiet()


# --- what a person has to mend ---------------------------------------------------------------------------------


async def test_a_mapped_column_that_vanished_ends_the_job_and_no_record_bears_it(world: World) -> None:
    organization = world.crm.organization
    await world.call("GET", f"{COMPANY}/crm-entities/accounts")  # what the service knows of CRM is older
    column = organization.remove_column("account", "telephone1")
    job = await world.synchronize()
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid-mapping"), job
    assert "telephone1" in job["message"]
    assert job["error"]["fix"]
    organization.put_column("account", column)
    await well_again(world)


async def test_a_column_that_became_another_is_read_anew_and_no_record_bears_it(world: World) -> None:
    organization = world.crm.organization
    await world.call("GET", f"{COMPANY}/crm-entities/accounts")  # what the service knows of CRM is older
    await world.customers({number: {"Phone_No": "123"} for number in range(100)})
    column = organization.remove_column("account", "telephone1")
    number = replace(column, type="Integer", max_length=None, minimum=Decimal(0), maximum=Decimal(9999))
    organization.put_column("account", number)
    for account, row in list(world.crm.accounts.items()):
        if phone := row.get("telephone1"):
            world.crm_changes(account, telephone1=int(phone))
    job = await world.synchronize()
    assert (job["status"], job["failed"], job["attempt"]) == ("succeeded", 0, 2), job
    await well_again(world, dict.fromkeys(range(100), "123"))


@pytest.mark.parametrize("privilege", ["prvWriteAccount", "prvCreateAccount"])
async def test_a_right_that_was_taken_stops_the_job_until_it_is_given_back(
    world: World, privilege: str
) -> None:
    world.crm.organization.revoke(privilege)
    job = await world.start()
    stopped = await world.until(job, lambda job: job["error"] is not None)
    assert stopped["error"]["code"] == "crm-permission-missing"
    assert privilege in stopped["message"]
    assert "security role" in stopped["error"]["fix"]
    world.crm.organization.grant(privilege)
    job = await world.until(job, has_ended)
    assert (job["status"], job["error"], job["failed"], job["skipped"]) == ("succeeded", None, 0, 0), job
    await world.converged()
    await world.is_quiet()
