"""ETags: a tag never comes back, an empty change changes nothing, and every resource that can be changed has one."""

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
