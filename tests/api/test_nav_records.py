"""NAV records through the door, whatever their numbers hold."""

from urllib.parse import quote

import httpx
import pytest

from tests.api.conftest import COMPANY

pytestmark = pytest.mark.anyio
AWKWARD = (
    "K&M/01",
    "D'ARC-1",
    "CUST 0001",
    "LONGEST-NUMBER-20-XX",
    "50%",
    "A%2FB",
    "A,B",
    "Ü#1?",
    "+1;2",
)


@pytest.mark.parametrize("no", AWKWARD)
async def test_a_record_is_found_by_its_number_whatever_it_holds(cronus: httpx.AsyncClient, no: str) -> None:
    made = await cronus.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": "Kern & Miller"}})
    assert made.status_code == 201, made.text
    address = f"{COMPANY}/nav/customers/{quote(no, safe='')}"
    assert made.headers["Location"] == address
    found = await cronus.get(address)
    assert (found.status_code, found.json()["no"]) == (200, no.upper()), found.text
    changed = await cronus.patch(address, json={"fields": {"City": "London"}})
    assert (changed.status_code, changed.json()["fields"]["City"]) == (200, "London")
    coupling = await cronus.get(f"{address}/coupling")
    assert (coupling.status_code, coupling.json()["code"]) == (404, "not-coupled")
    assert no.upper() in coupling.json()["detail"]
    taken = await cronus.post(f"{COMPANY}/nav/customers", json={"no": no})
    for refused in (coupling, taken):
        assert f"…/nav/customers/{quote(no.upper(), safe='')}" in refused.json()["fix"]
    assert (await cronus.delete(address)).status_code == 204
    for gone in (await cronus.get(address), await cronus.patch(address, json={"fields": {}})):
        assert (gone.json()["code"], gone.json()["fix"]) == (
            "nav-record-not-found",
            "GET …/nav/customers lists the records.",
        )


@pytest.mark.parametrize("no", [".", "..", "  "])
async def test_a_number_that_no_address_can_hold_is_refused(cronus: httpx.AsyncClient, no: str) -> None:
    refused = await cronus.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": "Adatum"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-values")
    made = await cronus.post(f"{COMPANY}/nav/customers", json={"no": "10000"})
    renamed = await cronus.patch(made.headers["Location"], json={"fields": {"No": no}})
    assert (renamed.status_code, renamed.json()["errors"][0]["pointer"]) == (422, "/fields/No"), renamed.text


async def test_wrong_values_and_broken_relations_are_told_together(cronus: httpx.AsyncClient) -> None:
    fields = {
        "Name": "x" * 51,
        "Currency_Code": "ZZZ",
        "Payment_Terms_Code": "QQ",
        "Salesperson_Code": "NOBODY",
        "Credit_Limit_LCY": "much",
    }
    made = await cronus.post(f"{COMPANY}/nav/customers", json={"no": "10000"})
    for answer in (
        await cronus.post(f"{COMPANY}/nav/customers", json={"fields": fields}),
        await cronus.patch(made.headers["Location"], json={"fields": fields}),
    ):
        told = sorted(error["pointer"] for error in answer.json()["errors"])
        assert told == sorted(f"/fields/{name}" for name in fields)


async def test_only_close_names_are_suggested(cronus: httpx.AsyncClient) -> None:
    async def suggested(name: str) -> str | None:
        answer = await cronus.post(f"{COMPANY}/nav/customers", json={"fields": {name: 1}})
        found: str | None = answer.json()["errors"][0].get("suggestion")
        return found

    assert [await suggested(name) for name in ("Naem", "Phone", "nope")] == ["Name", "Phone_No", None]


async def test_values_that_do_not_fit_are_named_field_by_field(cronus: httpx.AsyncClient) -> None:
    for fields in ({"Name": "x" * 51, "Nonsense": 1}, {"Salesperson_Code": "NOBODY"}):
        answer = await cronus.post(f"{COMPANY}/nav/customers", json={"fields": fields})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-values")
        assert {error["pointer"] for error in answer.json()["errors"]} == {
            f"/fields/{name}" for name in fields
        }


async def test_one_bad_record_harms_no_other(cronus: httpx.AsyncClient) -> None:
    records = [
        {"no": "10000", "fields": {"Name": "Adatum"}},
        {"no": "20000", "fields": {"Name": "x" * 51}},
        {"no": "", "fields": {"Name": "No number"}},
        {"no": "30000", "fields": {"Name": "Trey"}},
    ]
    answer = await cronus.post(f"{COMPANY}/nav/customers/bulk", json={"records": records})
    assert answer.status_code == 200
    outcomes = answer.json()["outcomes"]
    assert [(each["no"], each["error"] is None) for each in outcomes] == [
        ("10000", True),
        ("20000", False),
        ("", False),
        ("30000", True),
    ]
    listed = (await cronus.get(f"{COMPANY}/nav/customers")).json()["items"]
    assert [each["no"] for each in listed] == ["10000", "30000"]


async def test_a_list_is_filtered_and_searched_and_paged(cronus: httpx.AsyncClient) -> None:
    names = {"10": "Adatum", "20": "Trey Research", "30": "School of Fine Art"}
    records = [{"no": no, "fields": {"Name": name}} for no, name in names.items()]
    assert (await cronus.post(f"{COMPANY}/nav/customers/bulk", json={"records": records})).status_code == 200

    async def listed(**query: str | int) -> list[str]:
        found: list[str] = []
        cursor = None
        for _ in range(5):
            page = await cronus.get(
                f"{COMPANY}/nav/customers", params={**query, **({"cursor": cursor} if cursor else {})}
            )
            assert page.status_code == 200, page.text
            found += [each["no"] for each in page.json()["items"]]
            if (cursor := page.json()["next_cursor"]) is None:
                break
        return found

    assert await listed(limit=2) == ["10", "20", "30"]
    assert await listed(filter="startswith(Name,'Trey')") == ["20"]
    assert await listed(search="fine") == ["30"]
    assert await listed(coupled="true") == []
    assert await listed(coupled="false", limit=1) == ["10", "20", "30"]
    wrong = await cronus.get(f"{COMPANY}/nav/customers", params={"filter": "Name eq"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid-filter")


async def test_a_table_tells_its_fields(cronus: httpx.AsyncClient) -> None:
    tables = (await cronus.get(f"{COMPANY}/nav-tables")).json()["items"]
    assert {"customers", "contacts", "salespeople"} <= {table["name"] for table in tables}
    customers = (await cronus.get(f"{COMPANY}/nav-tables/customers")).json()
    fields = {field["name"]: field for field in customers["fields"]}
    assert fields["No"]["key"]
    assert fields["Salesperson_Code"]["relation"] == ["salespeople"]
    assert fields["Credit_Limit_LCY"]["type"] == "decimal"
    answer = await cronus.get(f"{COMPANY}/nav-tables/sheep")
    assert (answer.status_code, answer.json()["code"]) == (404, "table-not-found")


async def test_the_nav_side_says_that_it_is_there(cronus: httpx.AsyncClient) -> None:
    answer = await cronus.post(f"{COMPANY}/nav/test")
    assert (answer.status_code, answer.json()["ok"], answer.json()["kind"]) == (200, True, "embedded")
