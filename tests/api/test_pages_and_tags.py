"""Lists come in pages; configuration carries tags."""

import base64

import httpx
import pytest

pytestmark = pytest.mark.anyio
COMPANIES = "/api/v1/companies"
CRONUS = f"{COMPANIES}/cronus"


async def some_companies(admin: httpx.AsyncClient, *names: str) -> None:
    for name in names:
        assert (await admin.post(COMPANIES, json={"name": name})).status_code == 201


async def test_pages_hold_everything_once_in_a_stable_order(admin: httpx.AsyncClient) -> None:
    await some_companies(admin, "c", "a", "e", "b", "d")
    found, cursor = [], None
    for _ in range(5):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await admin.get(COMPANIES, params=query)).json()
        found.append([each["name"] for each in page["items"]])
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_last_page_that_is_full_has_no_next(admin: httpx.AsyncClient) -> None:
    await some_companies(admin, "a", "b")
    assert (await admin.get(COMPANIES, params={"limit": 2})).json()["next_cursor"] is None


@pytest.mark.parametrize("limit", ["0", "1001", "many"])
async def test_a_limit_is_between_1_and_1000(admin: httpx.AsyncClient, limit: str) -> None:
    answer = await admin.get(COMPANIES, params={"limit": limit})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "limit"


async def test_a_cursor_works_only_as_it_was_given_out(admin: httpx.AsyncClient) -> None:
    await some_companies(admin, "a", "b", "c")
    cursor = (await admin.get(COMPANIES, params={"limit": 1})).json()["next_cursor"]
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-2] ^= 1
    for bad in (base64.urlsafe_b64encode(raw).decode(), "x", "", "é", cursor[:-3], "!!!!"):
        answer = await admin.get(COMPANIES, params={"cursor": bad})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor"), bad
    answer = await admin.get("/api/v1/api-keys", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor")


async def test_a_list_does_not_begin_again_where_the_item_that_it_goes_on_after_is_gone(
    ready: httpx.AsyncClient,
) -> None:
    entries, mappings = f"{CRONUS}/job-queue-entries", f"{CRONUS}/integration-table-mappings"
    for address, part in ((entries, "id"), (f"{mappings}/CUSTOMER/fields", "id"), (mappings, "name")):
        page = (await ready.get(address, params={"limit": 2})).json()
        gone = f"{address}/{page['items'][-1][part]}"
        assert (await ready.delete(gone, params={"remove_couplings": True})).status_code == 204, gone
        answer = await ready.get(address, params={"limit": 2, "cursor": page["next_cursor"]})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-cursor"), address


async def test_a_change_on_an_old_state_is_refused(admin: httpx.AsyncClient) -> None:
    await some_companies(admin, "cronus")
    address = f"{COMPANIES}/cronus"
    tag = (await admin.get(address)).headers["ETag"]
    first = await admin.patch(address, json={"display_name": "CRONUS"}, headers={"If-Match": tag})
    assert first.status_code == 200
    assert first.headers["ETag"] != tag
    late = await admin.patch(address, json={"display_name": "Cronus"}, headers={"If-Match": tag})
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")
    assert (await admin.delete(address, headers={"If-Match": tag})).status_code == 412
    now = await admin.get(address)
    assert (now.json()["display_name"], now.headers["ETag"]) == ("CRONUS", first.headers["ETag"])
    assert (await admin.delete(address, headers={"If-Match": "*"})).status_code == 204


async def test_who_has_the_present_state_is_not_sent_it_again(admin: httpx.AsyncClient) -> None:
    await some_companies(admin, "cronus")
    tag = (await admin.get(f"{COMPANIES}/cronus")).headers["ETag"]
    answer = await admin.get(f"{COMPANIES}/cronus", headers={"If-None-Match": f'"other", {tag}'})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
