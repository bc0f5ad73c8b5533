"""How to: Enable Default Dynamics CRM Synchronization Setup."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.seeds.conftest import SETUP
from tests.seeds.world import COMPLETED, Json, World

pytestmark = pytest.mark.anyio
MAPPINGS = "integration-table-mappings"
ENTRIES = "job-queue-entries"
GENERATE = "crm-connection/generate-integration-ids"
FIRST_FIELDS = {
    "SALESPEOPLE": ("salespeople", "systemuser", "from_crm", "Name", "fullname"),
    "CUSTOMER": ("customers", "account", "bidirectional", "Name", "name"),
    "CONTACT": ("contacts", "contact", "bidirectional", "Surname", "lastname"),
}


async def the_setup(world: World) -> Json:
    """Mappings with their fields, and entries, as far as a person can set them."""
    entries = [
        {name: entry[name] for name in ("description", "mapping", "kind", "minutes_between_runs", "status")}
        for entry in await world.items(ENTRIES)
    ]
    return {"mappings": await world.get(f"{MAPPINGS}/export"), "entries": entries}


async def off(world: World) -> None:
    """Disables the connection."""
    await world.patch("crm-connection", {"is_enabled": False})


async def on(world: World) -> Json:
    """Enables the connection; the answer."""
    return await world.patch("crm-connection", {"is_enabled": True})


async def test_D0_01_one_call_sets_everything_up_and_a_second_changes_nothing(connected: World) -> None:
    made = await connected.post(SETUP)
    first = await the_setup(connected)
    assert made["integration_table_mappings"] == len(first["mappings"]["mappings"]) >= 3
    assert made["integration_field_mappings"] == sum(len(m["fields"]) for m in first["mappings"]["mappings"])
    assert made["job_queue_entries"] == len(first["entries"]) >= 3
    again = await connected.post(SETUP, {"replace_existing": True})
    assert again["integration_table_mappings"] == made["integration_table_mappings"]
    assert await the_setup(connected) == first


async def test_D0_02_it_works_the_first_time_with_no_other_setup_than_the_connection(
    connected: World,
) -> None:
    enabled = await on(connected)
    assert enabled["default_setup_needed"] is True
    assert await connected.items(MAPPINGS) == await connected.items(ENTRIES) == []
    account = await connected.crm.account("Adatum Corporation")
    await connected.post(SETUP)
    made = await connected.post(f"crm/accounts/{account}/create-in-nav")
    assert made["record"]["fields"]["Name"] == "Adatum Corporation"


async def test_D0_03_it_reverts_what_was_customized_to_what_a_new_company_has(world: World) -> None:
    fresh = await the_setup(world)
    customer = f"{MAPPINGS}/CUSTOMER"
    changes = {
        "direction": "to_crm",
        "crm_filter": None,
        "nav_filter": "Blocked eq ''",
        "nav_template": '{"Country_Region_Code": "GB"}',
        "crm_template": None,
        "synch_only_coupled_records": False,
    }
    fields = await world.items(f"{customer}/fields")
    for row in fields:
        if row["direction"] == "from_crm":
            await world.delete(f"{customer}/fields/{row['id']}")
    await world.patch(customer, changes)
    await world.patch(f"{customer}/fields/{fields[0]['id']}", {"status": "disabled"})
    await world.delete(f"{MAPPINGS}/CONTACT")
    entry = next(e for e in await world.items(ENTRIES) if e["mapping"] == "CUSTOMER")
    await world.patch(f"{ENTRIES}/{entry['id']}", {"minutes_between_runs": 7})
    await world.post(f"{ENTRIES}/{entry['id']}/hold")
    assert await the_setup(world) != fresh
    await world.post(SETUP, {"replace_existing": True})
    assert await the_setup(world) == fresh


@pytest.mark.parametrize("name", FIRST_FIELDS)
async def test_D0_04_tables_such_as_salespeople_and_customers_are_mapped_to_users_and_accounts(
    world: World, name: str
) -> None:
    table, entity, direction, field, attribute = FIRST_FIELDS[name]
    mapping = await world.get(f"{MAPPINGS}/{name}")
    assert (mapping["nav_table"], mapping["crm_entity"], mapping["direction"]) == (table, entity, direction)
    fields = {
        row["nav_field"]: row["crm_attribute"] for row in await world.items(f"{MAPPINGS}/{name}/fields")
    }
    assert fields[field] == attribute
    assert mapping["field_count"] == len(await world.items(f"{MAPPINGS}/{name}/fields"))


async def test_D0_05_a_job_queue_entry_synchronizes_each_mapping_on_a_schedule(world: World) -> None:
    entries = await world.items(ENTRIES)
    scheduled = [entry["mapping"] for entry in entries if entry["kind"] == "synchronize"]
    assert {"SALESPEOPLE", "CUSTOMER", "CONTACT", "CURRENCY", "ITEM-PRODUCT"} <= set(scheduled)
    assert len(scheduled) == len(set(scheduled))
    for entry in entries:
        assert entry["status"] == "ready"
        assert entry["minutes_between_runs"] > 0
        assert datetime.fromisoformat(entry["earliest_start_at"]) > datetime.now(UTC) - timedelta(minutes=1)


async def test_D0_06_the_records_of_the_mapped_tables_get_integration_ids(connected: World) -> None:
    await off(connected)
    for number in range(3):
        await connected.new("salespeople", f"S{number}", Name=f"Salesperson {number}")
    await connected.customer("10000", Salesperson_Code="")
    assert {item["integration_id"] for item in await connected.items("nav/salespeople")} == {None}
    await on(connected)
    generated = (await connected.post(SETUP))["integration_ids_generated"]
    assert (generated["salespeople"], generated["customers"], generated["contacts"]) == (3, 1, 1)
    for table in ("salespeople", "customers", "contacts"):
        ids = {item["integration_id"] for item in await connected.items(f"nav/{table}")}
        assert None not in ids
        assert len(ids) == generated[table]


async def test_D0_07_custom_mappings_go_but_not_before_they_were_named(world: World) -> None:
    custom = {"name": "VISITORS", "nav_table": "contacts", "crm_entity": "contact", "direction": "to_crm"}
    row = {"nav_field": "Surname", "crm_attribute": "lastname", "direction": "to_crm"}
    await world.post(MAPPINGS, custom | {"fields": [row]})
    added = {"nav_field": "Name_2", "crm_attribute": "description"}
    await world.post(f"{MAPPINGS}/CUSTOMER/fields", added)
    before = await the_setup(world)
    refused = await world.refused("POST", SETUP)
    assert refused.said == (409, "setup-exists")
    assert {"VISITORS", "CUSTOMER"} == set(refused.body["would_be_lost"]["customized"])
    assert "VISITORS" in refused.body["would_be_lost"]["integration_table_mappings"]
    assert await the_setup(world) == before
    made = await world.post(SETUP, {"replace_existing": True})
    assert made["removed"]["integration_table_mappings"] == made["integration_table_mappings"] + 1
    assert made["removed"]["integration_field_mappings"] == made["integration_field_mappings"] + 2
    assert (await world.refused("GET", f"{MAPPINGS}/VISITORS")).code == "mapping-not-found"
    attributes = {r["crm_attribute"] for r in await world.items(f"{MAPPINGS}/CUSTOMER/fields")}
    assert "description" not in attributes


@pytest.mark.parametrize("body", [None, {}, {"replace_existing": False}, {"replace_existing": "yes"}])
async def test_D0_08_without_an_explicit_yes_nothing_changes(world: World, body: Json | None) -> None:
    await world.patch(f"{MAPPINGS}/CUSTOMER", {"synch_only_coupled_records": False})
    before = await the_setup(world)
    refused = await world.refused("POST", SETUP, body)
    assert refused.status == (422 if body and body.get("replace_existing") == "yes" else 409)
    assert await the_setup(world) == before
    assert (await world.post(SETUP, {"replace_existing": True, "preview": True}))["preview"] is True
    assert await the_setup(world) == before


async def test_D0_09_the_connection_setup_shows_its_fields_and_never_the_secret(world: World) -> None:
    answer = await world.ask("GET", "crm-connection")
    shown = answer.json()
    assert (shown["server_url"], shown["is_enabled"], shown["status"]) == (world.crm.url, True, "connected")
    for name in ("crm_version", "organization_id", "user_id", "base_currency", "last_checked_at"):
        assert shown[name], name
    assert shown["integration_solution_installed"] is True
    login = shown["authentication"]
    assert (login["type"], login["has_secret"]) == ("client_secret", True)
    assert "client_secret" not in login
    assert "sandbox-secret" not in answer.text


async def test_D0_10_the_connection_must_be_enabled_first(connected: World) -> None:
    await connected.customer("10000", Salesperson_Code="")
    await off(connected)
    for body in (None, {"replace_existing": True}, {"preview": True}):
        refused = await connected.refused("POST", SETUP, body)
        assert refused.said == (409, "connection-disabled")
        assert "is_enabled" in refused.text
    assert await connected.items(MAPPINGS) == await connected.items(ENTRIES) == []


async def test_D0_11_enabling_tests_the_connection_and_tells_why_it_failed(connected: World) -> None:
    await off(connected)
    await connected.patch("crm-connection", {"authentication": {"client_secret": "not the secret"}})
    refused = await connected.refused("PATCH", "crm-connection", {"is_enabled": True})
    assert refused.said == (422, "connection-test-failed")
    failed = [step["name"] for step in refused.body["steps"] if not step["ok"]]
    assert refused.body["failed_step"] in failed
    assert "not the secret" not in str(refused.body)
    shown = await connected.get("crm-connection")
    assert (shown["is_enabled"], shown["status"]) == (False, "disabled")
    await connected.patch("crm-connection", {"authentication": {"client_secret": "sandbox-secret"}})
    assert (await on(connected))["status"] == "connected"


async def test_D0_12_a_coupled_record_can_be_synchronized_at_once(connected: World) -> None:
    await connected.post(SETUP)
    await connected.customer("10000", Salesperson_Code="", City="London")
    account = await connected.crm.account("Adatum")
    await connected.put("nav/customers/10000/coupling", {"crm_id": account})
    sent = await connected.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert (sent["message"], sent["action"]) == (COMPLETED, "modified")
    row = await connected.crm.row("accounts", account)
    assert (row["name"], row["address1_city"]) == ("Customer 10000", "London")


async def test_D0_14_while_enabled_new_records_get_their_id_without_a_call(world: World) -> None:
    await world.customer("10000")
    record = await world.get("nav/customers/10000")
    assert record["integration_id"]
    assert (await world.post(GENERATE))["total"] == 0
    assert (await world.get("nav/customers/10000"))["integration_id"] == record["integration_id"]


async def three_more(world: World) -> None:
    """Three salespeople who came while the connection was off."""
    await off(world)
    for number in range(3):
        await world.new("salespeople", f"N{number}", Name=f"New {number}")


async def test_D0_15_records_added_while_the_connection_was_off_have_none(world: World) -> None:
    await three_more(world)
    ids = {item["no"]: item["integration_id"] for item in await world.items("nav/salespeople")}
    assert [ids[f"N{number}"] for number in range(3)] == [None] * 3
    assert ids["PS"]
    enabled = await on(world)
    assert enabled["records_without_integration_id"] == 3
    assert {i["no"]: i["integration_id"] for i in await world.items("nav/salespeople")} == ids


async def test_D0_16_generating_gives_ids_to_those_without_and_changes_no_other(world: World) -> None:
    await three_more(world)
    await on(world)
    present = (await world.get("nav/salespeople/PS"))["integration_id"]
    first = await world.post(GENERATE)
    assert (first["total"], first["generated"]["salespeople"]) == (3, 3)
    ids = {item["no"]: item["integration_id"] for item in await world.items("nav/salespeople")}
    assert None not in ids.values()
    assert ids["PS"] == present
    assert (await world.post(GENERATE))["total"] == 0
    assert {i["no"]: i["integration_id"] for i in await world.items("nav/salespeople")} == ids


async def test_D0_17_generating_may_be_looked_at_first_and_states_its_count(world: World) -> None:
    await three_more(world)
    assert (await world.post(GENERATE, {"preview": True}))["total"] == 3
    assert {i["integration_id"] for i in await world.items("nav/salespeople", filter="Code ne 'PS'")} == {
        None
    }
    assert (await world.post(GENERATE, {"preview": False}))["total"] == 3
    assert (await world.post(GENERATE, {"preview": True}))["total"] == 0


async def test_D0_18_a_record_without_an_id_gets_it_on_the_way_and_the_answer_says_so(world: World) -> None:
    await off(world)
    await world.customer("10000", Salesperson_Code="")
    await on(world)
    assert (await world.get("nav/customers/10000"))["integration_id"] is None
    made = await world.post("nav/customers/10000/create-in-crm")
    assert made["integration_id_generated"] is True
    assert made["coupling"]["integration_id"] == (await world.get("nav/customers/10000"))["integration_id"]
    again = await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert again["integration_id_generated"] is False


async def test_D0_19_enabling_again_hints_at_generating_ids(world: World) -> None:
    await three_more(world)
    (step,) = (await on(world))["next_steps"]
    assert "generate-integration-ids" in step
    assert "3" in step
    await world.post(step.split()[1])
    enabled = await on(world)
    assert (enabled["next_steps"], enabled["records_without_integration_id"]) == ([], 0)


async def test_D0_20_mappings_are_told_by_the_names_of_table_and_entity(world: World) -> None:
    pairs = {(each["nav_table"], each["crm_entity"]) for each in await world.items(MAPPINGS)}
    assert {("salespeople", "systemuser"), ("customers", "account"), ("contacts", "contact")} <= pairs


async def test_D0_21_each_action_of_the_page_is_an_operation_of_its_own(world: World) -> None:
    paths = (await world.get("/openapi.json"))["paths"]
    connection = "/api/v1/companies/{company}/crm-connection"
    operations = {
        f"{connection}/use-default-synchronization-setup": ("post", "use_default_synchronization_setup"),
        f"{connection}/generate-integration-ids": ("post", "generate_integration_ids"),
        f"{connection}/test": ("post", "check_crm_connection"),
        connection: ("patch", "change_crm_connection"),
    }
    for path, (method, name) in operations.items():
        assert paths[path][method]["operationId"] == name
    ids = [op["operationId"] for path in paths.values() for op in path.values() if "operationId" in op]
    assert len(ids) == len(set(ids))


async def test_D0_13_when_its_time_has_come_each_default_job_runs_by_itself(at_work: World) -> None:
    account = await at_work.coupled_customer("10000")
    await at_work.change("customers", "10000", City="London")
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    entries = [entry["id"] for entry in await at_work.items(ENTRIES)]
    for entry in entries:
        await at_work.patch(f"{ENTRIES}/{entry}", {"earliest_start_at": past})
    for entry in entries:
        for _ in range(3000):
            log = await at_work.items(f"{ENTRIES}/{entry}/log")
            if log and log[0]["finished_at"]:
                break
            await asyncio.sleep(0.02)
        assert len(log) == 1
        assert log[0]["status"] == "succeeded", log[0]
    assert (await at_work.crm.row("accounts", account))["address1_city"] == "London"
