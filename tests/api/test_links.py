"""Deep links, as a browser follows them."""

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio
UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"
NO = "K&M/01"


async def a_coupled_customer(ready: httpx.AsyncClient) -> str:
    """Customer K&M/01 and the id of its account."""
    await ready.post(f"{COMPANY}/nav/customers", json={"no": NO, "fields": {"Name": "Kern & Miller"}})
    made = await ready.post(f"{COMPANY}/nav/customers/K%26M%2F01/create-in-crm")
    assert made.status_code == 201, made.text
    assert made.json()["message"] == "Synchronization completed"
    found: str = made.json()["coupling"]["crm_id"]
    return found


async def test_the_button_in_crm_leads_to_the_card_in_nav(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    account = await a_coupled_customer(ready)
    query = {"company": "cronus", "entity": "account"}
    for id in (account, account.upper(), f"{{{account}}}"):
        answer = await anyone.get("/open/nav", params=query | {"id": id})
        assert answer.status_code == 302
        assert answer.headers["Cache-Control"] == "no-store"
        target = urlsplit(answer.headers["Location"])
        assert (target.scheme, target.netloc) == ("https", "nav.cronus.example:8080")
        assert parse_qs(target.query)["page"] == ["21"]
        assert NO in parse_qs(target.query)["filter"][0]


async def test_a_renamed_record_is_still_found(ready: httpx.AsyncClient, anyone: httpx.AsyncClient) -> None:
    account = await a_coupled_customer(ready)
    renamed = await ready.patch(f"{COMPANY}/nav/customers/K%26M%2F01", json={"fields": {"No": "D'ARC-1"}})
    assert renamed.status_code == 200, renamed.text
    answer = await anyone.get("/open/nav", params={"company": "cronus", "entity": "account", "id": account})
    assert "ARC-1" in parse_qs(urlsplit(answer.headers["Location"]).query)["filter"][0]


async def test_a_renamed_record_has_its_new_number_wherever_its_coupling_is_shown(
    ready: httpx.AsyncClient,
) -> None:
    """Somebody else may have got the old one."""
    account = await a_coupled_customer(ready)
    customer = f"{COMPANY}/nav/customers"
    bulk = {"records": [{"no": "R1", "fields": {"No": "R2"}}]}
    for method, address, body, now in (
        ("PATCH", f"{customer}/K%26M%2F01", {"fields": {"No": "R1"}}, "R1"),
        ("POST", f"{customer}/bulk", bulk, "R2"),
    ):
        assert (await ready.request(method, address, json=body)).status_code == 200
        assert (await ready.get(f"{COMPANY}/crm/accounts/{account}")).json()["nav_no"] == now
        coupling = (await ready.get(f"{customer}/{now}/coupling")).json()
        (listed,) = (await ready.get(f"{COMPANY}/couplings")).json()["items"]
        alone = (await ready.get(f"{COMPANY}/couplings/{coupling['id']}")).json()
        for shown in (listed, alone):
            assert (shown["nav_no"], now in shown["nav_url"]) == (now, True)


async def test_a_record_in_nav_leads_to_its_record_in_crm(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient, crm: Sandbox
) -> None:
    account = await a_coupled_customer(ready)
    answer = await anyone.get("/open/crm", params={"company": "cronus", "table": "customers", "no": NO})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{crm.url}/main.aspx?")
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["id"] == [account]


NOWHERE: tuple[tuple[str, dict[str, str], int], ...] = (
    ("nav", {}, 400),
    ("nav", {"company": "cronus", "entity": "account", "id": "10000"}, 400),
    ("nav", {"company": "cronus", "entity": "javascript:alert(1)", "id": UNKNOWN}, 400),
    ("nav", {"company": "<script>", "entity": "account", "id": UNKNOWN}, 404),
    ("nav", {"company": "cronus", "entity": "account", "id": UNKNOWN}, 404),
    ("nav", {"company": "c" * 10_000, "entity": "account", "id": UNKNOWN}, 404),
    ("nav", {"company": "a\x00b", "entity": "account", "id": UNKNOWN}, 400),
    ("crm", {"company": "cronus", "table": "customers"}, 400),
    ("crm", {"company": "cronus", "table": "sheep", "no": "1"}, 400),
    ("crm", {"company": "cronus", "table": "customers", "no": "<b>1</b>"}, 404),
    ("crm", {"company": "cronus", "table": "customers", "no": "a\x00b"}, 404),
)


async def test_a_link_that_leads_nowhere_says_so_on_a_page(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    for path, query, status in NOWHERE:
        answer = await anyone.get(f"/open/{path}", params=query)
        assert answer.status_code == status, (path, query, answer.text)
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "<h1>" in answer.text
        for text in ("<script>", "<b>1"):
            assert text not in answer.text


async def test_without_an_enabled_connection_no_link_works(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    account = await a_coupled_customer(ready)
    await ready.patch(CONNECTION, json={"is_enabled": False})
    answer = await anyone.get("/open/nav", params={"company": "cronus", "entity": "account", "id": account})
    assert (answer.status_code, "not enabled" in answer.text) == (409, True)


async def test_a_link_leads_to_configured_addresses_alone(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    """Whatever a link holds: it is looked up, never followed."""
    crm_id = await a_coupled_customer(ready)
    good = {"company": "cronus", "entity": "account", "id": crm_id}
    for name, value in (
        ("id", f"{crm_id}&redirect=https://elsewhere.example"),
        ("id", "https://elsewhere.example"),
        ("company", "//elsewhere.example"),
        ("company", "cronus@elsewhere.example"),
        ("entity", "account/../../elsewhere.example"),
        ("company", "cronus\r\nLocation: https://elsewhere.example"),
    ):
        answer = await anyone.get("/open/nav", params=good | {name: value})
        assert answer.status_code in (400, 404), value
        assert "location" not in answer.headers
    for extra in ("redirect", "returnUrl", "nav_web_client_url", "host", "url"):
        answer = await anyone.get("/open/nav", params=good | {extra: "https://elsewhere.example"})
        assert answer.headers["location"].startswith("https://nav.cronus.example:8080/")
    for header in ("Host", "X-Forwarded-Host", "Forwarded", "X-Original-URL"):
        answer = await anyone.get("/open/nav", params=good, headers={header: "elsewhere.example"})
        assert answer.headers["location"].startswith("https://nav.cronus.example:8080/")


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//elsewhere.example",
        "https://nav.cronus.example@elsewhere.example/",
        "https://nav.cronus.example\\@elsewhere.example/",
        "https:///elsewhere.example",
        "https://nav.cronus.example/\r\nSet-Cookie: a=b",
    ],
)
async def test_an_address_that_is_none_of_a_nav_client_is_not_saved(
    cronus: httpx.AsyncClient, address: str
) -> None:
    answer = await cronus.patch("/api/v1/companies/cronus", json={"nav_web_client_url": address})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/nav_web_client_url")
