"""What every request is measured by and every answer carries: a size limit, a request id, careful headers."""

import logging
import re
import time
from collections.abc import Iterable
from secrets import token_hex

import structlog
from opentelemetry.trace import Span, StatusCode
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, reset_contextvars

from app.api.problems import BodyTooLarge, of_exception
from app.telemetry.figures import request_answered
from app.telemetry.tracing import named_in_log, serving

REQUEST_ID = "X-Request-Id"
RAW_REQUEST_ID = REQUEST_ID.lower().encode()
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBED = frozenset({"/healthz", "/readyz", "/metrics"})

CAREFUL = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Set where the answer does not say otherwise."""
CAREFUL_OVER_TLS = (*CAREFUL, (b"strict-transport-security", b"max-age=31536000"))

log = structlog.get_logger("app.access")


class EveryAnswer:
    """ASGI middleware that names requests, logs them and adds headers to their answers.

    HEAD is answered by the head of what GET would answer (RFC 9110, 9.3.2): whatever is asked below here is a GET.
    `over_tls` says that callers reach the service by https, even where this process is asked by http.
    """

    def __init__(self, app: ASGIApp, over_tls: bool = False) -> None:
        self.app = app
        self.over_tls = over_tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = header(scope, RAW_REQUEST_ID).decode("latin-1")
        request_id = given if _ACCEPTABLE.fullmatch(given) else token_hex(16)
        over_tls = self.over_tls or scope["scheme"] == "https"
        head_alone = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if head_alone else scope
        seen = _Seen(scope["method"], asked)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.begun, seen.status = True, message["status"]
                message["headers"] = _completed(message.get("headers", ()), request_id, over_tls)
                await send(message)
                if head_alone:
                    await send({"type": "http.response.body"})  # the end, of a stream too
            elif not head_alone:
                await send(message)

        with serving(scope, {"navcrm.request_id": request_id}) as current:
            bound = bind_contextvars(request_id=request_id, **named_in_log())
            try:
                await self.app(asked, receive, send_with_headers)
            except Exception as error:
                if seen.begun:
                    raise
                # Told here, because whoever is asked after us knows neither the request id nor the headers.
                await of_exception(Request(asked), error)(asked, receive, send_with_headers)
            finally:
                seen.tell(current)
                reset_contextvars(**bound)


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of that name, given in lower case; empty if there is none."""
    for each, value in scope["headers"]:
        if each == name:
            found: bytes = value
            return found
    return b""


def _completed(
    headers: Iterable[tuple[bytes, bytes]], request_id: str, over_tls: bool
) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those that every answer has."""
    own = [pair for pair in headers if pair[0] != RAW_REQUEST_ID]
    said = {name for name, _ in own}
    added = [pair for pair in (CAREFUL_OVER_TLS if over_tls else CAREFUL) if pair[0] not in said]
    return [*own, (RAW_REQUEST_ID, request_id.encode("latin-1")), *added]


class _Seen:
    """What is known of a request when its answer is complete."""

    def __init__(self, method: str, scope: Scope) -> None:
        self.status = 500
        self.begun = False
        self._method = method
        self._scope = scope
        self._began = time.perf_counter()

    def tell(self, current: Span) -> None:
        """Writes the line of the log, counts the request and completes its span."""
        scope, seconds = self._scope, time.perf_counter() - self._began
        method, route = self._method, getattr(scope.get("route"), "path_format", None)
        request_answered(method, route, self.status, seconds)
        company = (scope.get("path_params") or {}).get("company")
        # Whoever looks again and again whether all is well shall not fill the log with it.
        level = logging.DEBUG if route in PROBED and self.status < 400 else logging.INFO
        if log.is_enabled_for(level):
            caller = scope.get("state", {}).get("caller")
            known = {"company": company, "caller": caller.id if caller else None, "route": route}
            told = {name: value for name, value in known.items() if value is not None}
            line = {"method": method, "path": scope["path"], "status": self.status}
            log.log(level, "request", **line, ms=round(seconds * 1000, 1), **told)
        if current.is_recording():
            self._describe(current, route, company)

    def _describe(self, current: Span, route: str | None, company: str | None) -> None:
        if route is not None:
            current.update_name(f"{self._method} {route}")
            current.set_attribute("http.route", route)
        current.set_attributes(
            {"http.request.method": self._method, "http.response.status_code": self.status}
        )
        if company is not None:
            current.set_attribute("navcrm.company", company)
        if self.status >= 500:
            current.set_status(StatusCode.ERROR)


class BodyLimit:
    """ASGI middleware: reading a body longer than the limit raises BodyTooLarge where it is read."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = header(scope, b"content-length")
        declared = int(length) if length.isdigit() else 0
        counted = 0

        async def counting_receive() -> Message:
            nonlocal counted
            if declared > self.limit:
                raise self._too_large()
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > self.limit:
                raise self._too_large()
            return message

        await self.app(scope, counting_receive, send)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"At most {self.limit} bytes are accepted.")
