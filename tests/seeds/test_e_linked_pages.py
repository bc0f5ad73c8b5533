"""The pages that the five link to: the connection, runs of whole mappings, filters, status, conflicts."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from app.sandbox import DEFAULT_SECRET, Fault
from tests.seeds.conftest import SETUP
from tests.seeds.test_d1_contacts import open_nav, unchanged_by
from tests.seeds.world import NAV_CLIENT, SALESPERSON, USER, Json, World

pytestmark = pytest.mark.anyio
CONNECTION = "crm-connection"
MAPPINGS = "integration-table-mappings"
CUSTOMER = f"{MAPPINGS}/CUSTOMER"
FULL = {"mode": "full"}
MODIFIED = {"mode": "modified"}


# --- How to: Set Up a Dynamics CRM Connection --------------------------------------------------------


async def test_E_01_the_address_needs_https_and_no_path(connected: World) -> None:
    for given, suggested in (
        ("http://contoso.crm4.dynamics.com", "https://contoso.crm4.dynamics.com"),
        ("https://contoso.crm4.dynamics.com/main.aspx", "https://contoso.crm4.dynamics.com"),
        ("contoso.crm4.dynamics.com", "https://contoso.crm4.dynamics.com"),
    ):
        refused = await connected.refused("PATCH", CONNECTION, {"server_url": given})
        assert (refused.status, refused.body["errors"][0]["pointer"]) == (422, "/server_url")
        assert refused.body["errors"][0]["suggestion"] == suggested
    assert (await connected.get(CONNECTION))["server_url"] == connected.crm.url


async def test_E_02_the_secret_is_kept_until_a_new_one_comes_and_never_shown(connected: World) -> None:
    answer = await connected.ask("PATCH", CONNECTION, {"api_version": "v9.1"})
    assert (answer.status_code, DEFAULT_SECRET in answer.text) == (200, False)
    assert (await connected.post(f"{CONNECTION}/test"))["ok"] is True
    await connected.patch(CONNECTION, {"is_enabled": False})
    await connected.patch(CONNECTION, {"authentication": {"client_secret": "wrong"}})
    assert (await connected.post(f"{CONNECTION}/test"))["ok"] is False
    await connected.patch(CONNECTION, {"authentication": {"client_secret": DEFAULT_SECRET}})
    assert (await connected.post(f"{CONNECTION}/test"))["ok"] is True


async def test_E_03_testing_tells_success_or_the_cause_and_enables_nothing(connected: World) -> None:
    good = await connected.post(f"{CONNECTION}/test")
    assert (good["ok"], all(step["ok"] for step in good["steps"])) == (True, True)
    await connected.patch(CONNECTION, {"is_enabled": False})
    connected.crm.organization.revoke("prvReadAccount")
    bad = await connected.post(f"{CONNECTION}/test")
    assert bad["ok"] is False
    failed = next(step for step in bad["steps"] if not step["ok"])
    assert "prvReadAccount" in failed["detail"]
    assert failed["fix"]
    shown = await connected.get(CONNECTION)
    assert (shown["is_enabled"], shown["status"]) == (False, "disabled")


async def test_E_04_enabling_offers_the_default_setup_and_never_does_it(connected: World) -> None:
    enabled = await connected.patch(CONNECTION, {"is_enabled": True})
    assert enabled["default_setup_needed"] is True
    assert any("use-default-synchronization-setup" in step for step in enabled["next_steps"])
    assert await connected.items(MAPPINGS) == []
    await connected.post(SETUP)
    assert (await connected.patch(CONNECTION, {"is_enabled": True}))["default_setup_needed"] is False


async def test_E_05_the_status_counts_the_jobs_that_are_ready(world: World) -> None:
    entries = await world.items("job-queue-entries")
    status = await world.get("synch-status")
    assert status["job_queue_entries_ready"] == status["job_queue_entries_total"] == len(entries)
    await world.post(f"job-queue-entries/{entries[0]['id']}/hold")
    status = await world.get("synch-status")
    assert status["job_queue_entries_ready"] == len(entries) - 1
    assert status["job_queue_entries_total"] == len(entries)


async def test_E_06_whether_the_solution_is_installed_is_read_and_never_written(connected: World) -> None:
    assert (await connected.get(CONNECTION))["integration_solution_installed"] is True
    refused = await connected.refused("PATCH", CONNECTION, {"integration_solution_installed": False})
    assert refused.status == 422
    assert refused.body["errors"][0]["pointer"] == "/integration_solution_installed"


async def test_E_08_the_version_is_read_from_crm(connected: World) -> None:
    rows = await connected.post(f"{CONNECTION}/test")
    assert (await connected.get(CONNECTION))["crm_version"] == rows["crm_version"]
    assert rows["crm_version"].startswith("9.2.")


async def test_E_12_while_it_is_disabled_crm_is_out_of_reach_and_everything_is_kept(world: World) -> None:
    account = await world.coupled_customer()
    kept = (await world.get(f"{MAPPINGS}/export"), await world.items("couplings"))
    shown = await world.get(CONNECTION)
    await world.patch(CONNECTION, {"is_enabled": False})
    world.crm.forget()
    for method, path, body in (
        ("POST", "nav/customers/10000/synchronize", {"direction": "to_crm"}),
        ("POST", "nav/customers/10000/create-in-crm", None),
        ("PUT", "nav/customers/10000/coupling", {"crm_id": account}),
        ("GET", "nav/customers/10000/coupling/comparison", None),
        ("GET", "crm/accounts", None),
        ("POST", f"crm/accounts/{account}/create-in-nav", None),
        ("POST", f"{CUSTOMER}/synchronize", FULL),
        ("POST", "synchronize", FULL),
        ("POST", "nav/customers/synchronize", {"nos": ["10000"], "direction": "to_crm"}),
    ):
        refused = await world.refused(method, path, body)
        assert refused.said == (409, "connection-disabled"), path
    assert list(world.crm.organization.log) == []
    assert (await world.get(f"{MAPPINGS}/export"), await world.items("couplings")) == kept
    await world.patch(CONNECTION, {"is_enabled": True})
    again = await world.get(CONNECTION)
    assert {n: again[n] for n in ("server_url", "authentication")} == {
        n: shown[n] for n in ("server_url", "authentication")
    }
    assert (await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"}))["action"]


async def test_E_13_the_status_is_connected_failed_or_disabled_and_failures_tell_when(at_work: World) -> None:
    await at_work.coupled_customer()
    assert (await at_work.get("synch-status"))["connection_status"] == "connected"
    assert (await at_work.post(f"{CONNECTION}/test"))["ok"] is True
    await at_work.new("salespeople", "JO", Name="John")
    await at_work.change("customers", "10000", Salesperson_Code="JO")
    job = await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    (error,) = await at_work.items(f"synch-jobs/{job['id']}/errors")
    assert error["code"] == "salesperson-not-coupled"
    assert datetime.fromisoformat(error["occurred_at"]) > datetime.now(UTC) - timedelta(minutes=5)
    at_work.crm.organization.faults.append(Fault("GET .*WhoAmI", "403"))
    assert (await at_work.post(f"{CONNECTION}/test"))["ok"] is False
    at_work.crm.organization.faults.clear()
    await at_work.patch(CONNECTION, {"is_enabled": False})
    assert (await at_work.get("synch-status"))["connection_status"] == "disabled"


# --- Manual synchronization of table mappings --------------------------------------------------------


async def test_E_13_failures_are_counted_with_their_last_occurrence(at_work: World) -> None:
    job = await a_failed_run(at_work)
    await at_work.change("customers", "10000", City="Leeds")
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    (failure,) = await at_work.items("synch-errors/summary")
    assert (failure["code"], failure["count"]) == ("salesperson-not-coupled", 2)
    (newest, *_) = await at_work.items("synch-errors")
    assert failure["last"] == newest
    assert failure["last_occurred_at"] == newest["occurred_at"] > job["finished_at"]


async def test_E_13_a_connection_that_fails_in_use_is_failed_until_a_contact_succeeds(world: World) -> None:
    await world.coupled_customer()
    await world.upkeep()
    world.crm.organization.faults.append(Fault(".*", "503"))
    refused = await world.refused("GET", "crm/accounts")
    assert refused.code == "crm-unavailable"
    await world.upkeep()
    assert (await world.get("synch-status"))["connection_status"] == "failed"
    shown = await world.get(CONNECTION)
    assert (shown["status"], bool(shown["last_error"])) == ("failed", True)
    failed_at = shown["last_checked_at"]
    world.crm.organization.faults.clear()
    await world.get("crm/accounts")
    await world.upkeep()
    shown = await world.get(CONNECTION)
    assert (shown["status"], shown["last_error"]) == ("connected", None)
    assert shown["last_checked_at"] > failed_at


async def test_E_14_a_full_run_takes_the_mappings_in_order_and_creates_what_is_uncoupled(
    at_work: World,
) -> None:
    names = ["CONTACT", "CUSTOMER", "SALESPEOPLE", "CURRENCY"]
    await at_work.customer("10000", City="London")
    await at_work.person("10000")
    coupled = await at_work.crm.account("In CRM", address1_city="Paris")
    parent = await at_work.job("synchronize", FULL | {"mappings": names, "create_uncoupled": True})
    assert parent["status"] == "succeeded", parent
    children = [await at_work.get(f"synch-jobs/{child}") for child in parent["children"]]
    order = sorted(children, key=lambda job: str(job["started_at"]))
    places = {job["mapping"]: place for place, job in enumerate(order)}
    assert max(places["CURRENCY"], places["SALESPEOPLE"]) < places["CUSTOMER"] < places["CONTACT"]
    ended = {job["mapping"]: job["finished_at"] for job in children}
    began = {job["mapping"]: job["started_at"] for job in children}
    assert ended["CUSTOMER"] <= began["CONTACT"]
    assert ended["SALESPEOPLE"] <= began["CUSTOMER"]
    assert {row["name"] for row in await at_work.crm.rows("accounts")} == {"Customer 10000", "In CRM"}
    assert [row["lastname"] for row in await at_work.crm.rows("contacts")] == ["Thompson"]
    assert (await at_work.get(f"crm/accounts/{coupled}"))["coupled"] is True
    for name in ("inserted", "modified", "unmodified", "skipped", "failed", "total"):
        assert parent[name] == sum(job[name] for job in children)


async def test_E_15_creating_in_one_run_leaves_the_mappings_own_choice_as_it_was(at_work: World) -> None:
    await at_work.customer("10000")
    job = await at_work.job(f"{CUSTOMER}/synchronize", FULL | {"create_uncoupled": True})
    assert job["inserted"] == 1
    assert (await at_work.get(CUSTOMER))["synch_only_coupled_records"] is True
    await at_work.customer("20000")
    assert (await at_work.job(f"{CUSTOMER}/synchronize", FULL))["inserted"] == 0
    assert await at_work.partner("customers", "20000") is None


async def test_E_16_synchronizing_what_was_modified_reads_nothing_else(at_work: World) -> None:
    accounts = [await at_work.coupled_customer(f"C{n}") for n in range(4)]
    await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    await at_work.change("customers", "C1", City="London")
    await at_work.crm.change("accounts", accounts[2], address1_city="Paris")
    job = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (job["directions"]["to_crm"]["modified"], job["directions"]["to_crm"]["total"]) == (1, 1)
    assert job["directions"]["from_crm"]["modified"] == 1
    assert job["directions"]["from_crm"]["total"] <= 2
    assert (await at_work.crm.row("accounts", accounts[1]))["address1_city"] == "London"
    assert (await at_work.nav("customers", "C2"))["City"] == "Paris"
    mapping = await at_work.get(CUSTOMER)
    assert mapping["nav_synched_until"]
    assert mapping["crm_synched_until"]
    parent = await at_work.job("synchronize", MODIFIED | {"mappings": ["CUSTOMER", "CONTACT"]})
    assert (parent["status"], parent["modified"], len(parent["children"])) == ("succeeded", 0, 2)


# --- Scheduled synchronization ------------------------------------------------------------------------


async def test_E_17_the_default_jobs_with_their_intervals(world: World) -> None:
    found = await world.items("job-queue-entries")
    entries = {entry["mapping"]: entry for entry in found}
    assert set(entries) == {
        "SALESPEOPLE",
        "CUSTOMER",
        "CONTACT",
        "CURRENCY",
        "UNIT OF MEASURE",
        "ITEM-PRODUCT",
        "RESOURCE-PRODUCT",
        "CUSTPRCGRP-PRICE",
        "SALESPRC-PRODPRICE",
        "POSTEDSALESINV-INV",
        None,
    }
    of_their_own = {entry["kind"] for entry in found if entry["mapping"] is None}
    assert of_their_own == {"account_statistics", "timeline_posts"}
    assert len(found) == len(entries) + 1
    assert (entries["CUSTOMER"]["minutes_between_runs"], entries["SALESPEOPLE"]["minutes_between_runs"]) == (
        2,
        30,
    )


async def test_E_17_without_the_solution_no_job_updates_statistics(without_solution: World) -> None:
    await without_solution.post(SETUP, {"replace_existing": True})
    kinds = {entry["kind"] for entry in await without_solution.items("job-queue-entries")}
    assert kinds == {"synchronize", "timeline_posts"}


async def test_E_18_a_mapping_that_goes_both_ways_sends_to_crm_first(at_work: World) -> None:
    account = await at_work.coupled_customer()
    await at_work.change("customers", "10000", City="London")
    await at_work.crm.change("accounts", account, telephone1="9")
    job = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert list(job["directions"]) == ["to_crm", "from_crm"]
    directions = [outcome["direction"] for outcome in await at_work.outcomes(job)]
    assert directions == sorted(directions, key=["to_crm", "from_crm"].index)
    assert set(directions) == {"to_crm", "from_crm"}


async def test_E_19_new_records_get_what_the_template_says(at_work: World) -> None:
    await at_work.new("countries", "GB", Name="Great Britain")
    await at_work.patch(CUSTOMER, {"nav_template": '{"Country_Region_Code": "GB", "City": "Leeds"}'})
    account = await at_work.crm.account("With city", address1_city="Paris")
    await at_work.job(f"{CUSTOMER}/synchronize", FULL | {"create_uncoupled": True})
    customer = (await at_work.get(f"crm/accounts/{account}"))["nav_no"]
    fields = await at_work.nav("customers", customer)
    assert (fields["Country_Region_Code"], fields["City"]) == ("GB", "Leeds")
    await at_work.change("customers", customer, Country_Region_Code="")
    await at_work.post(f"nav/customers/{customer}/synchronize", {"direction": "from_crm"})
    assert (await at_work.nav("customers", customer))["Country_Region_Code"] == ""


# --- How to: Modify Table Mappings for Synchronization -----------------------------------------------


async def test_E_20_what_lies_outside_a_filter_is_neither_created_nor_synchronized(at_work: World) -> None:
    account = await at_work.coupled_customer("10000")
    await at_work.patch(CUSTOMER, {"nav_filter": "Blocked eq ''", "synch_only_coupled_records": False})
    await at_work.change("customers", "10000", Blocked="All", City="London")
    await at_work.customer("20000", Blocked="All")
    supplier = await at_work.crm.account("Supplier", customertypecode=10)
    job = await at_work.job(f"{CUSTOMER}/synchronize", FULL | {"direction": "to_crm"})
    assert (job["inserted"], job["modified"], job["failed"], job["skipped"]) == (0, 0, 0, 1)
    (outcome,) = await at_work.outcomes(job)
    assert (outcome["nav_no"], outcome["action"], outcome["reason"]) == ("10000", "skipped", "filtered")
    assert (await at_work.crm.row("accounts", account))["address1_city"] is None
    await at_work.job(f"{CUSTOMER}/synchronize", FULL | {"direction": "from_crm"})
    assert (await at_work.get(f"crm/accounts/{supplier}"))["coupled"] is False
    assert len(await at_work.items("nav/customers")) == 2


async def test_E_20_what_lies_outside_a_filter_is_created_when_the_call_says_so_alone(at_work: World) -> None:
    supplier = await at_work.crm.account("Supplier", customertypecode=10)
    path = f"crm/accounts/{supplier}/create-in-nav"
    assert "customertypecode" in await unchanged_by(at_work, "POST", path, None, "filtered", 422)
    assert "outside_filter" in await unchanged_by(at_work, "POST", path, {"preview": True}, "filtered", 422)
    (outcome,) = (await at_work.post("crm/accounts/create-in-nav", {"ids": [supplier]}))["outcomes"]
    assert (outcome["nav_no"], outcome["error"]["code"]) == (None, "filtered")
    await at_work.patch(CUSTOMER, {"nav_filter": "Blocked eq ''"})
    await at_work.customer("20000", Blocked="All")
    for method, path, body in (
        ("POST", "nav/customers/20000/create-in-crm", None),
        ("PUT", "nav/customers/20000/coupling", {"create_new": True}),
        ("PUT", "nav/customers/20000/coupling", {"crm_id": await at_work.crm.account("Adatum")}),
    ):
        assert "Blocked eq" in await unchanged_by(at_work, method, path, body, "filtered", 422)
    asked = {"outside_filter": True}
    assert (await at_work.post("nav/customers/20000/create-in-crm", asked))["action"] == "inserted"
    made = await at_work.post(f"crm/accounts/{supplier}/create-in-nav", asked)
    assert made["record"]["coupling"]["crm_id"] == supplier


async def test_E_20_a_pair_with_one_record_outside_is_carried_the_other_way_as_the_refusal_says(
    at_work: World,
) -> None:
    supplier = await at_work.crm.account("Supplier", customertypecode=10)
    path = f"crm/accounts/{supplier}/create-in-nav"
    said = (await at_work.refused("POST", path)).text
    assert "not carry over what changes in it, only what changes in its partner" in said
    no = (await at_work.post(path, {"outside_filter": True}))["record"]["no"]
    await at_work.change("customers", no, City="Leeds")
    await at_work.crm.change("accounts", supplier, telephone1="555")
    job = await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    assert (job["modified"], job["skipped"], job["failed"]) == (1, 1, 0)
    assert (await at_work.crm.row("accounts", supplier))["address1_city"] == "Leeds"
    assert (await at_work.nav("customers", no))["Phone_No"] == ""


async def test_E_21_the_templates_of_customers_and_accounts(world: World) -> None:
    mapping = await world.get(CUSTOMER)
    assert mapping["crm_template"] == "CRMACCOUNT"
    assert mapping["nav_template"] is None, "there is no customer template in NAV to make CRMCUST of"
    account = await world.coupled_customer("10000")
    assert (await world.crm.row("accounts", account))["customertypecode"] == 3
    await world.new("countries", "GB", Name="Great Britain")
    await world.new("countries", "FR", Name="France")
    await world.patch(CUSTOMER, {"crm_template": '{"customertypecode": 3, "address1_country": "GB"}'})
    other = await world.coupled_customer("20000", Country_Region_Code="FR")
    assert (await world.crm.row("accounts", other))["address1_country"] == "GB"


async def test_E_21_nav_s_customer_template_in_the_local_currency_is_taken_over(connected: World) -> None:
    await connected.new("countries", "GB", Name="Great Britain")
    await connected.new("countries", "FR", Name="France")
    await connected.new("payment-terms", "14 DAYS", Description="Net 14 days")
    await connected.new("currencies", "EUR", Description="Euro")
    fields = {"Country_Region_Code": "FR", "Currency_Code": "EUR"}
    await connected.new("customer-templates", "A-FOREIGN", Description="Euro countries", **fields)
    await connected.post(SETUP)
    assert (await connected.get(CUSTOMER))["nav_template"] is None
    fields = {"Country_Region_Code": "GB", "Payment_Terms_Code": "14 DAYS"}
    await connected.new("customer-templates", "B-LOCAL", Description="At home", **fields)
    await connected.post(SETUP, {"replace_existing": True})
    assert json.loads((await connected.get(CUSTOMER))["nav_template"]) == fields
    account = await connected.crm.account("Adatum", address1_country="FR")
    made = await connected.post(f"crm/accounts/{account}/create-in-nav")
    shown = made["record"]["fields"]
    assert (shown["Country_Region_Code"], shown["Payment_Terms_Code"]) == ("GB", "14 DAYS")


async def test_E_22_only_coupled_records_is_what_mappings_begin_with(world: World) -> None:
    body = {"name": "OTHER", "nav_table": "customers", "crm_entity": "account", "direction": "to_crm"}
    assert (await world.post(MAPPINGS, body))["synch_only_coupled_records"] is True
    for name in ("SALESPEOPLE", "CUSTOMER", "CONTACT", "CURRENCY"):
        assert (await world.get(f"{MAPPINGS}/{name}"))["synch_only_coupled_records"] is True


# --- How to: View Synchronization Status --------------------------------------------------------------


async def a_failed_run(world: World) -> Json:
    """A run of two coupled customers of which one fails."""
    await world.coupled_customer("10000")
    await world.coupled_customer("20000")
    await world.new("salespeople", "JO", Name="John")
    await world.change("customers", "10000", Salesperson_Code="JO")
    await world.change("customers", "20000", City="London")
    return await world.job(f"{CUSTOMER}/synchronize", FULL)


async def test_E_23_the_number_of_failures_leads_to_the_errors_of_that_run(at_work: World) -> None:
    job = await a_failed_run(at_work)
    assert (job["status"], job["failed"], job["modified"]) == ("partial", 1, 1)
    (error,) = await at_work.items(f"synch-jobs/{job['id']}/errors")
    assert (error["nav_no"], error["code"]) == ("10000", "salesperson-not-coupled")
    assert "nav/salespeople/JO/coupling" in error["fix"]


async def test_E_24_the_log_of_a_mapping_holds_its_runs(at_work: World) -> None:
    job = await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    await at_work.job(f"{MAPPINGS}/SALESPEOPLE/synchronize", FULL)
    found = await at_work.items("synch-jobs", mapping="CUSTOMER")
    assert [each["id"] for each in found] == [job["id"]]
    assert {each["mapping"] for each in await at_work.items("synch-jobs")} == {"CUSTOMER", "SALESPEOPLE"}


async def test_E_25_all_errors_are_listed_with_source_and_destination(at_work: World) -> None:
    await a_failed_run(at_work)
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    errors = await at_work.items("synch-errors", limit=1)
    assert len(errors) == 2
    account = await at_work.partner("customers", "10000")
    for error in errors:
        assert (error["nav_table"], error["nav_no"]) == ("customers", "10000")
        assert (error["crm_entity"], error["crm_id"]) == ("account", account)
    assert await at_work.items("synch-errors", code="nothing") == []


# --- Synchronizing Dynamics NAV and Dynamics CRM -----------------------------------------------------


async def test_E_28_what_the_service_wrote_itself_is_no_change_and_what_a_person_writes_is(
    at_work: World,
) -> None:
    account = await at_work.coupled_customer()
    await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    await at_work.change("customers", "10000", City="London")
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    echo = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (echo["modified"], echo["inserted"]) == (0, 0)
    await at_work.crm.change("accounts", account, address1_city="Paris")
    assert (await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED))["modified"] == 1
    assert (await at_work.nav("customers", "10000"))["City"] == "Paris"


async def test_E_29_a_deleted_partner_is_an_error_that_a_person_can_end(at_work: World) -> None:
    account = await at_work.coupled_customer()
    await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    await at_work.crm.delete("accounts", account)
    await at_work.change("customers", "10000", City="London")
    job = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert job["failed"] >= 1
    codes = {error["code"] for error in await at_work.items(f"synch-jobs/{job['id']}/errors")}
    assert codes == {"deletion-conflict"}
    refused = await at_work.refused("POST", "nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert refused.said == (409, "deletion-conflict")
    assert "create-in-crm" in refused.text
    made = await at_work.post("nav/customers/10000/create-in-crm")
    assert (await at_work.crm.row("accounts", made["coupling"]["crm_id"]))["address1_city"] == "London"


async def test_E_30_only_accounts_of_type_customer_take_part(at_work: World) -> None:
    supplier = await at_work.crm.account("Supplier", customertypecode=10)
    await at_work.customer("10000")
    job = await at_work.job(
        f"{CUSTOMER}/synchronize", FULL | {"create_uncoupled": True, "direction": "from_crm"}
    )
    assert (job["inserted"], job["failed"]) == (0, 0)
    refused = await at_work.refused("PUT", "nav/customers/10000/coupling", {"crm_id": supplier})
    assert refused.said == (422, "filtered")
    assert "customertypecode" in refused.text
    assert (await at_work.get(f"crm/accounts/{supplier}"))["coupled"] is False


async def test_E_31_a_contact_without_an_account_is_left_out_and_never_failed(at_work: World) -> None:
    account = await at_work.coupled_customer()
    known = await at_work.crm.contact("Known", account)
    alone = await at_work.crm.contact("Alone")
    stranger = await at_work.crm.contact("Stranger", await at_work.crm.account("Not coupled"))
    job = await at_work.job(f"{MAPPINGS}/CONTACT/synchronize", FULL | {"create_uncoupled": True})
    assert (job["status"], job["inserted"], job["failed"]) == ("succeeded", 1, 0)
    assert (await at_work.get(f"crm/contacts/{known}"))["coupled"] is True
    for contact in (alone, stranger):
        assert (await at_work.get(f"crm/contacts/{contact}"))["coupled"] is False
    skipped = {o["crm_id"]: o["reason"] for o in await at_work.outcomes(job) if o["action"] == "skipped"}
    assert skipped[stranger] == "contact-without-account"


async def test_E_35_a_code_without_an_option_in_crm_is_left_alone_and_told(world: World) -> None:
    await world.new("payment-terms", "WHENEVER", Description="Whenever")
    account = await world.coupled_customer("10000", City="London", Payment_Terms_Code="WHENEVER")
    row = await world.crm.row("accounts", account)
    assert (row["address1_city"], row["paymenttermscode"]) == ("London", None)
    await world.change("customers", "10000", City="Leeds")
    sent = await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert "WHENEVER" in sent["notes"]
    job = await world.get(f"synch-jobs/{sent['synch_job_id']}")
    (outcome,) = await world.outcomes(job)
    assert "WHENEVER" in outcome["message"]


async def test_E_35_a_record_that_stands_for_an_option_is_coupled_with_no_record(world: World) -> None:
    refused = await world.refused("POST", "nav/payment-terms/NET30/create-in-crm")
    assert refused.said == (404, "mapping-not-found")
    assert "PAYMENT TERMS couples the options of paymenttermscode" in refused.text
    assert "option-review" in refused.text


async def test_E_35_what_is_left_alone_is_not_shown_as_equal(world: World) -> None:
    await world.new("payment-terms", "WHENEVER", Description="Whenever")
    account = await world.coupled_customer("10000", Payment_Terms_Code="WHENEVER")
    for option in (None, 1):
        await world.crm.change("accounts", account, paymenttermscode=option)
        shown = (await world.comparison("customers", "10000"))["Payment_Terms_Code"]
        assert (shown["nav_value"], shown["crm_value"], shown["equal"]) == ("WHENEVER", option, False)
    await world.change("customers", "10000", Payment_Terms_Code="")
    await world.crm.change("accounts", account, paymenttermscode=None)
    assert (await world.comparison("customers", "10000"))["Payment_Terms_Code"]["equal"] is True


async def test_E_35_the_options_that_one_side_lacks_are_in_the_review_list(world: World) -> None:
    await world.new("payment-terms", "WHENEVER", Description="Whenever")
    listed = await world.items("option-review")
    mine = [row for row in listed if row["nav_no"] == "WHENEVER"]
    assert [(row["state"], row["option_value"], row["crm_attribute"]) for row in mine] == [
        ("missing_in_crm", None, "paymenttermscode")
    ]
    assert "paymenttermscode" in mine[0]["fix"]
    coupled = await world.items("option-review", state="coupled")
    assert coupled
    assert {row["state"] for row in coupled} == {"coupled"}
    assert all(row["nav_no"] and row["option_value"] is not None for row in coupled)
    gone = next(row for row in coupled if row["nav_table"] == "payment-terms")
    await world.delete(f"nav/payment-terms/{quote(gone['nav_no'], safe='')}")
    (missing,) = await world.items("option-review", state="missing_in_nav")
    assert (missing["nav_no"], missing["option_value"]) == (None, gone["option_value"])
    assert missing["fix"]
    await world.patch(CONNECTION, {"is_enabled": False})
    assert (await world.refused("GET", "option-review")).said == (409, "connection-disabled")


async def test_E_36_the_four_concepts_are_the_resources(world: World) -> None:
    paths = (await world.get("/openapi.json"))["paths"]
    company = "/api/v1/companies/{company}"
    for noun in (
        "couplings",
        "integration-table-mappings",
        "integration-table-mappings/{mapping}/fields",
        "crm/{entity_set}",
        "nav/{table}",
    ):
        assert "get" in paths[f"{company}/{noun}"]


# --- what NAV's code does ---------------------------------------------------------------------------


async def test_E_37_a_record_that_fails_twice_the_same_way_is_skipped_until_restored(at_work: World) -> None:
    await a_failed_run(at_work)
    run = f"{CUSTOMER}/synchronize"
    assert await at_work.items("couplings", skipped="true") == []
    await at_work.job(run, MODIFIED)
    (coupling,) = await at_work.items("couplings", skipped="true")
    assert (coupling["nav_no"], coupling["last_error"]["code"]) == ("10000", "salesperson-not-coupled")
    assert (await at_work.get("synch-status"))["skipped_couplings"] == 1
    await at_work.change("customers", "10000", City="Leeds")
    left_out = await at_work.job(run, MODIFIED)
    assert (left_out["failed"], left_out["skipped"]) == (0, 1)
    user = await at_work.crm.user("John", "Roberts")
    await at_work.put("nav/salespeople/JO/coupling", {"crm_id": user})
    restored = await at_work.post("couplings/restore", {"error_code": "salesperson-not-coupled"})
    assert restored["restored"] == 1
    await at_work.job(run, MODIFIED)
    row = await at_work.crm.row("accounts", coupling["crm_id"])
    assert (row["_ownerid_value"], row["address1_city"]) == (user, "Leeds")
    assert await at_work.items("couplings", skipped="true") == []


async def test_E_37_different_failures_do_not_skip_and_a_person_may_force_a_skipped_one(
    at_work: World,
) -> None:
    await a_failed_run(at_work)
    run = f"{CUSTOMER}/synchronize"
    user = await at_work.crm.user("John", "Roberts")
    await at_work.put("nav/salespeople/JO/coupling", {"crm_id": user})
    at_work.crm.organization.faults.append(Fault("PATCH .*/accounts", "400"))
    await at_work.job(run, MODIFIED)
    assert await at_work.items("couplings", skipped="true") == []
    await at_work.job(run, MODIFIED)
    (coupling,) = await at_work.items("couplings", skipped="true")
    at_work.crm.organization.faults.clear()
    done = await at_work.post(f"nav/customers/{coupling['nav_no']}/synchronize", {"direction": "to_crm"})
    assert done["action"] == "modified"
    (coupling,) = await at_work.items("couplings", skipped="true")
    assert (coupling["last_synch_result"], coupling["last_error"]) == ("success", None)
    assert f"couplings/{coupling['id']}/restore" in done["notes"], "nobody believes that it is mended"
    await at_work.post(f"couplings/{coupling['id']}/restore")
    assert await at_work.items("couplings", skipped="true") == []
    again = await at_work.post(f"nav/customers/{coupling['nav_no']}/synchronize", {"direction": "to_crm"})
    assert again["notes"] is None


async def test_E_37_a_record_whose_partner_cannot_be_made_is_among_the_skipped(at_work: World) -> None:
    await at_work.customer("10000")
    run = f"{CUSTOMER}/synchronize", MODIFIED | {"create_uncoupled": True}
    at_work.crm.organization.faults.append(Fault("PATCH .*/accounts", "400"))
    await at_work.job(*run)
    assert await at_work.items("couplings", mapping="CUSTOMER") == []
    await at_work.job(*run)
    (coupling,) = await at_work.items("couplings", skipped="true")
    assert (coupling["nav_no"], coupling["last_error"]["code"]) == ("10000", "crm-refused")
    assert (coupling["crm_url"], "10000" in coupling["nav_url"]) == (None, True)
    assert (await at_work.get("synch-status"))["skipped_couplings"] == 1
    at_work.crm.organization.faults.clear()
    await at_work.post(f"couplings/{coupling['id']}/restore")
    assert (await at_work.job(*run))["inserted"] == 1
    (coupling,) = await at_work.items("couplings", mapping="CUSTOMER")
    assert coupling["crm_url"]


async def test_E_38_a_selection_says_how_many_of_how_many(at_work: World) -> None:
    await at_work.coupled_customer("10000")
    await at_work.customer("20000")
    await at_work.change("customers", "10000", City="London")
    body = {"nos": ["10000", "20000", "NOBODY"], "direction": "to_crm"}
    job = await at_work.job("nav/customers/synchronize", body)
    assert (job["total"], job["modified"], job["failed"], job["skipped"]) == (3, 1, 2, 0)
    errors = {e["nav_no"]: e["code"] for e in await at_work.items(f"synch-jobs/{job['id']}/errors")}
    assert errors == {"20000": "not-coupled", "NOBODY": "nav-record-not-found"}


async def test_E_39_a_link_finds_the_record_whichever_table_it_is_coupled_with(world: World) -> None:
    account = await world.coupled_customer("10000")
    for entity, id, no in (("account", account, "10000"), ("systemuser", USER, SALESPERSON)):
        answer = await open_nav(world, entity, id)
        assert (answer.status_code, no in answer.headers["Location"]) == (302, True)
    assert (await open_nav(world, "contact", account)).status_code == 404
    assert (await open_nav(world, "nothing", account)).status_code == 400
    assert (await open_nav(world, "account", "10000")).status_code == 400


async def test_E_39_an_invoice_is_found_too(world: World) -> None:
    await world.coupled_customer("10000")
    await world.new("sales-invoice-headers", "103001", Sell_to_Customer_No="10000")
    made = await world.post("nav/sales-invoice-headers/103001/create-in-crm")
    answer = await open_nav(world, "invoice", made["coupling"]["crm_id"])
    assert (answer.status_code, answer.headers.get("Location")) == (302, made["coupling"]["nav_url"])


async def test_E_39_a_record_that_is_several_things_in_nav_lets_the_person_choose(world: World) -> None:
    product = await world.coupled_item("1000")
    await world.new("resources", "BIKE & CO", Name="Bicycle", Base_Unit_of_Measure="PCS")
    await world.put("nav/resources/BIKE %26 CO/coupling", {"crm_id": product, "outside_filter": True})
    answer = await open_nav(world, "product", product)
    assert (answer.status_code, answer.headers["Content-Type"]) == (300, "text/html; charset=utf-8")
    targets = [unescape(target) for target in re.findall(r'href="([^"]+)"', answer.text)]
    assert all(target.startswith(NAV_CLIENT) for target in targets)
    shown = {tuple(parse_qs(urlsplit(target).query)["page"]) for target in targets}
    assert shown == {("30",), ("76",)}
    assert "Resources BIKE &amp; CO" in answer.text
    await world.delete("nav/resources/BIKE %26 CO")
    answer = await open_nav(world, "product", product)
    assert (answer.status_code, "1000" in answer.headers["Location"]) == (302, True)


# --- job queue, currencies, units ---------------------------------------------------------------------


async def test_E_26_failed_jobs_are_counted_since_the_last_reset(at_work: World) -> None:
    await at_work.coupled_customer()
    await at_work.job(f"{CUSTOMER}/synchronize", FULL)
    at_work.crm.organization.faults.append(Fault("GET .*/accounts", "400"))
    assert (await at_work.job(f"{CUSTOMER}/synchronize", FULL))["status"] == "failed"
    assert (await at_work.get("synch-status"))["failed_synch_jobs"] == 1
    reset = await at_work.post("synch-status/reset")
    assert (reset["failed_synch_jobs"], reset["failed_since"] is not None) == (0, True)
    assert (await at_work.job(f"{CUSTOMER}/synchronize", FULL))["status"] == "failed"
    assert (await at_work.get("synch-status"))["failed_synch_jobs"] == 1


async def test_E_27_jobs_are_held_and_set_ready_and_run_in_the_recommended_order(at_work: World) -> None:
    entries = {entry["mapping"]: entry for entry in await at_work.items("job-queue-entries")}
    address = f"job-queue-entries/{entries['CUSTOMER']['id']}"
    assert (await at_work.post(f"{address}/hold"))["status"] == "on_hold"
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    await at_work.patch(address, {"earliest_start_at": past})
    await at_work.patch(f"job-queue-entries/{entries['SALESPEOPLE']['id']}", {"earliest_start_at": past})
    for _ in range(3000):
        if await at_work.items("synch-jobs", mapping="SALESPEOPLE", status="succeeded"):
            break
        await asyncio.sleep(0.02)
    assert await at_work.items("synch-jobs", mapping="CUSTOMER") == []
    assert (await at_work.post(f"{address}/ready"))["status"] in ("ready", "in_process")
    for _ in range(3000):
        if await at_work.items("synch-jobs", mapping="CUSTOMER", status="succeeded"):
            break
        await asyncio.sleep(0.02)
    (job,) = await at_work.items("synch-jobs", mapping="CUSTOMER")
    assert (job["status"], job["job_queue_entry_id"]) == ("succeeded", entries["CUSTOMER"]["id"])


async def test_E_40_statistics_are_inserted_changed_left_alone_or_failed_alone(at_work: World) -> None:
    first = await at_work.coupled_customer("10000", Credit_Limit_LCY=1)
    second = await at_work.coupled_customer("20000", Credit_Limit_LCY=2)
    entries = {entry["kind"]: entry for entry in await at_work.items("job-queue-entries")}
    run = f"job-queue-entries/{entries['account_statistics']['id']}/run"
    job = await at_work.job(run)
    assert (job["status"], job["inserted"]) == ("succeeded", 2)
    assert (await at_work.job(run))["unmodified"] == 2
    await at_work.change("customers", "10000", Credit_Limit_LCY=5)
    await at_work.crm.delete("accounts", second)
    job = await at_work.job(run)
    assert (job["status"], job["modified"], job["failed"]) == ("partial", 1, 1)
    (error,) = await at_work.items(f"synch-jobs/{job['id']}/errors")
    assert (error["nav_no"], error["crm_id"]) == ("20000", second)
    row = await at_work.crm.row("accounts", first)
    statistics = await at_work.crm.row("nav_accountstatisticses", row["_nav_accountstatisticsid_value"])
    assert statistics["nav_creditlimitlcy"] == 5
