"""ETags: a tag never comes back, an empty change changes nothing, and every resource that can be changed has one."""

import asyncio
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio
MAPPINGS = f"{COMPANY}/integration-table-mappings"


async def test_a_tag_of_a_deleted_connection_does_not_fit_its_successor(
    cronus: httpx.AsyncClient, crm: Sandbox
) -> None:
    old = (await cronus.put(CONNECTION, json=crm.setup())).headers["ETag"]
    await cronus.delete(CONNECTION)
    new = (await cronus.put(CONNECTION, json=crm.setup())).headers["ETag"]
    assert new != old
    stale = await cronus.patch(CONNECTION, json={"api_version": "v9.1"}, headers={"If-Match": old})
    assert stale.status_code == 412


async def test_an_empty_change_changes_nothing(ready: httpx.AsyncClient) -> None:
    entry = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"][0]
    row = (await ready.get(f"{MAPPINGS}/CUSTOMER/fields")).json()["items"][0]
    for address in (
        COMPANY,
        CONNECTION,
        f"{MAPPINGS}/CUSTOMER",
        f"{MAPPINGS}/CUSTOMER/fields/{row['id']}",
        f"{COMPANY}/job-queue-entries/{entry['id']}",
    ):
        tag = (await ready.get(address)).headers["ETag"]
        changed = await ready.patch(address, json={})
        assert (changed.status_code, changed.headers["ETag"]) == (200, tag), address


async def test_a_preview_has_the_tag_of_what_is_there(ready: httpx.AsyncClient) -> None:
    """Not the next one: somebody else's change would have that, and whoever previewed would overwrite it."""
    entry = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"][0]
    row = (await ready.get(f"{MAPPINGS}/CUSTOMER/fields")).json()["items"][0]
    for address, change in (
        (COMPANY, {"display_name": "Other"}),
        (CONNECTION, {"api_version": "v9.1"}),
        (f"{MAPPINGS}/CUSTOMER", {"nav_filter": "Blocked eq ' '"}),
        (f"{MAPPINGS}/CUSTOMER/fields/{row['id']}", {"not_null": True}),
        (f"{COMPANY}/job-queue-entries/{entry['id']}", {"minutes_between_runs": 77}),
    ):
        tag = (await ready.get(address)).headers["ETag"]
        shown = await ready.patch(address, json=change | {"preview": True})
        assert (shown.status_code, shown.headers["ETag"]) == (200, tag), address
        made = await ready.patch(address, json=change, headers={"If-Match": tag})
        assert (made.status_code, made.headers["ETag"] != tag) == (200, True), address


async def test_a_document_of_mappings_is_replaced_only_as_it_was_read(ready: httpx.AsyncClient) -> None:
    read = await ready.get(f"{MAPPINGS}/export")
    tag = read.headers["ETag"]
    assert (await ready.get(f"{MAPPINGS}/export", headers={"If-None-Match": tag})).status_code == 304
    await ready.patch(f"{MAPPINGS}/CUSTOMER", json={"nav_filter": "Blocked eq ' '"})
    stale = await ready.put(f"{MAPPINGS}/export", json=read.json(), headers={"If-Match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition-failed")
    now = (await ready.get(f"{MAPPINGS}/export")).headers["ETag"]
    put = await ready.put(f"{MAPPINGS}/export", json=read.json(), headers={"If-Match": now})
    assert (put.status_code, put.headers["ETag"], put.json()["changed"]) == (200, tag, ["CUSTOMER"])


async def test_the_call_that_mends_a_failed_precondition_exists(ready: httpx.AsyncClient) -> None:
    row = (await ready.get(f"{MAPPINGS}/CUSTOMER/fields")).json()["items"][0]
    address = f"{MAPPINGS}/CUSTOMER/fields/{row['id']}"
    stale = await ready.patch(address, json={"status": "disabled"}, headers={"If-Match": '"old"'})
    assert (stale.status_code, stale.json()["fix"].split(",")[0]) == (412, f"GET {address}")
    found = await ready.get(address)
    assert (found.status_code, found.json()) == (200, row)
    put = await ready.patch(address, json={}, headers={"If-Match": found.headers["ETag"]})
    assert put.status_code == 200


async def test_verbs_of_a_job_queue_entry_answer_with_its_new_tag(ready: httpx.AsyncClient) -> None:
    entry = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"][0]
    address = f"{COMPANY}/job-queue-entries/{entry['id']}"
    before = (await ready.get(address)).headers["ETag"]
    for verb in ("hold", "ready", "run"):
        tag = (await ready.post(f"{address}/{verb}")).headers["ETag"]
        assert tag != before
        assert (await ready.get(address)).headers["ETag"] == tag
        before = tag


async def resources(ready: httpx.AsyncClient) -> dict[str, list[dict[str, Any]]]:
    """Every configuration resource, by its address, with changes that are all different."""
    entry = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"][0]
    row = (await ready.get(f"{MAPPINGS}/CUSTOMER/fields")).json()["items"][0]
    many = range(10)
    switches = ("not_null", "validate")
    switched = [dict(zip(switches, given, strict=True)) for given in product((True, False), repeat=2)]
    return {
        COMPANY: [{"display_name": f"Cronus {n}"} for n in many],
        CONNECTION: [{"app_id": str(uuid4())} for _ in many],
        f"{MAPPINGS}/CUSTOMER": [{"nav_filter": f"City eq 'City {n}'"} for n in many],
        f"{MAPPINGS}/CUSTOMER/fields/{row['id']}": [each for each in switched if each.items() - row.items()],
        f"{COMPANY}/job-queue-entries/{entry['id']}": [{"minutes_between_runs": 10 + n} for n in many],
    }


async def test_of_changes_at_once_to_what_all_have_read_exactly_one_is_made(ready: httpx.AsyncClient) -> None:
    for address, changes in (await resources(ready)).items():
        tag = (await ready.get(address)).headers["ETag"]
        sent = [ready.patch(address, json=change, headers={"If-Match": tag}) for change in changes]
        answers = await asyncio.gather(*sent)
        made = [answer for answer in answers if answer.status_code == 200]
        assert len(made) == 1, (address, [answer.text for answer in answers])
        for answer in answers:
            if answer is not made[0]:
                assert (answer.status_code, answer.json()["code"]) == (412, "precondition-failed"), address
        now = await ready.get(address)
        assert (now.json(), now.headers["ETag"]) == (made[0].json(), made[0].headers["ETag"])
        assert now.headers["ETag"] != tag


async def test_changes_at_once_by_who_said_nothing_of_what_was_read_are_all_made(
    ready: httpx.AsyncClient,
) -> None:
    for address, changes in (await resources(ready)).items():
        answers = await asyncio.gather(*(ready.patch(address, json=change) for change in changes))
        assert [answer.status_code for answer in answers] == [200] * len(changes), address
        assert len({answer.headers["ETag"] for answer in answers}) == len(changes), address
        now = await ready.get(address)
        assert now.headers["ETag"] in {answer.headers["ETag"] for answer in answers}, address


async def test_a_connection_is_disabled_changed_and_replaced_at_once_by_several(
    ready: httpx.AsyncClient, crm: Sandbox
) -> None:
    await ready.patch(
        CONNECTION, json={"is_enabled": False}
    )  # what CRM is asked for otherwise is of no concern here
    changes = [{"is_enabled": False}, {"app_id": str(uuid4()), "is_enabled": False}, {"api_version": "v9.1"}]
    sent = [ready.patch(CONNECTION, json=each) for each in changes * 3]
    sent += [ready.put(CONNECTION, json=crm.setup()) for _ in range(3)]
    assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}


async def test_the_first_connection_may_be_saved_by_several_but_one_alone_is_the_first(
    cronus: httpx.AsyncClient, crm: Sandbox
) -> None:
    whole = crm.setup()
    many = range(6)
    answers = await asyncio.gather(*(cronus.put(CONNECTION, json=whole) for _ in many))
    assert [answer.status_code for answer in answers] == [200] * len(many)
    await cronus.delete(CONNECTION)
    new = {"If-None-Match": "*"}
    answers = await asyncio.gather(*(cronus.put(CONNECTION, json=whole, headers=new) for _ in many))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5


async def test_rows_that_are_deleted_and_changed_at_once_are_no_failed_precondition(
    ready: httpx.AsyncClient,
) -> None:
    fields = f"{MAPPINGS}/CUSTOMER/fields"
    rows = (await ready.get(fields)).json()["items"]
    gone, changed = rows[1:5], rows[5:9]
    answers = await asyncio.gather(
        *(ready.delete(f"{fields}/{row['id']}") for row in gone),
        *(ready.patch(f"{fields}/{row['id']}", json={"status": "disabled"}) for row in changed),
    )
    assert [answer.status_code for answer in answers] == [204] * 4 + [200] * 4
    left = {row["id"]: row["status"] for row in (await ready.get(fields)).json()["items"]}
    assert not left.keys() & {row["id"] for row in gone}
    assert {left[row["id"]] for row in changed} == {"disabled"}


async def test_every_change_has_a_tag_of_its_own_with_or_without_a_condition(
    ready: httpx.AsyncClient,
) -> None:
    for address, changes in (await resources(ready)).items():
        tags = [(await ready.get(address)).headers["ETag"]]
        for change in changes:
            changed = await ready.patch(address, json=change)
            assert changed.status_code == 200, changed.text
            tags.append(changed.headers["ETag"])
        assert len(set(tags)) == len(tags), address


async def test_of_deletions_and_changes_at_once_what_was_read_decides(ready: httpx.AsyncClient) -> None:
    entries = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"]
    entry = next(each for each in entries if each["mapping"] == "CUSTOMER")
    for address, change in (
        (f"{MAPPINGS}/CONTACT", {"nav_filter": "City eq 'X'"}),
        (f"{COMPANY}/job-queue-entries/{entry['id']}", {"minutes_between_runs": 77}),
        (CONNECTION, {"nav_web_client_url": "https://nav.elsewhere.example"}),
        (COMPANY, {"display_name": "Elsewhere"}),
    ):
        tag = {"If-Match": (await ready.get(address)).headers["ETag"]}
        changed, deleted = await asyncio.gather(
            ready.patch(address, json=change, headers=tag), ready.delete(address, headers=tag)
        )
        assert (changed.status_code, deleted.status_code) in ((200, 412), (404, 204), (412, 204)), address
        assert (await ready.get(address)).status_code == (200 if changed.status_code == 200 else 404)


async def test_what_was_made_is_found_where_the_answer_says_with_the_tag_that_it_says(
    ready: httpx.AsyncClient,
) -> None:
    mapping = {"name": "R&D", "nav_table": "customers", "crm_entity": "account", "direction": "to_crm"}
    row = {"nav_field": "Name_2", "crm_attribute": "description", "direction": "to_crm"}
    entry = {"description": "Now and then", "mapping": "CUSTOMER"}
    customers = f"{COMPANY}/nav/customers"

    async def made(address: str, body: dict[str, Any]) -> httpx.Response:
        answer = await ready.post(address, json=body)
        assert answer.status_code == 201, answer.text
        found = await ready.get(answer.headers["Location"])
        assert found.status_code == 200, (address, found.text)
        assert found.headers.get("ETag") == answer.headers.get("ETag"), address
        return answer

    await made("/api/v1/companies", {"name": "second"})
    await made(MAPPINGS, mapping)
    await made(f"{MAPPINGS}/CUSTOMER/fields", row)
    await made(f"{COMPANY}/job-queue-entries", entry)
    await made(customers, {"no": "K&M/01", "fields": {"Name": "K & M"}})
    coupling = (await made(f"{customers}/K%26M%2F01/create-in-crm", {})).json()["coupling"]
    account = f"{COMPANY}/crm/accounts/{coupling['crm_id']}"
    await made(f"{account}/create-in-nav", {"replace_existing": True})


async def test_head_tells_what_get_would_without_its_body(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    def told(answer: httpx.Response) -> tuple[int, dict[str, str]]:
        return answer.status_code, {
            name: value for name, value in answer.headers.items() if name != "x-request-id"
        }

    for client, address in (
        (ready, COMPANY),
        (ready, f"{MAPPINGS}?limit=1"),
        (ready, f"{MAPPINGS}/CUSTOMER"),
        (ready, f"{MAPPINGS}/NOBODY"),
        (anyone, COMPANY),
        (anyone, "/openapi.json"),
        (anyone, "/docs"),
        (anyone, "/docs/static/start.js"),
        (anyone, "/open/nav"),
    ):
        whole, head = await client.get(address), await client.head(address)
        assert told(head) == told(whole), address
        assert (head.content, whole.content != b"") == (b"", True), address
    known = {"If-None-Match": (await ready.head(COMPANY)).headers["ETag"]}
    assert (await ready.head(COMPANY, headers=known)).status_code == 304
    refused = await ready.head(f"{COMPANY}/synch-status/reset")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
