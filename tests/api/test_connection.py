"""The connection to CRM and its default setup, through the door."""

import asyncio

import httpx
import pytest

from app.sandbox import DEFAULT_SECRET, Fault
from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio
LOGIN_SECRET = "/authentication/client_secret"
SETUP = f"{CONNECTION}/use-default-synchronization-setup"


async def test_there_is_none_at_first(cronus: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")):
        answer = await cronus.request(method, CONNECTION + path, json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), (method, path)


async def test_saving_never_enables_and_never_shows_a_secret(cronus: httpx.AsyncClient, crm: Sandbox) -> None:
    saved = await cronus.put(CONNECTION, json=crm.setup())
    assert saved.status_code == 200
    for answer in (saved, await cronus.get(CONNECTION)):
        assert (answer.json()["is_enabled"], answer.json()["status"]) == (False, "disabled")
        assert answer.json()["authentication"]["has_secret"]
        assert DEFAULT_SECRET not in answer.text
    eager = await cronus.put(CONNECTION, json=crm.setup() | {"is_enabled": True})
    assert (eager.status_code, eager.json()["errors"][0]["pointer"]) == (422, "/is_enabled")
    changed = await cronus.patch(CONNECTION, json={"api_version": "v9.1"})
    assert (changed.json()["api_version"], changed.json()["is_enabled"]) == ("v9.1", False)


async def test_an_address_with_a_path_is_refused_with_the_repaired_one(
    cronus: httpx.AsyncClient, crm: Sandbox
) -> None:
    body = crm.setup() | {"server_url": "https://cronus.crm4.dynamics.com/main.aspx"}
    answer = await cronus.put(CONNECTION, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-server-url")
    assert answer.json()["errors"][0]["suggestion"] == "https://cronus.crm4.dynamics.com"


async def test_enabling_tests_first_and_says_what_is_still_to_be_done(
    cronus: httpx.AsyncClient, crm: Sandbox
) -> None:
    await cronus.post(f"{COMPANY}/nav/customers", json={"no": "10000", "fields": {"Name": "Adatum"}})
    await cronus.put(CONNECTION, json=crm.setup(client_secret="wrong"))
    refused = await cronus.patch(CONNECTION, json={"is_enabled": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "connection-test-failed")
    assert not (await cronus.get(CONNECTION)).json()["is_enabled"]
    assert not (await cronus.post(f"{CONNECTION}/test")).json()["ok"]
    await cronus.patch(CONNECTION, json={"authentication": {"client_secret": DEFAULT_SECRET}})
    tested = (await cronus.post(f"{CONNECTION}/test")).json()
    assert tested["ok"]
    enabled = await cronus.patch(CONNECTION, json={"is_enabled": True})
    assert enabled.status_code == 200
    found = enabled.json()
    assert (found["is_enabled"], found["status"], found["default_setup_needed"]) == (True, "connected", True)
    assert found["records_without_integration_id"] >= 1
    assert len(found["next_steps"]) == 2
    assert found["organization_id"] == tested["organization_id"]


async def test_what_needs_crm_says_that_the_connection_is_disabled(ready: httpx.AsyncClient) -> None:
    await ready.patch(CONNECTION, json={"is_enabled": False})
    pair = {"nav_table": "customers", "nav_no": "10000", "crm_id": "11111111-1111-4111-8111-111111111111"}
    for method, path, body in (
        ("GET", "/crm/accounts", None),
        ("POST", "/integration-table-mappings/CUSTOMER/synchronize", {"mode": "full"}),
        ("POST", "/couplings", {"pairs": [pair]}),
        ("GET", "/crm-entities/accounts", None),
    ):
        answer = await ready.request(method, COMPANY + path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "connection-disabled"), path
    assert len((await ready.get(f"{COMPANY}/integration-table-mappings")).json()["items"]) > 3


async def test_who_disables_the_connection_may_say_why(ready: httpx.AsyncClient) -> None:
    why = "CRM is updated until 5 p.m."
    for body in ({"disabled_reason": why}, {"is_enabled": True, "disabled_reason": why}):
        refused = await ready.patch(CONNECTION, json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    for change in ({}, {"preview": True}, {"api_version": "v9.1"}):
        body = {"is_enabled": False, "disabled_reason": why} | change
        assert (await ready.patch(CONNECTION, json=body)).json()["disabled_reason"] == why
    assert (await ready.get(CONNECTION)).json()["disabled_reason"] == why
    refused = await ready.get(f"{COMPANY}/crm/accounts")
    assert (refused.json()["code"], why in refused.json()["detail"]) == ("connection-disabled", True)
    enabled = await ready.patch(CONNECTION, json={"is_enabled": True})
    assert enabled.json()["disabled_reason"] is None


async def test_an_old_tag_does_not_change_the_connection(connected: httpx.AsyncClient) -> None:
    tag = (await connected.get(CONNECTION)).headers["ETag"]
    headers = {"If-Match": tag}
    assert (await connected.patch(CONNECTION, json={"is_enabled": False}, headers=headers)).status_code == 200
    late = await connected.patch(CONNECTION, json={"is_enabled": True}, headers=headers)
    assert (late.status_code, late.json()["code"]) == (412, "precondition-failed")


async def test_the_default_setup_is_the_same_however_often_it_is_used(connected: httpx.AsyncClient) -> None:
    preview = (await connected.post(SETUP, json={"preview": True})).json()
    assert preview["integration_table_mappings"] > 3
    assert (await connected.get(f"{COMPANY}/integration-table-mappings")).json()["items"] == []
    first = (await connected.post(SETUP)).json()
    export = (await connected.get(f"{COMPANY}/integration-table-mappings/export")).json()
    again = await connected.post(SETUP)
    assert (again.status_code, again.json()["code"]) == (409, "setup-exists")
    assert "would_be_lost" in again.json()
    replaced = (await connected.post(SETUP, json={"replace_existing": True})).json()
    for name in ("integration_table_mappings", "integration_field_mappings", "job_queue_entries"):
        assert preview[name] == first[name] == replaced[name] == replaced["removed"][name]
    assert (await connected.get(f"{COMPANY}/integration-table-mappings/export")).json() == export


async def test_integration_ids_are_made_once(connected: httpx.AsyncClient) -> None:
    await connected.patch(CONNECTION, json={"is_enabled": False})
    for no in ("10000", "20000"):
        await connected.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": "Adatum"}})
    preview = (await connected.post(f"{CONNECTION}/generate-integration-ids", json={"preview": True})).json()
    first = (await connected.post(f"{CONNECTION}/generate-integration-ids")).json()
    assert preview == first
    assert first["generated"]["customers"] == 2
    assert (await connected.post(f"{CONNECTION}/generate-integration-ids")).json()["total"] == 0


async def test_a_refused_change_leaves_nothing_behind(connected: httpx.AsyncClient) -> None:
    before = (await connected.get(CONNECTION)).text, (await connected.get(COMPANY)).text
    away = {"nav_web_client_url": "https://nav.example"}
    for refused in (
        {**away, "server_url": "http://crm.example"},
        {**away, "authentication": {"client_secret": "wrong"}, "is_enabled": True},
        {"nav_web_client_url": "javascript:x", "api_version": "v9.1"},
    ):
        assert (await connected.patch(CONNECTION, json=refused)).status_code == 422
        assert ((await connected.get(CONNECTION)).text, (await connected.get(COMPANY)).text) == before


async def test_incomplete_credentials_are_a_step_of_the_test(cronus: httpx.AsyncClient, crm: Sandbox) -> None:
    await cronus.put(CONNECTION, json=crm.setup(client_secret=""))
    tested = await cronus.post(f"{CONNECTION}/test")
    assert (tested.status_code, tested.json()["ok"]) == (200, False)
    assert [step["name"] for step in tested.json()["steps"]] == ["credentials"]
    refused = await cronus.patch(CONNECTION, json={"is_enabled": True})
    assert (refused.status_code, refused.json()["code"]) == (422, "connection-test-failed")
    assert refused.json()["errors"][0]["pointer"] == "/authentication/client_secret"


@pytest.mark.parametrize(
    ("login", "pointer"),
    [
        ({"type": "client_secret"}, "/authentication/tenant_id"),
        ({"type": "client_secret", "tenant_id": "t", "client_id": "c", "client_secret": 5}, LOGIN_SECRET),
        ({"type": "password"}, "/authentication/type"),
        ({}, "/authentication/type"),
        ({"type": "client_secret", "tenant_id": "../common", "client_id": "c"}, "/authentication/tenant_id"),
        ("secret", "/authentication"),
    ],
)  # fmt: skip
async def test_a_login_that_cannot_be_is_told_by_the_field_that_was_sent(
    cronus: httpx.AsyncClient, crm: Sandbox, login: object, pointer: str
) -> None:
    answer = await cronus.put(CONNECTION, json=crm.setup() | {"authentication": login})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert "tag" not in answer.text
    assert "dictionary" not in answer.text


async def test_a_change_that_crm_may_refuse_takes_no_other_along(ready: httpx.AsyncClient) -> None:
    before = (await ready.get(CONNECTION)).json()
    for besides in ({"is_enabled": False}, {"api_version": "v9.1"}):
        both = besides | {"sales_order_integration_enabled": True}
        for body in (both | {"preview": True}, both):
            refused = await ready.patch(CONNECTION, json=body)
            assert refused.status_code == 422
            assert refused.json()["errors"][0]["pointer"] == "/sales_order_integration_enabled"
        assert (await ready.get(CONNECTION)).json() == before
    await ready.patch(CONNECTION, json={"is_enabled": False})
    for preview in (True, False):
        alone = {"sales_order_integration_enabled": True, "preview": preview}
        refused = await ready.patch(CONNECTION, json=alone)
        assert (refused.status_code, refused.json()["code"]) == (409, "connection-disabled")


async def test_a_change_of_the_company_breaks_nothing_off_that_is_under_way_with_crm(
    ready: httpx.AsyncClient, crm: Sandbox
) -> None:
    await ready.post(f"{COMPANY}/nav/customers", json={"no": "C1", "fields": {"Name": "Adatum"}})
    slow = Fault(kind="hang", seconds=0.5, times=1)
    crm.organization.faults.append(slow)
    creating = asyncio.create_task(ready.post(f"{COMPANY}/nav/customers/C1/create-in-crm"))
    for _ in range(500):
        if slow.struck:
            break
        await asyncio.sleep(0.01)
    assert (await ready.patch(COMPANY, json={"display_name": "Cronus"})).status_code == 200
    created = await creating
    assert created.status_code == 201, created.text
