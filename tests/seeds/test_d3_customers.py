"""How to: Work with Microsoft Dynamics CRM Accounts and Customers."""

from urllib.parse import parse_qs, urlsplit

import pytest

from app.domain import solution
from app.solution.tables import STATISTICS_TABLE
from tests.seeds.test_d1_contacts import open_crm, open_nav, the_button_is_missing, unchanged_by
from tests.seeds.world import COMPLETED, CUSTOMER_TYPE, NAV_CLIENT, UNKNOWN, USER, World

pytestmark = pytest.mark.anyio
NO = "10000"
CUSTOMER = f"nav/customers/{NO}"
SOLUTION = "nav"
"""The prefix of the tables that the integration solution of the sandbox brings."""
ACCOUNT_FIELDS = {"Name": "name", "City": "address1_city", "Phone_No": "telephone1", "Fax_No": "fax"}


async def an_uncoupled_pair(world: World) -> str:
    """Customer 10000 and an account that differs in each field; the id of the account."""
    await world.customer(NO, Name="Adatum", City="London", Phone_No="1", Fax_No="")
    return await world.crm.account("Adatum Ltd.", address1_city="Paris", telephone1="2", fax="3")


async def pairs_of(world: World, account: str) -> list[tuple[str, str]]:
    """The values of some mapped fields, NAV and CRM."""
    nav, crm = await world.nav("customers", NO), await world.crm.row("accounts", account)
    return [(nav[field], crm[attribute] or "") for field, attribute in ACCOUNT_FIELDS.items()]


async def an_uncoupled_salesperson(world: World) -> None:
    """Salesperson JO, who is not coupled."""
    await world.new("salespeople", "JO", Name="John Roberts")


async def test_D3_01_the_account_is_viewed_and_changed_from_the_customer(world: World) -> None:
    account = await world.coupled_customer(NO, City="London")
    shown = await world.comparison("customers", NO)
    assert (shown["City"]["crm_value"], shown["Name"]["crm_value"]) == ("London", f"Customer {NO}")
    row = await world.get(f"crm/accounts/{account}")
    assert (row["fields"]["address1_city"], row["nav_no"]) == ("London", NO)
    await world.change("customers", NO, City="Leeds")
    await world.post(f"{CUSTOMER}/synchronize", {"direction": "to_crm"})
    assert (await world.crm.row("accounts", account))["address1_city"] == "Leeds"


async def test_D3_04_the_customer_is_opened_from_the_account(world: World) -> None:
    account = await world.coupled_customer(NO)
    answer = await open_nav(world, "account", account)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(NAV_CLIENT)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["page"], NO in query["filter"][0]) == (["21"], True)


async def test_D3_05_a_customer_must_be_coupled_first(world: World) -> None:
    await world.customer(NO)
    assert (await open_crm(world, "customers", NO)).status_code == 404
    assert (await world.refused("GET", f"{CUSTOMER}/coupling")).said == (404, "not-coupled")
    assert (await world.refused("GET", f"{CUSTOMER}/coupling/comparison")).said == (409, "not-coupled")
    body = {"direction": "to_crm"}
    said = await unchanged_by(world, "POST", f"{CUSTOMER}/synchronize", body, "not-coupled", 409)
    assert f"nav/customers/{NO}/coupling" in said
    assert f"nav/customers/{NO}/create-in-crm" in said


async def test_D3_06_the_salesperson_must_be_coupled_first(world: World) -> None:
    await an_uncoupled_salesperson(world)
    await world.customer(NO, Salesperson_Code="JO")
    account = await world.crm.account()
    for method, path, body in (
        ("PUT", f"{CUSTOMER}/coupling", {"crm_id": account}),
        ("PUT", f"{CUSTOMER}/coupling", {"create_new": True}),
        ("POST", f"{CUSTOMER}/create-in-crm", None),
    ):
        said = await unchanged_by(world, method, path, body, "salesperson-not-coupled", 422)
        assert "JO" in said
        assert "nav/salespeople/JO/coupling" in said
    user = await world.crm.user("John", "Roberts")
    await world.put("nav/salespeople/JO/coupling", {"crm_id": user})
    await world.put(f"{CUSTOMER}/coupling", {"crm_id": account, "synchronize_after_coupling": "nav_data"})
    assert (await world.crm.row("accounts", account))["_ownerid_value"] == user


async def test_D3_07_a_customer_without_a_salesperson_leaves_the_owner_alone(world: World) -> None:
    await world.customer(NO, Salesperson_Code="")
    account = await world.crm.account(**{"ownerid@odata.bind": f"/systemusers({USER})"})
    await world.put(f"{CUSTOMER}/coupling", {"crm_id": account, "synchronize_after_coupling": "nav_data"})
    assert (await world.crm.row("accounts", account))["_ownerid_value"] == USER
    await world.customer("20000", Salesperson_Code="")
    made = await world.post("nav/customers/20000/create-in-crm")
    row = await world.crm.row("accounts", made["coupling"]["crm_id"])
    assert row["_ownerid_value"] == (await world.get("crm-connection"))["user_id"]


async def test_D3_08_a_customer_is_created_from_an_account_and_its_template(world: World) -> None:
    template = {"nav_template": '{"Country_Region_Code": "GB", "Payment_Terms_Code": "14 DAYS"}'}
    await world.new("countries", "GB", Name="Great Britain")
    await world.new("payment-terms", "14 DAYS", Description="Net 14 days")
    await world.patch("integration-table-mappings/CUSTOMER", template)
    account = await world.crm.account("Adatum", address1_city="London", telephone1="1")
    made = await world.post(f"crm/accounts/{account}/create-in-nav")
    fields = await world.nav("customers", made["record"]["no"])
    assert (fields["Name"], fields["City"], fields["Phone_No"]) == ("Adatum", "London", "1")
    assert (fields["Country_Region_Code"], fields["Payment_Terms_Code"]) == ("GB", "14 DAYS")
    assert await world.partner("customers", made["record"]["no"]) == account
    assert await world.company_contact(made["record"]["no"])


async def test_D3_09_all_accounts_are_listed_in_pages(world: World) -> None:
    customers = {await world.crm.account(f"Account {n}") for n in range(5)}
    supplier = await world.crm.account("Supplier", customertypecode=10)
    listed = [row["id"] for row in await world.items("crm/accounts", limit=2)]
    assert len(listed) == len(set(listed)) == 6
    assert set(listed) == customers | {supplier}
    assert [row["id"] for row in await world.items("crm/accounts", limit=4)] == listed


async def test_D3_09_an_account_that_cannot_be_read_hides_no_other(world: World) -> None:
    good, bad = await world.crm.account("Good"), await world.crm.account("Bad")
    world.crm.organization.rows("account")[bad]["transactioncurrencyid"] = "pounds"
    rows = {row["id"]: row for row in await world.items("crm/accounts")}
    assert (rows[good]["name"], rows[good]["error"]) == ("Good", None)
    assert (rows[bad]["name"], rows[bad]["error"]["code"]) == ("Bad", "crm-refused")
    assert "transactioncurrencyid" in rows[bad]["error"]["message"]


async def test_D3_10_the_field_coupled_names_the_customer(world: World) -> None:
    account = await world.coupled_customer(NO)
    free = await world.crm.account("Free")
    rows = {row["id"]: (row["coupled"], row["nav_no"]) for row in await world.items("crm/accounts")}
    assert rows == {account: (True, NO), free: (False, None)}


async def test_D3_11_an_account_that_is_coupled_already_gets_a_new_customer_on_demand(world: World) -> None:
    account = await world.coupled_customer(NO, City="London")
    path = f"crm/accounts/{account}/create-in-nav"
    assert NO in await unchanged_by(world, "POST", path, None, "already-coupled", 409)
    new = (await world.post(path, {"replace_existing": True}))["record"]["no"]
    assert new != NO
    assert await world.partner("customers", new) == account
    assert await world.partner("customers", NO) is None
    assert (
        (await world.nav("customers", NO))["City"] == (await world.nav("customers", new))["City"] == "London"
    )
    assert [c["nav_no"] for c in await world.items("couplings", mapping="CUSTOMER")] == [new]
    assert len(await world.crm.rows("accounts")) == 1


async def test_D3_12_success_leads_to_the_customer_card_and_an_error_helps(world: World) -> None:
    account = await world.crm.account("Adatum")
    answer = await world.ask("POST", f"crm/accounts/{account}/create-in-nav")
    assert answer.status_code == 201
    record = answer.json()["record"]
    assert record["no"] in parse_qs(urlsplit(answer.json()["nav_url"]).query)["filter"][0]
    path = f"crm/accounts/{UNKNOWN}/create-in-nav"
    assert UNKNOWN in await unchanged_by(world, "POST", path, None, "crm-record-not-found", 404)
    foreign = await world.crm.user("John", "Roberts")
    owned = await world.crm.account("Owned", **{"ownerid@odata.bind": f"/systemusers({foreign})"})
    path = f"crm/accounts/{owned}/create-in-nav"
    answer = await world.ask("POST", path)
    assert answer.status_code == 201
    assert answer.json()["record"]["fields"]["Salesperson_Code"] == ""


async def test_D3_13_the_new_customer_is_coupled_and_can_be_changed_and_synchronized(world: World) -> None:
    account = await world.crm.account("Adatum")
    record = (await world.post(f"crm/accounts/{account}/create-in-nav"))["record"]
    assert (record["coupling"]["crm_id"], record["coupling"]["mapping"]) == (account, "CUSTOMER")
    await world.change("customers", record["no"], City="London")
    path = f"nav/customers/{record['no']}/synchronize"
    await world.post(path, {"direction": "to_crm"})
    assert (await world.crm.row("accounts", account))["address1_city"] == "London"
    await world.crm.change("accounts", account, address1_city="Paris")
    await world.post(path, {"direction": "from_crm"})
    assert (await world.nav("customers", record["no"]))["City"] == "Paris"


async def test_D3_14_an_account_of_type_customer_is_created_from_a_customer(world: World) -> None:
    await world.customer(NO, Name="Adatum", City="London", Credit_Limit_LCY=5000)
    made = await world.post(f"{CUSTOMER}/create-in-crm")
    (row,) = await world.crm.rows("accounts")
    assert row["accountid"] == made["coupling"]["crm_id"]
    assert (row["name"], row["address1_city"], row["creditlimit"]) == ("Adatum", "London", 5000)
    assert (row["customertypecode"], row["_ownerid_value"]) == (CUSTOMER_TYPE, USER)
    assert await world.partner("customers", NO) == row["accountid"]


async def test_D3_15_success_is_a_message_and_a_refusal_of_crm_says_why(world: World) -> None:
    await world.customer(NO)
    world.crm.organization.revoke("prvCreateAccount")
    before = await world.everything()
    refused = await world.refused("POST", f"{CUSTOMER}/create-in-crm")
    assert (refused.status, "prvCreateAccount" in refused.text) == (502, True)
    assert await world.everything() == before
    world.crm.organization.grant("prvCreateAccount")
    made = await world.post(f"{CUSTOMER}/create-in-crm")
    assert (made["message"], made["action"]) == (COMPLETED, "inserted")


async def test_D3_16_a_customer_is_edited_by_its_number_and_shows_its_coupling(world: World) -> None:
    account = await world.coupled_customer(NO)
    record = await world.patch(CUSTOMER, {"fields": {"City": "London"}})
    assert (record["fields"]["City"], record["coupling"]["crm_id"]) == ("London", account)
    listed = await world.items("nav/customers", filter="City eq 'London'")
    assert [(item["no"], item["coupling"]["crm_id"]) for item in listed] == [(NO, account)]


async def test_D3_17_a_customer_is_coupled_with_an_existing_account(world: World) -> None:
    account = await an_uncoupled_pair(world)
    await world.coupled_customer("20000")
    taken = await world.partner("customers", "20000")
    path = f"{CUSTOMER}/coupling"
    await unchanged_by(world, "PUT", path, {"crm_id": UNKNOWN}, "crm-record-not-found", 404)
    said = await unchanged_by(world, "PUT", path, {"crm_id": taken}, "already-coupled", 409)
    assert "20000" in said
    done = await world.put(path, {"crm_id": account})
    assert (done["coupling"]["crm_id"], done["synchronization"]) == (account, None)
    assert (await world.crm.row("accounts", account))["name"] == "Adatum Ltd."
    assert (await world.nav("customers", NO))["Name"] == "Adatum"


async def test_D3_18_create_new_account_creates_and_couples(world: World) -> None:
    account = await an_uncoupled_pair(world)
    path = f"{CUSTOMER}/coupling"
    await unchanged_by(world, "PUT", path, {"create_new": True, "crm_id": account}, "invalid", 422)
    done = await world.put(path, {"create_new": True})
    created = done["coupling"]["crm_id"]
    assert created != account
    assert (await world.crm.row("accounts", created))["name"] == "Adatum"


async def test_D3_19_customer_and_account_are_compared_as_they_are_now(world: World) -> None:
    account = await an_uncoupled_pair(world)
    shown = await world.comparison("customers", NO, crm_id=account)
    values = {name: (f["nav_value"], f["crm_value"], f["equal"]) for name, f in shown.items()}
    assert values["City"] == ("London", "Paris", False)
    assert values["Address"][2] is True
    assert shown["Phone_No"]["label"] == "Phone No."
    await world.crm.change("accounts", account, address1_city="London")
    assert (await world.comparison("customers", NO, crm_id=account))["City"]["equal"] is True
    await world.change("customers", NO, City="Leeds")
    assert (await world.comparison("customers", NO, crm_id=account))["City"]["nav_value"] == "Leeds"


async def test_D3_20_the_nav_data_overwrite_the_account(world: World) -> None:
    account = await an_uncoupled_pair(world)
    body = {"crm_id": account, "synchronize_after_coupling": "nav_data"}
    done = await world.put(f"{CUSTOMER}/coupling", body)
    assert {change["side"] for change in done["synchronization"]["changes"]} == {"crm"}
    assert await pairs_of(world, account) == [("Adatum",) * 2, ("London",) * 2, ("1",) * 2, ("", "")]


async def test_D3_21_the_crm_data_overwrite_the_customer(world: World) -> None:
    account = await an_uncoupled_pair(world)
    body = {"crm_id": account, "synchronize_after_coupling": "crm_data"}
    done = await world.put(f"{CUSTOMER}/coupling", body)
    assert {change["side"] for change in done["synchronization"]["changes"]} == {"nav"}
    assert await pairs_of(world, account) == [("Adatum Ltd.",) * 2, ("Paris",) * 2, ("2",) * 2, ("3",) * 2]


async def test_D3_22_a_new_account_takes_the_nav_data_and_nothing_else(world: World) -> None:
    await world.customer(NO, City="London")
    for other in ("no", "crm_data"):
        body = {"create_new": True, "synchronize_after_coupling": other}
        await unchanged_by(world, "PUT", f"{CUSTOMER}/coupling", body, "invalid", 422)
    body = {"create_new": True, "synchronize_after_coupling": "nav_data"}
    created = (await world.put(f"{CUSTOMER}/coupling", body))["coupling"]["crm_id"]
    assert (await world.crm.row("accounts", created))["address1_city"] == "London"


async def test_D3_23_later_differences_show_and_the_account_may_be_another(world: World) -> None:
    first = await world.coupled_customer(NO)
    await world.crm.change("accounts", first, address1_city="Paris")
    assert (await world.comparison("customers", NO))["City"]["equal"] is False
    body = {"crm_id": first, "synchronize_after_coupling": "crm_data"}
    await world.put(f"{CUSTOMER}/coupling", body)
    assert (await world.comparison("customers", NO))["City"]["equal"] is True
    second = await world.crm.account("Other")
    old = (await world.get(f"{CUSTOMER}/coupling"))["id"]
    await unchanged_by(world, "PUT", f"{CUSTOMER}/coupling", {"crm_id": second}, "already-coupled", 409)
    await world.put(f"{CUSTOMER}/coupling", {"crm_id": second, "replace_existing": True})
    assert await world.partner("customers", NO) == second
    assert (await world.get(f"crm/accounts/{first}"))["coupled"] is False
    written = {(w["side"], w["field"], w["new"]) for w in await world.items(f"couplings/{old}/history")}
    assert ("nav", "City", "Paris") in written


async def test_D3_24_the_action_account_opens_crm(world: World) -> None:
    account = await world.coupled_customer(NO)
    url = (await world.get(f"{CUSTOMER}/coupling"))["crm_url"]
    assert url.startswith(f"{world.crm.url}/main.aspx?")
    query = parse_qs(urlsplit(url).query)
    assert (query["etn"], query["id"]) == (["account"], [account])
    assert (await open_crm(world, "customers", NO)).headers["Location"] == url


async def test_D3_25_coupled_and_uncoupled_accounts_make_up_the_list(world: World) -> None:
    coupled = await world.coupled_customer(NO)
    free = {await world.crm.account(f"Free {n}") for n in range(2)}
    everyone = {row["id"] for row in await world.items("crm/accounts")}
    there = {row["id"] for row in await world.items("crm/accounts", coupled="true")}
    others = {row["id"] for row in await world.items("crm/accounts", coupled="false")}
    assert (there, others, everyone) == ({coupled}, free, {coupled} | free)


async def test_D3_28_the_card_itself_asks_crm_for_nothing(world: World) -> None:
    account = await world.coupled_customer(NO)
    await sales_of(world, account)
    world.crm.forget()
    card = await world.get(CUSTOMER)
    assert "crm_statistics" not in card
    assert list(world.crm.organization.log) == []
    assert (await world.get(f"{CUSTOMER}/crm-statistics"))["opportunities"] == 2


async def test_D3_28_who_wants_the_figures_on_the_card_includes_them(world: World) -> None:
    account = await world.coupled_customer(NO)
    await world.get(CUSTOMER, include="crm_statistics")  # now CRM has told how its tables look
    await sales_of(world, account)
    world.crm.forget()
    shown = (await world.get(CUSTOMER, include="crm_statistics"))["crm_statistics"]
    assert (shown["opportunities"], shown["quotes"], shown["cases"]) == (2, 1, 3)
    assert shown["as_of"]
    assert len(world.crm.organization.log) == 1
    await world.customer("20000")
    assert (await world.get("nav/customers/20000", include="crm_statistics"))["crm_statistics"] is None
    refused = await world.refused("GET", CUSTOMER, include="everything")
    assert refused.status == 422


@pytest.mark.parametrize(("direction", "city"), [("to_crm", "London"), ("from_crm", "Paris")])
async def test_D3_33_synchronize_now_sends_or_gets(world: World, direction: str, city: str) -> None:
    account = await world.coupled_customer(NO)
    await world.change("customers", NO, City="London")
    await world.crm.change("accounts", account, address1_city="Paris")
    path = f"{CUSTOMER}/synchronize"
    await unchanged_by(world, "POST", path, None, "direction-required", 422)
    done = await world.post(path, {"direction": direction})
    assert (done["message"], done["action"]) == (COMPLETED, "modified")
    assert [change["new"] for change in done["changes"]] == [city]
    assert (await pairs_of(world, account))[1] == (city, city)


async def test_D3_37_the_button_dynamics_nav_leads_to_the_customer(world: World) -> None:
    account = await world.coupled_customer(NO)
    answer = await open_nav(world, "account", f"{{{account.upper()}}}")
    assert (answer.status_code, NO in answer.headers["Location"]) == (302, True)
    free = await world.crm.account("Free")
    before = await world.everything()
    assert (await open_nav(world, "account", free)).status_code == 404
    assert await world.everything() == before


async def test_D3_38_the_button_on_accounts_comes_with_the_solution(without_solution: World) -> None:
    assert (await without_solution.get("crm-connection"))["integration_solution_installed"] is False
    await without_solution.customer(NO, Salesperson_Code="")
    account = (await without_solution.post(f"{CUSTOMER}/create-in-crm"))["coupling"]["crm_id"]
    path = f"{CUSTOMER}/update-account-statistics"
    assert (await without_solution.refused("POST", path)).code == "integration-solution-not-installed"
    assert (await open_nav(without_solution, "account", account)).status_code == 302


async def test_D3_38_the_record_says_that_its_button_is_not_there(without_solution: World) -> None:
    await without_solution.customer(NO, Salesperson_Code="")
    await without_solution.post(f"{CUSTOMER}/create-in-crm")
    await the_button_is_missing(without_solution, "customers", NO)


async def test_D3_40_a_customer_lists_what_can_be_done_and_why_the_rest_cannot(world: World) -> None:
    await world.customer(NO)
    free = {action["name"]: action for action in (await world.get(CUSTOMER))["actions"]}
    assert free["set_up_coupling"]["allowed"] is free["create_in_crm"]["allowed"] is True
    for name in ("synchronize_to_crm", "synchronize_from_crm", "delete_coupling", "open_in_crm"):
        assert free[name]["allowed"] is False
        assert "not coupled" in free[name]["reason"]
    assert free["update_account_statistics"]["allowed"] is False
    await world.post(f"{CUSTOMER}/create-in-crm")
    coupled = {action["name"]: action for action in (await world.get(CUSTOMER))["actions"]}
    assert coupled["create_in_crm"]["allowed"] is False
    assert "already" in coupled["create_in_crm"]["reason"]
    for name in ("synchronize_to_crm", "synchronize_from_crm", "open_in_crm", "update_account_statistics"):
        assert (coupled[name]["allowed"], coupled[name]["reason"]) == (True, None)
    await world.patch("crm-connection", {"is_enabled": False})
    closed = {action["name"]: action for action in (await world.get(CUSTOMER))["actions"]}
    assert closed["synchronize_to_crm"]["allowed"] is False
    assert "not enabled" in closed["synchronize_to_crm"]["reason"]


async def test_D3_40_the_call_that_mends_a_deleted_account_is_listed_as_possible(at_work: World) -> None:
    account = await at_work.coupled_customer(NO)
    await at_work.crm.delete("accounts", account)
    await at_work.job("integration-table-mappings/CUSTOMER/synchronize", {"mode": "full"})
    assert (await at_work.get(f"{CUSTOMER}/coupling"))["last_error"]["code"] == "deletion-conflict"
    shown = {action["name"]: action for action in (await at_work.get(CUSTOMER))["actions"]}
    assert shown["create_in_crm"]["allowed"] is True
    assert (await at_work.post(f"{CUSTOMER}/create-in-crm"))["action"] == "inserted"


# --- statistics ------------------------------------------------------------------------------------------


async def sales_of(world: World, account: str) -> None:
    """Two open opportunities and a lost one, an active quote and a draft, three active cases and a resolved one."""
    of = {"customerid_account@odata.bind": f"/accounts({account})"}
    for n in range(2):
        await world.crm.create("opportunities", name=f"Chance {n}", **of)
    lost = await world.crm.create("opportunities", name="Lost", **of)
    closing = {"opportunityid@odata.bind": f"/opportunities({lost})"}
    await world.crm.act("LoseOpportunity", {"OpportunityClose": closing, "Status": 4})
    offer = await world.crm.create("quotes", name="Offer", **of)
    await world.crm.change("quotes", offer, statecode=1, statuscode=3)
    await world.crm.create("quotes", name="Draft", **of)
    for n in range(3):
        await world.crm.create("incidents", title=f"Trouble {n}", **of)
    solved = await world.crm.create("incidents", title="Solved", **of)
    closing = {"incidentid@odata.bind": f"/incidents({solved})"}
    await world.crm.act("CloseIncident", {"IncidentResolution": closing, "Status": 5})


async def the_statistics(world: World, account: str) -> dict[str, object]:
    """The statistics row that an account points to."""
    row = await world.crm.row("accounts", account)
    return await world.crm.row(
        f"{SOLUTION}_accountstatisticses", row[f"_{SOLUTION}_accountstatisticsid_value"]
    )


async def test_D3_02_opportunities_quotes_and_cases_of_the_account_are_counted(world: World) -> None:
    account = await world.coupled_customer(NO)
    await sales_of(world, account)
    await sales_of(world, await world.crm.account("Another"))
    shown = await world.get(f"{CUSTOMER}/crm-statistics")
    assert (shown["opportunities"], shown["quotes"], shown["cases"]) == (2, 1, 3)


async def test_D3_03_the_account_shows_the_customers_statistics_in_crm(world: World) -> None:
    account = await world.coupled_customer(NO, Credit_Limit_LCY=5000)
    await world.post(f"{CUSTOMER}/update-account-statistics")
    row = await the_statistics(world, account)
    assert row[f"{SOLUTION}_customerno"] == NO
    assert row[f"{SOLUTION}_creditlimitlcy"] == 5000


async def test_D3_26_the_factbox_counts_in_one_call_and_says_when(world: World) -> None:
    account = await world.coupled_customer(NO)
    assert set(await world.get(f"{CUSTOMER}/crm-statistics")) == {"opportunities", "quotes", "cases", "as_of"}
    await sales_of(world, account)
    world.crm.forget()
    shown = await world.get(f"{CUSTOMER}/crm-statistics")
    assert (shown["opportunities"], shown["quotes"], shown["cases"]) == (2, 1, 3)
    assert len(world.crm.organization.log) == 1


async def test_D3_27_a_customer_that_is_not_coupled_has_no_factbox(world: World) -> None:
    await world.customer(NO)
    for path in ("crm-statistics", "crm-statistics/opportunities"):
        assert (await world.refused("GET", f"{CUSTOMER}/{path}")).said == (409, "not-coupled")
    said = await unchanged_by(
        world, "POST", f"{CUSTOMER}/update-account-statistics", None, "not-coupled", 409
    )
    assert f"{CUSTOMER}/coupling" in said


async def listed(world: World, kind: str) -> list[str]:
    """The names in a list, which must be as long as its number says and hold nothing of another account."""
    await sales_of(world, await world.coupled_customer(NO))
    await sales_of(world, await world.crm.account("Another"))
    rows = await world.items(f"{CUSTOMER}/crm-statistics/{kind}", limit=2)
    assert len(rows) == (await world.get(f"{CUSTOMER}/crm-statistics"))[kind]
    return sorted(row["name"] for row in rows)


async def test_D3_29_the_open_opportunities_of_the_account_are_listed(world: World) -> None:
    assert await listed(world, "opportunities") == ["Chance 0", "Chance 1"]


async def test_D3_30_the_active_quotes_of_the_account_are_listed(world: World) -> None:
    assert await listed(world, "quotes") == ["Offer"]


async def test_D3_31_the_active_cases_of_the_account_are_listed(world: World) -> None:
    assert await listed(world, "cases") == ["Trouble 0", "Trouble 1", "Trouble 2"]


@pytest.mark.parametrize(
    ("kind", "entity"), [("opportunities", "opportunity"), ("quotes", "quote"), ("cases", "incident")]
)
async def test_D3_32_each_of_them_is_opened_in_crm(world: World, kind: str, entity: str) -> None:
    await sales_of(world, await world.coupled_customer(NO))
    for row in await world.items(f"{CUSTOMER}/crm-statistics/{kind}"):
        query = parse_qs(urlsplit(row["url"]).query)
        assert (query["etn"], query["id"]) == ([entity], [row["id"]])
        assert row["url"].startswith(f"{world.crm.url}/main.aspx?")


async def test_D3_34_statistics_are_written_when_they_changed_and_else_left_alone(world: World) -> None:
    account = await world.coupled_customer(NO, Credit_Limit_LCY=5000)
    first = await world.post(f"{CUSTOMER}/update-account-statistics")
    assert first["action"] == "inserted"
    world.crm.forget()
    second = await world.post(f"{CUSTOMER}/update-account-statistics")
    assert (second["action"], second["changes"]) == ("unmodified", [])
    assert world.crm.writes() == []
    await world.change("customers", NO, Credit_Limit_LCY=7000)
    third = await world.post(f"{CUSTOMER}/update-account-statistics")
    assert (third["action"], len(third["changes"])) == ("modified", 1)
    assert (await the_statistics(world, account))[f"{SOLUTION}_creditlimitlcy"] == 7000


async def test_D3_35_without_the_solution_there_is_nothing_to_write_to(without_solution: World) -> None:
    world = without_solution
    await world.customer(NO, Salesperson_Code="")
    await world.post(f"{CUSTOMER}/create-in-crm")
    path = f"{CUSTOMER}/update-account-statistics"
    said = await unchanged_by(world, "POST", path, None, "integration-solution-not-installed", 409)
    assert "Import the integration solution" in said
    assert (await world.get("crm-connection"))["integration_solution_installed"] is False
    actions = {action["name"]: action for action in (await world.get(CUSTOMER))["actions"]}
    assert actions["update_account_statistics"]["allowed"] is False
    assert "solution" in actions["update_account_statistics"]["reason"]


FIGURES = {
    "Balance_LCY": ("balancelcy", 100),
    "Outstanding_Orders_LCY": ("outstandingorderslcy", 20),
    "Shipped_Not_Invoiced_LCY": ("shippednotinvoicedlcy", 30),
    "Outstanding_Invoices_LCY": ("outstandinginvoiceslcy", 40),
    "Outstanding_Serv_Orders_LCY": ("outstandingserviceorderslcy", 5),
    "Serv_Shipped_Not_Invoiced_LCY": ("servshippednotinvoicedlcy", 6),
    "Outstanding_ServInvoices_LCY": ("outstandingservinvoiceslcy", 7),
    "Credit_Limit_LCY": ("creditlimitlcy", 5000),
    "Balance_Due_LCY": ("overdueamountslcy", 11),
    "Sales_LCY": ("totalsaleslcy", 12345.67),
    "Invoiced_Prepayment_Amount_LCY": ("invoicedprepaymentamountlcy", 8),
}
OF_THE_TOTAL_ONLY = {"Outstanding_Invoices_from_Shipment_LCY": 3, "Returns_Received_Not_Invoiced_LCY": 2}
TOTAL = 100 + 20 + 30 + 40 + 5 + 6 + 7 - 8 - 3 - 2


async def with_figures(world: World, no: str) -> None:
    """What NAV's ledgers say of a customer; they come in with the customer itself."""
    fields = {name: value for name, (_, value) in FIGURES.items()} | OF_THE_TOTAL_ONLY
    done = await world.post("nav/customers/bulk", {"records": [{"no": no, "fields": fields}]})
    assert [outcome["error"] for outcome in done["outcomes"]] == [None]


async def every_amount(world: World, prefix: str) -> None:
    """The row of the account shows every figure and hangs on the account."""
    account = await world.coupled_customer(NO)
    await with_figures(world, NO)
    await world.post(f"{CUSTOMER}/update-account-statistics")
    of_account = await world.crm.row("accounts", account)
    statistics = of_account[f"_{prefix}_accountstatisticsid_value"]
    row = await world.crm.row(f"{prefix}_accountstatisticses", statistics)
    amounts = {name for name in row if name.startswith(prefix) and name.endswith("lcy")}
    expected = {f"{prefix}_{attribute}": value for attribute, value in FIGURES.values()}
    assert {name: row[name] for name in amounts} == expected | {f"{prefix}_totallcy": TOTAL}
    assert {name: row[f"{name}_base"] for name in amounts} == {name: row[name] for name in amounts}
    assert row[f"{prefix}_customerno"] == NO
    assert row[f"{prefix}_name"] == of_account["name"]
    assert row[f"{prefix}_overdueamountsasof"]
    assert row["_transactioncurrencyid_value"] == world.crm.organization.base_currency


async def test_D3_36_the_statistics_row_has_the_amounts_the_form_shows(world: World) -> None:
    await every_amount(world, SOLUTION)


async def test_D3_36_with_our_own_solution_the_quick_view_form_shows_the_same_amounts(
    our_solution: World,
) -> None:
    await every_amount(our_solution, solution.OURS)
    shown = {column.name for column in STATISTICS_TABLE.shown if not column.primary_name}
    assert {f"{solution.OURS}_{attribute}" for attribute, _ in FIGURES.values()} <= shown


async def test_D3_03_with_our_own_solution_the_account_shows_the_statistics_too(our_solution: World) -> None:
    assert (await our_solution.get("crm-connection"))["integration_solution_installed"] is True
    account = await our_solution.coupled_customer(NO, Credit_Limit_LCY=5000)
    done = await our_solution.post(f"{CUSTOMER}/update-account-statistics")
    assert done["action"] == "inserted"
    link = (await our_solution.crm.row("accounts", account))["_navcrm_accountstatisticsid_value"]
    row = await our_solution.crm.row("navcrm_accountstatisticses", link)
    assert (row["navcrm_customerno"], row["navcrm_creditlimitlcy"]) == (NO, 5000)
