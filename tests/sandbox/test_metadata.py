"""Metadata, alternate keys, functions (sections 11, 18, 19)."""

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.sandbox.conftest import API, Crm, code, message

pytestmark = pytest.mark.anyio
ACCOUNT = "EntityDefinitions(LogicalName='account')"
CAST = "Microsoft.Dynamics.CRM."


async def test_the_names_of_all_tables_come_in_one_read(crm: Crm) -> None:
    path = (
        "EntityDefinitions?$select=LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,"
        "ChangeTrackingEnabled,OwnershipType"
    )
    tables = {table["LogicalName"]: table for table in await crm.values(path)}
    found = {
        name: tables[name]["EntitySetName"] for name in ("account", "opportunity", "nav_accountstatistics")
    }
    assert found == {
        "account": "accounts",
        "opportunity": "opportunities",
        "nav_accountstatistics": "nav_accountstatisticses",
    }
    assert tables["contact"]["PrimaryNameAttribute"] == "fullname"
    assert tables["productpricelevel"]["PrimaryNameAttribute"] is None
    assert tables["account"]["OwnershipType"] == "UserOwned"
    assert set(tables["account"]) >= {"MetadataId"}


@pytest.mark.parametrize(
    "condition, names",
    [
        ("LogicalName eq 'account'", {"account"}),
        ("LogicalName eq 'account' or EntitySetName eq 'contacts'", {"account", "contact"}),
        ("OwnershipType eq Microsoft.Dynamics.CRM.OwnershipTypes'None'", {"organization"}),
        ("CanChangeTrackingBeEnabled/Value eq true and LogicalName eq 'team'", {"team"}),
    ],
)
async def test_tables_are_filtered(crm: Crm, condition: str, names: set[str]) -> None:
    rows = await crm.values(f"EntityDefinitions?$select=LogicalName&$filter={condition}")
    assert {row["LogicalName"] for row in rows} == names


async def test_a_metadata_filter_knows_no_text_functions(crm: Crm) -> None:
    answer = await crm.get("EntityDefinitions?$filter=startswith(LogicalName,'a')")
    assert (answer.status_code, code(answer)) == (501, "0x8006088a")


async def test_an_unknown_table_is_not_found(crm: Crm) -> None:
    answer = await crm.get("EntityDefinitions(LogicalName='nosuch')")
    assert (answer.status_code, code(answer)) == (404, "0x80040217")


@pytest.mark.parametrize(
    "cast, column, expected",
    [
        ("String", "name", {"MaxLength": 160}),
        ("Memo", "description", {"MaxLength": 2000}),
        ("Integer", "numberofemployees", {"MinValue": 0, "MaxValue": 1000000000}),
        ("Money", "creditlimit", {"Precision": 4, "MinValue": 0}),
        ("Lookup", "primarycontactid", {"Targets": ["contact"]}),
        ("DateTime", "createdon", {"DateTimeBehavior": {"Value": "UserLocal"}}),
    ],
)
async def test_what_only_a_type_has_needs_its_cast(
    crm: Crm, cast: str, column: str, expected: dict[str, Any]
) -> None:
    path = f"{ACCOUNT}/Attributes/{CAST}{cast}AttributeMetadata?$filter=LogicalName eq '{column}'"
    row = (await crm.values(path))[0]
    assert {name: row[name] for name in expected} == expected
    plain = (await crm.values(f"{ACCOUNT}/Attributes?$filter=LogicalName eq '{column}'"))[0]
    assert not set(expected) & set(plain)


async def test_columns_say_who_may_write_them(crm: Crm) -> None:
    path = f"{ACCOUNT}/Attributes?$select=LogicalName,AttributeType,IsValidForCreate,IsValidForUpdate,RequiredLevel"
    rows = {row["LogicalName"]: row for row in await crm.values(path)}
    assert (rows["accountid"]["IsValidForCreate"], rows["accountid"]["IsValidForUpdate"]) == (True, False)
    assert (rows["creditlimit_base"]["IsValidForCreate"], rows["creditlimit_base"]["AttributeType"]) == (
        False,
        "Money",
    )
    assert rows["ownerid"]["AttributeType"] == "Owner"
    product = await crm.values(
        "EntityDefinitions(LogicalName='product')/Attributes?$select=RequiredLevel&$filter=LogicalName eq 'name'"
    )
    assert product[0]["RequiredLevel"]["Value"] == "SystemRequired"


async def test_labels_are_words_and_never_names_of_code(crm: Crm) -> None:
    path = f"{ACCOUNT}/Attributes?$select=LogicalName,DisplayName"
    labels = {
        row["LogicalName"]: row["DisplayName"]["UserLocalizedLabel"]["Label"]
        for row in await crm.values(path)
    }
    shown = {name: labels[name] for name in ("address1_freighttermscode", "paymenttermscode", "name")}
    assert shown == {
        "address1_freighttermscode": "address1_freighttermscode",
        "paymenttermscode": "paymenttermscode",
        "name": "Name",
    }
    assert not [label for label in labels.values() if label.endswith("Enum")]


async def test_options_have_values_labels_and_states(crm: Crm) -> None:
    async def options(cast: str, column: str) -> dict[str, Any]:
        path = f"{ACCOUNT}/Attributes(LogicalName='{column}')/{CAST}{cast}AttributeMetadata"
        content = (await crm.get(f"{path}?$select=LogicalName&$expand=OptionSet,GlobalOptionSet")).json()
        found: dict[str, Any] = content["OptionSet"]
        return found

    kinds = await options("Picklist", "customertypecode")
    labels = {o["Value"]: o["Label"]["UserLocalizedLabel"]["Label"] for o in kinds["Options"]}
    assert labels[3] == "Customer"
    status = await options("Status", "statuscode")
    assert {o["Value"]: o["State"] for o in status["Options"]} == {1: 0, 2: 1}
    state = await options("State", "statecode")
    assert {o["Value"]: o["DefaultStatus"] for o in state["Options"]} == {0: 1, 1: 2}
    flag = await options("Boolean", "donotphone")
    assert (flag["TrueOption"]["Value"], flag["FalseOption"]["Value"]) == (1, 0)


async def test_relationships_name_their_navigation_properties(crm: Crm) -> None:
    path = (
        "EntityDefinitions(LogicalName='contact')/ManyToOneRelationships?$select=ReferencingAttribute,"
        "ReferencedEntity,ReferencingEntityNavigationPropertyName,ReferencedEntityNavigationPropertyName"
    )
    found = {
        (row["ReferencingAttribute"], row["ReferencedEntity"]): (
            row["ReferencingEntityNavigationPropertyName"],
            row["ReferencedEntityNavigationPropertyName"],
        )
        for row in await crm.values(path)
    }
    assert found["parentcustomerid", "account"] == ("parentcustomerid_account", "contact_customer_accounts")
    assert found["ownerid", "systemuser"][0] == found["ownerid", "team"][0] == "ownerid"
    expanded = (
        await crm.get(f"{ACCOUNT}?$select=LogicalName&$expand=Attributes($select=LogicalName)")
    ).json()
    assert {"LogicalName": "name"}.items() <= next(
        a for a in expanded["Attributes"] if a["LogicalName"] == "name"
    ).items()


async def test_csdl_comes_as_xml_only(crm: Crm) -> None:
    assert (await crm.get("$metadata", Accept="application/json")).status_code == 415
    answer = await crm.get("$metadata?annotations=true", Accept="application/xml")
    root = ElementTree.fromstring(answer.text)
    edm = "{http://docs.oasis-open.org/odata/ns/edm}"
    contact = next(t for t in root.iter(f"{edm}EntityType") if t.get("Name") == "contact")
    navigation = next(
        n for n in contact.iter(f"{edm}NavigationProperty") if n.get("Name") == "parentcustomerid_account"
    )
    assert navigation.get("Partner") == "contact_customer_accounts"
    constraint = navigation.find(f"{edm}ReferentialConstraint")
    assert constraint is not None
    assert constraint.get("Property") == "_parentcustomerid_value"
    assert "Org.OData.Capabilities.V1.ChangeTracking" in answer.text


async def test_the_service_document_lists_the_sets(crm: Crm) -> None:
    content = (await crm.get("")).json()
    assert content["@odata.context"] == f"{API}$metadata"
    assert {"name": "accounts", "kind": "EntitySet", "url": "accounts"} in content["value"]


# -- alternate keys


@pytest.fixture
async def keyed(crm: Crm) -> Crm:
    """Accounts with a key on their number."""
    body = {
        "SchemaName": "nav_No",
        "DisplayName": {"LocalizedLabels": [{"Label": "NAV number", "LanguageCode": 1033}]},
        "KeyAttributes": ["accountnumber"],
    }
    assert (await crm.post(f"{ACCOUNT}/Keys", body)).status_code == 204
    return crm


async def test_standard_tables_have_no_alternate_keys(crm: Crm) -> None:
    assert await crm.values(f"{ACCOUNT}/Keys") == []
    answer = await crm.get("accounts(accountnumber='10000')")
    assert (answer.status_code, code(answer)) == (400, "0x80060888")
    assert "Ensure that the names and number of key properties match" in message(answer)


async def test_a_key_addresses_a_row(keyed: Crm) -> None:
    rows = await keyed.values(f"{ACCOUNT}/Keys?$select=LogicalName,KeyAttributes,EntityKeyIndexStatus")
    assert (rows[0]["LogicalName"], rows[0]["EntityKeyIndexStatus"]) == ("nav_no", "Active")
    account = await keyed.create("accounts", name="O'Neill", accountnumber="O'10000")
    path = "accounts(accountnumber='O''10000')"
    assert (await keyed.get(f"{path}?$select=name")).json()["accountid"] == account
    contact = await keyed.create("contacts", lastname="x", parentcustomerid_account__bind=f"/{path}")
    assert (await keyed.row("contacts", contact))["_parentcustomerid_value"] == account
    assert (await keyed.delete(path)).status_code == 204


async def test_an_upsert_by_key_creates_then_updates(keyed: Crm) -> None:
    path = "accounts(accountnumber='10000')"
    first = await keyed.patch(path, {"name": "Cannon"})
    assert first.headers["OData-EntityId"] == f"{API}{path}"
    again = await keyed.patch(path, {"name": "Cannon Group", "accountnumber": "ignored"})
    assert again.status_code == 204
    rows = list(keyed.organization.rows("account").values())
    assert [(row["accountnumber"], row["name"]) for row in rows] == [("10000", "Cannon Group")]


async def test_on_create_the_body_wins_over_the_url(keyed: Crm) -> None:
    await keyed.patch("accounts(accountnumber='10000')", {"accountnumber": "20000", "name": "x"})
    assert [row["accountnumber"] for row in keyed.organization.rows("account").values()] == ["20000"]


async def test_a_key_is_unique_and_null_is_not_a_value(keyed: Crm) -> None:
    await keyed.create("accounts", accountnumber="10000")
    other = await keyed.create("accounts", name="no number")
    await keyed.create("accounts", name="no number either")
    for answer in (
        await keyed.post("accounts", {"accountnumber": "10000"}),
        await keyed.patch(f"accounts({other})", {"accountnumber": "10000"}),
    ):
        assert (answer.status_code, code(answer)) == (412, "0x80060892")
        assert message(answer).startswith("Entity Key NAV number violated.")


async def test_a_missing_key_has_its_own_code(keyed: Crm) -> None:
    missing = "accounts(accountnumber='99999')"
    for answer in (await keyed.get(missing), await keyed.patch(missing, {"name": "x"}, If_Match="*")):
        assert (answer.status_code, code(answer)) == (404, "0x80060891")


async def test_some_values_cannot_be_addressed(keyed: Crm) -> None:
    await keyed.create("accounts", accountnumber="A/1")
    for path in (
        "accounts(accountnumber='A/1')",
        "accounts(accountnumber='A%2F1')",
        "accounts(accountnumber='A%261')",
    ):
        assert (await keyed.get(path)).status_code == 400


async def test_a_key_over_duplicates_fails(crm: Crm) -> None:
    for _ in range(2):
        await crm.create("accounts", accountnumber="10000")
    await crm.post(f"{ACCOUNT}/Keys", {"SchemaName": "nav_no", "KeyAttributes": ["accountnumber"]})
    assert (await crm.values(f"{ACCOUNT}/Keys"))[0]["EntityKeyIndexStatus"] == "Failed"
    assert (await crm.get("accounts(accountnumber='10000')")).status_code == 400
    for body in ({"SchemaName": "x", "KeyAttributes": ["nosuch"]}, {"SchemaName": "x"}):
        assert (await crm.post(f"{ACCOUNT}/Keys", body)).status_code == 400


async def test_a_lookup_may_be_part_of_a_key(crm: Crm) -> None:
    body = {"SchemaName": "nav_line", "KeyAttributes": ["name", "primarycontactid"]}
    await crm.post(f"{ACCOUNT}/Keys", body)
    contact = await crm.create("contacts", lastname="Doyle")
    path = f"accounts(name='x',_primarycontactid_value={contact})"
    assert (await crm.patch(path, {"fax": "5"})).status_code == 204
    assert (await crm.get(path)).json()["_primarycontactid_value"] == contact


# -- functions


async def test_functions_of_the_organization(crm: Crm) -> None:
    who = (await crm.get("WhoAmI()")).json()
    assert who["@odata.context"] == f"{API}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse"
    assert who["UserId"] == crm.organization.user
    assert (await crm.get("RetrieveVersion()")).json()["Version"].startswith("9.2.")
    path = (
        "RetrieveCurrentOrganization(AccessType=@p1)?@p1=Microsoft.Dynamics.CRM.EndpointAccessType'Default'"
    )
    detail = (await crm.get(path)).json()["Detail"]
    assert detail["OrganizationId"] == who["OrganizationId"]
    assert detail["Endpoints"]["Values"][0] == "https://contoso.crm4.dynamics.com/"
    privileges = (await crm.get(f"systemusers({who['UserId']})/{CAST}RetrieveUserPrivileges()")).json()
    assert "prvWriteAccount" in {p["PrivilegeName"] for p in privileges["RolePrivileges"]}
    assert (await crm.post("WhoAmI", {})).status_code == 405
    assert (await crm.post("PublishAllXml", {})).status_code == 204
    assert (await crm.get("RetrieveExchangeRate()")).status_code == 400
