"""The figures of both sides on a customer, over HTTP."""

import httpx
import pytest

from tests.api.conftest import COMPANY, Sandbox

pytestmark = pytest.mark.anyio

CUSTOMER = f"{COMPANY}/nav/customers/10000"
CRM_STATISTICS = f"{CUSTOMER}/crm-statistics"
UPDATE = f"{CUSTOMER}/update-account-statistics"


async def a_customer(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        f"{COMPANY}/nav/customers",
        json={"no": "10000", "fields": {"Name": "Adatum", "Credit_Limit_LCY": 100}},
    )
    assert answer.status_code == 201, answer.text


async def coupled(client: httpx.AsyncClient) -> None:
    await a_customer(client)
    assert (await client.post(f"{CUSTOMER}/create-in-crm")).status_code == 201


async def test_the_statistics_of_crm_are_numbers_and_lists(ready: httpx.AsyncClient) -> None:
    await coupled(ready)
    found = await ready.get(CRM_STATISTICS)
    assert found.status_code == 200, found.text
    body = found.json()
    assert {name: body[name] for name in ("opportunities", "quotes", "cases")} == {
        "opportunities": 0,
        "quotes": 0,
        "cases": 0,
    }
    assert body["as_of"].endswith("Z")
    for kind in ("opportunities", "quotes", "cases"):
        listed = await ready.get(f"{CRM_STATISTICS}/{kind}")
        assert (listed.status_code, listed.json()) == (200, {"items": [], "next_cursor": None})
    assert (await ready.get(f"{CRM_STATISTICS}/invoices")).status_code == 422


async def test_without_a_coupling_there_is_nothing_to_show(ready: httpx.AsyncClient) -> None:
    await a_customer(ready)
    for answer in (
        await ready.get(CRM_STATISTICS),
        await ready.get(f"{CRM_STATISTICS}/quotes"),
        await ready.post(UPDATE),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "not-coupled")


async def test_account_statistics_are_previewed_written_and_then_left_alone(
    ready: httpx.AsyncClient, crm: Sandbox
) -> None:
    await coupled(ready)
    preview = await ready.post(UPDATE, json={"preview": True})
    assert (preview.status_code, preview.json()["action"]) == (200, "inserted")
    assert crm.organization.rows("nav_accountstatistics") == {}
    written = (await ready.post(UPDATE)).json()
    assert written["action"] == "inserted"
    assert {"side": "crm", "field": "nav_creditlimitlcy", "old": None, "new": 100} in written["changes"]
    again = (await ready.post(UPDATE)).json()
    assert (again["action"], again["changes"]) == ("unmodified", [])
    job = await ready.get(f"{COMPANY}/synch-jobs/{written['synch_job_id']}")
    assert (job.json()["status"], job.json()["inserted"]) == ("succeeded", 1)


async def test_a_currency_without_a_rate_names_the_call_that_adds_it(ready: httpx.AsyncClient) -> None:
    assert (
        await ready.post(f"{COMPANY}/nav/currencies", json={"no": "EUR", "fields": {"Description": "Euro"}})
    ).status_code == 201
    refused = await ready.post(f"{COMPANY}/nav/currencies/EUR/create-in-crm")
    assert (refused.status_code, refused.json()["code"]) == (422, "exchange-rate-missing")
    assert "currency-exchange-rates" in refused.json()["fix"]
    rate = {"Exchange_Rate_Amount": 100, "Relational_Exch_Rate_Amount": 80}
    added = await ready.post(
        f"{COMPANY}/nav/currency-exchange-rates", json={"no": "EUR,2018-01-01", "fields": rate}
    )
    assert added.status_code == 201, added.text
    shown = await ready.get(f"{COMPANY}/nav/currencies/EUR")
    assert shown.json()["fields"]["Currency_Factor"] == 1.25
    created = await ready.post(f"{COMPANY}/nav/currencies/EUR/create-in-crm")
    assert (created.status_code, created.json()["action"]) == (201, "inserted")
