"""The contract as a document: what is exported is what the service does."""

import json
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api import examples
from app.api.connection_models import ConnectionIn
from app.demo.dataverse import row_id
from app.main import VERSION, openapi_document
from app.sandbox import Fault
from tests.api.conftest import CONNECTION, Sandbox

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "openapi" / "openapi.json"
COMPANY = "/api/v1/companies/{company}"
RECORD = f"{COMPANY}/nav/{{table}}/{{no}}"
MAPPING = f"{COMPANY}/integration-table-mappings/{{mapping}}"
PROMISED = {
    "/api/v1/companies": "get post",
    COMPANY: "get patch delete",
    f"{COMPANY}/nav/test": "post",
    f"{COMPANY}/nav-tables": "get",
    f"{COMPANY}/nav-tables/{{table}}": "get",
    f"{COMPANY}/crm-entities/{{entity_set}}": "get",
    "/api/v1/api-keys": "get post",
    "/api/v1/api-keys/{id}": "delete",
    f"{COMPANY}/crm-connection": "get put patch delete",
    f"{COMPANY}/crm-connection/test": "post",
    f"{COMPANY}/crm-connection/use-default-synchronization-setup": "post",
    f"{COMPANY}/crm-connection/generate-integration-ids": "post",
    f"{COMPANY}/integration-table-mappings": "get post",
    f"{COMPANY}/integration-table-mappings/export": "get put",
    MAPPING: "get patch delete",
    f"{MAPPING}/fields": "get post",
    f"{MAPPING}/fields/{{id}}": "get patch delete",
    f"{MAPPING}/synchronize": "post",
    f"{MAPPING}/match": "post",
    f"{MAPPING}/uncouple": "post",
    f"{COMPANY}/synchronize": "post",
    f"{COMPANY}/nav/customers/{{no}}/crm-statistics": "get",
    f"{COMPANY}/nav/customers/{{no}}/crm-statistics/{{kind}}": "get",
    f"{COMPANY}/nav/customers/{{no}}/update-account-statistics": "post",
    f"{COMPANY}/nav/{{table}}": "get post",
    f"{COMPANY}/nav/{{table}}/bulk": "post",
    f"{COMPANY}/nav/{{table}}/synchronize": "post",
    RECORD: "get patch delete",
    f"{RECORD}/coupling": "get put delete",
    f"{RECORD}/coupling/comparison": "get",
    f"{RECORD}/create-in-crm": "post",
    f"{RECORD}/synchronize": "post",
    f"{COMPANY}/crm/{{entity_set}}": "get",
    f"{COMPANY}/crm/{{entity_set}}/{{id}}": "get",
    f"{COMPANY}/crm/{{entity_set}}/{{id}}/create-in-nav": "post",
    f"{COMPANY}/crm/{{entity_set}}/create-in-nav": "post",
    f"{COMPANY}/couplings": "get post",
    f"{COMPANY}/couplings/{{id}}": "get delete",
    f"{COMPANY}/couplings/{{id}}/history": "get",
    f"{COMPANY}/couplings/{{id}}/restore": "post",
    f"{COMPANY}/couplings/restore": "post",
    f"{COMPANY}/synch-jobs": "get",
    f"{COMPANY}/synch-jobs/{{id}}": "get",
    f"{COMPANY}/synch-jobs/{{id}}/outcomes": "get",
    f"{COMPANY}/synch-jobs/{{id}}/events": "get",
    f"{COMPANY}/synch-jobs/{{id}}/cancel": "post",
    f"{COMPANY}/synch-jobs/{{id}}/errors": "get",
    f"{COMPANY}/synch-errors": "get",
    f"{COMPANY}/synch-errors/summary": "get",
    f"{COMPANY}/option-review": "get",
    f"{COMPANY}/synch-status": "get",
    f"{COMPANY}/synch-status/reset": "post",
    f"{COMPANY}/job-queue-entries": "get post",
    f"{COMPANY}/job-queue-entries/{{id}}": "get patch delete",
    f"{COMPANY}/job-queue-entries/{{id}}/run": "post",
    f"{COMPANY}/job-queue-entries/{{id}}/hold": "post",
    f"{COMPANY}/job-queue-entries/{{id}}/ready": "post",
    f"{COMPANY}/job-queue-entries/{{id}}/log": "get",
    "/open/nav": "get",
    "/open/crm": "get",
    "/healthz": "get",
    "/readyz": "get",
    "/metrics": "get",
}
"""The contract as far as it is built."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_the_exported_file_is_what_the_code_says(document: dict[str, Any]) -> None:
    assert json.loads(EXPORTED.read_text()) == document, "run `navcrm openapi` to export it again"


def test_everything_promised_is_there_and_nothing_else(document: dict[str, Any]) -> None:
    found = {path: set(item) for path, item in document["paths"].items()}
    assert found == {path: set(methods.split()) for path, methods in PROMISED.items()}


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() and name.islower() for name in names)
    assert {"couple_record", "synchronize_record"} <= set(names)


def test_every_operation_says_what_it_does_takes_and_answers(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"], (method, path)
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if path.startswith("/api/") and int(status) >= 400:
                *_, name = response["$ref"].split("/")
                schema = {"$ref": "#/components/schemas/Problem"}
                shared = document["components"]["responses"][name]
                assert shared["content"] == {"application/problem+json": {"schema": schema}}
                assert shared["description"], (method, path, status)
            elif "application/json" in content:
                assert content["application/json"]["schema"], (method, path, status)


def test_every_operation_behind_the_gate_declares_its_scope_and_its_problems(
    document: dict[str, Any],
) -> None:
    for path, method, operation in operations(document):
        if path.startswith("/api/"):
            assert operation["security"][0]["bearer"][0] in ("read", "sync", "admin"), (method, path)
            assert {"401", "403", "422", "429"} <= set(operation["responses"]), (method, path)
            assert "{" not in path or "404" in operation["responses"], (method, path)


def test_every_operation_with_a_body_shows_one_and_says_what_is_wrong_with_others(
    document: dict[str, Any],
) -> None:
    bodies = [each for _, _, each in operations(document) if "requestBody" in each]
    assert {each["operationId"] for each in bodies} == set(examples.BODIES)
    for each in bodies:
        assert each["requestBody"]["content"]["application/json"]["example"], each["operationId"]
        assert {"400", "413", "415"} <= set(each["responses"]), each["operationId"]


def test_what_a_change_leaves_out_has_no_default_that_a_client_would_send(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = [
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for path, method, operation in operations(document)
        if method == "patch"
    ]
    assert len(bodies) == 6  # of records, companies, the connection, mappings, their fields, the job queue
    for name in {*bodies, "AuthenticationPatch"} - {"NavFieldsIn"}:
        with_default = [field for field, told in schemas[name]["properties"].items() if "default" in told]
        assert not with_default, name


def test_who_has_the_present_state_of_a_resource_can_say_so(document: dict[str, Any]) -> None:
    conditional = [
        operation
        for _, method, operation in operations(document)
        if method == "get" and "304" in operation["responses"]
    ]
    assert (
        len(conditional) == 6
    )  # companies, the connection, mappings, their document and fields, the job queue
    for operation in conditional:
        taken = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert taken == {"if-none-match"}, operation["operationId"]
        for status in ("200", "304"):
            assert "ETag" in operation["responses"][status]["headers"], operation["operationId"]


def test_any_post_can_find_its_key_still_at_work(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        if method == "post" and path.startswith("/api/"):
            assert "409" in operation["responses"], path


def test_the_accounts_of_the_examples_are_those_of_the_demo() -> None:
    for name in ("10000", "30000"):
        assert getattr(examples, f"ACCOUNT_OF_{name}") == row_id("accounts", name)
    assert row_id("accounts", "Fourth Coffee") == examples.FOURTH_COFFEE
    assert row_id("accounts", "Litware, Inc.") == examples.LITWARE


def test_the_document_is_what_generators_of_clients_take(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert document["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in text
    assert "itemSchema" not in text
    assert document["info"]["version"] == VERSION


def test_the_version_is_that_of_the_package() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


@pytest.mark.anyio
async def test_the_documentation_needs_nothing_from_elsewhere(anyone: httpx.AsyncClient) -> None:
    page = await anyone.get("/docs")
    assert page.status_code == 200
    assert "//" not in page.text.replace("<!doctype", "")
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js", "favicon-32x32.png"):
        assert f"docs/static/{asset}" in page.text
        assert (await anyone.get(f"/docs/static/{asset}")).status_code == 200
    assert (await anyone.get("/openapi.json")).json()["info"]["title"] == "navcrm"


@pytest.mark.anyio
async def test_the_state_of_the_service_is_open_to_all(anyone: httpx.AsyncClient) -> None:
    assert (await anyone.get("/healthz")).json() == {"status": "ok"}
    ready = await anyone.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"] == ready.json()["checks"]["migrations"] == "ok"
    assert "no worker" in ready.json()["checks"]["worker"]
    assert "python_info" in (await anyone.get("/metrics")).text


@pytest.mark.anyio
async def test_every_example_is_a_body_that_the_operation_takes(
    ready: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    values = {
        "company": "cronus",
        "mapping": "CUSTOMER",
        "table": "customers",
        "no": "10000",
        "entity_set": "accounts",
    }
    seller = {"no": "PS", "fields": {"Name": "Peter Saddow"}}
    await ready.post("/api/v1/companies/cronus/nav/salespeople", json=seller)
    refused = {"invalid-request", "invalid-values", "invalid-mapping"}
    for path, method, operation in operations(document):
        name = operation["operationId"]
        if name not in examples.BODIES or name == "replace_crm_connection":
            continue
        address = path.replace("{id}", examples.FOURTH_COFFEE).format(**values)
        answer = await ready.request(method, address, json=examples.BODIES[name])
        assert answer.status_code < 500, (name, answer.text)
        assert answer.json().get("code") not in refused, (name, answer.text)
    # That of a connection names a CRM elsewhere, which no test is to reach.
    ConnectionIn.model_validate(examples.BODIES["replace_crm_connection"])


@pytest.mark.anyio
async def test_the_parts_of_an_operation_that_work_in_crm_answer_as_it_declares(
    ready: httpx.AsyncClient, crm: Sandbox
) -> None:
    """That the answers are declared is looked at with every answer (`conftest`)."""
    customers = f"{COMPANY}/nav/customers".format(company="cronus")
    await ready.post(customers, json={"no": "C1", "fields": {"Name": "Adatum"}})
    assert (await ready.post(f"{customers}/C1/create-in-crm")).status_code == 201
    crm.organization.faults.append(Fault(kind="403", code="0x80040220"))
    statistics = {"include": "crm_statistics"}
    assert (await ready.get(f"{customers}/C1", params=statistics)).status_code == 502
    switch = {"sales_order_integration_enabled": True}
    assert (await ready.patch(CONNECTION, json=switch)).status_code == 502
    crm.organization.faults.clear()
    await ready.patch(CONNECTION, json={"is_enabled": False})
    assert (await ready.get(f"{customers}/C1", params=statistics)).status_code == 409
    assert (await ready.get(f"{customers}/C1")).status_code == 200


def test_what_an_answer_always_has_is_not_declared_as_if_it_could_be_missing(
    document: dict[str, Any],
) -> None:
    at_times = {  # what is only told where it was asked for, or where there is something to tell
        "EnabledConnectionOut",
        "FieldProblemOut",
        "NavCardOut",
        "Problem",
    }
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Out") and name not in at_times:
            assert schema["properties"].keys() == set(schema["required"]), name
