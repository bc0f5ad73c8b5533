"""Change tracking (section 16)."""

from typing import Any
from urllib.parse import unquote

import pytest

from tests.sandbox.conftest import API, Clock, Connect, Crm, code, message

pytestmark = pytest.mark.anyio
TRACK = "odata.track-changes"


async def start(crm: Crm, select: str = "$select=name") -> str:
    """Read everything and return the delta link."""
    answer = await crm.get(f"accounts?{select}", Prefer=TRACK)
    assert answer.headers["Preference-Applied"] == TRACK
    link: str = answer.json()["@odata.deltaLink"]
    return link


async def changes(crm: Crm, link: str) -> tuple[list[dict[str, Any]], str]:
    answer = await crm.get(link)
    assert answer.status_code == 200, answer.text
    return answer.json()["value"], answer.json()["@odata.deltaLink"]


async def test_changes_come_with_current_values_and_deletions_with_the_bare_id(
    crm: Crm, clock: Clock
) -> None:
    kept, gone = await crm.create("accounts", name="Kept"), await crm.create("accounts", name="Gone")
    link = await start(crm)
    assert await changes(crm, link) == ([], link)
    new = await crm.create("accounts", name="New")
    await crm.patch(f"accounts({kept})", {"fax": "1"})
    await crm.patch(f"accounts({kept})", {"name": "Kept too"})
    await crm.delete(f"accounts({gone})")
    answer = await crm.get(link)
    content = answer.json()
    assert content["@odata.context"] == f"{API}$metadata#accounts(name)/$delta"
    assert [row.get("name") for row in content["value"]] == ["New", "Kept too", None]
    assert set(content["value"][0]) == {"@odata.etag", "name", "accountid"}
    assert content["value"][0]["accountid"] == new
    assert content["value"][2] == {
        "@odata.context": f"{API}$metadata#accounts/$deletedEntity",
        "id": gone,
        "reason": "deleted",
    }
    assert await changes(crm, content["@odata.deltaLink"]) == ([], content["@odata.deltaLink"])


async def test_the_token_is_a_version_and_a_time(crm: Crm) -> None:
    await crm.create("accounts", name="x")
    link = await start(crm)
    token = unquote(link.partition("$deltatoken=")[2])
    assert token == f"{crm.organization.storage.version}!01/31/2026 07:15:09"


async def test_a_row_made_and_deleted_in_between_is_only_deleted(crm: Crm) -> None:
    link = await start(crm)
    account = await crm.create("accounts", name="Short")
    await crm.delete(f"accounts({account})")
    found, link = await changes(crm, link)
    assert [row.get("id") for row in found] == [account]
    await crm.patch(f"accounts({account})", {"name": "Risen"})
    found, _ = await changes(crm, link)
    assert [row.get("name") for row in found] == ["Risen"]


async def test_only_the_last_page_has_the_delta_link(crm: Crm) -> None:
    for number in range(5):
        await crm.create("accounts", name=f"A{number}")
    seen, url, prefer = [], "accounts?$select=name", f"{TRACK}, odata.maxpagesize=2"
    for _ in range(3):
        answer = await crm.get(url, Prefer=prefer)
        content = answer.json()
        seen.append((len(content["value"]), "@odata.deltaLink" in content))
        url = content.get("@odata.nextLink", "")
    assert seen == [(2, False), (2, False), (1, True)]
    assert url == ""


async def test_what_changes_during_the_first_read_comes_with_the_delta(crm: Crm) -> None:
    for number in range(4):
        await crm.create("accounts", name=f"A{number}")
    prefer = f"{TRACK}, odata.maxpagesize=2"
    first = (await crm.get("accounts?$select=name", Prefer=prefer)).json()
    early = first["value"][0]["accountid"]
    await crm.patch(f"accounts({early})", {"name": "Changed meanwhile"})
    last = (await crm.get(first["@odata.nextLink"], Prefer=prefer)).json()
    found, _ = await changes(crm, last["@odata.deltaLink"])
    assert [row["name"] for row in found] == ["Changed meanwhile"]


async def test_changes_are_paged_and_none_is_lost_meanwhile(crm: Crm) -> None:
    link = await start(crm)
    ids = [await crm.create("accounts", name=f"A{number}") for number in range(5)]
    for gone in ids[:2]:
        await crm.delete(f"accounts({gone})")
    size = "odata.maxpagesize=2"
    seen: list[str] = []
    url = link
    meanwhile = False
    while True:
        content = (await crm.get(url, Prefer=size)).json()
        seen += [row.get("name") or row["id"] for row in content["value"]]
        if not meanwhile:
            await crm.patch(f"accounts({ids[4]})", {"name": "A4 later"})
            meanwhile = True
        if "@odata.deltaLink" in content:
            break
        url = content["@odata.nextLink"]
        assert len(seen) < 20
    found, _ = await changes(crm, content["@odata.deltaLink"])
    everything = seen + [row.get("name") or row["id"] for row in found]
    assert sorted(everything) == sorted([*ids[:2], "A2", "A3", "A4 later"])


async def test_a_pointer_that_is_emptied_is_a_change(crm: Crm) -> None:
    contact = await crm.create("contacts", lastname="Doyle")
    account = await crm.create("accounts", name="x", primarycontactid__bind=f"/contacts({contact})")
    link = await start(crm, "$select=_primarycontactid_value")
    await crm.delete(f"contacts({contact})")
    found, _ = await changes(crm, link)
    assert [(row["accountid"], row["_primarycontactid_value"]) for row in found] == [(account, None)]


@pytest.mark.parametrize("option", ["$filter=name eq 'x'", "$orderby=name", "$expand=ownerid", "$top=1"])
async def test_a_tracked_query_is_a_list_of_columns_and_no_more(crm: Crm, option: str) -> None:
    answer = await crm.get(f"accounts?{option}", Prefer=TRACK)
    assert answer.status_code == 400
    name = option.partition("=")[0]
    assert (
        message(answer) == f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
    )


async def test_an_untracked_table_refuses(connect: Connect) -> None:
    crm: Crm = await connect(tracked=("contact",))
    answer = await crm.get("accounts?$select=name", Prefer=TRACK)
    assert answer.status_code == 400
    crm.organization.track("account")
    assert (await crm.get("accounts?$select=name", Prefer=TRACK)).status_code == 200


async def test_a_delta_link_expires_with_time(crm: Crm, clock: Clock) -> None:
    link = await start(crm)
    clock.advance(days=7)
    await crm.authenticate()
    assert (await crm.get(link)).status_code == 200
    clock.advance(seconds=1)
    await crm.authenticate()
    answer = await crm.get(link)
    assert (answer.status_code, code(answer)) == (400, "0x80044352")


async def test_a_delta_link_expires_when_told_to_and_a_new_one_works(crm: Crm) -> None:
    link = await start(crm)
    crm.organization.expire_delta_tokens()
    assert code(await crm.get(link)) == "0x80044352"
    assert await changes(crm, await start(crm))


async def test_changes_can_be_counted(crm: Crm) -> None:
    link = await start(crm, "")
    await crm.create("accounts", name="x")
    token = link.partition("$deltatoken=")[2]
    assert (await crm.get(f"accounts/$count?$deltatoken={token}")).text == "\ufeff1"


async def test_reading_needs_the_privilege(crm: Crm) -> None:
    crm.organization.revoke("prvReadAccount")
    assert (await crm.get("accounts", Prefer=TRACK)).status_code == 403
