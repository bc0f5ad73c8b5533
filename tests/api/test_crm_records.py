"""CRM records through the door."""

import httpx
import pytest

from app.sandbox import Fault
from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio
ACCOUNTS = f"{COMPANY}/crm/accounts"


async def some_accounts(ready: httpx.AsyncClient, *names: str) -> list[str]:
    """Customers of these names, each with its account; the ids of the accounts."""
    found = []
    for name in names:
        made = await ready.post(f"{COMPANY}/nav/customers", json={"fields": {"Name": name}})
        coupled = await ready.post(f"{COMPANY}/nav/customers/{made.json()['no']}/create-in-crm")
        assert coupled.status_code == 201, coupled.text
        found.append(coupled.json()["coupling"]["crm_id"])
    return found


async def test_all_rows_come_in_pages_with_their_partners(ready: httpx.AsyncClient) -> None:
    ids = await some_accounts(ready, "Adatum", "Trey Research", "Fabrikam")
    customers = (await ready.get(f"{COMPANY}/nav/customers")).json()["items"]
    await ready.delete(f"{COMPANY}/nav/customers/{customers[0]['no']}/coupling")

    async def listed(**query: str | int) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        cursor: dict[str, str] = {}
        for _ in range(5):
            page = await ready.get(ACCOUNTS, params={**query, **cursor})
            assert page.status_code == 200, page.text
            rows += page.json()["items"]
            if page.json()["next_cursor"] is None:
                break
            cursor = {"cursor": page.json()["next_cursor"]}
        return rows

    everything = await listed(limit=2)
    assert {row["id"] for row in everything} == set(ids)
    coupled, uncoupled = await listed(coupled="true"), await listed(coupled="false")
    assert [row["name"] for row in uncoupled] == [customers[0]["fields"]["Name"]]
    assert {row["nav_no"] for row in coupled} == {each["no"] for each in customers[1:]}
    assert [row["name"] for row in await listed(filter="startswith(name,'Trey')")] == ["Trey Research"]


async def test_a_record_is_created_in_nav_from_one_in_crm(ready: httpx.AsyncClient) -> None:
    (account,) = await some_accounts(ready, "Adatum")
    address = f"{ACCOUNTS}/{account}/create-in-nav"
    taken = await ready.post(address)
    assert (taken.status_code, taken.json()["code"]) == (409, "already-coupled")
    preview = await ready.post(address, json={"replace_existing": True, "preview": True})
    assert (preview.status_code, preview.json()["record"]) == (200, None)
    assert len((await ready.get(f"{COMPANY}/nav/customers")).json()["items"]) == 1
    made = await ready.post(address, json={"replace_existing": True})
    assert made.status_code == 201, made.text
    record = made.json()["record"]
    assert (record["fields"]["Name"], record["coupling"]["crm_id"]) == ("Adatum", account)
    assert made.json()["nav_url"].startswith("https://nav.cronus.example:8080/")
    several = await ready.post(f"{ACCOUNTS}/create-in-nav", json={"ids": [account]})
    assert several.json()["outcomes"][0]["error"]["code"] == "already-coupled"


async def test_an_entity_tells_its_attributes(connected: httpx.AsyncClient) -> None:
    account = (await connected.get(f"{COMPANY}/crm-entities/accounts")).json()
    fields = {field["name"]: field for field in account["fields"]}
    assert (account["name"], fields["name"]["type"], fields["ownerid"]["type"]) == (
        "account",
        "text",
        "lookup",
    )
    answer = await connected.get(f"{COMPANY}/crm-entities/sheep")
    assert (answer.status_code, answer.json()["code"]) == (404, "table-not-found")


async def test_what_cannot_be_read_says_why(ready: httpx.AsyncClient) -> None:
    missing = "0199aaaa-0000-7000-8000-000000000000"
    answer = await ready.get(f"{ACCOUNTS}/{missing}")
    assert (answer.status_code, answer.json()["code"]) == (404, "crm-record-not-found")
    await ready.patch(CONNECTION, json={"is_enabled": False})
    answer = await ready.get(ACCOUNTS)
    assert (answer.status_code, answer.json()["code"]) == (409, "connection-disabled")


async def test_a_value_that_does_not_fit_is_told_as_a_fault_of_the_row(
    connected: httpx.AsyncClient, crm: Sandbox
) -> None:
    user = next(row for row in crm.organization.rows("systemuser").values() if row.get("applicationid"))
    user["applicationid"] = "navcrm"
    fault = f"'navcrm' in applicationid of systemuser {user['systemuserid']}"
    answer = await connected.get(f"{COMPANY}/crm/systemusers/{user['systemuserid']}")
    assert (answer.status_code, answer.json()["code"]) == (502, "crm-refused"), answer.text
    assert fault in answer.json()["detail"]
    answer = await connected.get(f"{COMPANY}/crm/systemusers")
    assert answer.status_code == 200, "in a list it hides no other"
    row = next(row for row in answer.json()["items"] if row["id"] == user["systemuserid"])
    assert (row["error"]["code"], fault in row["error"]["message"]) == ("crm-refused", True)


async def test_an_entity_instead_of_its_set_is_told_the_set(connected: httpx.AsyncClient) -> None:
    for asked, meant in (("account", "accounts"), ("acounts", "accounts"), ("nope", None)):
        answer = await connected.get(f"{COMPANY}/crm/{asked}")
        assert (answer.status_code, answer.json()["code"]) == (404, "table-not-found")
        assert (f"Did you mean {meant}?" in answer.json()["detail"]) is (meant is not None)
        assert answer.json()["fix"].startswith("GET …/")


async def test_several_records_are_created_and_coupled_together_in_one_synch_job(
    ready: httpx.AsyncClient,
) -> None:
    ids = []
    for no in ("A", "B", "C"):
        record = f"{COMPANY}/nav/customers/{no}"
        await ready.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": f"Account {no}"}})
        created = await ready.post(f"{record}/create-in-crm")
        assert created.status_code == 201, created.text
        ids.append(created.json()["coupling"]["crm_id"])
        await ready.delete(f"{record}/coupling")
        await ready.delete(record)
    missing = "00000000-0000-4000-8000-000000000001"
    answer = await ready.post(f"{COMPANY}/crm/accounts/create-in-nav", json={"ids": [*ids, missing, ids[0]]})
    assert answer.status_code == 200, answer.text
    *made, refused, twice = answer.json()["outcomes"]
    assert [each["crm_id"] for each in made] == ids
    assert twice == made[0]
    (job_id,) = {each["synchronization"]["synch_job_id"] for each in made}
    assert refused["error"]["code"] == "crm-record-not-found"
    job = (await ready.get(f"{COMPANY}/synch-jobs/{job_id}")).json()
    assert (job["inserted"], job["total"], job["status"]) == (3, 3, "succeeded")
    again = (await ready.post(f"{COMPANY}/crm/accounts/create-in-nav", json={"ids": ids})).json()["outcomes"]
    assert {each["error"]["code"] for each in again} == {"already-coupled"}
    numbers = [each["coupling"]["nav_no"] for each in made]
    for each in made:
        await ready.delete(f"{COMPANY}/couplings/{each['coupling']['id']}")
    pairs = [
        {"nav_table": "customers", "nav_no": no, "crm_id": crm_id}
        for no, crm_id in zip(numbers, ids, strict=True)
    ]
    bad = {"nav_table": "customers", "nav_no": "NOBODY", "crm_id": ids[0]}
    answer = await ready.post(
        f"{COMPANY}/couplings", json={"pairs": [bad, *pairs], "synchronize_after_coupling": "nav_data"}
    )
    refused, *coupled = answer.json()["outcomes"]
    assert refused["error"]["code"] == "nav-record-not-found"
    assert [(each["nav_no"], each["error"]) for each in coupled] == [(no, None) for no in numbers]
    (job_id,) = {each["synchronization"]["synch_job_id"] for each in coupled}
    assert (await ready.get(f"{COMPANY}/synch-jobs/{job_id}")).json()["total"] == 3
    assert all(each["coupling"]["last_synch_result"] == "success" for each in coupled)


async def test_half_a_character_in_crm_spoils_no_answer(ready: httpx.AsyncClient, crm: Sandbox) -> None:
    """CRM keeps text that was cut in the middle of an emoji, and its messages end so."""
    ids = await some_accounts(ready, "Adatum", "Fabrikam")
    crm.organization.rows("account")[ids[0]]["name"] = "Adatum \ud83d"
    customer = (await ready.get(f"{COMPANY}/nav/customers?limit=1")).json()["items"][0]["no"]
    record = f"{COMPANY}/nav/customers/{customer}"
    listed = await ready.get(ACCOUNTS)
    assert listed.status_code == 200, listed.text
    assert {row["name"] for row in listed.json()["items"]} == {"Adatum ?", "Fabrikam"}
    assert (await ready.get(f"{ACCOUNTS}/{ids[0]}")).json()["fields"]["name"] == "Adatum ?"
    compared = (await ready.get(f"{record}/coupling/comparison")).json()["fields"]
    assert "Adatum ?" in {field["crm_value"] for field in compared}
    said = "The name Zo\ud83d is too long."
    crm.organization.faults.append(Fault(r"PATCH .*/accounts\(", "400", message=said))
    await ready.patch(record, json={"fields": {"Name": "Zoe"}})
    refused = await ready.post(f"{record}/synchronize", json={"direction": "to_crm"})
    assert (refused.status_code, refused.json()["code"]) == (502, "crm-refused")
    assert "The name Zo? is too long." in refused.json()["detail"]


async def test_what_is_named_twice_is_done_once_and_told_as_often_as_it_was_named(
    ready: httpx.AsyncClient,
) -> None:
    first, second = await some_accounts(ready, "Adatum", "Trey Research")
    customers = f"{COMPANY}/nav/customers"
    numbers = [each["no"] for each in (await ready.get(customers)).json()["items"]]
    for no in numbers:
        await ready.delete(f"{customers}/{no}/coupling")

    pair = {"nav_table": "customers", "nav_no": numbers[0], "crm_id": first}
    body = {"pairs": [pair, pair], "synchronize_after_coupling": "nav_data"}
    coupled = (await ready.post(f"{COMPANY}/couplings", json=body)).json()["outcomes"]
    assert coupled[0] == coupled[1]
    assert coupled[0]["error"] is None

    ids = [second, first, second]
    made = (await ready.post(f"{ACCOUNTS}/create-in-nav", json={"ids": ids})).json()["outcomes"]
    assert [outcome["crm_id"] for outcome in made] == ids
    assert made[0] == made[2]
    assert [outcome["error"] and outcome["error"]["code"] for outcome in made[:2]] == [
        None,
        "already-coupled",
    ]
    assert len((await ready.get(customers)).json()["items"]) == 3

    nos = [numbers[0], numbers[0].lower(), numbers[0]]
    selection = {"nos": nos, "direction": "to_crm", "preview": True}
    shown = await ready.post(f"{customers}/synchronize", json=selection)
    assert shown.json()["total"] == 1

    rows = [{"no": "C1", "fields": {"Name": name}} for name in ("Fabrikam", "Litware")]
    written = (await ready.post(f"{customers}/bulk", json={"records": rows})).json()["outcomes"]
    assert [each["error"] and each["error"]["code"] for each in written] == [None, "already-exists"]
    assert (await ready.get(f"{customers}/C1")).json()["fields"]["Name"] == "Fabrikam"


async def test_a_coupling_that_is_named_twice_is_restored_once(
    ready: httpx.AsyncClient, crm: Sandbox
) -> None:
    await some_accounts(ready, "Adatum")
    no = (await ready.get(f"{COMPANY}/nav/customers")).json()["items"][0]["no"]
    crm.organization.faults.append(Fault(r"PATCH .*/accounts\(|POST .*/\$batch", "400", message="No."))
    for city in ("Rome", "Paris"):
        await ready.patch(f"{COMPANY}/nav/customers/{no}", json={"fields": {"City": city}})
        await ready.post(f"{COMPANY}/nav/customers/{no}/synchronize", json={"direction": "to_crm"})
    crm.organization.faults.clear()
    (coupling,) = (await ready.get(f"{COMPANY}/couplings", params={"skipped": True})).json()["items"]
    twice = {"ids": [coupling["id"], coupling["id"]]}
    restored = await ready.post(f"{COMPANY}/couplings/restore", json=twice)
    assert restored.json() == {"restored": 1, "coupling_ids": [coupling["id"]]}
