"""Integration table mappings through the door."""

import httpx
import pytest

from tests.api.conftest import COMPANY

pytestmark = pytest.mark.anyio
MAPPINGS = f"{COMPANY}/integration-table-mappings"
NEW = {"name": "PARTNERS EU", "nav_table": "customers", "crm_entity": "account", "direction": "to_crm"}


async def test_a_mapping_is_made_changed_and_deleted(ready: httpx.AsyncClient) -> None:
    row = {"nav_field": "Name", "crm_attribute": "name", "direction": "to_crm"}
    made = await ready.post(MAPPINGS, json=NEW | {"nav_filter": "City eq 'Berlin'", "fields": [row]})
    assert made.status_code == 201, made.text
    address = made.headers["Location"]
    assert address.endswith("/PARTNERS%20EU")
    found = await ready.get(address)
    assert (found.json()["field_count"], found.json()["nav_filter"]) == (1, "City eq 'Berlin'")
    cleared = await ready.patch(
        address, json={"nav_filter": None}, headers={"If-Match": found.headers["ETag"]}
    )
    assert (cleared.status_code, cleared.json()["nav_filter"]) == (200, None)
    stale = await ready.patch(address, json={"nav_filter": None}, headers={"If-Match": found.headers["ETag"]})
    assert stale.status_code == 412
    assert (await ready.delete(address)).status_code == 204
    assert (await ready.get(address)).json()["code"] == "mapping-not-found"


async def test_a_field_row_is_added_changed_and_removed(ready: httpx.AsyncClient) -> None:
    rows = f"{MAPPINGS}/CUSTOMER/fields"
    listed = (await ready.get(rows)).json()["items"]
    there = next(each for each in listed if each["crm_attribute"] == "websiteurl")
    assert (await ready.delete(f"{rows}/{there['id']}")).status_code == 204
    new = {"nav_field": "Home_Page", "crm_attribute": "websiteurl", "direction": "to_crm"}
    made = await ready.post(rows, json=new)
    assert made.status_code == 201, made.text
    row = made.json()
    changed = await ready.patch(f"{rows}/{row['id']}", json={"status": "disabled", "validate": False})
    assert (changed.status_code, changed.json()["status"], changed.json()["validate"]) == (
        200,
        "disabled",
        False,
    )
    stale = await ready.delete(f"{rows}/{row['id']}", headers={"If-Match": '"old"'})
    assert stale.status_code == 412
    assert (await ready.delete(f"{rows}/{row['id']}")).status_code == 204
    assert (await ready.delete(f"{rows}/{row['id']}")).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"nav_field": "Nonsense", "crm_attribute": "name", "direction": "to_crm"},
        {"nav_field": "Name", "crm_attribute": "nonsense", "direction": "to_crm"},
        {"nav_field": "Name", "crm_attribute": "createdon", "direction": "to_crm"},
    ],
)
async def test_a_row_that_cannot_work_is_refused(ready: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    answer = await ready.post(f"{MAPPINGS}/CUSTOMER/fields", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-mapping")


async def test_what_was_exported_can_be_imported(ready: httpx.AsyncClient) -> None:
    export = await ready.get(f"{MAPPINGS}/export")
    await ready.delete(f"{MAPPINGS}/CONTACT")
    preview = await ready.put(f"{MAPPINGS}/export", json=export.json(), params={"preview": True})
    assert preview.json()["added"] == ["CONTACT"]
    done = await ready.put(f"{MAPPINGS}/export", json=export.json())
    assert (done.status_code, done.json()["added"]) == (200, ["CONTACT"])
    assert (await ready.get(f"{MAPPINGS}/export")).content == export.content
    later = await ready.put(f"{MAPPINGS}/export", json=export.json() | {"version": 2})
    assert (later.status_code, later.json()["errors"][0]["pointer"]) == (422, "/version")


async def test_lists_of_mappings_and_rows_come_in_pages(ready: httpx.AsyncClient) -> None:
    for path in (MAPPINGS, f"{MAPPINGS}/CUSTOMER/fields"):
        whole = (await ready.get(path)).json()["items"]
        found, cursor = [], None
        for _ in range(len(whole)):
            page = (
                await ready.get(path, params={"limit": 3, **({"cursor": cursor} if cursor else {})})
            ).json()
            found += page["items"]
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == whole
