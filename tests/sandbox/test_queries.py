"""Query options, paging, aggregates, FetchXML (sections 8 to 10)."""

import re
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from app.sandbox import retrieve
from tests.sandbox.conftest import API, Clock, Crm, code, message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cronus(crm: Crm) -> Crm:
    """Three accounts and two contacts."""
    cannon = await crm.create(
        "accounts",
        name="Cannon Group PLC",
        accountnumber="10000",
        creditlimit=25000.5,
        numberofemployees=100,
        address1_city="London",
        customertypecode=3,
    )
    await crm.create("accounts", name="Selangorian Ltd.", accountnumber="20000", numberofemployees=5)
    await crm.create("accounts", name="John Haddock 100% Insurance", accountnumber="30000")
    doyle = await crm.create(
        "contacts",
        firstname="Patricia",
        lastname="Doyle",
        emailaddress1="a@b.example",
        parentcustomerid_account__bind=f"/accounts({cannon})",
    )
    bind = f"/accounts({cannon})"
    await crm.create("contacts", lastname="O'Neill", parentcustomerid_account__bind=bind)
    await crm.patch(f"accounts({cannon})", {"primarycontactid@odata.bind": f"/contacts({doyle})"})
    return crm


async def numbers(crm: Crm, condition: str, entity_set: str = "accounts") -> list[str]:
    rows = await crm.values(
        f"{entity_set}?$select=accountnumber&$filter={quote(condition)}&$orderby=accountnumber"
    )
    return [row["accountnumber"][0] for row in rows]


@pytest.mark.parametrize(
    "condition, found",
    [
        ("accountnumber eq '10000'", "1"),
        ("name eq 'CANNON GROUP plc'", "1"),
        ("contains(name,'LTD')", "2"),
        ("startswith(name,'j') or endswith(name,'plc')", "13"),
        ("contains(name,'J%n H_dd')", "3"),
        ("creditlimit gt 25000", "1"),
        ("creditlimit eq 25000.5000", "1"),
        ("numberofemployees ne 5", "1"),
        ("numberofemployees ne 5 or numberofemployees eq null", "13"),
        ("not (numberofemployees eq 5)", "1"),
        ("statecode eq 0 and createdon ge 2026-01-31T07:15:09Z", "123"),
        ("createdon gt 2026-01-31T07:15:09Z", ""),
        ("createdon ge 2026-01-31T07:15:09.5Z", ""),
        ("createdon ge 2026-01-31", "123"),
        ("name ne accountnumber", "123"),
        ("primarycontactid/fullname eq 'patricia doyle'", "1"),
        ("primarycontactid/parentcustomerid_account/accountnumber eq '10000'", "1"),
        ("contact_customer_accounts/any(c:c/emailaddress1 eq 'a@b.example')", "1"),
        ("contact_customer_accounts/any()", "1"),
        ("not contact_customer_accounts/any()", "23"),
        ("contact_customer_accounts/all(c:c/lastname eq 'Doyle')", "23"),
        ("contact_customer_accounts/any(c:c/parentcustomerid_account/accountnumber eq '10000')", "1"),
        ("Microsoft.Dynamics.CRM.In(PropertyName='accountnumber',PropertyValues=['10000','30000'])", "13"),
        ("Microsoft.Dynamics.CRM.NotIn(PropertyName='accountnumber',PropertyValues=['10000'])", "23"),
        ('Microsoft.Dynamics.CRM.Between(PropertyName=\'numberofemployees\',PropertyValues=["5","50"])', "2"),
        ("Microsoft.Dynamics.CRM.EqualUserId(PropertyName='ownerid')", "123"),
        ("Microsoft.Dynamics.CRM.Today(PropertyName='modifiedon')", "123"),
        ("Microsoft.Dynamics.CRM.Yesterday(PropertyName='modifiedon')", ""),
        ("Microsoft.Dynamics.CRM.LastXHours(PropertyName='modifiedon',PropertyValue=12)", "123"),
        ("Microsoft.Dynamics.CRM.OlderThanXDays(PropertyName='modifiedon',PropertyValue=1)", ""),
        ("Microsoft.Dynamics.CRM.OnOrAfter(PropertyName='modifiedon',PropertyValue='2026-01-31')", "123"),
    ],
)
async def test_a_filter_finds(cronus: Crm, condition: str, found: str) -> None:
    assert "".join(await numbers(cronus, condition)) == found


@pytest.mark.parametrize(
    "condition",
    [
        "nosuch eq 1",
        "name eq 1",
        "numberofemployees eq '5'",
        "accountid eq '9f0f4c5e-52a1-ef11-8a69-000d3a4b5c6d'",
        "name eq 'x",
        "name in ('a','b')",
        "tolower(name) eq 'x'",
        "numberofemployees add 1 eq 2",
        "year(createdon) eq 2026",
        "name has 'x'",
        "nosuch/any(c:c/name eq 'x')",
        "contact_customer_accounts/any(c:c/nosuch eq 'x')",
        "primarycontactid/nosuch eq 'x'",
        "not Microsoft.Dynamics.CRM.In(PropertyName='name',PropertyValues=['a'])",
        "Microsoft.Dynamics.CRM.NoSuch(PropertyName='name')",
        "name",
        "name eq creditlimit",
    ],
)
async def test_a_filter_that_the_service_does_not_know_is_refused(cronus: Crm, condition: str) -> None:
    answer = await cronus.get(f"accounts?$filter={quote(condition)}")
    assert (answer.status_code, code(answer)) == (400, "0x80060888")


async def test_an_unterminated_literal_is_located(cronus: Crm) -> None:
    answer = await cronus.get("accounts?$filter=name eq 'Cannon")
    assert "There is an unterminated literal at position 8" in message(answer)


async def test_aliases_stand_for_values(cronus: Crm) -> None:
    alias = "accounts?$select=name&$filter=accountnumber eq @n and name ne '@n'&@n='10000'"
    assert [row["name"] for row in await cronus.values(alias)] == ["Cannon Group PLC"]
    assert await cronus.values("accounts?$filter=accountnumber eq @missing and statecode eq 5") == []


async def test_names_of_options_may_be_encoded(cronus: Crm) -> None:
    answer = await cronus.http.get(
        "accounts", params={"$select": "name", "$filter": "accountnumber eq '10000'"}
    )
    assert [row["name"] for row in answer.json()["value"]] == ["Cannon Group PLC"]
    contacts = await cronus.values("contacts?$filter=lastname eq 'O%27%27Neill'")
    assert len(contacts) == 1


@pytest.mark.parametrize(
    "options, text",
    [
        ("$skip=5", "Skip Clause is not supported in CRM"),
        ("$search=x", "$search"),
        ("$format=json", "$format"),
        ("$top=x", "Invalid value 'x'"),
        (
            "$select=nosuch",
            "Could not find a property named 'nosuch' on type 'Microsoft.Dynamics.CRM.account'.",
        ),
        ("$select=primarycontactid", "navigation property"),
        ("$orderby=nosuch", "Could not find a property named 'nosuch'"),
        ("$orderby=name sideways", "Syntax error"),
        ("$expand=nosuch", "Could not find a property named 'nosuch'"),
        ("$expand=contact_customer_accounts($skip=1)", "not"),
        ("$expand=ownerid($select=fullname)", "Microsoft.Dynamics.CRM.principal"),
        ("sql=select name from account", "sql"),
    ],
)
async def test_an_option_that_the_service_does_not_know_is_refused(
    cronus: Crm, options: str, text: str
) -> None:
    answer = await cronus.get(f"accounts?{options}")
    assert (answer.status_code, code(answer)) == (400, "0x80060888")
    assert text in message(answer)


async def test_rows_are_sorted_with_nulls_first(cronus: Crm) -> None:
    async def order(by: str) -> str:
        rows = await cronus.values(f"accounts?$select=accountnumber&$orderby={by}")
        return "".join(row["accountnumber"][0] for row in rows)

    assert await order("numberofemployees") == "321"
    assert await order("numberofemployees desc") == "123"
    assert await order("statecode asc,name desc") == "231"
    assert (await order("primarycontactid/fullname desc,name"))[0] == "1"
    assert (await order("_primarycontactid_value desc,name"))[0] == "1"


async def test_related_rows_are_expanded(cronus: Crm) -> None:
    options = (
        "$select=name&$filter=accountnumber eq '10000'&$expand=primarycontactid($select=fullname;"
        "$expand=ownerid($select=ownerid)),contact_customer_accounts($select=lastname;"
        "$filter=statecode eq 0;$orderby=lastname desc;$top=1),parentaccountid"
    )
    row = (await cronus.values(f"accounts?{options}"))[0]
    assert row["primarycontactid"]["fullname"] == "Patricia Doyle"
    assert row["primarycontactid"]["ownerid"]["ownerid"] == cronus.organization.user
    assert [contact["lastname"] for contact in row["contact_customer_accounts"]] == ["O'Neill"]
    assert "contact_customer_accounts@odata.nextLink" in row
    assert row["parentaccountid"] is None
    followed = await cronus.values(row["contact_customer_accounts@odata.nextLink"])
    assert len(followed) == 1


async def test_a_nested_collection_allows_little(cronus: Crm) -> None:
    answer = await cronus.get(
        "contacts?$expand=parentcustomerid_account($expand=account_parent_account($top=1))"
    )
    assert answer.status_code == 400


async def test_counts_end_at_their_limit(cronus: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await cronus.get("accounts?$count=true&$top=1&$select=name")
    assert answer.json()["@odata.count"] == 3
    assert len(answer.json()["value"]) == 1
    text = (await cronus.get("accounts/$count?$filter=accountnumber gt '10000'")).text
    assert text == "\ufeff2"
    many = [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "x"}] * 5000
    await cronus.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": many})
    totals = "Microsoft.Dynamics.CRM.totalrecordcount,Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"
    capped = await cronus.get(
        "accounts?$select=name&$count=true&$top=1", Prefer=f'odata.include-annotations="{totals}"'
    )
    assert capped.json()["@odata.count"] == retrieve.MAXIMUM_COUNT
    assert capped.json()["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] is True
    without = await cronus.get("accounts?$select=name&$top=1", Prefer=f'odata.include-annotations="{totals}"')
    assert without.json()["@Microsoft.Dynamics.CRM.totalrecordcount"] == -1
    snapshot = (await cronus.get("RetrieveTotalRecordCount(EntityNames=['account'])")).json()
    assert snapshot["EntityRecordCountCollection"]["Values"] == [5003]


async def test_nothing_found_is_an_empty_list(crm: Crm) -> None:
    answer = await crm.get("accounts")
    assert (answer.status_code, answer.json()["value"]) == (200, [])
    assert answer.headers["Content-Type"].endswith("odata.streaming=true")


async def test_rows_modified_since_a_moment_are_found_whatever_the_clock_does(crm: Crm, clock: Clock) -> None:
    ids = []
    for number in range(6):
        clock.advance(seconds=-30 if number == 3 else 60)
        ids.append(await crm.create("accounts", name=str(number)))
    moments = [crm.organization.rows("account")[row_id]["modifiedon"] for row_id in ids]
    for operator in ("ge", "gt"):
        for moment in moments:
            rows = await crm.values(f"accounts?$select=modifiedon&$filter=modifiedon {operator} {moment}")
            expected = [m for m in moments if m > moment or (operator == "ge" and m == moment)]
            assert sorted(row["modifiedon"] for row in rows) == sorted(expected)


# -- paging


async def pages(crm: Crm, path: str, size: int) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    link: str | None = path
    while link:
        answer: httpx.Response = await crm.get(link, Prefer=f"odata.maxpagesize={size}")
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["value"])
        link = answer.json().get("@odata.nextLink")
        assert len(found) < 20
    return found


async def many(crm: Crm, count: int) -> None:
    targets = [
        {"@odata.type": "Microsoft.Dynamics.CRM.account", "name": f"N{n % 4}", "accountnumber": f"{n:03}"}
        for n in range(count)
    ]
    await crm.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": targets})


@pytest.mark.parametrize(
    "options",
    [
        "",
        "$orderby=accountid",
        "$orderby=name desc",
        "$orderby=name,accountnumber desc",
        "$orderby=fax desc",
        "$orderby=creditlimit,createdon",
        "$filter=startswith(name,'N')",
        "$orderby=primarycontactid/fullname",
        "$filter=name eq 'N1' or name ne 'N1'&$orderby=_ownerid_value",
    ],
)
async def test_each_row_comes_once_over_all_pages(crm: Crm, options: str) -> None:
    await many(crm, 11)
    found = await pages(crm, f"accounts?$select=accountnumber&{options}", 3)
    assert [len(page) for page in found] == [3, 3, 3, 2]
    seen = [row["accountnumber"] for page in found for row in page]
    assert sorted(seen) == [f"{n:03}" for n in range(11)]
    in_one = await crm.values(f"accounts?$select=accountnumber&{options}")
    assert seen == [row["accountnumber"] for row in in_one]


async def test_the_link_carries_a_cookie_with_the_last_key(crm: Crm) -> None:
    await many(crm, 4)
    answer = await crm.get("accounts?$select=name", Prefer="odata.maxpagesize=3")
    link = answer.json()["@odata.nextLink"]
    assert link.startswith(f"{API}accounts?$select=name&$skiptoken=")
    cookie = unquote(link.partition("$skiptoken=")[2])
    outer = re.fullmatch(r'<cookie pagenumber="2" pagingcookie="([^"]+)" istracking="False" />', cookie)
    assert outer
    last = answer.json()["value"][-1]["accountid"].upper()
    inner = unquote(unquote(outer[1]))
    assert inner.startswith('<cookie page="1"><accountid last="{' + last + '}" first="{')


async def test_a_row_that_moves_behind_the_cookie_is_not_seen(crm: Crm, clock: Clock) -> None:
    await many(crm, 6)
    for row in await crm.values("accounts?$orderby=accountnumber"):
        clock.advance(seconds=1)
        await crm.patch(f"accounts({row['accountid']})", {"fax": "1"})
    answer = await crm.get("accounts?$orderby=modifiedon&$select=accountnumber", Prefer="odata.maxpagesize=3")
    first = answer.json()["value"][0]["accountid"]
    clock.advance(seconds=1)
    await crm.patch(f"accounts({first})", {"fax": "2"})
    rest = await pages(crm, answer.json()["@odata.nextLink"], 3)
    assert [row["accountnumber"] for page in rest for row in page] == ["003", "004", "005", "000"]


async def test_the_page_size_wins_over_top_and_never_exceeds_its_maximum(crm: Crm) -> None:
    await many(crm, 5)
    both = await crm.get("accounts?$top=1", Prefer="odata.maxpagesize=2")
    assert len(both.json()["value"]) == 2
    top = await crm.get("accounts?$top=2")
    assert len(top.json()["value"]) == 2
    assert "@odata.nextLink" not in top.json()
    answer = await crm.get("accounts", Prefer="odata.maxpagesize=99999")
    assert answer.headers["Preference-Applied"] == "odata.maxpagesize=99999"


async def test_a_damaged_token_is_refused(crm: Crm) -> None:
    assert (await crm.get("accounts?$skiptoken=x")).status_code == 400


async def test_a_collection_behind_a_row_is_paged_too(cronus: Crm) -> None:
    account = (await cronus.values("accounts?$filter=accountnumber eq '10000'"))[0]["accountid"]
    path = f"accounts({account})/contact_customer_accounts?$select=lastname&$orderby=lastname"
    found = await pages(cronus, path, 1)
    assert [row["lastname"] for page in found for row in page] == ["Doyle", "O'Neill"]


# -- aggregates


async def test_rows_are_aggregated(cronus: Crm) -> None:
    totals = await cronus.values("accounts?$apply=aggregate(numberofemployees with sum as total,$count as n)")
    assert totals == [{"total": 105, "n": 3}]
    groups = await cronus.values("accounts?$apply=groupby((statecode),aggregate(creditlimit with max as m))")
    assert groups == [{"m": 25000.5, "statecode": 0}]
    linked = "accounts?$apply=filter(numberofemployees gt 5)/groupby((primarycontactid/fullname))"
    assert await cronus.values(linked) == [{"contact_fullname": "Patricia Doyle"}]
    for bad in ("groupby((createdon))", "topcount(1,name)", "aggregate(name with median as m)"):
        assert (await cronus.get(f"accounts?$apply={bad}")).status_code == 400


# -- FetchXML


async def fetch(crm: Crm, inner: str, attributes: str = "", prefer: str = "") -> dict[str, Any]:
    xml = f"<fetch {attributes}><entity name='account'>{inner}</entity></fetch>"
    answer = await crm.get(f"accounts?fetchXml={quote(xml)}", Prefer=prefer)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


@pytest.mark.parametrize(
    "condition, found",
    [
        ("<condition attribute='accountnumber' operator='eq' value='10000'/>", "1"),
        ("<condition attribute='numberofemployees' operator='ne' value='5'/>", "1"),
        ("<condition attribute='name' operator='like' value='%group%'/>", "1"),
        ("<condition attribute='name' operator='not-like' value='%group%'/>", "23"),
        ("<condition attribute='name' operator='begins-with' value='john'/>", "3"),
        ("<condition attribute='creditlimit' operator='null'/>", "23"),
        ("<condition attribute='creditlimit' operator='not-null'/>", "1"),
        (
            "<condition attribute='accountnumber' operator='in'><value>10000</value><value>20000</value>"
            "</condition>",
            "12",
        ),
        ("<condition attribute='ownerid' operator='eq-userid'/>", "123"),
        ("<condition attribute='numberofemployees' operator='ge' value='5'/>", "12"),
        ("<condition attribute='createdon' operator='last-x-days' value='1'/>", "123"),
    ],
)
async def test_fetchxml_finds(cronus: Crm, condition: str, found: str) -> None:
    inner = f"<attribute name='accountnumber'/><order attribute='accountnumber'/><filter>{condition}</filter>"
    rows = (await fetch(cronus, inner))["value"]
    assert "".join(row["accountnumber"][0] for row in rows) == found


async def test_fetchxml_leaves_nulls_out_and_joins(cronus: Crm) -> None:
    link = (
        "<attribute name='name'/><attribute name='creditlimit'/><order attribute='name'/>"
        "<link-entity name='contact' from='parentcustomerid' to='accountid' alias='c' link-type='{}'>"
        "<attribute name='lastname'/></link-entity>"
    )
    inner = (await fetch(cronus, link.format("inner")))["value"]
    assert [row["c.lastname"] for row in inner] == ["Doyle", "O'Neill"] or len(inner) == 2
    outer = (await fetch(cronus, link.format("outer")))["value"]
    assert len(outer) == 4
    assert "creditlimit" not in outer[-1]
    assert "c.lastname" not in outer[-1]
    assert len((await fetch(cronus, link.format("not any")))["value"]) == 2


async def test_fetchxml_pages_by_cookie(crm: Crm) -> None:
    await many(crm, 5)
    prefer = (
        'odata.include-annotations="Microsoft.Dynamics.CRM.fetchxmlpagingcookie,'
        'Microsoft.Dynamics.CRM.morerecords"'
    )
    seen: list[str] = []
    cookie, page = "", 1
    while True:
        attributes = f"count='2' page='{page}' {cookie}"
        inner = "<attribute name='accountnumber'/><order attribute='accountnumber' descending='true'/>"
        content = await fetch(crm, inner, attributes, prefer)
        seen += [row["accountnumber"] for row in content["value"]]
        if not content["@Microsoft.Dynamics.CRM.morerecords"]:
            break
        text = content["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"]
        match = re.search(r'pagingcookie="([^"]+)"', text)
        assert match
        plain = unquote(unquote(match[1]))
        escaped = plain.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        cookie, page = f"paging-cookie='{escaped}'", page + 1
        assert page < 9
    assert seen == ["004", "003", "002", "001", "000"]


async def test_bad_fetchxml_is_refused(crm: Crm) -> None:
    for xml in (
        "<fetch>",
        "<fetch/>",
        "<fetch><entity name='contact'/></fetch>",
        "<fetch><entity name='account'><attribute name='nosuch'/></entity></fetch>",
        "<fetch top='1' page='2'><entity name='account'/></fetch>",
        "<fetch count='x'><entity name='account'/></fetch>",
        "<fetch><entity name='account'><filter><condition attribute='name' operator='sounds-like'/></filter>"
        "</entity></fetch>",
    ):
        assert (await crm.get(f"accounts?fetchXml={quote(xml)}")).status_code == 400
