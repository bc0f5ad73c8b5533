"""How to: Set Up a Dynamics CRM Connection, beyond the address and the login: who works in CRM, and as whom."""

import pytest

from tests.seeds.test_d1_contacts import open_nav
from tests.seeds.world import NAV_CLIENT, USER, Json, World

pytestmark = pytest.mark.anyio
CONNECTION = "crm-connection"
CUSTOMER = "integration-table-mappings/CUSTOMER"
MODIFIED = {"mode": "modified"}
PETER = "peter@contoso.example"


async def test_E_07_the_address_of_the_nav_client_is_set_and_taken_back(world: World) -> None:
    account = await world.coupled_customer()
    await world.patch(CONNECTION, {"nav_web_client_url": "https://other.example/NAV"})
    assert (await world.get("/api/v1/companies/cronus"))["nav_web_client_url"] == "https://other.example/NAV"
    answer = await open_nav(world, "account", account)
    assert answer.headers["Location"].startswith("https://other.example/NAV")
    await world.patch(CONNECTION, {"nav_web_client_url": None})
    assert (await open_nav(world, "account", account)).status_code == 409
    assert (await world.get("nav/customers/10000/coupling"))["nav_url"] is None
    await world.patch(CONNECTION, {"nav_web_client_url": NAV_CLIENT})
    assert (await open_nav(world, "account", account)).status_code == 302


async def test_E_07_the_address_of_the_nav_client_stands_in_crm_for_its_button(world: World) -> None:
    async def told() -> list[tuple[str, str | None]]:
        return [(r["nav_name"], r["nav_dynamicsnavurl"]) for r in await world.crm.rows("nav_connections")]

    await world.patch(CONNECTION, {"is_enabled": True})
    name = (await world.get("/api/v1/companies/cronus"))["display_name"]
    assert await told() == [(name, NAV_CLIENT)]
    preview = {"nav_web_client_url": "https://other.example/NAV", "preview": True}
    await world.patch(CONNECTION, preview)
    assert await told() == [(name, NAV_CLIENT)]
    await world.patch(CONNECTION, {"nav_web_client_url": "https://other.example/NAV"})
    assert await told() == [(name, "https://other.example/NAV")]
    await world.patch("/api/v1/companies/cronus", {"nav_web_client_url": None})
    assert await told() == [(name, None)]


async def test_E_09_what_kind_of_user_the_connection_works_as_is_shown_with_a_warning(
    connected: World,
) -> None:
    shown = await connected.get(CONNECTION)
    assert (shown["user_is_integration_user"], shown["user_is_administrator"]) == (True, True)
    report = await connected.post(f"{CONNECTION}/test")
    step = next(step for step in report["steps"] if step["name"] == "roles")
    assert (step["ok"], "System Administrator" in step["detail"]) == (True, True)
    assert "more than the integration needs" in step["fix"]
    organization = connected.crm.organization
    rows = organization.rows("systemuserroles")
    roles = {row["roleid"]: row["name"] for row in organization.rows("role").values()}
    for key, row in list(rows.items()):
        if roles[row["roleid"]] == "System Administrator":
            organization.storage.remove("systemuserroles", key)
    report = await connected.post(f"{CONNECTION}/test")
    assert report["user_is_administrator"] is False
    assert next(step for step in report["steps"] if step["name"] == "roles")["fix"] is None


async def test_E_10_sales_order_integration_is_switched_in_crm_by_who_may(connected: World) -> None:
    assert (await connected.get(CONNECTION))["sales_order_integration_enabled"] is False
    connected.crm.organization.revoke("prvWriteOrganization")
    refused = await connected.refused("PATCH", CONNECTION, {"sales_order_integration_enabled": True})
    assert refused.said == (502, "crm-permission-missing")
    assert "prvWriteOrganization" in refused.text
    assert (await connected.get(CONNECTION))["sales_order_integration_enabled"] is False
    connected.crm.organization.grant("prvWriteOrganization")
    on = await connected.patch(CONNECTION, {"sales_order_integration_enabled": True})
    assert on["sales_order_integration_enabled"] is True
    (row,) = await connected.crm.rows("organizations")
    assert row["issopintegrationenabled"] is True
    account = await connected.crm.account()
    order = await connected.crm.create(
        "salesorders", name="S1", **{"customerid_account@odata.bind": f"/accounts({account})"}
    )
    await connected.crm.change("salesorders", order, statecode=1, statuscode=3)
    refused = await connected.refused("PATCH", CONNECTION, {"sales_order_integration_enabled": False})
    assert refused.said == (409, "submitted-sales-orders")
    await connected.crm.delete("salesorders", order)
    off = await connected.patch(CONNECTION, {"sales_order_integration_enabled": False})
    assert off["sales_order_integration_enabled"] is False
    await connected.patch(CONNECTION, {"is_enabled": False})
    refused = await connected.refused("PATCH", CONNECTION, {"sales_order_integration_enabled": True})
    assert refused.said == (409, "connection-disabled")


async def a_key(world: World, email: str | None, *scopes: str) -> Json:
    """The header of a caller."""
    body = {"name": "somebody", "scopes": list(scopes) or ["sync"], "email": email}
    return {"Authorization": f"Bearer {(await world.post('/api/v1/api-keys', body))['key']}"}


async def test_E_11_where_users_must_map_a_caller_without_a_crm_user_is_refused(world: World) -> None:
    account = await world.coupled_customer()
    await world.change("customers", "10000", City="London")
    refused = await world.refused("PATCH", CONNECTION, {"user_mapping_required": True})
    assert refused.said == (403, "user-not-mapped"), "the caller would lock himself out"
    peter, nobody = await a_key(world, PETER.upper(), "admin"), await a_key(world, None)
    stranger = await a_key(world, "stranger@contoso.example")
    address = f"/api/v1/companies/cronus/{CONNECTION}"
    answer = await world.http.patch(address, json={"user_mapping_required": True}, headers=peter)
    assert (answer.status_code, answer.json()["user_mapping_required"]) == (200, True)
    path = "/api/v1/companies/cronus/nav/customers/10000/synchronize"
    before = await world.crm.row("accounts", account)
    for caller in (nobody, stranger):
        answer = await world.http.post(path, json={"direction": "to_crm"}, headers=caller)
        assert (answer.status_code, answer.json()["code"]) == (403, "user-not-mapped")
        assert answer.json()["fix"]
        listing = await world.http.get("/api/v1/companies/cronus/crm/accounts", headers=caller)
        assert listing.json()["code"] == "user-not-mapped"
        own = await world.http.get("/api/v1/companies/cronus/nav/customers", headers=caller)
        assert own.status_code == 200
    assert await world.crm.row("accounts", account) == before
    assert (await world.http.post(path, json={"direction": "to_crm"}, headers=peter)).status_code == 200
    assert (await world.crm.row("accounts", account))["address1_city"] == "London"
    await world.crm.change("systemusers", USER, isdisabled=True)
    answer = await world.http.post(path, json={"direction": "to_crm"}, headers=peter)
    assert answer.json()["code"] == "user-not-mapped"
    await world.patch(CONNECTION, {"user_mapping_required": False})
    assert (await world.http.post(path, json={"direction": "to_crm"}, headers=nobody)).status_code == 200


async def test_E_11_scheduled_jobs_work_as_the_user_of_the_connection(at_work: World) -> None:
    await at_work.coupled_customer()
    await at_work.change("customers", "10000", City="London")
    peter = await a_key(at_work, PETER, "admin")
    at_work.http.headers.update(peter)
    await at_work.patch(CONNECTION, {"user_mapping_required": True})
    job = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (job["status"], job["modified"]) == ("succeeded", 1)


@pytest.mark.parametrize(
    ("resync", "to_crm", "city", "total"),
    [("changed", 1, "London", 1), ("none", 0, None, 0), ("all", 1, "London", 3)],
)
async def test_E_41_enabling_again_says_what_counts_as_changed(
    at_work: World, resync: str, to_crm: int, city: str | None, total: int
) -> None:
    accounts = [await at_work.coupled_customer(no) for no in ("C1", "C2", "C3")]
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED))["total"] == 0
    await at_work.patch(CONNECTION, {"is_enabled": False})
    await at_work.change("customers", "C1", City="London")
    await at_work.crm.change("accounts", accounts[1], address1_city="Paris")
    refused = await at_work.refused("PATCH", CONNECTION, {"is_enabled": True, "resync": "everything"})
    assert refused.status == 422
    await at_work.patch(CONNECTION, {"is_enabled": True, "resync": resync})
    job = await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    sent = job["directions"].get("to_crm", {"total": 0, "modified": 0})
    assert (sent["total"], sent["modified"]) == (total, to_crm)
    assert (await at_work.crm.row("accounts", accounts[0]))["address1_city"] == city
    assert (await at_work.nav("customers", "C2"))["City"] == ("" if resync == "none" else "Paris")
    await at_work.change("customers", "C1", Phone_No="1")
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (await at_work.crm.row("accounts", accounts[0]))["telephone1"] == "1"


async def test_E_28_by_nav_s_rule_changes_of_the_connections_user_are_ignored(at_work: World) -> None:
    account = await at_work.coupled_customer()
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    for ignored, city in ((True, ""), (False, "Paris")):
        await at_work.patch(CONNECTION, {"ignore_changes_by_user": ignored})
        await at_work.crm.change("accounts", account, address1_city="Paris")  # as the connection's own user
        await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
        assert (await at_work.nav("customers", "10000"))["City"] == city
    await at_work.patch(CONNECTION, {"ignore_changes_by_user": True})
    at_work.crm.works_as(USER)
    await at_work.crm.change("accounts", account, address1_city="Lyon")
    await at_work.job(f"{CUSTOMER}/synchronize", MODIFIED)
    assert (await at_work.nav("customers", "10000"))["City"] == "Lyon"
