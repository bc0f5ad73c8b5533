"""Create, read, update, delete one row (sections 3 to 7)."""

import re

import pytest

from tests.sandbox.conftest import API, Clock, Crm, code, message

pytestmark = pytest.mark.anyio
MISSING = "00000000-0000-4000-8000-00000000dead"


async def test_a_created_row_is_named_in_the_headers(crm: Crm) -> None:
    answer = await crm.post("accounts", {"name": "Cannon Group PLC"})
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers["OData-Version"] == "4.0"
    assert re.fullmatch(re.escape(API) + r"accounts\([0-9a-f-]{36}\)", answer.headers["OData-EntityId"])
    assert answer.headers["Location"] == answer.headers["OData-EntityId"]


async def test_the_representation_comes_when_it_is_preferred(crm: Crm) -> None:
    answer = await crm.post("accounts?$select=name", {"name": "Cannon"}, Prefer="return=representation")
    assert answer.status_code == 201
    assert "OData-EntityId" not in answer.headers
    assert answer.headers["Preference-Applied"] == "return=representation"
    content = answer.json()
    assert set(content) == {"@odata.context", "@odata.etag", "name", "accountid"}
    assert content["@odata.context"] == f"{API}$metadata#accounts(name)/$entity"


async def test_a_key_may_be_chosen_and_a_repeated_post_is_recognized(crm: Crm) -> None:
    body = {"accountid": MISSING.upper(), "name": "Cannon"}
    assert (await crm.post("accounts", body)).status_code == 204
    answer = await crm.post("accounts", body)
    assert (answer.status_code, code(answer)) == (412, "0x80040237")
    assert message(answer) == "A record with matching key values already exists."
    assert (await crm.row("accounts", MISSING))["accountid"] == MISSING


async def test_absent_columns_get_their_defaults(crm: Crm) -> None:
    row = await crm.row("accounts", await crm.create("accounts", name="Cannon", creditlimit=5))
    user, currency = crm.organization.user, crm.organization.base_currency
    assert (row["statecode"], row["statuscode"], row["donotphone"]) == (0, 1, False)
    assert (row["_ownerid_value"], row["_owninguser_value"], row["_owningteam_value"]) == (user, user, None)
    assert row["_owningbusinessunit_value"] == crm.organization.business_unit
    assert row["_transactioncurrencyid_value"] == currency
    assert (row["createdon"], row["modifiedon"]) == ("2026-01-31T07:15:09Z", "2026-01-31T07:15:09Z")


async def test_a_row_is_read_with_etag_nulls_and_a_plain_context(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    answer = await crm.get(f"accounts({account.upper()})?$select=name,fax")
    content = answer.json()
    assert answer.headers["ETag"] == content["@odata.etag"]
    assert re.fullmatch(r'W/"\d+"', content["@odata.etag"])
    assert content["fax"] is None
    assert content["accountid"] == account
    assert answer.headers["Content-Type"] == "application/json; odata.metadata=minimal"


async def test_some_columns_come_without_being_asked_for(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon", address1_line1="192 Market Square")
    row = await crm.row("accounts", account, "creditlimit,address1_line1")
    assert {"_transactioncurrencyid_value", "address1_composite", "accountid"} <= set(row)
    user = await crm.row("systemusers", crm.organization.user, "fullname")
    assert user["ownerid"] == user["systemuserid"]


async def test_a_missing_row_is_recognized_by_its_code(crm: Crm) -> None:
    for method in ("GET", "DELETE"):
        answer = await crm.send(method, f"accounts({MISSING})")
        assert (answer.status_code, code(answer)) == (404, "0x80040217")


async def test_single_properties_can_be_read_set_and_cleared(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    assert (await crm.get(f"accounts({account})/name")).json()["value"] == "Cannon"
    assert (await crm.get(f"accounts({account})/name/$value")).text == "Cannon"
    assert (await crm.get(f"accounts({account})/fax")).status_code == 204
    assert (await crm.send("PUT", f"accounts({account})/fax", {"value": "5"})).status_code == 204
    assert (await crm.get(f"accounts({account})/fax")).json()["value"] == "5"
    assert (await crm.delete(f"accounts({account})/fax")).status_code == 204
    assert (await crm.get(f"accounts({account})/fax")).status_code == 204


# -- the table of section 6


async def test_a_plain_patch_creates_a_missing_row(crm: Crm) -> None:
    answer = await crm.patch(f"accounts({MISSING})", {"name": "Risen"})
    assert (answer.status_code, answer.headers["OData-EntityId"]) == (204, f"{API}accounts({MISSING})")
    assert (await crm.row("accounts", MISSING))["name"] == "Risen"


async def test_the_representation_tells_create_from_update(crm: Crm) -> None:
    first = await crm.patch(f"accounts({MISSING})", {"name": "a"}, Prefer="return=representation")
    second = await crm.patch(f"accounts({MISSING})", {"name": "b"}, Prefer="return=representation")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["name"] == "b"


async def test_if_match_star_forbids_the_creation(crm: Crm) -> None:
    answer = await crm.patch(f"accounts({MISSING})", {"name": "x"}, If_Match="*")
    assert (answer.status_code, code(answer)) == (404, "0x80040217")
    assert crm.organization.rows("account") == {}


async def test_if_none_match_star_forbids_the_update(crm: Crm) -> None:
    assert (await crm.patch(f"accounts({MISSING})", {"name": "x"}, If_None_Match="*")).status_code == 204
    answer = await crm.patch(f"accounts({MISSING})", {"name": "y"}, If_None_Match="*")
    assert (answer.status_code, code(answer)) == (412, "0x80040237")


async def test_a_version_guards_update_and_delete(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    old = (await crm.row("accounts", account))["@odata.etag"]
    assert (await crm.patch(f"accounts({account})", {"fax": "1"}, If_Match=old)).status_code == 204
    for method in ("PATCH", "DELETE"):
        answer = await crm.send(method, f"accounts({account})", {"fax": "2"}, If_Match=old)
        assert (answer.status_code, code(answer)) == (412, "0x80060882")
        expected = "The version of the existing record doesn't match the RowVersion property provided."
        assert message(answer) == expected
    missing = await crm.patch(f"accounts({MISSING})", {"fax": "2"}, If_Match=old)
    assert missing.status_code == 404


async def test_if_none_match_null_means_nothing(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    assert (await crm.patch(f"accounts({account})", {"fax": "1"}, If_None_Match="null")).status_code == 204
    assert (await crm.get(f"accounts({account})", If_None_Match="null")).status_code == 200


async def test_a_conditional_get_saves_the_body(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    tag = (await crm.row("accounts", account))["@odata.etag"]
    same = await crm.get(f"accounts({account})", If_None_Match=tag)
    assert (same.status_code, same.content) == (304, b"")
    assert (await crm.get(f"accounts({account})", If_None_Match='W/"1"')).status_code == 200
    expanded = await crm.get(f"accounts({account})?$expand=primarycontactid", If_None_Match=tag)
    assert expanded.status_code == 200


async def test_both_conditions_at_once_make_no_sense(crm: Crm) -> None:
    answer = await crm.patch(f"accounts({MISSING})", {"name": "x"}, If_Match="*", If_None_Match="*")
    assert answer.status_code == 400


async def test_an_update_moves_version_and_modification_but_not_creation(crm: Crm, clock: Clock) -> None:
    account = await crm.create("accounts", name="Cannon")
    before = await crm.row("accounts", account)
    clock.advance(seconds=90)
    await crm.patch(f"accounts({account})", {"name": "Cannon"})
    after = await crm.row("accounts", account)
    assert after["versionnumber"] > before["versionnumber"]
    assert (after["createdon"], after["modifiedon"]) == ("2026-01-31T07:15:09Z", "2026-01-31T07:16:39Z")


async def test_all_tables_share_one_version_sequence(crm: Crm) -> None:
    account = await crm.row("accounts", await crm.create("accounts", name="Cannon"))
    contact = await crm.row("contacts", await crm.create("contacts", lastname="Doyle"))
    assert contact["versionnumber"] > account["versionnumber"]


# -- what bodies may not say


async def test_an_unknown_column_is_refused(crm: Crm) -> None:
    answer = await crm.post("accounts", {"name": "x", "no_such_column": 1})
    assert (answer.status_code, code(answer)) == (400, "0x80048d19")
    assert "no_such_column" in message(answer)
    assert crm.organization.rows("account") == {}


async def test_columns_that_the_service_maintains_are_ignored(crm: Crm) -> None:
    body = {"name": "x", "createdon": "2001-01-01T00:00:00Z", "versionnumber": 1, "exchangerate": 3}
    account = await crm.create("accounts", **body)
    row = await crm.row("accounts", account)
    assert row["createdon"] == "2026-01-31T07:15:09Z"
    assert row["versionnumber"] > 1


async def test_a_body_that_is_no_json_object_is_refused(crm: Crm) -> None:
    for body in (b"<<<", b"[]", b'{"name": NaN}'):
        answer = await crm.http.post("accounts", content=body)
        assert (answer.status_code, code(answer)) == (400, "0x80048d19")


async def test_a_creation_date_can_be_given_once_and_not_in_the_future(crm: Crm) -> None:
    account = await crm.create("accounts", name="x", overriddencreatedon="2019-05-01T00:00:00Z")
    row = await crm.row("accounts", account)
    assert (row["createdon"], row["overriddencreatedon"]) == ("2019-05-01T00:00:00Z", "2026-01-31T07:15:09Z")
    answer = await crm.post("accounts", {"name": "x", "overriddencreatedon": "2030-01-01T00:00:00Z"})
    assert answer.status_code == 400


async def test_nested_rows_are_created_together(crm: Crm) -> None:
    body = {
        "name": "Cannon",
        "primarycontactid": {"lastname": "Doyle"},
        "contact_customer_accounts": [{"lastname": "One"}, {"lastname": "Two"}],
    }
    assert (await crm.post("accounts", body)).status_code == 204
    account = next(iter(crm.organization.rows("account").values()))
    contacts = crm.organization.rows("contact")
    assert contacts[account["primarycontactid"]]["lastname"] == "Doyle"
    children = [c["lastname"] for c in contacts.values() if c.get("parentcustomerid") == account["accountid"]]
    assert sorted(children) == ["One", "Two"]
    bad = body | {"contact_customer_accounts": [{"lastname": "x" * 51}]}
    assert (await crm.post("accounts", bad)).status_code == 400
    assert (await crm.post("accounts", {"contact_customer_accounts": [5]})).status_code == 400
    assert len(crm.organization.rows("account")) == 1
    assert len(contacts) == 3


async def test_duplicates_are_detected_only_when_the_caller_does_not_suppress_it(crm: Crm) -> None:
    crm.organization.detect_duplicates("account", "name", "address1_city")
    body = {"name": "Cannon", "address1_city": "London"}
    for headers in ({}, {}, {"MSCRM.SuppressDuplicateDetection": "true"}):
        assert (await crm.post("accounts", body, **headers)).status_code == 204
    on = {"MSCRM.SuppressDuplicateDetection": "false"}
    answer = await crm.post("accounts", body, **on)
    assert (answer.status_code, code(answer)) == (412, "0x80040333")
    other = await crm.create("accounts", name="Cannon", address1_city="Paris")
    assert (await crm.patch(f"accounts({other})", {"fax": "1"}, **on)).status_code == 204
    assert code(await crm.patch(f"accounts({other})", {"address1_city": "London"}, **on)) == "0x80040333"


# -- delete


async def test_what_belongs_to_a_row_goes_with_it_and_pointers_to_it_are_emptied(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    contact = await crm.create(
        "contacts", lastname="Doyle", parentcustomerid_account__bind=f"/accounts({account})"
    )
    other = await crm.create("accounts", name="Adatum", parentaccountid__bind=f"/accounts({account})")
    before = (await crm.row("accounts", other))["versionnumber"]
    assert (await crm.delete(f"accounts({account})")).status_code == 204
    assert contact not in crm.organization.rows("contact")
    row = await crm.row("accounts", other)
    assert row["_parentaccountid_value"] is None
    assert row["versionnumber"] > before


async def test_what_is_in_use_is_not_deleted(crm: Crm) -> None:
    currency = await crm.create(
        "transactioncurrencies",
        isocurrencycode="EUR",
        currencyname="Euro",
        currencysymbol="€",
        currencyprecision=2,
        exchangerate=1.25,
    )
    bind = f"/transactioncurrencies({currency})"
    account = await crm.create("accounts", name="Cannon", transactioncurrencyid__bind=bind)
    answer = await crm.delete(f"transactioncurrencies({currency})")
    assert (answer.status_code, code(answer)) == (405, "0x80040227")
    await crm.delete(f"accounts({account})")
    assert (await crm.delete(f"transactioncurrencies({currency})")).status_code == 204
    base = await crm.delete(f"transactioncurrencies({crm.organization.base_currency})")
    assert base.status_code == 405


async def test_users_are_disabled_not_deleted(crm: Crm) -> None:
    user = await crm.create("systemusers", lastname="Saddow")
    assert (await crm.delete(f"systemusers({user})")).status_code == 405


# -- addresses


async def test_unknown_names_are_not_found(crm: Crm) -> None:
    account = await crm.create("accounts", name="x")
    for path in ("customers", "Accounts", "NoSuchFunction()", f"accounts({account})/no_such_thing"):
        answer = await crm.get(path)
        assert (answer.status_code, code(answer)) == (404, "0x8006088a"), path


async def test_a_key_that_is_none_is_a_bad_request(crm: Crm) -> None:
    for key in ("10000", "'10000'", "{" + MISSING + "}", f"contactid={MISSING}", f"'{MISSING}'"):
        answer = await crm.get(f"accounts({key})")
        assert (answer.status_code, code(answer)) == (400, "0x80060888"), key
    named = await crm.get(f"accounts(accountid={MISSING})")
    assert named.status_code == 404


async def test_methods_that_do_not_fit_are_refused(crm: Crm) -> None:
    for method, path in (("PATCH", "accounts"), ("DELETE", "accounts"), ("POST", f"accounts({MISSING})")):
        assert (await crm.send(method, path, {})).status_code == 405


async def test_errors_say_more_when_all_annotations_are_asked_for(crm: Crm) -> None:
    answer = await crm.get(f"accounts({MISSING})", Prefer='odata.include-annotations="*"')
    assert "@Microsoft.PowerApps.CDS.InnerError.Message" in answer.json()["error"]
