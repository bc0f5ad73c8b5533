"""Whole tables through the door: REST in, jobs carried out by a worker, a CRM over HTTP that is not always well."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from app.sandbox import Fault
from app.use_cases.reading import SET
from tests.seeds.world import SALESPERSON, Json, World

pytestmark = pytest.mark.anyio

MAPPING = "integration-table-mappings/CUSTOMER"
RUN = f"{MAPPING}/synchronize"
FULL = {"mode": "full", "create_uncoupled": True}
SEVERAL_SETS = 5 * SET  # three sets are under way when the first is told of, and two more begin after them
MODIFIED = {"mode": "modified"}
READ = ("inserted", "modified", "unmodified", "deleted", "skipped", "failed")
TOO_MUCH = 10**15
"""A credit limit that NAV takes and CRM has no room for."""


async def customers(world: World, count: int, **fields: Any) -> None:
    """New customers, C000 and on, of the coupled salesperson."""
    known = {"Salesperson_Code": SALESPERSON} | fields
    records = [{"no": f"C{n:03}", "fields": {"Name": f"Customer {n}"} | known} for n in range(count)]
    loaded = await world.post("nav/customers/bulk", {"records": records})
    assert not any(outcome["error"] for outcome in loaded["outcomes"]), loaded


async def accounts(world: World, count: int) -> list[str]:
    """New accounts."""
    return [await world.crm.account(f"Account {n}") for n in range(count)]


async def pairs(world: World, count: int) -> dict[str, str]:
    """Coupled customers and nothing left to do; the account of each."""
    await customers(world, count)
    await world.job(RUN, FULL)
    await world.job(RUN, MODIFIED)
    return {each["nav_no"]: each["crm_id"] for each in await world.items("couplings", mapping="CUSTOMER")}


def adds_up(job: Json) -> bool:
    """Whether the counts of a job are the rows it read, in each direction and together."""
    parts = [*job["directions"].values(), job]
    return all(part["total"] == sum(part[name] for name in READ) for part in parts)


async def test_a_first_load_goes_both_ways_though_answers_get_lost_and_a_row_is_bad(at_work: World) -> None:
    await customers(at_work, 150)
    await at_work.change("customers", "C007", Credit_Limit_LCY=TOO_MUCH)
    await accounts(at_work, 50)
    faults = at_work.crm.organization.faults
    # Three strikes in all: a request is tried four times, and may be the one that is struck each time.
    faults.append(Fault(r"POST .*/\$batch", "reset_after_commit", every=3, times=2))
    faults.append(Fault(r"(POST .*/\$batch|GET .*)", "503", every=4, times=1, retry_after=0))
    job = await at_work.job(RUN, FULL)
    faults.clear()
    assert (job["status"], job["inserted"], job["failed"]) == ("partial", 199, 1)
    assert job["directions"]["to_crm"]["total"] == 150
    assert adds_up(job)
    (error,) = await at_work.items(f"synch-jobs/{job['id']}/errors")
    assert (error["nav_no"], error["code"]) == ("C007", "invalid-values")
    named = Counter(row["name"] for row in await at_work.crm.rows("accounts"))
    assert named == Counter(f"Account {n}" for n in range(50)) + Counter(
        f"Customer {n}" for n in range(150) if n != 7
    )
    assert len(await at_work.items("nav/customers")) == 200
    assert len(await at_work.items("couplings", mapping="CUSTOMER")) == 199
    await at_work.change("customers", "C007", Credit_Limit_LCY=5)
    assert (await at_work.job(RUN, FULL))["inserted"] == 1
    again = await at_work.job(RUN, FULL)
    assert (again["inserted"], again["modified"], again["unmodified"]) == (0, 0, 400)
    assert adds_up(again)


async def test_fifty_requests_for_one_record_at_once_make_one_account(at_work: World) -> None:
    await at_work.customer("10000")
    at_work.crm.organization.faults.append(Fault("PATCH .*", "reset_after_commit", every=2, times=3))
    answers = await asyncio.gather(
        *(at_work.ask("POST", "nav/customers/10000/create-in-crm") for _ in range(50))
    )
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    assert any(answer.is_success for answer in answers)
    assert len(await at_work.crm.rows("accounts")) == 1
    (coupling,) = await at_work.items("couplings", mapping="CUSTOMER")
    made = {answer.json()["coupling"]["crm_id"] for answer in answers if answer.is_success}
    assert made == {coupling["crm_id"]}
    synchronized = await asyncio.gather(
        *(at_work.ask("POST", "nav/customers/10000/synchronize", {"direction": "to_crm"}) for _ in range(10))
    )
    assert {answer.status_code for answer in synchronized} == {200}
    assert len(await at_work.crm.rows("accounts")) == 1


async def test_a_row_that_crm_refuses_fails_alone_in_its_batch(at_work: World) -> None:
    await pairs(at_work, 30)
    person = await at_work.person("C011")
    made = await at_work.post(f"nav/contacts/{person}/create-in-crm")
    await at_work.crm.delete("contacts", made["coupling"]["crm_id"])
    changes: list[Json] = [{"no": f"C{n:03}", "fields": {"City": "London"}} for n in range(30)]
    changes[11]["fields"]["Primary_Contact_No"] = person
    await at_work.post("nav/customers/bulk", {"records": changes})
    at_work.crm.forget()
    job = await at_work.job(RUN, MODIFIED)
    assert (job["status"], job["modified"], job["failed"]) == ("partial", 29, 1)
    assert adds_up(job)
    (failed,) = [each for each in await at_work.outcomes(job) if each["action"] == "failed"]
    assert (failed["nav_no"], failed["error"]["code"]) == ("C011", "crm-refused")
    assert "refers to a row that is gone" in failed["error"]["message"]
    cities = Counter(row["address1_city"] for row in await at_work.crm.rows("accounts"))
    assert cities == {"London": 29, None: 1}
    assert len(at_work.crm.writes()) <= 4


async def test_deletions_beyond_a_share_of_the_table_wait_for_a_person(at_work: World) -> None:
    await at_work.patch(MAPPING, {"deletion_conflict_resolution": "propagate"})
    of_customer = await pairs(at_work, 40)
    for crm_id in list(of_customer.values())[:25]:
        await at_work.crm.delete("accounts", crm_id)
    stopped = await at_work.job(RUN, MODIFIED)
    assert (stopped["status"], stopped["error"]["code"]) == ("failed", "too-many-deletions")
    assert "allow_deletions" in stopped["error"]["fix"]
    assert len(await at_work.items("nav/customers")) == 40
    job = await at_work.job(RUN, MODIFIED | {"allow_deletions": True})
    assert (job["status"], job["deleted"]) == ("succeeded", 25)
    assert adds_up(job)
    assert len(await at_work.items("nav/customers")) == 15
    assert len(await at_work.items("couplings", mapping="CUSTOMER")) == 15


async def test_a_contact_that_waits_is_taken_along_once_its_customer_is_coupled(at_work: World) -> None:
    contacts = "integration-table-mappings/CONTACT/synchronize"
    await at_work.customer("10000")
    no = await at_work.person("10000")
    job = await at_work.job(contacts, FULL)
    (waits,) = [each for each in await at_work.outcomes(job) if each["nav_no"] == no]
    assert (waits["action"], waits["error"]["code"]) == ("failed", "lookup-not-coupled")
    assert await at_work.outcomes(await at_work.job(contacts, MODIFIED | {"create_uncoupled": True})) == []
    made = await at_work.post("nav/customers/10000/create-in-crm")
    released = await at_work.job(contacts, MODIFIED | {"create_uncoupled": True})
    assert released["inserted"] == 1
    contact = await at_work.crm.row("contacts", str(await at_work.partner("contacts", no)))
    assert contact["_parentcustomerid_value"] == made["coupling"]["crm_id"]


async def test_what_failed_twice_is_skipped_and_restored_by_error_by_mapping_one_or_all(
    at_work: World,
) -> None:
    of_customer = await pairs(at_work, 5)
    for no in of_customer:
        await at_work.change("customers", no, Credit_Limit_LCY=TOO_MUCH)
    assert (await at_work.job(RUN, MODIFIED))["failed"] == 5
    assert await at_work.items("couplings", skipped="true") == []
    assert (await at_work.job(RUN, MODIFIED))["failed"] == 5
    skipped = await at_work.items("couplings", skipped="true")
    assert {each["last_error"]["code"] for each in skipped} == {"invalid-values"}
    shown = (await at_work.get(f"nav/customers/{skipped[0]['nav_no']}/coupling"))["last_error"]
    assert shown["message"] == skipped[0]["last_error"]["message"]
    assert (await at_work.get("synch-status"))["skipped_couplings"] == 5
    nothing = await at_work.post("couplings/restore", {"error_code": "update-conflict"})
    assert nothing["restored"] == 0
    restored = await at_work.post(f"couplings/{skipped[0]['id']}/restore")
    assert (restored["skipped"], restored["last_error"]["code"]) == (False, "invalid-values")
    two = [each["id"] for each in skipped[1:3]]
    assert (await at_work.post("couplings/restore", {"ids": two}))["restored"] == 2
    assert (await at_work.post("couplings/restore", {"mapping": "CONTACT"}))["restored"] == 0
    assert (await at_work.post("couplings/restore", {"mapping": "CUSTOMER"}))["restored"] == 2
    for no in of_customer:
        await at_work.change("customers", no, Credit_Limit_LCY=7)
    assert (await at_work.job(RUN, MODIFIED))["modified"] == 5
    assert {row["creditlimit"] for row in await at_work.crm.rows("accounts")} == {7}


async def test_matching_shows_first_and_leaves_the_ambiguous_ones_alone(at_work: World) -> None:
    await at_work.customer("10000", E_Mail="Ann@Adatum.example")
    await at_work.customer("20000", E_Mail="info@litware.example")
    await at_work.customer("30000", E_Mail="nobody@contoso.example")
    ann = await at_work.crm.account("A", emailaddress1="ann@adatum.example")
    twins = {await at_work.crm.account(name, emailaddress1="info@litware.example") for name in ("B", "C")}
    asked: Json = {"criteria": [{"nav_field": "E_Mail", "crm_attribute": "emailaddress1"}]}
    preview = await at_work.post(f"{MAPPING}/match", asked | {"preview": True})
    assert await at_work.items("couplings", mapping="CUSTOMER") == []
    done = await at_work.post(f"{MAPPING}/match", asked)
    assert done == preview
    assert done["coupled"] == [{"nav_no": "10000", "crm_ids": [ann]}]
    ((alone, candidates),) = [(each["nav_no"], set(each["crm_ids"])) for each in done["ambiguous"]]
    assert (alone, candidates, done["unmatched"]) == ("20000", twins, 1)
    assert await at_work.partner("customers", "10000") == ann
    assert await at_work.partner("customers", "20000") is None


async def events(world: World, address: str) -> list[tuple[str, Json]]:
    """The event stream of a job, to its end."""
    told = (await world.ask("GET", f"{address}/events")).text
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines()) for block in told.split("\n\n") if block
    ]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "data" in block]


async def test_a_running_job_tells_how_far_it_is_and_stops_when_cancelled(at_work: World) -> None:
    await customers(at_work, SEVERAL_SETS)
    crm = at_work.crm.organization.settings
    crm.row_latency = 0.015  # so that there is time to cancel, on a busy machine too
    try:
        answer = await at_work.ask("POST", RUN, FULL | {"direction": "to_crm"})
        address = answer.headers["Location"]
        listening = asyncio.create_task(events(at_work, address))
        job = await _begun(at_work, address)
        assert (job["status"], job["expected"]) == ("running", SEVERAL_SETS)
        assert (await at_work.post(f"{address}/cancel"))["status"] == "running"
        crm.row_latency = 0.002  # what is under way may end
        *progress, (kind, last) = await listening
    finally:
        crm.row_latency = 0
    assert (kind, last["status"]) == ("end", "cancelled")
    assert {kind for kind, _ in progress} == {"progress"}
    moved = [event for _, event in progress if event["total"]]
    assert all(0 < event["progress"] < 100 and event["rate"] > 0 for event in moved)
    assert all(event["remaining_seconds"] >= 0 for event in moved)
    assert 0 < last["inserted"] < SEVERAL_SETS
    assert len(await at_work.items("couplings", mapping="CUSTOMER")) == last["inserted"]
    await at_work.job(RUN, FULL | {"direction": "to_crm"})
    names = Counter(row["name"] for row in await at_work.crm.rows("accounts"))
    assert names == Counter(f"Customer {n}" for n in range(SEVERAL_SETS))


async def _begun(world: World, address: str) -> Json:
    """A job that has dealt with its first records."""
    for _ in range(3000):
        job = await world.get(address)
        if job["total"]:
            return job
        await asyncio.sleep(0.02)
    raise AssertionError(f"{address} does not begin")
