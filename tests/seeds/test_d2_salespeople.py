"""How to: Work with Microsoft Dynamics CRM Users."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.seeds.test_d1_contacts import (
    open_crm,
    open_nav,
    solution_step,
    the_button_is_missing,
    unchanged_by,
)
from tests.seeds.world import COMPLETED, NAV_CLIENT, SALESPERSON, USER, World

pytestmark = pytest.mark.anyio
CODE = "JO"
FIELDS = {"Name": "fullname", "E_Mail": "internalemailaddress", "Phone_No": "mobilephone"}


async def a_salesperson_and_a_user(world: World) -> str:
    """Salesperson JO and the CRM user who is the same person, not coupled; the id of the user."""
    await world.new("salespeople", CODE, Name="J. Roberts", E_Mail="jo@nav.example", Phone_No="1")
    return await world.crm.user("John", "Roberts", mobilephone="2")


async def pairs_of(world: World, code: str, user: str) -> list[tuple[str, str]]:
    """The values of the mapped fields, NAV and CRM."""
    nav, crm = await world.nav("salespeople", code), await world.crm.row("systemusers", user)
    return [(nav[field], crm[attribute]) for field, attribute in FIELDS.items()]


async def test_D2_01_the_crm_user_is_opened_from_the_salesperson(world: World) -> None:
    answer = await open_crm(world, "salespeople", SALESPERSON)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["etn"], query["id"]) == (["systemuser"], [USER])
    await world.new("salespeople", CODE, Name="John")
    assert (await open_crm(world, "salespeople", CODE)).status_code == 404
    assert (await world.refused("GET", f"nav/salespeople/{CODE}/coupling")).code == "not-coupled"


async def test_D2_02_the_salesperson_is_opened_from_the_crm_user(world: World) -> None:
    answer = await open_nav(world, "systemuser", USER)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["page"], SALESPERSON in query["filter"][0]) == (["5116"], True)


async def test_D2_03_a_salesperson_must_be_coupled_before_it_is_synchronized(world: World) -> None:
    await a_salesperson_and_a_user(world)
    path = f"nav/salespeople/{CODE}/synchronize"
    said = await unchanged_by(world, "POST", path, None, "not-coupled", 409)
    assert f"nav/salespeople/{CODE}/coupling" in said


async def test_D2_04_name_mail_and_phone_become_equal(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    await world.put(f"nav/salespeople/{CODE}/coupling", {"crm_id": user})
    await world.post(f"nav/salespeople/{CODE}/synchronize")
    assert await pairs_of(world, CODE, user) == [
        (value, value) for value in ("John Roberts", "john@contoso.example", "2")
    ]


async def test_D2_05_nothing_goes_from_the_salesperson_to_the_user(world: World) -> None:
    await world.change("salespeople", SALESPERSON, Name="Peter S.", Phone_No="9")
    path = f"nav/salespeople/{SALESPERSON}/synchronize"
    world.crm.forget()
    for direction in ("to_crm", "merge"):
        body = {"direction": direction}
        await unchanged_by(world, "POST", path, body, "direction-not-allowed", 422)
    await world.post(path)
    await world.post(path, {"direction": "from_crm"})
    assert not any("systemuser" in write for write in world.crm.writes())


async def test_D2_06_the_list_of_salespeople_says_who_is_coupled(world: World) -> None:
    await world.new("salespeople", CODE, Name="John")
    listed = {
        i["no"]: i["coupling"] and i["coupling"]["crm_id"] for i in await world.items("nav/salespeople")
    }
    assert listed == {SALESPERSON: USER, CODE: None}
    for coupled, expected in (("true", [SALESPERSON]), ("false", [CODE])):
        found = await world.items("nav/salespeople", coupled=coupled)
        assert [item["no"] for item in found] == expected


async def test_D2_07_a_salesperson_is_coupled_with_one_user_and_that_user_with_no_other(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    path = f"nav/salespeople/{CODE}/coupling"
    said = await unchanged_by(world, "PUT", path, {"crm_id": USER}, "already-coupled", 409)
    assert SALESPERSON in said
    done = await world.put(path, {"crm_id": user})
    assert (done["coupling"]["crm_entity"], done["coupling"]["crm_id"]) == ("systemuser", user)
    assert done["synchronization"] is None
    other = await world.crm.user("Other", "User")
    assert user in await unchanged_by(world, "PUT", path, {"crm_id": other}, "already-coupled", 409)


async def test_D2_08_a_user_is_never_created(world: World) -> None:
    await a_salesperson_and_a_user(world)
    path = f"nav/salespeople/{CODE}"
    await unchanged_by(world, "PUT", f"{path}/coupling", {"create_new": True}, "create-not-supported", 422)
    said = await unchanged_by(world, "POST", f"{path}/create-in-crm", None, "create-not-supported", 422)
    assert "crm_id" in said
    actions = {action["name"]: action for action in (await world.get(path))["actions"]}
    assert actions["create_in_crm"]["allowed"] is False


async def test_D2_09_salesperson_and_user_are_compared(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    shown = await world.comparison("salespeople", CODE, crm_id=user)
    assert set(shown) == set(FIELDS)
    name = shown["Name"]
    assert (name["nav_value"], name["crm_value"]) == ("J. Roberts", "John Roberts")
    assert (name["equal"], name["direction"], name["label"]) == (False, "from_crm", "Name")


async def test_D2_10_after_coupling_only_the_crm_data_can_be_used(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    path = f"nav/salespeople/{CODE}/coupling"
    body = {"crm_id": user, "synchronize_after_coupling": "nav_data"}
    said = await unchanged_by(world, "PUT", path, body, "direction-not-allowed", 422)
    assert "crm_data" in said
    done = await world.put(path, body | {"synchronize_after_coupling": "crm_data"})
    assert done["synchronization"]["message"] == COMPLETED


async def test_D2_11_the_users_data_are_copied_to_the_salesperson(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    before = await world.crm.row("systemusers", user)
    body = {"crm_id": user, "synchronize_after_coupling": "crm_data"}
    done = await world.put(f"nav/salespeople/{CODE}/coupling", body)
    assert {change["field"] for change in done["synchronization"]["changes"]} == set(FIELDS)
    assert all(nav == crm for nav, crm in await pairs_of(world, CODE, user))
    assert await world.crm.row("systemusers", user) == before


async def test_D2_12_nothing_is_written_before_ok(world: World) -> None:
    user = await a_salesperson_and_a_user(world)
    before = await world.everything()
    await world.comparison("salespeople", CODE, crm_id=user)
    body = {"crm_id": user, "synchronize_after_coupling": "crm_data", "preview": True}
    assert (await world.put(f"nav/salespeople/{CODE}/coupling", body))["coupling"] is None
    assert await world.everything() == before


async def test_D2_13_later_the_window_shows_differences_and_settles_them(world: World) -> None:
    await world.crm.change("systemusers", USER, mobilephone="555")
    phone = (await world.comparison("salespeople", SALESPERSON))["Phone_No"]
    assert (phone["nav_value"], phone["crm_value"], phone["equal"]) == ("", "555", False)
    body = {"crm_id": USER, "synchronize_after_coupling": "crm_data"}
    await world.put(f"nav/salespeople/{SALESPERSON}/coupling", body)
    assert (await world.comparison("salespeople", SALESPERSON))["Phone_No"]["equal"] is True
    other = await world.crm.user("Paul", "Saddow")
    path = f"nav/salespeople/{SALESPERSON}/coupling"
    await world.put(path, {"crm_id": other, "replace_existing": True})
    assert await world.partner("salespeople", SALESPERSON) == other
    assert (await world.get(f"crm/systemusers/{USER}"))["coupled"] is False


async def test_D2_14_the_action_user_opens_the_user_record(world: World) -> None:
    url = (await world.get(f"nav/salespeople/{SALESPERSON}/coupling"))["crm_url"]
    assert url.startswith(f"{world.crm.url}/main.aspx?")
    query = parse_qs(urlsplit(url).query)
    assert (query["etn"], query["id"]) == (["systemuser"], [USER])


async def test_D2_15_all_users_are_listed_coupled_or_not(world: World) -> None:
    john = await world.crm.user("John", "Roberts")
    rows = {row["id"]: row for row in await world.items("crm/systemusers")}
    assert {USER, john} <= set(rows)
    assert (rows[USER]["name"], rows[USER]["coupled"], rows[USER]["nav_no"]) == (
        "Peter Saddow",
        True,
        SALESPERSON,
    )
    assert {row["id"] for row in await world.items("crm/systemusers", coupled="true")} == {USER}
    free = {row["id"] for row in await world.items("crm/systemusers", coupled="false")}
    assert free == set(rows) - {USER}


async def test_D2_16_synchronize_now_needs_only_ok(world: World) -> None:
    await world.crm.change("systemusers", USER, mobilephone="555")
    got = await world.post(f"nav/salespeople/{SALESPERSON}/synchronize")
    assert (got["message"], got["action"]) == (COMPLETED, "modified")
    assert (await world.nav("salespeople", SALESPERSON))["Phone_No"] == "555"
    await world.crm.change("systemusers", USER, mobilephone="777")
    await world.post(f"nav/salespeople/{SALESPERSON}/synchronize", {"direction": "from_crm"})
    assert (await world.nav("salespeople", SALESPERSON))["Phone_No"] == "777"


async def test_D2_17_the_button_dynamics_nav_leads_to_the_salesperson(world: World) -> None:
    answer = await open_nav(world, "systemuser", f"{{{USER.upper()}}}")
    assert (answer.status_code, answer.headers["Location"].startswith(NAV_CLIENT)) == (302, True)
    stranger = await world.crm.user("John", "Roberts")
    assert (await open_nav(world, "systemuser", stranger)).status_code == 404


async def test_D2_18_without_the_solution_users_are_coupled_all_the_same(without_solution: World) -> None:
    assert "not installed" in (await solution_step(without_solution))["detail"]
    user = await a_salesperson_and_a_user(without_solution)
    body = {"crm_id": user, "synchronize_after_coupling": "crm_data"}
    done = await without_solution.put(f"nav/salespeople/{CODE}/coupling", body)
    assert done["synchronization"]["message"] == COMPLETED
    assert (await without_solution.nav("salespeople", CODE))["Name"] == "John Roberts"


async def test_D2_18_the_record_says_that_its_button_is_not_there(without_solution: World) -> None:
    user = await a_salesperson_and_a_user(without_solution)
    await without_solution.put(f"nav/salespeople/{CODE}/coupling", {"crm_id": user})
    await the_button_is_missing(without_solution, "salespeople", CODE)


async def test_D2_19_users_who_are_no_sellers_are_marked_and_need_a_word_to_be_coupled(world: World) -> None:
    await world.new("salespeople", CODE, Name="John")
    disabled = await world.crm.user("Dis", "Abled", isdisabled=True)
    unlicensed = await world.crm.user("Un", "Licensed", islicensed=False)
    integration = await world.crm.user("Inte", "Gration", isintegrationuser=True)
    rows = {row["id"]: row["fields"] for row in await world.items("crm/systemusers")}
    assert rows[disabled]["isdisabled"] is True
    assert rows[unlicensed]["islicensed"] is False
    assert rows[integration]["isintegrationuser"] is True
    default = (await world.get("integration-table-mappings/SALESPEOPLE"))["crm_filter"]
    sellers = {row["id"] for row in await world.items("crm/systemusers", filter=default)}
    assert sellers == {USER}
    for user in (disabled, unlicensed, integration):
        path = f"nav/salespeople/{CODE}/coupling"
        said = await unchanged_by(world, "PUT", path, {"crm_id": user}, "filtered", 422)
        assert "outside_filter" in said
    done = await world.put(path, {"crm_id": integration, "outside_filter": True})
    assert done["coupling"]["crm_id"] == integration
