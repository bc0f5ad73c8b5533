"""How to: Work with Microsoft Dynamics CRM Contacts."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.seeds.world import COMPLETED, NAV_CLIENT, UNKNOWN, Json, World

pytestmark = pytest.mark.anyio
CONTACT_FIELDS = {
    "City": "address1_city",
    "Phone_No": "telephone1",
    "E_Mail": "emailaddress1",
    "Surname": "lastname",
}


async def open_crm(world: World, table: str, no: str) -> httpx.Response:
    """Follows the link from a NAV record to CRM."""
    return await world.ask("GET", "/open/crm", company="cronus", table=table, no=no)


async def open_nav(world: World, entity: str, id: str) -> httpx.Response:
    """Follows the link that the button in CRM calls."""
    return await world.ask("GET", "/open/nav", company="cronus", entity=entity, id=id)


async def an_uncoupled_pair(world: World) -> tuple[str, str]:
    """A person in NAV and a contact in CRM that differ, of one coupled customer: number and id."""
    account = await world.coupled_customer()
    no = await world.person("10000", City="London", Phone_No="1", E_Mail="alicia@adatum.example")
    contact = await world.crm.contact(
        "Thomson", account, address1_city="Paris", telephone1="2", emailaddress1="alice@adatum.example"
    )
    return no, contact


async def pairs_of(world: World, no: str, id: str) -> list[tuple[str, str]]:
    """The values of some mapped fields, NAV and CRM."""
    nav, crm = await world.nav("contacts", no), await world.crm.row("contacts", id)
    return [(nav[field], crm[attribute]) for field, attribute in CONTACT_FIELDS.items()]


async def unchanged_by(
    world: World, method: str, path: str, body: Json | None, code: str, status: int
) -> str:
    """A refusal that leaves both sides and the couplings as they were; what it says."""
    before = await world.everything()
    refused = await world.refused(method, path, body)
    assert refused.said == (status, code), refused.text
    assert await world.everything() == before
    return refused.text


async def test_D1_01_the_crm_contact_is_opened_from_the_nav_contact(world: World) -> None:
    no, contact = await world.coupled_person()
    answer = await open_crm(world, "contacts", no)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["etn"], query["id"]) == (["contact"], [contact])
    other = await world.person("10000", "Uncoupled")
    assert (await open_crm(world, "contacts", other)).status_code == 404
    assert (await world.refused("GET", f"nav/contacts/{other}/coupling")).said == (404, "not-coupled")


async def test_D1_02_the_nav_contact_is_opened_from_the_crm_contact(world: World) -> None:
    no, contact = await world.coupled_person()
    answer = await open_nav(world, "contact", contact)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(NAV_CLIENT)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["page"], no in query["filter"][0]) == (["5050"], True)


async def test_D1_03_a_contact_must_be_coupled_before_it_is_synchronized(world: World) -> None:
    await world.coupled_customer()
    no = await world.person("10000")
    body = {"direction": "to_crm"}
    said = await unchanged_by(world, "POST", f"nav/contacts/{no}/synchronize", body, "not-coupled", 409)
    assert f"nav/contacts/{no}/coupling" in said


async def test_D1_04_mapped_fields_become_equal_and_others_are_left_alone(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    await world.change("contacts", no, Job_Title="Buyer")
    await world.crm.change("contacts", contact, jobtitle="Manager", description="Likes tea")
    await world.put(f"nav/contacts/{no}/coupling", {"crm_id": contact})
    await world.post(f"nav/contacts/{no}/synchronize", {"direction": "to_crm"})
    assert all(nav == crm for nav, crm in await pairs_of(world, no, contact))
    row = await world.crm.row("contacts", contact)
    assert (row["jobtitle"], row["description"]) == ("Manager", "Likes tea")
    assert (await world.nav("contacts", no))["Job_Title"] == "Buyer"


async def test_D1_05_only_contacts_of_type_person_are_coupled(world: World) -> None:
    account = await world.coupled_customer()
    company = await world.company_contact("10000")
    contact = await world.crm.contact(account=account)
    for body in ({"crm_id": contact}, {"create_new": True}):
        path = f"nav/contacts/{company}/coupling"
        said = await unchanged_by(world, "PUT", path, body, "contact-type-not-person", 422)
        assert company in said


async def test_D1_06_only_contacts_of_a_company_are_coupled(world: World) -> None:
    alone = await world.new("contacts", None, Type="Person", First_Name="Ann", Surname="Alone")
    contact = await world.crm.contact()
    for body in ({"crm_id": contact}, {"create_new": True}):
        path = f"nav/contacts/{alone}/coupling"
        said = await unchanged_by(world, "PUT", path, body, "contact-without-company", 422)
        assert alone in said


async def test_D1_07_the_list_of_contacts_says_which_are_coupled_and_which_can_be(world: World) -> None:
    coupled, _ = await world.coupled_person()
    free = await world.person("10000", "Free")
    company = await world.company_contact("10000")
    listed = {item["no"]: item for item in await world.items("nav/contacts")}
    can = {
        no: next(a for a in item["actions"] if a["name"] == "set_up_coupling") for no, item in listed.items()
    }
    assert {no for no, item in listed.items() if item["coupling"]} == {coupled}
    assert (can[free]["allowed"], can[free]["reason"]) == (True, None)
    assert can[company]["allowed"] is False
    assert "Person" in can[company]["reason"]


async def test_D1_08_a_nav_contact_is_created_from_a_crm_contact(world: World) -> None:
    account = await world.coupled_customer()
    contact = await world.crm.contact("Thompson", account, firstname="Alicia", address1_city="London")
    made = await world.post(f"crm/contacts/{contact}/create-in-nav")
    fields = await world.nav("contacts", made["record"]["no"])
    assert (fields["First_Name"], fields["Surname"], fields["City"]) == ("Alicia", "Thompson", "London")
    assert (fields["Type"], fields["Company_No"]) == ("Person", await world.company_contact("10000"))


async def test_D1_09_all_contacts_of_crm_are_listed_in_pages(world: World) -> None:
    account = await world.coupled_customer()
    of_account = {await world.crm.contact(f"C{n}", account) for n in range(4)}
    alone = {await world.crm.contact(f"A{n}") for n in range(3)}
    first = [item["id"] for item in await world.items("crm/contacts", limit=2)]
    assert len(first) == len(set(first))
    assert set(first) == of_account | alone
    assert [item["id"] for item in await world.items("crm/contacts", limit=3)] == first


async def test_D1_10_the_field_coupled_names_the_partner(world: World) -> None:
    no, contact = await world.coupled_person()
    free = await world.crm.contact("Free")
    rows = {row["id"]: row for row in await world.items("crm/contacts")}
    told = {id: (row["coupled"], row["nav_table"], row["nav_no"]) for id, row in rows.items()}
    assert told == {contact: (True, "contacts", no), free: (False, None, None)}


async def test_D1_11_several_chosen_contacts_are_created_each_with_its_result(world: World) -> None:
    account = await world.coupled_customer()
    ids = [await world.crm.contact(name, account) for name in ("One", "Two")]
    alone = await world.crm.contact("Alone")
    done = (await world.post("crm/contacts/create-in-nav", {"ids": [ids[0], alone, ids[1]]}))["outcomes"]
    assert [each["crm_id"] for each in done] == [ids[0], alone, ids[1]]
    assert [each["error"] and each["error"]["code"] for each in done] == [
        None,
        "contact-without-account",
        None,
    ]
    for place, name in ((0, "One"), (2, "Two")):
        assert (await world.nav("contacts", done[place]["nav_no"]))["Surname"] == name
        assert await world.partner("contacts", done[place]["nav_no"]) == done[place]["crm_id"]


async def test_D1_12_a_coupled_contact_may_be_created_again_and_the_old_coupling_goes(world: World) -> None:
    old, contact = await world.coupled_person()
    path = f"crm/contacts/{contact}/create-in-nav"
    assert old in await unchanged_by(world, "POST", path, None, "already-coupled", 409)
    new = (await world.post(path, {"replace_existing": True}))["record"]["no"]
    assert new != old
    assert await world.partner("contacts", new) == contact
    assert await world.partner("contacts", old) is None
    assert (await world.nav("contacts", old))["Surname"] == (await world.nav("contacts", new))["Surname"]


async def test_D1_13_success_leads_to_the_contact_card(world: World) -> None:
    account = await world.coupled_customer()
    contact = await world.crm.contact("Thompson", account)
    answer = await world.ask("POST", f"crm/contacts/{contact}/create-in-nav")
    assert answer.status_code == 201
    record = answer.json()["record"]
    assert (record["table"], record["fields"]["Surname"]) == ("contacts", "Thompson")
    link = urlsplit(answer.json()["nav_url"])
    assert answer.json()["nav_url"].startswith(NAV_CLIENT)
    assert record["no"] in parse_qs(link.query)["filter"][0]


async def test_D1_14_otherwise_an_error_helps_and_nothing_is_half_done(world: World) -> None:
    alone = await world.crm.contact("Alone", firstname="Ann")
    said = await unchanged_by(
        world, "POST", f"crm/contacts/{alone}/create-in-nav", None, "contact-without-account", 422
    )
    assert "Ann Alone belongs to no account" in said
    refused = await world.refused("POST", f"crm/contacts/{alone}/create-in-nav")
    assert refused.body["fix"]
    stranger = await world.crm.account("Not coupled")
    other = await world.crm.contact("Stranger", stranger)
    path = f"crm/contacts/{other}/create-in-nav"
    assert stranger in await unchanged_by(world, "POST", path, None, "contact-without-account", 422)


async def test_D1_15_the_new_nav_contact_is_coupled_in_the_same_answer(world: World) -> None:
    account = await world.coupled_customer()
    contact = await world.crm.contact("Thompson", account)
    record = (await world.post(f"crm/contacts/{contact}/create-in-nav"))["record"]
    assert (record["coupling"]["crm_id"], record["coupling"]["mapping"]) == (contact, "CONTACT")
    assert await world.get(f"nav/contacts/{record['no']}/coupling") == record["coupling"]


async def test_D1_16_then_both_can_be_changed_and_synchronized(world: World) -> None:
    account = await world.coupled_customer()
    contact = await world.crm.contact("Thompson", account)
    no = (await world.post(f"crm/contacts/{contact}/create-in-nav"))["record"]["no"]
    await world.change("contacts", no, City="London")
    await world.post(f"nav/contacts/{no}/synchronize", {"direction": "to_crm"})
    assert (await world.crm.row("contacts", contact))["address1_city"] == "London"
    await world.crm.change("contacts", contact, address1_city="Paris")
    await world.post(f"nav/contacts/{no}/synchronize", {"direction": "from_crm"})
    assert (await world.nav("contacts", no))["City"] == "Paris"


async def test_D1_17_a_crm_contact_is_created_from_a_nav_contact(world: World) -> None:
    account = await world.coupled_customer()
    no = await world.person("10000", "Thompson", City="London", E_Mail="alicia@adatum.example")
    made = await world.post(f"nav/contacts/{no}/create-in-crm")
    (row,) = await world.crm.rows("contacts")
    assert row["contactid"] == made["coupling"]["crm_id"]
    assert (row["firstname"], row["lastname"], row["address1_city"]) == ("Alicia", "Thompson", "London")
    assert row["_parentcustomerid_value"] == account


async def test_D1_18_success_is_the_message_synchronization_completed(world: World) -> None:
    await world.coupled_customer()
    no = await world.person("10000")
    made = await world.post(f"nav/contacts/{no}/create-in-crm")
    assert (made["message"], made["action"]) == (COMPLETED, "inserted")


async def test_D1_19_otherwise_an_error_names_what_is_in_the_way(world: World) -> None:
    await world.new("salespeople", "JO", Name="John")
    await world.coupled_customer()
    no = await world.person("10000", Salesperson_Code="JO")
    path = f"nav/contacts/{no}/create-in-crm"
    said = await unchanged_by(world, "POST", path, None, "salesperson-not-coupled", 422)
    assert "salespeople/JO/coupling" in said
    await world.customer("20000")
    other = await world.person("20000")
    refused = await world.refused("POST", f"nav/contacts/{other}/create-in-crm")
    assert refused.status == 422
    assert "20000" in refused.text


async def test_D1_20_the_new_crm_contact_is_coupled(world: World) -> None:
    await world.coupled_customer()
    no = await world.person("10000")
    coupling = (await world.post(f"nav/contacts/{no}/create-in-crm"))["coupling"]
    assert (coupling["nav_no"], coupling["crm_entity"]) == (no, "contact")
    assert await world.get(f"nav/contacts/{no}/coupling") == coupling
    assert (await world.get(f"crm/contacts/{coupling['crm_id']}"))["nav_no"] == no


async def test_D1_21_a_coupling_is_set_up_for_one_contact(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    before = await world.get(f"nav/contacts/{no}")
    assert before["coupling"] is None
    assert next(a["allowed"] for a in before["actions"] if a["name"] == "set_up_coupling") is True
    done = await world.put(f"nav/contacts/{no}/coupling", {"crm_id": contact})
    assert done["coupling"]["crm_id"] == contact
    assert done["synchronization"] is None
    assert await world.partner("contacts", no) == contact


async def test_D1_22_it_is_coupled_with_an_existing_contact_that_is_free(world: World) -> None:
    coupled, taken = await world.coupled_person()
    no = await world.person("10000", "Other")
    path = f"nav/contacts/{no}/coupling"
    said = await unchanged_by(world, "PUT", path, {"crm_id": UNKNOWN}, "crm-record-not-found", 404)
    assert UNKNOWN in said
    said = await unchanged_by(world, "PUT", path, {"crm_id": taken}, "already-coupled", 409)
    assert coupled in said
    refused = await world.refused("PUT", path, {"crm_id": taken})
    assert (refused.body["nav_no"], refused.body["crm_id"]) == (coupled, taken)


async def test_D1_23_create_new_contact_creates_and_couples(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    path = f"nav/contacts/{no}/coupling"
    await unchanged_by(world, "PUT", path, {"create_new": True, "crm_id": contact}, "invalid", 422)
    done = await world.put(path, {"create_new": True})
    assert done["synchronization"]["action"] == "inserted"
    created = done["coupling"]["crm_id"]
    assert created != contact
    assert (await world.crm.row("contacts", created))["address1_city"] == "London"
    assert await world.partner("contacts", no) == created


async def test_D1_24_the_coupled_records_are_compared_field_by_field(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    shown = await world.comparison("contacts", no, crm_id=contact)
    city, first = shown["City"], shown["First_Name"]
    assert (city["label"], city["crm_attribute"]) == ("City", "address1_city")
    assert (city["nav_value"], city["crm_value"], city["equal"]) == ("London", "Paris", False)
    assert (first["nav_value"], first["equal"]) == ("Alicia", False)
    assert (shown["Mobile_Phone_No"]["equal"], shown["City"]["direction"]) == (True, "bidirectional")


async def test_D1_25_the_nav_column_shows_what_nav_holds_now(world: World) -> None:
    no, contact = await world.coupled_person()
    await world.change("contacts", no, City="London")
    assert (await world.comparison("contacts", no))["City"]["nav_value"] == "London"
    await world.change("contacts", no, City="Leeds")
    assert (await world.comparison("contacts", no, crm_id=contact))["City"]["nav_value"] == "Leeds"


async def test_D1_26_the_crm_column_shows_what_crm_holds_now(world: World) -> None:
    no, contact = await world.coupled_person()
    for city in ("Paris", "Lyon"):
        await world.crm.change("contacts", contact, address1_city=city)
        shown = (await world.comparison("contacts", no))["City"]
        assert (shown["crm_value"], shown["equal"]) == (city, False)


@pytest.mark.parametrize(
    ("choice", "london", "paris"), [("no", True, True), ("nav_data", True, False), ("crm_data", False, True)]
)
async def test_D1_27_there_are_three_choices_of_what_happens_after_coupling(
    world: World, choice: str, london: bool, paris: bool
) -> None:
    no, contact = await an_uncoupled_pair(world)
    body = {"crm_id": contact, "synchronize_after_coupling": choice}
    await world.put(f"nav/contacts/{no}/coupling", body)
    cities = {nav for nav, _ in await pairs_of(world, no, contact)} | {
        crm for _, crm in await pairs_of(world, no, contact)
    }
    assert ("London" in cities, "Paris" in cities) == (london, paris)
    refused = await world.refused(
        "PUT", f"nav/contacts/{no}/coupling", body | {"synchronize_after_coupling": "yes"}
    )
    assert refused.status == 422


async def test_D1_28_the_nav_data_overwrite_the_crm_contact(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    body = {"crm_id": contact, "synchronize_after_coupling": "nav_data"}
    done = await world.put(f"nav/contacts/{no}/coupling", body)
    assert (done["synchronization"]["message"], done["synchronization"]["action"]) == (COMPLETED, "modified")
    assert {change["side"] for change in done["synchronization"]["changes"]} == {"crm"}
    assert await pairs_of(world, no, contact) == [
        (value, value) for value in ("London", "1", "alicia@adatum.example", "Thompson")
    ]


async def test_D1_29_the_crm_data_overwrite_the_nav_contact(world: World) -> None:
    no, contact = await an_uncoupled_pair(world)
    body = {"crm_id": contact, "synchronize_after_coupling": "crm_data"}
    done = await world.put(f"nav/contacts/{no}/coupling", body)
    assert {change["side"] for change in done["synchronization"]["changes"]} == {"nav"}
    assert await pairs_of(world, no, contact) == [
        (value, value) for value in ("Paris", "2", "alice@adatum.example", "Thomson")
    ]


async def test_D1_30_a_new_contact_takes_the_nav_data_and_nothing_else(world: World) -> None:
    await world.coupled_customer()
    no = await world.person("10000", City="London")
    path = f"nav/contacts/{no}/coupling"
    for other in ("no", "crm_data"):
        body = {"create_new": True, "synchronize_after_coupling": other}
        await unchanged_by(world, "PUT", path, body, "invalid", 422)
    created = (await world.put(path, {"create_new": True}))["coupling"]["crm_id"]
    assert (await world.crm.row("contacts", created))["address1_city"] == "London"


async def test_D1_31_nothing_happens_before_ok_and_a_failure_says_whether_the_coupling_stands(
    world: World,
) -> None:
    no, contact = await an_uncoupled_pair(world)
    body = {"crm_id": contact, "synchronize_after_coupling": "nav_data"}
    path = f"nav/contacts/{no}/coupling"
    before = await world.everything()
    await world.comparison("contacts", no, crm_id=contact)
    assert (await world.put(path, body | {"preview": True}))["coupling"] is None
    assert await world.everything() == before
    await world.new("salespeople", "JO", Name="John")
    await world.change("contacts", no, Salesperson_Code="JO")
    refused = await world.refused("PUT", path, body)
    assert (refused.code, refused.body["coupled"]) == ("salesperson-not-coupled", True)
    assert await world.partner("contacts", no) == contact
    assert (await world.crm.row("contacts", contact))["address1_city"] == "Paris"


async def test_D1_32_the_partner_may_be_changed_and_the_history_stays(world: World) -> None:
    no, first = await world.coupled_person()
    account = await world.partner("customers", "10000")
    second = await world.crm.contact("Second", account)
    old = (await world.get(f"nav/contacts/{no}"))["coupling"]["id"]
    path = f"nav/contacts/{no}/coupling"
    assert first in await unchanged_by(world, "PUT", path, {"crm_id": second}, "already-coupled", 409)
    await world.put(path, {"crm_id": second, "replace_existing": True})
    assert await world.partner("contacts", no) == second
    assert (await world.get(f"crm/contacts/{first}"))["coupled"] is False
    assert [c["crm_id"] for c in await world.items("couplings", mapping="CONTACT")] == [second]
    assert await world.items(f"couplings/{old}/history")


async def test_D1_33_differences_show_later_and_are_settled_from_there(world: World) -> None:
    no, contact = await world.coupled_person()
    for direction, expected in (("nav_data", "London"), ("crm_data", "Paris")):
        await world.change("contacts", no, City="London")
        await world.crm.change("contacts", contact, address1_city="Paris")
        assert (await world.comparison("contacts", no))["City"]["equal"] is False
        body = {"crm_id": contact, "synchronize_after_coupling": direction}
        await world.put(f"nav/contacts/{no}/coupling", body)
        shown = (await world.comparison("contacts", no))["City"]
        assert (shown["nav_value"], shown["crm_value"], shown["equal"]) == (expected, expected, True)


async def test_D1_34_the_action_contact_opens_the_contact_in_crm(world: World) -> None:
    no, contact = await world.coupled_person()
    coupling = await world.get(f"nav/contacts/{no}/coupling")
    query = parse_qs(urlsplit(coupling["crm_url"]).query)
    assert coupling["crm_url"].startswith(f"{world.crm.url}/main.aspx?")
    assert (query["pagetype"], query["etn"], query["id"]) == (["entityrecord"], ["contact"], [contact])
    assert (await world.crm.row("contacts", query["id"][0]))["lastname"] == "Thompson"
    assert (await open_crm(world, "contacts", no)).headers["Location"] == coupling["crm_url"]


async def test_D1_35_coupled_and_uncoupled_contacts_make_up_the_list(world: World) -> None:
    _, coupled = await world.coupled_person()
    free = [await world.crm.contact(f"Free {n}") for n in range(2)]
    everyone = {row["id"] for row in await world.items("crm/contacts")}
    there = {row["id"] for row in await world.items("crm/contacts", coupled="true")}
    others = {row["id"] for row in await world.items("crm/contacts", coupled="false")}
    assert (there, others) == ({coupled}, set(free))
    assert there | others == everyone


async def test_D1_36_synchronize_now_asks_for_the_direction(world: World) -> None:
    no, _ = await world.coupled_person()
    await world.change("contacts", no, City="London")
    said = await unchanged_by(
        world, "POST", f"nav/contacts/{no}/synchronize", None, "direction-required", 422
    )
    assert "to_crm" in said
    assert "from_crm" in said


async def both_changed(world: World) -> tuple[str, str]:
    """A coupled pair that people changed on both sides, in the same field: number and id."""
    no, contact = await world.coupled_person()
    await world.change("contacts", no, City="London", Phone_No="1")
    await world.crm.change("contacts", contact, address1_city="Paris", telephone1="2")
    return no, contact


async def test_D1_37_sending_overwrites_the_crm_contact(world: World) -> None:
    no, contact = await both_changed(world)
    sent = await world.post(f"nav/contacts/{no}/synchronize", {"direction": "to_crm"})
    assert (sent["message"], sent["action"]) == (COMPLETED, "modified")
    assert {(c["side"], c["field"], c["old"], c["new"]) for c in sent["changes"]} == {
        ("crm", "address1_city", "Paris", "London"),
        ("crm", "telephone1", "2", "1"),
    }
    assert (await pairs_of(world, no, contact))[:2] == [("London", "London"), ("1", "1")]


async def test_D1_38_getting_overwrites_the_nav_contact(world: World) -> None:
    no, contact = await both_changed(world)
    got = await world.post(f"nav/contacts/{no}/synchronize", {"direction": "from_crm"})
    assert {(c["side"], c["field"], c["old"], c["new"]) for c in got["changes"]} == {
        ("nav", "City", "London", "Paris"),
        ("nav", "Phone_No", "1", "2"),
    }
    assert (await pairs_of(world, no, contact))[:2] == [("Paris", "Paris"), ("2", "2")]


async def test_D1_39_a_dry_run_tells_the_changes_and_makes_none(world: World) -> None:
    no, _ = await both_changed(world)
    before = await world.everything()
    for direction, side in (("to_crm", "crm"), ("from_crm", "nav")):
        told = await world.post(f"nav/contacts/{no}/synchronize", {"direction": direction, "preview": True})
        assert {change["side"] for change in told["changes"]} == {side}
        assert told["synch_job_id"] is None
    assert await world.everything() == before


async def test_D1_40_the_button_dynamics_nav_leads_to_the_contact(world: World) -> None:
    no, contact = await world.coupled_person()
    for form in (contact, contact.upper(), f"{{{contact}}}"):
        answer = await open_nav(world, "contact", form)
        assert answer.status_code == 302
        assert no in parse_qs(urlsplit(answer.headers["Location"]).query)["filter"][0]
    free = await world.crm.contact("Free")
    before = await world.everything()
    answer = await open_nav(world, "contact", free)
    assert (answer.status_code, "not coupled" in answer.text) == (404, True)
    assert await world.everything() == before


async def solution_step(world: World) -> Json:
    """What a connection test says about the solution that brings the button."""
    report = await world.post("crm-connection/test")
    return next(step for step in report["steps"] if step["name"] == "solution")


async def test_D1_41_without_the_integration_solution_the_setup_says_what_is_missing(
    without_solution: World,
) -> None:
    step = await solution_step(without_solution)
    assert "not installed" in step["detail"]
    assert "Import the integration solution" in step["fix"]
    assert (await without_solution.get("crm-connection"))["integration_solution_installed"] is False
    account = await without_solution.crm.account()
    await without_solution.post(f"crm/accounts/{account}/create-in-nav")
    contact = await without_solution.crm.contact("Thompson", account)
    made = await without_solution.post(f"crm/contacts/{contact}/create-in-nav")
    assert made["record"]["coupling"]["crm_id"] == contact


async def the_button_is_missing(world: World, table: str, no: str) -> None:
    """A coupled record tells that the button in CRM is not there, and the status shows why."""
    assert (await world.get("synch-status"))["integration_solution_installed"] is False
    actions = {action["name"]: action for action in (await world.get(f"nav/{table}/{no}"))["actions"]}
    assert actions["open_in_crm"]["allowed"] is True
    assert actions["open_from_crm"]["allowed"] is False
    assert "integration solution is not installed" in actions["open_from_crm"]["reason"]


async def test_D1_41_the_record_says_that_its_button_is_not_there(without_solution: World) -> None:
    account = await without_solution.crm.account()
    customer = (await without_solution.post(f"crm/accounts/{account}/create-in-nav"))["record"]["no"]
    path = f"nav/customers/{customer}/update-account-statistics"
    refused = await without_solution.refused("POST", path)
    assert refused.said == (409, "integration-solution-not-installed")
    contact = await without_solution.crm.contact("Thompson", account)
    made = await without_solution.post(f"crm/contacts/{contact}/create-in-nav")
    await the_button_is_missing(without_solution, "contacts", made["record"]["no"])


async def test_D1_41_with_the_solution_the_button_is_there_once_coupled(world: World) -> None:
    no, _ = await world.coupled_person()
    actions = {action["name"]: action for action in (await world.get(f"nav/contacts/{no}"))["actions"]}
    assert actions["open_from_crm"] == {"name": "open_from_crm", "allowed": True, "reason": None}
    assert (await world.get("synch-status"))["integration_solution_installed"] is True
