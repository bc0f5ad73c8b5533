"""What every request is measured by and every answer carries: a size limit, a request id, careful headers."""

import logging
import re
import time
from uuid import uuid4

import structlog
from opentelemetry.trace import Span, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import BodyTooLarge, of_exception
from app.telemetry.figures import request_answered
from app.telemetry.tracing import SERVER, called_with, named_in_log, span

REQUEST_ID = "X-Request-Id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBED = frozenset({"/healthz", "/readyz", "/metrics"})

CAREFUL = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Set where the answer does not say otherwise."""
ONLY_TLS = ("Strict-Transport-Security", "max-age=31536000")

log = structlog.get_logger("app.access")


class EveryAnswer:
    """ASGI middleware that names requests, logs them and adds headers to their answers.

    `over_tls` says that callers reach the service by https, even where this process is asked by http.
    """

    def __init__(self, app: ASGIApp, over_tls: bool = False) -> None:
        self.app = app
        self.over_tls = over_tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _ACCEPTABLE.fullmatch(given) else uuid4().hex
        seen = _Seen(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.begun, seen.status = True, message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in CAREFUL.items():
                    headers.setdefault(name, value)
                if self.over_tls or scope["scheme"] == "https":
                    headers.setdefault(*ONLY_TLS)
            await send(message)

        with (
            called_with(headers),
            span(scope["method"], SERVER, {"navcrm.request_id": request_id}) as current,
            structlog.contextvars.bound_contextvars(request_id=request_id, **named_in_log()),
        ):
            try:
                await self.app(scope, receive, send_with_headers)
            except Exception as error:
                if seen.begun:
                    raise
                # Told here, because whoever is asked after us knows neither the request id nor the headers.
                await of_exception(Request(scope), error)(scope, receive, send_with_headers)
            finally:
                seen.tell(current)


class _Seen:
    """What is known of a request when its answer is complete."""

    def __init__(self, scope: Scope) -> None:
        self.status = 500
        self.begun = False
        self._scope = scope
        self._began = time.perf_counter()

    def tell(self, current: Span) -> None:
        """Writes the line of the log, counts the request and completes its span."""
        scope, seconds = self._scope, time.perf_counter() - self._began
        method, route = scope["method"], getattr(scope.get("route"), "path_format", None)
        request_answered(method, route, self.status, seconds)
        company = (scope.get("path_params") or {}).get("company")
        caller = scope.get("state", {}).get("caller")
        known = {"company": company, "caller": caller.id if caller else None, "route": route}
        told = {name: value for name, value in known.items() if value is not None}
        # Whoever looks again and again whether all is well shall not fill the log with it.
        level = logging.DEBUG if route in PROBED and self.status < 400 else logging.INFO
        line = {"method": method, "path": scope["path"], "status": self.status}
        log.log(level, "request", **line, ms=round(seconds * 1000, 1), **told)
        if route is not None:
            current.update_name(f"{method} {route}")
            current.set_attribute("http.route", route)
        current.set_attributes({"http.request.method": method, "http.response.status_code": self.status})
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
        length = Headers(scope=scope).get("content-length", "")
        declared = int(length) if length.isdecimal() else 0
        too_large = BodyTooLarge(f"At most {self.limit} bytes are accepted.")
        counted = 0

        async def counting_receive() -> Message:
            nonlocal counted
            if declared > self.limit:
                raise too_large
            message = await receive()
            counted += len(message.get("body", b""))
            if counted > self.limit:
                raise too_large
            return message

        await self.app(scope, counting_receive, send)
