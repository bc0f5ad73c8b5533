"""Columns, lookups, states and money (sections 12, 13, 17)."""

from typing import Any

import pytest

from tests.sandbox.conftest import API, Clock, Connect, Crm, code, message

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "column, value, error",
    [
        ("name", "x" * 161, "0x80044331"),
        ("name", 5, "0x80048d19"),
        ("numberofemployees", -1, "0x8004432f"),
        ("numberofemployees", 3_000_000_000, "0x80048d19"),
        ("numberofemployees", "5", "0x80048d19"),
        ("creditlimit", -1, "0x80044330"),
        ("creditlimit", "5", "0x80048d19"),
        ("customertypecode", 9999, "0x8004431a"),
        ("customertypecode", "Customer", "0x80048d19"),
        ("donotphone", 1, "0x80048d19"),
        ("opendeals", "x", None),
        ("_ownerid_value", "9f0f4c5e-52a1-ef11-8a69-000d3a4b5c6d", "0x80048d19"),
        ("primarycontactid", "9f0f4c5e-52a1-ef11-8a69-000d3a4b5c6d", "0x80048d19"),
    ],
)
async def test_a_column_takes_only_what_fits(crm: Crm, column: str, value: Any, error: str | None) -> None:
    answer = await crm.post("accounts", {"name": "Cannon"} | {column: value})
    assert (code(answer) if answer.status_code == 400 else None) == error


async def test_the_messages_name_length_and_options(crm: Crm) -> None:
    long = await crm.post("accounts", {"name": "x" * 161})
    assert message(long) == (
        "A validation error occurred.  The length of the 'name' attribute of the 'account' entity exceeded the "
        "maximum allowed length of '160'."
    )
    wrong = await crm.post("accounts", {"accountratingcode": 7})
    assert "The value 7 of 'accountratingcode' on record of type 'account'" in message(wrong)
    assert message(wrong).endswith("Accepted Values: 1")


@pytest.mark.parametrize(
    "sent, read",
    [
        ("2026-01-31T07:15:09Z", "2026-01-31T07:15:09Z"),
        ("2026-01-31T07:15:09.987Z", "2026-01-31T07:15:09Z"),
        ("2026-01-31T09:15:09+02:00", "2026-01-31T07:15:09Z"),
        ("2026-01-31T07:15:09", "2026-01-31T07:15:09Z"),
        ("1752-12-31T00:00:00Z", None),
        ("tomorrow", None),
    ],
)
async def test_moments_are_whole_seconds_in_utc(crm: Crm, sent: str, read: str | None) -> None:
    values = {"customerid_account@odata.bind": f"/accounts({await crm.create('accounts', name='x')})"}
    answer = await crm.post(
        "incidents", values | {"title": "x", "resolveby": sent}, Prefer="return=representation"
    )
    if read is None:
        assert answer.status_code == 400
    else:
        assert answer.json()["resolveby"] == read


async def test_a_day_takes_no_time(crm: Crm) -> None:
    contact = await crm.create("contacts", lastname="Doyle", birthdate="1980-02-29")
    assert (await crm.row("contacts", contact, "birthdate"))["birthdate"] == "1980-02-29"
    answer = await crm.patch(f"contacts({contact})", {"birthdate": "1980-02-29T00:00:00Z"})
    assert answer.status_code == 400


async def test_an_empty_text_is_null_and_excess_decimals_are_rounded(crm: Crm) -> None:
    account = await crm.create("accounts", name="", creditlimit=1.23456)
    row = await crm.row("accounts", account)
    assert (row["name"], row["creditlimit"]) == (None, 1.2346)
    text = (await crm.get(f"accounts({account})?$select=creditlimit")).text
    assert '"creditlimit":1.2346' in text


async def test_money_shows_four_decimals(crm: Crm) -> None:
    account = await crm.create("accounts", creditlimit=25000)
    assert '"creditlimit":25000.0000' in (await crm.get(f"accounts({account})")).text


async def test_names_and_addresses_are_computed(crm: Crm) -> None:
    contact = await crm.create(
        "contacts", firstname="Patricia", lastname="Doyle", fullname="ignored", address1_city="London"
    )
    row = await crm.row("contacts", contact)
    assert (row["fullname"], row["address1_composite"]) == ("Patricia Doyle", "London")
    await crm.patch(f"contacts({contact})", {"lastname": "Jones"})
    assert (await crm.row("contacts", contact))["fullname"] == "Patricia Jones"


# -- money and currencies


async def euro(crm: Crm, rate: float = 1.25) -> str:
    return await crm.create(
        "transactioncurrencies",
        isocurrencycode="EUR",
        currencyname="Euro",
        currencysymbol="€",
        currencyprecision=2,
        exchangerate=rate,
    )


async def test_an_amount_in_base_currency_is_the_amount_divided_by_the_rate(crm: Crm) -> None:
    currency = await euro(crm)
    bind = f"/transactioncurrencies({currency})"
    account = await crm.create("accounts", creditlimit=100, transactioncurrencyid__bind=bind)
    row = await crm.row("accounts", account)
    assert (row["creditlimit_base"], row["exchangerate"]) == (80, 1.25)

    await crm.patch(f"transactioncurrencies({currency})", {"exchangerate": 2})
    assert (await crm.row("accounts", account))["exchangerate"] == 1.25
    await crm.patch(f"accounts({account})", {"name": "no money"})
    assert (await crm.row("accounts", account))["creditlimit_base"] == 80
    await crm.patch(f"accounts({account})", {"creditlimit": 100})
    row = await crm.row("accounts", account)
    assert (row["creditlimit_base"], row["exchangerate"]) == (50, 2)


async def test_another_currency_converts_nothing(crm: Crm) -> None:
    account = await crm.create("accounts", creditlimit=100)
    bind = f"/transactioncurrencies({await euro(crm)})"
    await crm.patch(f"accounts({account})", {"transactioncurrencyid@odata.bind": bind})
    row = await crm.row("accounts", account)
    assert (row["creditlimit"], row["creditlimit_base"]) == (100, 80)


async def test_the_base_currency_is_a_choice(connect: Connect) -> None:
    crm: Crm = await connect(base_currency="DKK")
    row = (await crm.values("organizations?$expand=basecurrencyid($select=isocurrencycode)"))[0]
    assert row["basecurrencyid"]["isocurrencycode"] == "DKK"
    assert (
        await crm.get(f"RetrieveExchangeRate(TransactionCurrencyId={row['_basecurrencyid_value']})")
    ).json()["ExchangeRate"] == 1


# -- lookups


async def test_a_lookup_is_written_in_each_of_its_forms(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    forms = (f"/accounts({account})", f"accounts({account})", f"{API}accounts({account})")
    for form in (*forms, f"/api/data/v9.2/accounts({account})"):
        contact = await crm.create("contacts", lastname="Doyle", parentcustomerid_account__bind=form)
        assert (await crm.row("contacts", contact))["_parentcustomerid_value"] == account


async def test_the_other_target_replaces_the_first(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    boss = await crm.create("contacts", lastname="Boss")
    contact = await crm.create(
        "contacts", lastname="Doyle", parentcustomerid_account__bind=f"/accounts({account})"
    )
    row = await crm.row("contacts", contact)
    assert (row["_accountid_value"], row["_parentcontactid_value"]) == (account, None)
    await crm.patch(f"contacts({contact})", {"parentcustomerid_contact@odata.bind": f"/contacts({boss})"})
    row = await crm.row("contacts", contact)
    found = row["_parentcustomerid_value"], row["_accountid_value"], row["_parentcontactid_value"]
    assert found == (boss, None, boss)


async def test_a_lookup_is_cleared_in_each_of_its_ways(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    for way in ({"parentcustomerid_account@odata.bind": None}, {"parentcustomerid_account": None}, None):
        bind = f"/accounts({account})"
        contact = await crm.create("contacts", lastname="Doyle", parentcustomerid_account__bind=bind)
        if way is None:
            answer = await crm.delete(f"contacts({contact})/parentcustomerid_account/$ref")
        else:
            answer = await crm.patch(f"contacts({contact})", way)
        assert answer.status_code == 204
        assert (await crm.row("contacts", contact))["_parentcustomerid_value"] is None


async def test_navigation_properties_are_case_sensitive(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    for name in ("ParentAccountId", "parentcustomerid"):
        answer = await crm.post("accounts", {f"{name}@odata.bind": f"/accounts({account})"})
        assert (answer.status_code, code(answer)) == (400, "0x80048d19")
        assert f"An undeclared property '{name}' which only has property annotations" in message(answer)


async def test_a_custom_lookup_has_its_schema_name(crm: Crm) -> None:
    company = await crm.create("bcbi_companies", bcbi_name="CRONUS")
    account = await crm.create("accounts", name="x", bcbi_CompanyId__bind=f"/bcbi_companies({company})")
    assert (await crm.row("accounts", account))["_bcbi_companyid_value"] == company


async def test_the_statistics_of_an_account_hang_on_the_account(crm: Crm) -> None:
    statistics = await crm.create("nav_accountstatisticses", nav_name="10000", nav_balancelcy=12.5)
    account = await crm.create("accounts", name="x")
    names = await crm.values(
        "EntityDefinitions(LogicalName='account')/ManyToOneRelationships"
        "?$select=ReferencingEntityNavigationPropertyName&$filter=ReferencingAttribute eq 'nav_accountstatisticsid'"
    )
    name = names[0]["ReferencingEntityNavigationPropertyName"]
    assert name == "nav_accountstatisticsid"
    await crm.patch(f"accounts({account})", {f"{name}@odata.bind": f"/nav_accountstatisticses({statistics})"})
    row = await crm.row("accounts", account)
    assert row["_nav_accountstatisticsid_value"] == statistics
    assert (await crm.row("nav_accountstatisticses", statistics))["nav_balancelcy_base"] == 12.5


async def test_without_the_solution_its_tables_and_columns_are_not_there(connect: Connect) -> None:
    crm: Crm = await connect(solution_installed=False)
    assert (await crm.get("nav_accountstatisticses")).status_code == 404
    assert (await crm.get("accounts?$select=_nav_accountstatisticsid_value")).status_code == 400


async def test_a_bind_to_nothing_or_to_the_wrong_table_writes_nothing(crm: Crm) -> None:
    contact = await crm.create("contacts", lastname="Doyle")
    missing = "/accounts(00000000-0000-4000-8000-00000000dead)"
    answer = await crm.post("contacts", {"parentcustomerid_account@odata.bind": missing})
    assert (answer.status_code, code(answer)) == (404, "0x80040217")
    wrong = await crm.post("contacts", {"parentcustomerid_account@odata.bind": f"/contacts({contact})"})
    assert wrong.status_code == 400
    assert len(crm.organization.rows("contact")) == 1


async def test_a_row_is_assigned_to_a_user_or_a_team(crm: Crm) -> None:
    account = await crm.create("accounts", name="x")
    team = crm.organization.team
    await crm.patch(f"accounts({account})", {"ownerid@odata.bind": f"/teams({team})"})
    row = await crm.row("accounts", account)
    assert (row["_ownerid_value"], row["_owningteam_value"], row["_owninguser_value"]) == (team, team, None)
    crm.organization.revoke("prvAssignAccount")
    user = f"/systemusers({crm.organization.user})"
    assert (await crm.patch(f"accounts({account})", {"ownerid@odata.bind": user})).status_code == 403


async def test_annotations_say_where_a_lookup_points(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon Group PLC")
    contact = await crm.create(
        "contacts", lastname="Doyle", parentcustomerid_account__bind=f"/accounts({account})"
    )
    wanted = '"OData.Community.Display.V1.FormattedValue,Microsoft.Dynamics.CRM.*"'
    answer = await crm.get(
        f"contacts({contact})?$select=_parentcustomerid_value,_preferredsystemuserid_value,statecode",
        Prefer=f"odata.include-annotations={wanted}",
    )
    row = answer.json()
    prefix = "_parentcustomerid_value@"
    assert row[prefix + "OData.Community.Display.V1.FormattedValue"] == "Cannon Group PLC"
    assert row[prefix + "Microsoft.Dynamics.CRM.lookuplogicalname"] == "account"
    assert row[prefix + "Microsoft.Dynamics.CRM.associatednavigationproperty"] == "parentcustomerid_account"
    assert row["statecode@OData.Community.Display.V1.FormattedValue"] == "Active"
    assert not any(name.startswith("_preferredsystemuserid_value@") for name in row)
    assert list(row).index(prefix + "Microsoft.Dynamics.CRM.lookuplogicalname") < list(row).index(prefix[:-1])


# -- association


async def test_rows_are_put_into_a_collection_and_taken_out(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    contact = await crm.create("contacts", lastname="Doyle")
    path = f"accounts({account})/contact_customer_accounts"
    link = {"@odata.id": f"{API}contacts({contact})"}
    for _ in range(2):
        assert (await crm.post(f"{path}/$ref", link)).status_code == 204
    assert [row["lastname"] for row in await crm.values(f"{path}?$select=lastname")] == ["Doyle"]
    assert (await crm.get(f"{path}/$ref")).json()["value"] == [link]
    assert (await crm.get(f"{path}/$count")).text.lstrip("\ufeff") == "1"
    assert (await crm.delete(f"{path}({contact})/$ref")).status_code == 204
    assert await crm.values(path) == []
    await crm.post(f"{path}/$ref", link)
    assert (await crm.delete(f"{path}/$ref?$id={API}contacts({contact})")).status_code == 204
    assert await crm.values(path) == []


async def test_a_single_valued_reference_is_set_and_followed(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    contact = await crm.create("contacts", lastname="Doyle")
    path = f"accounts({account})/primarycontactid"
    assert (await crm.get(path)).status_code == 204
    answer = await crm.send("PUT", f"{path}/$ref", {"@odata.id": f"contacts({contact})"})
    assert answer.status_code == 204
    assert (await crm.get(f"{path}?$select=fullname")).json()["fullname"] == "Doyle"
    assert (await crm.get(f"{path}/$ref")).json()["@odata.id"] == f"{API}contacts({contact})"


async def test_a_role_is_given_once(crm: Crm) -> None:
    user = await crm.create("systemusers", lastname="Saddow")
    role = (await crm.values("roles?$select=name&$filter=name eq 'System Administrator'"))[0]["roleid"]
    path = f"systemusers({user})/systemuserroles_association"
    assert (await crm.post(f"{path}/$ref", {"@odata.id": f"roles({role})"})).status_code == 204
    again = await crm.post(f"{path}/$ref", {"@odata.id": f"roles({role})"})
    assert (again.status_code, code(again)) == (412, "0x80040237")
    assert [row["name"] for row in await crm.values(path)] == ["System Administrator"]


# -- states


async def test_a_state_brings_its_default_status(crm: Crm) -> None:
    account = await crm.create("accounts", name="x")
    await crm.patch(f"accounts({account})", {"statecode": 1})
    row = await crm.row("accounts", account)
    assert (row["statecode"], row["statuscode"]) == (1, 2)
    assert (await crm.patch(f"accounts({account})", {"fax": "1"})).status_code == 204


async def test_a_status_of_another_state_needs_the_state(crm: Crm) -> None:
    account = await crm.create("accounts", name="x")
    alone = await crm.patch(f"accounts({account})", {"statuscode": 2})
    assert (alone.status_code, code(alone)) == (400, "0x80048408")
    assert "is not a valid status code for state code" in message(alone)
    assert (await crm.patch(f"accounts({account})", {"statecode": 1, "statuscode": 2})).status_code == 204
    mixed = await crm.patch(f"accounts({account})", {"statecode": 0, "statuscode": 2})
    assert code(mixed) == "0x80048408"


async def test_new_rows_start_in_their_first_state(crm: Crm) -> None:
    account = await crm.create("accounts", name="x", statecode=1, statuscode=2)
    assert (await crm.row("accounts", account))["statecode"] == 0
    quote = await crm.post("quotes", {"name": "x", "statecode": 1})
    assert (quote.status_code, code(quote)) == (400, "0x80048408")


async def test_opportunities_are_closed_by_actions(crm: Crm) -> None:
    account = f"/accounts({await crm.create('accounts', name='Cannon')})"
    opportunity = await crm.create("opportunities", name="100 desks", customerid_account__bind=account)
    row = await crm.row("opportunities", opportunity)
    assert row["_parentaccountid_value"] == row["_accountid_value"] == row["_customerid_value"]
    assert (await crm.patch(f"opportunities({opportunity})", {"statecode": 1})).status_code == 400
    close = {"subject": "Won", "opportunityid@odata.bind": f"/opportunities({opportunity})"}
    wrong = await crm.post("WinOpportunity", {"Status": 4, "OpportunityClose": close})
    assert code(wrong) == "0x80048408"
    assert crm.organization.rows("opportunityclose") == {}
    assert (await crm.post("WinOpportunity", {"Status": 3, "OpportunityClose": close})).status_code == 204
    row = await crm.row("opportunities", opportunity)
    assert (row["statecode"], row["statuscode"], row["actualclosedate"]) == (1, 3, "2026-01-31")


async def test_quotes_and_cases_are_closed_by_actions(crm: Crm) -> None:
    account = f"/accounts({await crm.create('accounts', name='Cannon')})"
    quote = await crm.create("quotes", name="x", customerid_account__bind=account)
    assert (await crm.patch(f"quotes({quote})", {"statecode": 1})).status_code == 204
    close = {"subject": "Won", "quoteid@odata.bind": f"/quotes({quote})"}
    assert (await crm.post("WinQuote", {"Status": 4, "QuoteClose": close})).status_code == 204
    assert (await crm.row("quotes", quote))["statecode"] == 2

    incident = await crm.create("incidents", title="Broken", customerid_account__bind=account)
    refused = await crm.patch(f"incidents({incident})", {"statecode": 1})
    assert "use the CloseIncidentRequest message instead" in message(refused)
    resolution = {"subject": "Done", "incidentid@odata.bind": f"/incidents({incident})"}
    body = {"Status": 5, "IncidentResolution": resolution}
    assert (await crm.post("CloseIncident", body)).status_code == 204
    assert (await crm.patch(f"incidents({incident})", {"title": "x"})).status_code == 400
    assert (await crm.patch(f"incidents({incident})", {"statecode": 0})).status_code == 204


async def test_merged_accounts_point_to_the_one_that_stays(crm: Crm) -> None:
    one, other = await crm.create("accounts", name="One"), await crm.create("accounts", name="Other")
    kind = "Microsoft.Dynamics.CRM.account"
    body = {
        "Target": {"@odata.type": kind, "accountid": one},
        "Subordinate": {"@odata.type": kind, "accountid": other},
        "UpdateContent": {"@odata.type": kind, "fax": "5"},
    }
    assert (await crm.post("Merge", body)).status_code == 204
    row = await crm.row("accounts", other)
    assert (row["statecode"], row["merged"], row["_masterid_value"]) == (1, True, one)
    assert (await crm.row("accounts", one))["fax"] == "5"


# -- products


async def test_a_unit_group_makes_its_base_unit(crm: Crm) -> None:
    group = await crm.create("uomschedules", name="PCS", baseuomname="PCS")
    units = await crm.values(
        f"uoms?$filter=_uomscheduleid_value eq {group}&$select=name,isschedulebaseuom,quantity"
    )
    assert [(u["name"], u["isschedulebaseuom"], u["quantity"]) for u in units] == [("PCS", True, 1)]
    box = await crm.create("uoms", name="BOX", quantity=12, uomscheduleid__bind=f"/uomschedules({group})")
    row = await crm.row("uoms", box)
    assert (row["_baseuom_value"], row["isschedulebaseuom"]) == (units[0]["uomid"], False)


async def product(crm: Crm, number: str = "1000") -> tuple[str, str, str]:
    group = await crm.create("uomschedules", name=f"PCS {number}", baseuomname="PCS")
    unit = (await crm.values(f"uoms?$filter=_uomscheduleid_value eq {group}"))[0]["uomid"]
    found = await crm.create(
        "products",
        name="Bicycle",
        productnumber=number,
        quantitydecimal=2,
        defaultuomscheduleid__bind=f"/uomschedules({group})",
        defaultuomid__bind=f"/uoms({unit})",
    )
    return found, group, unit


async def test_a_product_starts_as_a_draft_and_needs_its_unit(crm: Crm) -> None:
    found, _, unit = await product(crm)
    assert (await crm.row("products", found))["statecode"] == 2
    incomplete = await crm.post("products", {"name": "x", "productnumber": "2"})
    assert incomplete.status_code == 400
    assert "Required field 'defaultuom" in message(incomplete)
    used = await crm.delete(f"uoms({unit})")
    assert used.status_code == 405
    assert (await crm.patch(f"products({found})", {"statecode": 0})).status_code == 204
    assert (await crm.delete(f"products({found})")).status_code == 405
    again = await crm.post("products", {"name": "x", "productnumber": "1000", "quantitydecimal": 0})
    assert again.status_code == 400


async def test_products_may_start_active_when_the_organization_says_so(crm: Crm) -> None:
    setting = {"createproductswithoutparentinactivestate": True}
    await crm.patch(f"organizations({crm.organization.id})", setting)
    found, _, _ = await product(crm)
    assert (await crm.row("products", found))["statecode"] == 0


async def test_a_price_list_line_takes_group_currency_and_number(crm: Crm, clock: Clock) -> None:
    found, group, unit = await product(crm)
    prices = await crm.create("pricelevels", name="Retail")
    line = await crm.create(
        "productpricelevels",
        amount=9.5,
        pricelevelid__bind=f"/pricelevels({prices})",
        productid__bind=f"/products({found})",
        uomid__bind=f"/uoms({unit})",
    )
    row = await crm.row("productpricelevels", line)
    assert (row["_uomscheduleid_value"], row["productnumber"]) == (group, "1000")
    assert row["_transactioncurrencyid_value"] == crm.organization.base_currency
    assert (await crm.delete(f"pricelevels({prices})")).status_code == 204
    assert crm.organization.rows("productpricelevel") == {}
