"""What every operation has in common: who may call it, what it takes, how it fails.

An operation says which scope it needs and which problems it can answer with:

    @router.post("/{mapping}/synchronize", status_code=202, **operation(Scope.SYNC, 409, 503))

The checks run before the body is read as anything, so that a stranger learns nothing about what would be accepted.
"""

import json
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import ResponseValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.api import idempotency, paths, problems
from app.api.dependencies import door_of
from app.api.endpoints import ABSENT, Endpoint
from app.api.headers import header
from app.api.problems import MalformedJson, UnsupportedMediaType
from app.api.values import json_of
from app.domain.access import Scope
from app.domain.errors import FieldProblem, Invalid

SCHEME = "bearer"
PREVIEW = "preview"
NO = ("false", "0", "no", "off")
_NO_PREVIEW = "This operation has no preview."
ALWAYS = (401, 403, 422, 429, 503)
"""Problems that every operation can answer with."""
CRM = (409, 502, 503)
"""Problems of every operation that needs CRM: not enabled, refused, not reached."""

_REASONS = {
    400: "The body is no JSON.",
    401: "The key is missing, unknown, revoked or expired.",
    403: "The key lacks the scope, or is bound to other companies.",
    404: "There is no such thing.",
    409: "A rule or the present state forbids it.",
    412: "The resource was changed since it was read.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The request cannot be carried out as it is.",
    429: "Too many requests.",
    502: "The other system refused.",
    503: "CRM, NAV or our own database cannot be reached, or its disk is full; Retry-After says when to come back.",
}
PROBLEMS = frozenset(_REASONS)
"""Statuses that come with a problem."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def operation(
    scope: Scope, *statuses: int, at_times: Collection[int] = (), preview: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Arguments of a route: the scope it needs, the problems it can answer with besides the usual ones, and what
    a preview of it answers where that is another answer than the usual one.

    `at_times` are the problems of a part that works in CRM while the operation can do without: they are declared, and
    do not make it one of those for which the caller has to be a user of CRM (`dependencies.WORKS_IN_CRM`).
    """
    responses: dict[int, dict[str, Any]] = {
        status: described(status) for status in sorted({*ALWAYS, *statuses})
    }
    if preview is not None:
        responses[200] = {"model": preview, "description": "A preview: nothing was written."}
    extra: dict[str, Any] = {"security": [{SCHEME: [scope.value]}]}
    if at_times:
        extra["responses"] = {str(status): described(status) for status in at_times}
    return {"openapi_extra": extra, "responses": responses}


def described(status: int) -> dict[str, Any]:
    """A problem response for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _REASONS[status], "content": {problems.MEDIA_TYPE: {"schema": schema}}}


class Operation(APIRoute):
    """A route behind the gate. It cannot be registered without the scope it needs."""

    def get_route_handler(self) -> Handler:
        """The handler of the endpoint with everything that comes before and after it."""
        needed = Scope((self.openapi_extra or {})["security"][0][SCHEME][0])
        heard = self._where_preview_is_heard()
        handle = super().get_route_handler() if self.is_sse_stream else self._handler()

        async def carry_out(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                request.state.failed = error
                return problems.of_exception(request, error)

        async def guarded(request: Request) -> Response:
            # Every line of the log says which company the request is about.
            if (company := request.path_params.get("company")) is None:
                return await admitted(request)
            bound = bind_contextvars(company=company)
            try:
                return await admitted(request)
            finally:
                reset_contextvars(**bound)

        async def admitted(request: Request) -> Response:
            door = door_of(request)
            try:
                caller, request.state.company = await door.gate.admit(request, needed)
                request.state.caller = caller
                await _check_body(request)
                await _check_preview(request, heard)
                if request.method != "POST":
                    return await carry_out(request)
                return await idempotency.once(door.context, caller, request, carry_out)
            except Exception as error:
                return problems.of_exception(request, error)

        return guarded

    def _where_preview_is_heard(self) -> str | None:
        """Where the operation takes `preview`: in the query, in the body, nowhere."""
        if any(each.alias == PREVIEW for each in self.dependant.query_params):
            return "query"
        body = None if self.body_field is None else self.body_field.field_info.annotation
        return "body" if PREVIEW in getattr(body, "model_fields", ()) else None

    def _handler(self) -> Handler:
        """The handler of the endpoint alone."""
        endpoint = Endpoint(self.dependant)
        if self.response_field is None and self.status_code != 204:
            raise TypeError(f"{self.name} needs a response model, or the status 204.")

        async def handle(request: Request) -> Response:
            body = ABSENT if self.body_field is None else await _json_of(request)
            found, besides = await endpoint(request, body)
            return found if isinstance(found, Response) else self._answer(found, besides)

        return handle

    def _answer(self, found: Any, besides: Response) -> Response:
        """What the endpoint found, in the terms of its response model. Raises ResponseValidationError."""
        content = b""
        if self.response_field is not None:
            value, errors = self.response_field.validate(found, loc=("response",))
            if errors:
                raise ResponseValidationError(errors, body=found)
            exclude_unset = self.response_model_exclude_unset
            field = self.response_field
            content = json_of(
                lambda: field.serialize_json(value, exclude_unset=exclude_unset),
                lambda: field.serialize(value, exclude_unset=exclude_unset),
            )
        status = besides.status_code or self.status_code or 200
        answer = Response(content, status, media_type="application/json")
        answer.raw_headers += besides.raw_headers
        return answer


def api_router(prefix: str, tag: str) -> APIRouter:
    """A router below the base path whose routes are operations."""
    paths.register()
    return APIRouter(prefix=prefix, tags=[tag], route_class=Operation)


async def _check_body(request: Request) -> None:
    """Reads the body. Raises BodyTooLarge, UnsupportedMediaType, MalformedJson for what is no text, or not whole."""
    if not (header(request.scope, b"content-length") or header(request.scope, b"transfer-encoding")):
        return  # there is none (RFC 9112, 6.3)
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise MalformedJson("The caller hung up before the body was whole.") from error
    media_type = _media_type(request)
    if body and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The body is {media_type or 'of no named type'}, not application/json.")
    if not _is_text(body):
        raise MalformedJson("The body is no text in UTF-8, or holds half a character (a lone surrogate).")


async def _check_preview(request: Request, heard: str | None) -> None:
    """Raises Invalid for a preview that is asked for where the operation does not look: it would write instead."""
    if request.method == "GET":
        return
    pointer = await _unheard_preview(request, heard)
    if pointer is not None:
        message = _NO_PREVIEW if heard is None else f"Here preview belongs into the {heard}."
        raise Invalid(f"{message} Nothing was written.", errors=[FieldProblem(pointer, message)])


async def _unheard_preview(request: Request, heard: str | None) -> str | None:
    """Where a preview is asked for that nobody hears: the name of the parameter, or a pointer into the body."""
    if heard != "query" and request.query_params.get(PREVIEW, "false").lower() not in NO:
        return PREVIEW
    if heard == "body" or b'"preview"' not in (body := await request.body()):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None  # whoever reads it says so
    return f"/{PREVIEW}" if isinstance(found, dict) and found.get(PREVIEW) else None


async def _json_of(request: Request) -> Any:
    """What the body says, if there is one; that of a type which is no JSON as it is, so that whoever checks it finds no
    object. Raises MalformedJson."""
    body = await request.body()
    kind, _, subtype = _media_type(request).partition("/")
    if not body or kind != "application" or "/" in subtype:
        return body or ABSENT
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MalformedJson(f"The body cannot be read as JSON: {error.msg} ({where}).") from error
    except (ValueError, RecursionError) as error:
        what = "a number in it has too many digits, or it is nested too deep"
        raise MalformedJson(f"The body cannot be read as JSON: {what}.") from error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_text(body: bytes) -> bool:
    """Whether the body is UTF-8, as JSON must be (RFC 8259, 8.1), escapes included: what only looks like text can
    neither be stored nor be answered."""
    try:
        body.decode()
        if b"\\ud" in body.lower():
            json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeError:
        return False
    except (ValueError, RecursionError):
        return True  # no JSON either: whoever reads it says so
    return b"\0" not in body  # other encodings have these
