"""Couple and Synchronize Records Manually in Dynamics NAV."""

import pytest

from tests.seeds.test_d1_contacts import open_crm, open_nav, unchanged_by
from tests.seeds.world import COMPLETED, SALESPERSON, USER, World

pytestmark = pytest.mark.anyio
MAPPINGS = "integration-table-mappings"
SYNCHRONIZE = f"{MAPPINGS}/CUSTOMER/synchronize"


async def test_D4_01_a_mapping_links_a_table_with_an_entity(world: World) -> None:
    mapping = await world.get(f"{MAPPINGS}/CUSTOMER")
    assert (mapping["nav_table"], mapping["crm_entity"]) == ("customers", "account")
    assert mapping["direction"] == "bidirectional"
    assert mapping["crm_filter"] == "statecode eq 0 and customertypecode eq 3"
    assert mapping["nav_filter"] is None
    assert mapping["depends_on"] == ["SALESPEOPLE", "CURRENCY"]


async def test_D4_02_synchronizing_a_mapping_takes_all_coupled_records_and_no_others(at_work: World) -> None:
    accounts = [await at_work.coupled_customer(f"C{n}") for n in range(3)]
    for n in range(2):
        await at_work.customer(f"U{n}")
        await at_work.crm.account(f"Uncoupled {n}")
    for n in range(3):
        await at_work.change("customers", f"C{n}", City=f"City {n}")
    job = await at_work.job(SYNCHRONIZE, {"mode": "full"})
    assert (job["status"], job["directions"]["to_crm"]["modified"], job["inserted"]) == ("succeeded", 3, 0)
    cities = [(await at_work.crm.row("accounts", id))["address1_city"] for id in accounts]
    assert cities == ["City 0", "City 1", "City 2"]
    assert len(await at_work.crm.rows("accounts")) == 5
    assert len(await at_work.items("nav/customers")) == 5
    assert len(await at_work.items("couplings", mapping="CUSTOMER")) == 3


async def test_D4_03_so_configured_it_creates_and_couples_new_records_both_ways(at_work: World) -> None:
    await at_work.patch(f"{MAPPINGS}/CUSTOMER", {"synch_only_coupled_records": False})
    for n in range(2):
        await at_work.customer(f"U{n}", City="London")
        await at_work.crm.account(f"Account {n}", address1_city="Paris")
    job = await at_work.job(SYNCHRONIZE, {"mode": "full"})
    assert (job["status"], job["failed"]) == ("succeeded", 0)
    assert [job["directions"][way]["inserted"] for way in ("to_crm", "from_crm")] == [2, 2]
    rows, records = await at_work.crm.rows("accounts"), await at_work.items("nav/customers")
    assert sorted(row["address1_city"] for row in rows) == ["London"] * 2 + ["Paris"] * 2
    assert {r["coupling"]["crm_id"] for r in records} == {row["accountid"] for row in rows}
    again = await at_work.job(SYNCHRONIZE, {"mode": "full"})
    assert (again["inserted"], again["modified"]) == (0, 0)


async def test_D4_04_a_record_is_coupled_from_its_card(world: World) -> None:
    await world.customer("10000")
    account = await world.crm.account()
    await world.put("nav/customers/10000/coupling", {"crm_id": account})
    assert (await world.get("nav/customers/10000"))["coupling"]["crm_id"] == account


async def test_D4_05_records_chosen_from_a_list_are_coupled_together(world: World) -> None:
    await world.customer("10000")
    await world.customer("20000")
    accounts = [await world.crm.account(f"Account {n}") for n in range(2)]
    listed = [item["no"] for item in await world.items("nav/customers", coupled="false")]
    pairs = [
        {"nav_table": "customers", "nav_no": no, "crm_id": id}
        for no, id in zip(listed, accounts, strict=True)
    ]
    wrong = {"nav_table": "customers", "nav_no": "NOBODY", "crm_id": accounts[0]}
    body = {"pairs": [pairs[0], wrong, pairs[1]], "synchronize_after_coupling": "nav_data"}
    done = (await world.post("couplings", body))["outcomes"]
    assert [each["error"] and each["error"]["code"] for each in done] == [None, "nav-record-not-found", None]
    assert [await world.partner("customers", no) for no in listed] == accounts
    names = [(await world.crm.row("accounts", id))["name"] for id in accounts]
    assert names == ["Customer 10000", "Customer 20000"]


async def test_D4_06_it_is_coupled_with_an_existing_record(world: World) -> None:
    await world.coupled_customer("10000")
    person = await world.person("10000")
    contact = await world.crm.contact("Thompson", await world.partner("customers", "10000"))
    assert (await world.put(f"nav/contacts/{person}/coupling", {"crm_id": contact}))[
        "synchronization"
    ] is None
    assert (await world.get(f"crm/contacts/{contact}"))["nav_no"] == person
    assert len(await world.crm.rows("contacts")) == 1


async def test_D4_07_a_new_record_is_created_and_coupled_on_either_side(world: World) -> None:
    await world.customer("10000")
    done = await world.put("nav/customers/10000/coupling", {"create_new": True})
    assert [row["accountid"] for row in await world.crm.rows("accounts")] == [done["coupling"]["crm_id"]]
    account = await world.crm.account("Other")
    made = await world.post(f"crm/accounts/{account}/create-in-nav")
    assert made["record"]["coupling"]["crm_id"] == account
    assert len(await world.items("couplings", mapping="CUSTOMER")) == 2


async def test_D4_08_the_request_has_the_fields_of_the_window(world: World) -> None:
    schemas = (await world.get("/openapi.json"))["components"]["schemas"]
    window = {"crm_id", "create_new", "synchronize_after_coupling"}
    asked = set(schemas["CouplingIn"]["properties"])
    assert window <= asked
    assert asked - window == {"replace_existing", "outside_filter", "preview"}
    assert "required" not in schemas["CouplingIn"]
    await world.customer("10000")
    refused = await world.refused("PUT", "nav/customers/10000/coupling", {"partner": "x"})
    assert refused.status == 422
    refused = await world.refused("PUT", "nav/customers/10000/coupling", {})
    assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/crm_id")


async def test_D4_09_then_each_is_viewed_from_the_other(world: World) -> None:
    account = await world.coupled_customer("10000")
    there = await open_crm(world, "customers", "10000")
    back = await open_nav(world, "account", account)
    assert (there.status_code, back.status_code) == (302, 302)
    assert account in there.headers["Location"]
    assert "10000" in back.headers["Location"]


async def test_D4_10_one_record_is_synchronized_at_once_and_the_answer_tells_the_fields(world: World) -> None:
    account = await world.coupled_customer("10000", City="London")
    await world.change("customers", "10000", City="Leeds", Phone_No="1")
    sent = await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert {(c["side"], c["field"], c["old"], c["new"]) for c in sent["changes"]} == {
        ("crm", "address1_city", "London", "Leeds"),
        ("crm", "telephone1", None, "1"),
    }
    row = await world.crm.row("accounts", account)
    assert (row["address1_city"], row["telephone1"]) == ("Leeds", "1")
    again = await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert (again["message"], again["action"], again["changes"]) == (COMPLETED, "unmodified", [])


async def test_D4_11_the_direction_is_asked_for_only_where_there_are_two(world: World) -> None:
    await world.coupled_customer("10000")
    path = "nav/customers/10000/synchronize"
    await unchanged_by(world, "POST", path, {}, "direction-required", 422)
    await world.crm.change("systemusers", USER, mobilephone="1")
    path = f"nav/salespeople/{SALESPERSON}/synchronize"
    await unchanged_by(world, "POST", path, {"direction": "to_crm"}, "direction-not-allowed", 422)
    assert (await world.post(path, {}))["action"] == "modified"
    assert (await world.nav("salespeople", SALESPERSON))["Phone_No"] == "1"


async def test_D4_11_a_mapping_that_is_made_to_go_one_way_asks_for_no_direction(world: World) -> None:
    account = await world.coupled_customer("10000")
    for direction, other in (("to_crm", "from_crm"), ("from_crm", "to_crm")):
        changed = await world.patch(f"{MAPPINGS}/CUSTOMER", {"direction": direction})
        assert changed["direction"] == direction
        await world.change("customers", "10000", City=direction)
        await world.crm.change("accounts", account, telephone1=direction)
        path = "nav/customers/10000/synchronize"
        assert (await world.refused("POST", path, {"direction": other})).code == "direction-not-allowed"
        assert (await world.post(path))["action"] == "modified"
    assert (await world.crm.row("accounts", account))["address1_city"] == "to_crm"
    assert (await world.nav("customers", "10000"))["Phone_No"] == "from_crm"
    document = await world.get(f"{MAPPINGS}/export")
    await world.put(f"{MAPPINGS}/export", document)
    await world.patch(f"{MAPPINGS}/CUSTOMER", {"direction": "bidirectional"})
    assert len(await world.items(f"{MAPPINGS}/CUSTOMER/fields")) == 17


async def test_D4_12_several_are_synchronized_each_with_its_own_outcome(at_work: World) -> None:
    accounts = [await at_work.coupled_customer(f"C{n}") for n in range(3)]
    await at_work.customer("UNCOUPLED")
    for n in range(2):
        await at_work.change("customers", f"C{n}", City="London")
    await at_work.new("salespeople", "JO", Name="John")
    await at_work.change("customers", "C1", Salesperson_Code="JO")
    body = {"nos": ["C0", "C1", "C2", "UNCOUPLED"], "direction": "to_crm"}
    job = await at_work.job("nav/customers/synchronize", body)
    assert (job["status"], job["total"], job["failed"]) == ("partial", 4, 2)
    assert (job["modified"], job["unmodified"]) == (1, 1)
    outcomes = {
        o["nav_no"]: (o["action"], o["error"] and o["error"]["code"]) for o in await at_work.outcomes(job)
    }
    assert outcomes == {
        "C0": ("modified", None),
        "C1": ("failed", "salesperson-not-coupled"),
        "C2": ("unmodified", None),
        "UNCOUPLED": ("failed", "not-coupled"),
    }
    cities = [(await at_work.crm.row("accounts", id))["address1_city"] for id in accounts]
    assert cities == ["London", None, None]


async def test_D4_13_one_direction_serves_all_of_them(at_work: World) -> None:
    account = await at_work.coupled_customer("10000")
    await at_work.crm.change("accounts", account, address1_city="Paris")
    for body, code in (
        ({"nos": ["10000"]}, "direction-required"),
        ({"nos": ["10000"], "direction": "both"}, "invalid"),
    ):
        refused = await at_work.refused("POST", "nav/customers/synchronize", body)
        assert refused.status == 422
        assert code == "invalid" or refused.code == code
    refused = await at_work.refused(
        "POST", "nav/salespeople/synchronize", {"nos": [SALESPERSON], "direction": "to_crm"}
    )
    assert refused.said == (422, "direction-not-allowed")
    job = await at_work.job("nav/salespeople/synchronize", {"nos": [SALESPERSON]})
    assert (job["status"], job["total"], job["direction"]) == ("succeeded", 1, "from_crm")
    await at_work.job("nav/customers/synchronize", {"nos": ["10000"], "direction": "from_crm"})
    assert (await at_work.nav("customers", "10000"))["City"] == "Paris"


async def test_D4_14_the_run_its_log_and_the_status_are_reached_from_the_answer(world: World) -> None:
    await world.coupled_customer("10000")
    await world.change("customers", "10000", City="London")
    sent = await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    job = await world.get(f"synch-jobs/{sent['synch_job_id']}")
    assert (job["mapping"], job["direction"], job["status"], job["modified"]) == (
        "CUSTOMER",
        "to_crm",
        "succeeded",
        1,
    )
    (outcome,) = await world.outcomes(job)
    assert (outcome["nav_no"], outcome["changes"][0]["new"]) == ("10000", "London")
    status = await world.get("synch-status")
    assert (status["couplings"], status["failed_synch_jobs"]) == (2, 0)
    answer = await world.ask("POST", SYNCHRONIZE, {"mode": "modified"})
    assert answer.headers["Location"].endswith(f"/synch-jobs/{answer.json()['id']}")


async def test_D4_15_codes_do_not_hold_the_name_of_a_product(world: World) -> None:
    await world.customer("10000")
    codes = [
        (await world.refused("POST", f"nav/customers/{no}/synchronize", {"direction": way})).code
        for no, way in (("10000", "to_crm"), ("NOBODY", "to_crm"))
    ]
    codes.append((await world.refused("POST", "crm-connection/use-default-synchronization-setup")).code)
    assert codes == ["not-coupled", "nav-record-not-found", "setup-exists"]
    descriptions = [entry["description"] for entry in await world.items("job-queue-entries")]
    assert all("Dynamics 365 for Sales" in text for text in descriptions)
    await world.patch("/api/v1/companies/cronus", {"defaults_generation": "nav2017"})
    await world.post("crm-connection/use-default-synchronization-setup", {"replace_existing": True})
    descriptions = [entry["description"] for entry in await world.items("job-queue-entries")]
    assert all("Dynamics CRM" in text for text in descriptions)
