"""The OpenAPI document: FastAPI's, made into what client generators and readers need."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api import response_headers
from app.api.examples import BODIES
from app.api.idempotency import HEADER, MAXIMUM_LENGTH
from app.api.operation import PROBLEMS, SCHEME, described
from app.api.problems import MEDIA_TYPE, Problem

DESCRIPTION = """\
Keeps Dynamics NAV (or Business Central) and Dynamics CRM (Dataverse) in step, over REST.

* A **company** is a NAV company and the tenant: everything below `/companies/{company}` belongs to it alone.
* NAV records are addressed by table and number, CRM records by entity set and GUID. Keys are percent-encoded; the
  parts of a two-part key are joined by a comma (`CT000001,CUST`).
* `filter` parameters are OData `$filter` expressions on either side.
* Lists are pages: `items` and `next_cursor`.
* Errors are problem details (RFC 9457) with a stable `code` and, where it helps, `errors` by field and `fix`, the
  call that mends it.
* Any POST may carry an `Idempotency-Key`: the same key and body gives the first answer again.
* Configuration resources carry an `ETag`; `If-Match` is honoured, and `If-None-Match` on a GET (304).
* `preview: true` answers with exactly what would be written, and writes nothing.
* Long work answers 202 with `Location` and the synch job.
"""

AUTHENTICATION = """\
An API key (`nck_…`) or, where configured, an Entra ID access token. Scopes, each including the one before: `read`;
`sync` (couple, synchronize, run); `admin` (companies, connections, mappings, keys). A key may be bound to companies.
"""

TAGS = [
    {"name": "Companies", "description": "NAV companies and what can be mapped in them."},
    {"name": "API keys", "description": "Who may call."},
    {"name": "CRM connection", "description": "The connection of a company to CRM, and its default setup."},
    {
        "name": "Integration table mappings",
        "description": "Which NAV table goes with which CRM entity, field by field.",
    },
    {"name": "NAV records", "description": "The records of NAV."},
    {"name": "CRM records", "description": "The records of CRM."},
    {"name": "Statistics", "description": "What CRM and NAV know of a customer."},
    {"name": "Couplings", "description": "Which records are the same thing, and keeping them in step."},
    {"name": "Synch jobs", "description": "Runs, their outcomes and errors."},
    {"name": "Job queue", "description": "What runs by itself, and when."},
    {"name": "Deep links", "description": "Links a browser follows."},
    {"name": "Service", "description": "The state of the service."},
]

METHODS = ("get", "put", "post", "patch", "delete")
IF_MATCH = "if-match"
"""A condition of changes: whoever only reads says `If-None-Match`."""
CHANGES = "Patch"
"""How the models end that carry changes: what they leave out stays as it is."""


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app, always the same for the same code."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
        servers=app.servers,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem.pop("$defs")
    schemas["Problem"] = problem
    for name, schema in schemas.items():
        if name.endswith(CHANGES):
            _without_defaults(schema)
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = deepcopy(response_headers.HEADERS)
    components["responses"] = {
        _component(status): described(status) | {"headers": response_headers.of_problem(status)}
        for status in sorted(PROBLEMS)
    }
    components["securitySchemes"] = {
        SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "nck_…", "description": AUTHENTICATION}
    }
    for path in found["paths"].values():
        for method in METHODS:
            if method in path:
                _finish(method, path[method])
    return found


def _without_defaults(schema: dict[str, Any]) -> None:
    """A generated client sends the defaults of a model along, and so would set back what nobody named."""
    for field in schema["properties"].values():
        field.pop("default", None)


def _finish(method: str, operation: dict[str, Any]) -> None:
    if method == "post" and operation.get("security"):
        operation.setdefault("parameters", []).append(deepcopy(_IDEMPOTENCY_KEY))
    if "requestBody" in operation:
        operation["requestBody"]["content"]["application/json"]["example"] = BODIES[operation["operationId"]]
    if method != "get" and operation.get("security"):
        # A body is looked at even where none is taken; two changes at once, or two calls with one Idempotency-Key, may
        # be in each other's way.
        _can_answer(operation, {status: described(status) for status in (400, 409, 413, 415)})
    if method == "get" and response_headers.is_conditional(operation):
        operation["parameters"] = [each for each in operation["parameters"] if each["name"] != IF_MATCH]
        _can_answer(operation, {304: {"description": "The caller has this state already."}})
    if "422" in operation["responses"] and not operation.get("security"):
        del operation["responses"]["422"]  # FastAPI's guess: what is open to all takes any parameter
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if int(status) in PROBLEMS and MEDIA_TYPE in content:
            operation["responses"][status] = {"$ref": f"#/components/responses/{_component(int(status))}"}
            continue
        response["headers"] = response_headers.of_answer(method, operation, int(status))
        if "text/event-stream" in content:
            # `itemSchema` belongs to OpenAPI 3.2; generators refuse a 3.1 document that has it.
            content["text/event-stream"] = {"schema": {"type": "string"}}


def _can_answer(operation: dict[str, Any], answers: Mapping[int, dict[str, Any]]) -> None:
    declared = {str(status): answer for status, answer in answers.items()}
    operation["responses"] = dict(sorted((declared | operation["responses"]).items()))


def _component(status: int) -> str:
    """The name of the response that all operations share."""
    return f"Problem{status}"


_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same key and body gives the first answer again, for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAXIMUM_LENGTH},
}


def install(app: FastAPI) -> None:
    """Lets the app give out this document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to change the document
