"""Errors to problem details (RFC 9457); the only place that knows which error has which status code."""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.values import json_of
from app.domain.errors import (
    DatabaseFull,
    DatabaseUnavailable,
    FieldProblem,
    Forbidden,
    IdempotencyKeyReused,
    IntegrationError,
    Invalid,
    NotFound,
    PreconditionFailed,
    RuleBroken,
    SideRefused,
    SideUnavailable,
    Throttled,
    Unauthenticated,
)

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:navcrm:problem:"

log = structlog.get_logger(__name__)


class TooManyRequests(IntegrationError):
    """Too many requests."""

    code = "too-many-requests"
    retryable = True

    def __init__(self, detail: str, *, retry_after: timedelta) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class BodyTooLarge(IntegrationError):
    """The request body is too large."""

    code = "body-too-large"


class UnsupportedMediaType(IntegrationError):
    """Requests carry JSON."""

    code = "unsupported-media-type"


class MalformedJson(IntegrationError):
    """The request body is no JSON."""

    code = "malformed-json"


STATUS: Mapping[type[IntegrationError], int] = {
    MalformedJson: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    RuleBroken: 409,
    PreconditionFailed: 412,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    Invalid: 422,
    IdempotencyKeyReused: 422,
    TooManyRequests: 429,
    SideRefused: 502,
    SideUnavailable: 503,
    DatabaseUnavailable: 503,
}

BUSY_SECONDS = 1
"""How long a caller is asked to wait before repeating what found something else at work."""
FULL_SECONDS = 30
"""How long before trying again whether somebody has made room on the disk."""


class FieldProblemOut(BaseModel):
    """What is wrong with one field of the request."""

    pointer: str = Field(
        description="JSON pointer into the body, or the name of a parameter.", examples=["/fields/Name"]
    )
    message: str
    suggestion: Any | None = Field(default=None, description="A value that would be accepted.")


class Problem(BaseModel):
    """What went wrong (RFC 9457). Some problems carry further members that say more."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:navcrm:problem:salesperson-not-coupled",
                    "title": "The salesperson must be coupled first",
                    "status": 422,
                    "detail": "The salesperson PS of customer 10000 is not coupled with a CRM user.",
                    "code": "salesperson-not-coupled",
                    "fix": "PUT /api/v1/companies/cronus/nav/salespeople/PS/coupling",
                }
            ]
        },
    )

    type: str = Field(description="Stable identifier of the kind of problem, a URI.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable, kebab-case.")
    errors: list[FieldProblemOut] | None = Field(default=None, description="What is wrong, field by field.")
    fix: str | None = Field(default=None, description="Which call mends it.")


def status_of(error: IntegrationError) -> int:
    """The status code of an error of ours, by the nearest class that has one."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    fix: str | None = None,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response; members without a value are left out."""
    body = dict(extra or {}) | {
        "type": TYPE + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = [FieldProblemOut(**_fields(error)).model_dump(exclude_none=True) for error in errors]
    if fix:
        body["fix"] = fix
    told = Problem.model_validate(body)
    text = json_of(
        lambda: told.model_dump_json(exclude_unset=True).encode(),
        lambda: told.model_dump(mode="json", exclude_unset=True),
    )
    return Response(text, int(status), headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _fields(error: FieldProblem) -> dict[str, Any]:
    return {"pointer": error.pointer, "message": error.message, "suggestion": error.suggestion}


def of_error(error: IntegrationError) -> Response:
    """The problem that an error of ours is."""
    return problem(
        status_of(error),
        error.code,
        error.title(),
        error.detail,
        errors=error.errors,
        fix=error.fix,
        extra=error.extra,
        headers=_headers(error),
    )


def _headers(error: IntegrationError) -> dict[str, str]:
    match error:
        case Unauthenticated():
            return {"WWW-Authenticate": 'Bearer realm="navcrm"'}
        case Throttled(retry_after=delay) | TooManyRequests(retry_after=delay):
            return {"Retry-After": str(max(1, round(delay.total_seconds())))}
        case DatabaseFull():
            return {"Retry-After": str(FULL_SECONDS)}
        case _ if error.retryable:
            return {"Retry-After": str(BUSY_SECONDS)}
        case _:
            return {}


def of_validation(error: RequestValidationError) -> Response:
    """The problem that a request is which does not fit its schema."""
    told = [FieldProblem(_pointer(_place(found, error.body)), _message(found)) for found in error.errors()]
    errors = list(dict.fromkeys(told))
    listed = "; ".join(f"{each.pointer or 'the body'}: {each.message.rstrip('.')}" for each in errors[:3])
    return problem(
        422, "invalid-request", "The request does not fit the operation", f"{listed}.", errors=errors
    )


def _message(found: Mapping[str, Any]) -> str:
    """What is wrong with one value, without the words of the library that noticed it."""
    match found["type"]:
        case "model_attributes_type" | "model_type" | "dict_type":
            return "This must be an object."
        case "union_tag_not_found":
            return "Say which kind it is."
        case "union_tag_invalid":
            return f"{found['ctx']['tag']!r} is none of the kinds {found['ctx']['expected_tags']}."
        case "value_error":
            return str(found["ctx"]["error"])
        case "extra_forbidden":
            return "There is no such field here."
        case "missing":
            return "This is needed."
        case "literal_error":
            return f"This must be {_ENUM_MEMBER.sub(_member_value, found['ctx']['expected'])}."
        case _:
            return str(found["msg"])


_ENUM_MEMBER = re.compile(r"<[\w.]+: ('[^']*')>")


def _member_value(member: re.Match[str]) -> str:
    return member[1]


def _place(found: Mapping[str, Any], body: Any) -> tuple[Any, ...]:
    """Where the value stands in what was sent.

    A part of a union of models is located through the name of its kind, which is no field of the body: a step that
    leads to nothing that could hold the next one is left out.
    """
    start, *steps = found["loc"] or ("body",)
    place = [start]
    if start == "body":
        value = body
        for position, step in enumerate(steps, start=1):
            inner = _inner(value, step)
            if position == len(steps) or isinstance(inner, dict | list):
                place.append(step)
                value = inner
    else:
        place += steps
    if found["type"] in ("union_tag_not_found", "union_tag_invalid"):
        place.append(str(found["ctx"]["discriminator"]).strip("'"))
    return tuple(place)


def _inner(value: Any, step: Any) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _pointer(location: Sequence[Any]) -> str:
    """`/fields/Name` for a part of the body, the bare name for a parameter."""
    place, *rest = location or ("body",)
    if place != "body":
        return str(rest[-1]) if rest else str(place)
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in rest)


def of_http(request: Request, error: HTTPException) -> Response:
    """The problem behind a status that routing came up with."""
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed_methods(request))
        detail = f"{request.method} is not possible here, only {headers['Allow']}."
    elif status is HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this address."
    else:
        detail = str(error.detail)
    return problem(status, code, status.phrase, detail, headers=headers)


def allowed_methods(request: Request) -> list[str]:
    """The methods of every route that the path of the request could mean."""
    methods: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if pattern is not None and pattern.match(request.scope["path"]):
            methods |= route.methods or set()
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def of_exception(request: Request, error: Exception) -> Response:
    """The problem that any exception is. What we did not foresee is logged and told without details."""
    match error:
        case IntegrationError():
            return of_error(error)
        case RequestValidationError():
            return of_validation(error)
        case HTTPException():
            return of_http(request, error)
        case _:
            log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
            return problem(
                500,
                "internal-error",
                "Something went wrong in the service",
                "The service came upon a fault of its own. Its log says more, under the request id of this answer.",
            )


def install(app: FastAPI) -> None:
    """Lets the app answer every error as a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        return of_exception(request, error)

    for kind in (IntegrationError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
