"""A key that is bound to one company never learns of another, nor changes it, whatever it asks for."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.examples import BODIES
from tests.api.conftest import Sandbox, client_of
from tests.api.test_who_may_call import a_key

pytestmark = pytest.mark.anyio
API = "/api/v1"
THEIRS = f"{API}/companies/fabrikam"
MARK = "Zephyrine"
"""In whatever text of the other company can be read: none of it may come out."""
METHODS = ("get", "put", "post", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Other:
    """What the other company has, by the parameters of paths."""

    mapping: str
    no: str
    field_id: str
    coupling_id: str
    job_id: str
    entry_id: str

    def id_for(self, path: str) -> str:
        """The id that an operation takes."""
        for part, found in (
            ("/fields/", self.field_id),
            ("/couplings/", self.coupling_id),
            ("/synch-jobs/", self.job_id),
        ):
            if part in path:
                return found
        return self.entry_id


async def created(client: httpx.AsyncClient, path: str, body: object = None) -> Any:
    answer = await client.post(f"{THEIRS}{path}", json=body)
    assert answer.is_success, (path, answer.text)
    return answer.json()


@pytest.fixture
async def theirs(ready: httpx.AsyncClient, crm: Sandbox) -> Other:
    """Another company with records, couplings, mappings, jobs and a log, in the same CRM."""
    made = await ready.post(f"{API}/companies", json={"name": "fabrikam", "display_name": MARK})
    assert made.status_code == 201
    assert (await ready.put(f"{THEIRS}/crm-connection", json=crm.setup())).is_success
    assert (await ready.patch(f"{THEIRS}/crm-connection", json={"is_enabled": True})).is_success
    await created(ready, "/crm-connection/use-default-synchronization-setup")
    mapping = await created(
        ready, "/integration-table-mappings", {"name": MARK.upper(), "nav_table": "currencies", "crm_entity": "account",
                                               "direction": "to_crm"}
    )  # fmt: skip
    fields = f"/integration-table-mappings/{mapping['name']}/fields"
    field = await created(ready, fields, {"nav_field": "Description", "crm_attribute": "name"})
    await created(ready, "/nav/customers", {"no": MARK, "fields": {"Name": MARK}})
    await created(ready, f"/nav/customers/{MARK}/create-in-crm")
    failed = await ready.post(f"{THEIRS}/nav/customers/{MARK}/create-in-crm")
    assert failed.status_code == 409
    job = await created(ready, "/synchronize", {"mode": "full"})
    entry = await created(ready, "/job-queue-entries", {"description": MARK, "mapping": "CUSTOMER"})
    (coupling,) = (await ready.get(f"{THEIRS}/couplings")).json()["items"]
    return Other(mapping["name"], MARK.upper(), field["id"], coupling["id"], job["id"], entry["id"])


@pytest.fixture
async def bound(app: FastAPI, ready: httpx.AsyncClient, theirs: Other) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with every right in the first company."""
    made = await a_key(ready, scopes=["admin"], companies=["cronus"])
    async with client_of(app, made["key"]) as client:
        yield client


def below_a_company(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in app.openapi()["paths"].items():
        if path.startswith(f"{API}/companies/{{company}}"):
            yield from ((method, path, item[method]) for method in METHODS if method in item)


async def seen(client: httpx.AsyncClient) -> dict[str, Any]:
    """The other company, as whoever may look sees it."""
    lists = ("", "/crm-connection", "/integration-table-mappings/export", "/nav/customers", "/couplings",
             "/synch-jobs", "/job-queue-entries", "/synch-status")  # fmt: skip
    found = {path: (await client.get(f"{THEIRS}{path}")).json() for path in lists}
    del found["/crm-connection"]["last_checked_at"]  # the service itself notes it
    return found


async def test_no_operation_of_another_company_is_open(
    app: FastAPI, ready: httpx.AsyncClient, bound: httpx.AsyncClient, theirs: Other
) -> None:
    before = await seen(ready)
    for method, path, operation in below_a_company(app):
        address = path.format(
            company="fabrikam", table="customers", entity_set="accounts", kind="quotes", no=theirs.no,
            mapping=theirs.mapping, id=theirs.id_for(path),
        )  # fmt: skip
        answer = await bound.request(method, address, json=BODIES.get(operation["operationId"]))
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
        assert MARK.lower() not in answer.text.replace(address, "").lower(), (method, path)
    assert await seen(ready) == before


async def test_what_belongs_to_another_company_is_not_found_under_ones_own(
    app: FastAPI, ready: httpx.AsyncClient, bound: httpx.AsyncClient, theirs: Other
) -> None:
    """Ids, names and numbers of the other company, asked for in the own one."""
    before = await seen(ready)
    # What takes the connection or the company itself away comes last, or nothing else would be found.
    order = {"delete": 1}
    ordered = sorted(below_a_company(app), key=lambda each: (order.get(each[0], 0), -len(each[1])))
    for method, path, operation in ordered:
        address = path.format(
            company="cronus", table="customers", entity_set="accounts", kind="quotes", no=theirs.no,
            mapping=theirs.mapping, id=theirs.id_for(path),
        )  # fmt: skip
        body = body_about(theirs, operation["operationId"])
        answer = await bound.request(method, address, json=body)
        asked = f"{address} {json.dumps(body)}"
        names_theirs = any(f"{{{name}}}" in path for name in ("mapping", "no")) or (
            "{id}" in path and "/crm/" not in path
        )
        if names_theirs:
            assert answer.status_code in (404, 409, 422), (method, path, answer.text)
        for value in (theirs.coupling_id, theirs.job_id, theirs.entry_id, theirs.field_id):
            assert value in asked or value not in answer.text, (method, path)
        told = "" if MARK.lower() in asked.lower() else answer.text
        assert MARK.lower() not in without_rows_of_crm(path, told).lower(), (method, path)
    assert await seen(ready) == before


def body_about(theirs: Other, operation: str) -> Any:
    """The body of an operation, naming what the other company has."""
    match operation:
        case "couple_records":
            return {"pairs": [{"nav_table": "customers", "nav_no": theirs.no, "crm_id": theirs.coupling_id}]}
        case "restore_couplings":
            return {"ids": [theirs.coupling_id]}
        case "synchronize_company":
            return {"mode": "full", "mappings": [theirs.mapping]}
        case "create_job_queue_entry":
            return {"description": "ours", "mapping": theirs.mapping}
        case _:
            return BODIES.get(operation)


def without_rows_of_crm(path: str, text: str) -> str:
    """Both companies share one CRM, and its rows are CRM's to show; what is told of their couplings is not."""
    if "/crm/" not in path:
        return text
    content = json.loads(text) if text else {}
    rows = content.get("items", [content])
    told = [{name: row.get(name) for name in ("coupled", "nav_table", "nav_no")} for row in rows]
    return json.dumps(told)


async def test_lists_of_the_whole_service_show_the_own_company_alone(
    bound: httpx.AsyncClient, theirs: Other
) -> None:
    listed = await bound.get(f"{API}/companies")
    assert [company["name"] for company in listed.json()["items"]] == ["cronus"]
    for method, path in (("GET", "/api-keys"), ("POST", "/api-keys"), ("POST", "/companies")):
        body = {"name": "more", "scopes": ["read"]} if path == "/api-keys" else {"name": "more"}
        assert (await bound.request(method, f"{API}{path}", json=body)).status_code == 403
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
        assert MARK.lower() not in (await bound.get(path)).text.lower()


async def test_an_answer_kept_for_one_key_is_not_given_to_another(
    ready: httpx.AsyncClient, bound: httpx.AsyncClient, theirs: Other
) -> None:
    same = {"Idempotency-Key": "the same"}
    body = {"no": "77777", "fields": {"Name": MARK}}
    first = await ready.post(f"{THEIRS}/nav/customers", json=body, headers=same)
    assert first.status_code == 201
    own = await bound.post(
        f"{API}/companies/cronus/nav/customers", json={"fields": {"Name": "Ours"}}, headers=same
    )
    assert own.status_code == 201
    assert "Idempotent-Replayed" not in own.headers
    assert MARK not in own.text
    other = await bound.post(f"{THEIRS}/nav/customers", json=body, headers=same)
    assert other.status_code == 403
