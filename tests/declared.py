"""Whether an answer is one that the contract declares: its status, its headers, its body."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import schemathesis

from app.api.headers import CAREFUL_OVER_TLS

DOCUMENT = json.loads((Path(__file__).resolve().parents[1] / "openapi" / "openapi.json").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OF_HTTP = {
    "connection",
    "content-length",
    "content-type",
    "date",
    "server",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
}
FOR_BROWSERS = {name.decode() for name, _ in CAREFUL_OVER_TLS} | {
    "access-control-allow-origin",
    "access-control-expose-headers",
}
FAULT = 500
"""A status that no contract promises."""


def check_answer(answer: httpx.Response) -> None:
    """Fails for an answer, read to its end, that its operation does not declare. What is asked for beside the
    operations of the contract is of no concern here."""
    path = answer.request.url.raw_path.partition(b"?")[0].decode()
    operation = SCHEMA.find_operation_by_path(answer.request.method, path)
    if operation is None or answer.status_code == FAULT:
        return
    told = (answer.request.method, path, answer.status_code, answer.text)
    assert str(answer.status_code) in operation.definition.raw["responses"], told
    check_headers(operation, answer.status_code, answer.headers)
    if not answer.content:
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    assert media_type in _declared(operation, answer.status_code)["content"], told
    if media_type.endswith("json"):
        bare = httpx.Request(
            answer.request.method, answer.request.url
        )  # what it sent may be a stream, gone by now
        copy = httpx.Response(
            answer.status_code, headers=answer.headers, content=answer.content, request=bare
        )
        copy.elapsed = answer.elapsed
        operation.validate_response(copy)


def check_headers(operation: Any, status: int, carried: Iterable[str]) -> None:
    """Fails for a header of ours that the operation does not declare for that status, and for one that is missing."""
    told = _declared(operation, status).get("headers", {})
    headers = {name.lower(): _resolved(each) for name, each in told.items()}
    ours = {name.lower() for name in carried} - OF_HTTP - FOR_BROWSERS
    assert ours <= headers.keys(), f"not declared: {ours - headers.keys()}"
    needed = {name for name, each in headers.items() if each.get("required")}
    assert needed <= ours, f"missing: {needed - ours}"


def _declared(operation: Any, status: int) -> dict[str, Any]:
    """What the document says of answers with a status; of one that it does not know, nothing."""
    return _resolved(operation.definition.raw["responses"].get(str(status), {}))


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What is meant by a reference into the document."""
    if "$ref" not in part:
        return part
    _, *steps = part["$ref"].split("/")
    found: Any = DOCUMENT
    for step in steps:
        found = found[step]
    resolved: dict[str, Any] = found
    return resolved
