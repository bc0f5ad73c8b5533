"""Which headers of ours an answer may carry, as the OpenAPI document declares them: the one place that says so.

Not among them is what browsers alone look at (`headers.CAREFUL`): it is in every answer, and says nothing to a client.
"""

from typing import Any, Final

from app.api.headers import REQUEST_ID
from app.api.idempotency import REPLAYED

HEADERS: Final[dict[str, dict[str, Any]]] = {
    REQUEST_ID: {
        "description": "What the log calls the request: the one that it came with, or a new one.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Stands for the present state of the resource, for `If-Match` and `If-None-Match`. A preview "
        "carries that of what is there, and none where there is nothing.",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where that is found which was made, or the synch job that was started.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {
        "description": "How many seconds to wait before repeating the call; none where repeating alone does not help.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate: with a bearer token.",
        "schema": {"type": "string"},
    },
    REPLAYED: {
        "description": "`true`: this is the first answer to the `Idempotency-Key`, given again. Of a POST alone.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}

LOCATED = (201, 202, 302)
"""Statuses of answers that lead somewhere."""
TO_BE_REPEATED = (409, 429, 503)
"""Statuses of problems that may be over when the call is repeated."""
KEPT = (200, 201, 202, 400, 404, 409, 422)
"""Statuses of a POST whose answer may be kept under its Idempotency-Key."""
TAGGED = {
    "create_company": 201,
    "create_integration_table_mapping": 201,
    "create_integration_field_mapping": 201,
    "create_job_queue_entry": 201,
    "run_job_queue_entry": 202,
    "hold_job_queue_entry": 200,
    "ready_job_queue_entry": 200,
}
"""Operations that take no `If-Match`, and the status with which they tell the ETag of what they made or changed."""


def of_answer(method: str, operation: dict[str, Any], status: int) -> dict[str, Any]:
    """The headers of an operation's answers with a status below 400, for the OpenAPI document."""
    names = [REQUEST_ID]
    if status == TAGGED.get(operation["operationId"]) or (is_conditional(operation) and method != "delete"):
        names.append("ETag")
    if status in LOCATED:
        names.append("Location")
    if method == "post" and status in KEPT:
        names.append(REPLAYED)
    return _referred(names)


def of_problem(status: int) -> dict[str, Any]:
    """The headers of problems with a status, which all operations share."""
    names = [REQUEST_ID]
    if status == 401:
        names.append("WWW-Authenticate")
    if status in TO_BE_REPEATED:
        names.append("Retry-After")
    if status in KEPT:
        names.append(REPLAYED)
    return _referred(names)


def is_conditional(operation: dict[str, Any]) -> bool:
    """Whether the operation takes `If-None-Match`: it is about a resource that has an ETag."""
    return any(each["name"].lower() == "if-none-match" for each in operation.get("parameters", ()))


def _referred(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
