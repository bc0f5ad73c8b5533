"""The ASGI application: addresses, faults, limits, tokens, and the account of requests."""

import asyncio
import gzip
import re
import time
from datetime import UTC
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.sandbox import operations
from app.sandbox.addresses import Context
from app.sandbox.auth import Authority
from app.sandbox.errors import DataverseError
from app.sandbox.faults import CODES, ConnectionReset, Fault, from_json
from app.sandbox.limits import Limits, Meter
from app.sandbox.messages import ApiRequest, ApiResponse, refusal
from app.sandbox.organization import Organization, Requested
from app.sandbox.protocol import DROP

COMPRESSED_FROM = 1000  # bytes


class Api:
    """The Web API of one organization."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.authority = Authority(organization)
        self.meters: dict[str, Meter] = {}

    def application(self) -> Starlette:
        """The application with all its addresses."""
        token = self.authority.answer
        methods = ["GET", "POST", "PATCH", "PUT", "DELETE"]
        api = [
            f"{prefix}/api/data/{{version}}{rest}"
            for prefix in ("", "/{org}")
            for rest in ("", "/{path:path}")
        ]
        app = Starlette(
            routes=[
                Route("/adfs/oauth2/token", token, methods=["POST"]),
                Route("/{tenant}/oauth2/token", token, methods=["POST"]),
                Route("/{tenant}/oauth2/v2.0/token", token, methods=["POST"]),
                Route("/sandbox/reset", self.reset, methods=["POST"]),
                Route("/sandbox/faults", self.faults, methods=["GET", "PUT"]),
                Route("/sandbox/requests", self.requests, methods=["GET"]),
                Route("/sandbox/delta-tokens/expire", self.expire, methods=["POST"]),
                *(Route(path, self.answer, methods=methods) for path in api),
            ]
        )
        app.state.organization = self.organization
        return app

    # -- the API

    async def answer(self, request: Request) -> Response:
        """Any request below /api/data."""
        body = await request.body()
        started = time.monotonic()
        line = _line(request)
        fault = next(
            (fault for fault in self.organization.faults if fault.strikes(f"{request.method} {line}")), None
        )
        try:
            response = (
                await self._faulty(fault, request, body) if fault else await self._served(request, body)
            )
        except ConnectionReset:
            self.organization.record(
                Requested(request.method, line, 0, len(body), 0, time.monotonic() - started)
            )
            drop = request.scope.get("extensions", {}).get(DROP)
            if drop is None:
                raise
            drop()
            return Response(status_code=503)  # goes nowhere
        _compress(request, response)
        seconds = time.monotonic() - started
        sent = int(response.headers.get("content-length", 0))
        self.organization.record(
            Requested(request.method, line, response.status_code, len(body), sent, seconds)
        )
        return response

    async def _faulty(self, fault: Fault, request: Request, body: bytes) -> Response:
        if fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
            return await self._served(request, body)
        if fault.kind == "token_expired":
            self.authority.expire_tokens()
            return await self._served(request, body)
        if fault.kind == "overtaken":
            self.organization.overtake(
                f"{request.method} {_line(request)}", request.headers, body, fault.values
            )
            return await self._served(request, body)
        if fault.kind == "reset_before_commit":
            raise ConnectionReset(f"{request.method} {_line(request)}: closed without an answer.")
        if fault.kind == "not_json":
            return Response("<<<", 200, media_type="application/json")
        if fault.kind == "html":
            return Response(
                "<html><body>The service is unavailable.</body></html>", 503, media_type="text/html"
            )
        if fault.status is not None:
            return _refused(fault)
        response = await self._served(request, body)
        if fault.kind == "reset_after_commit":
            raise ConnectionReset(f"{request.method} {_line(request)}: closed without an answer.")
        return _truncated(response)

    async def _served(self, request: Request, body: bytes) -> Response:
        root = f"{request.url.scheme}://{request.url.netloc}"
        if org := request.path_params.get("org"):
            root = f"{root}/{org}"
        started = time.monotonic()
        headers = {"x-ms-dop-hint": str((self.organization.limits or Limits()).dop)}
        meter = asked = None
        try:
            user = self.authority.caller(request.headers.get("authorization"), root)
            meter = self._enter(user, headers)
            api = f"{root}/api/data/{request.path_params['version']}"
            asked = _api_request(request, body)
            answer = await self._carried_out(Context(self.organization, api, user), asked)
        except DataverseError as error:
            answer = refusal(error, asked.prefer if asked else None)
        finally:
            if meter is not None:
                meter.leave(time.monotonic(), time.monotonic() - started)
                headers |= meter.headers(self.organization.limits or Limits())  # with this request counted
        # Its own clock: the rows of an organization and what it says of the time go by the same one.
        headers["Date"] = format_datetime(self.organization.settings.clock().astimezone(UTC), usegmt=True)
        headers["Set-Cookie"] = f"ARRAffinity={self.organization.id}; Path=/; HttpOnly"
        return _sent(answer, headers)

    def _enter(self, user: str, headers: dict[str, str]) -> Meter | None:
        """Count a request in, if there are limits, and tell what is left of them."""
        limits = self.organization.limits
        if limits is None:
            return None
        meter = self.meters.setdefault(user, Meter())
        try:
            meter.enter(limits, time.monotonic())
        finally:
            headers |= meter.headers(limits)
        return meter

    async def _carried_out(self, context: Context, asked: ApiRequest) -> ApiResponse:
        settings, storage = self.organization.settings, self.organization.storage
        before, started = storage.rows_written + storage.rows_read, time.monotonic()
        try:
            return operations.handle(context, asked)
        finally:
            rows = storage.rows_written + storage.rows_read - before
            wait = settings.latency + settings.row_latency * rows - (time.monotonic() - started)
            if wait > 0:
                await asyncio.sleep(wait)

    # -- control, outside the API

    async def reset(self, request: Request) -> Response:
        """`POST /sandbox/reset`: an organization as new."""
        self.organization.reset()
        self.meters.clear()
        return Response(status_code=204)

    async def faults(self, request: Request) -> Response:
        """`GET` and `PUT /sandbox/faults`: a JSON list of faults."""
        if request.method == "PUT":
            try:
                self.organization.faults[:] = [from_json(item) for item in await request.json()]
            except (TypeError, ValueError) as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse([fault.as_json() for fault in self.organization.faults])

    async def requests(self, request: Request) -> Response:
        """`GET /sandbox/requests`: how many requests there were, by method and status."""
        log = self.organization.log
        counts: dict[str, Any] = {
            "total": sum(self.organization.counts.values()),
            "by_method_and_status": dict(self.organization.counts),
            "bytes_received": sum(r.sent for r in log),
            "bytes_sent": sum(r.received for r in log),
        }
        return JSONResponse(counts)

    async def expire(self, request: Request) -> Response:
        """`POST /sandbox/delta-tokens/expire`: all delta links given out so far are too old."""
        self.organization.expire_delta_tokens()
        return Response(status_code=204)


def _line(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _api_request(request: Request, body: bytes) -> ApiRequest:
    raw = request.scope.get("raw_path") or request.url.path.encode()
    path = unquote(re.sub(rb"^.*?/api/data/[^/]+/?", b"", raw, count=1).partition(b"?")[0].decode("latin-1"))
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return ApiRequest(request.method, path, request.url.query, headers, body)


def _sent(answer: ApiResponse, headers: dict[str, str]) -> Response:
    body = answer.body()
    response = Response(body, answer.status)
    if body:
        response.headers["Content-Type"] = answer.content_type
    service = {"OData-Version": "4.0", "REQ_ID": str(uuid4()), "x-ms-service-request-id": str(uuid4())}
    for name, value in (service | headers | answer.headers).items():
        response.headers[name] = value
    return response


def _compress(request: Request, response: Response) -> None:
    """Large answers go compressed to those who take them so, as the web server before Dataverse does it."""
    body = bytes(response.body)
    if len(body) < COMPRESSED_FROM or "gzip" not in request.headers.get("accept-encoding", ""):
        return
    response.body = gzip.compress(body, compresslevel=1, mtime=0)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
    response.headers["Vary"] = "Accept-Encoding"


def _refused(fault: Fault) -> Response:
    status = fault.status or 500
    code, message = CODES[status]
    error = DataverseError(status, fault.code if fault.code is not None else code, fault.message or message)
    if fault.retry_after is not None:
        error.headers["Retry-After"] = f"{fault.retry_after:g}"
    elif status in (429, 503):
        error.headers["Retry-After"] = "1"
    return _sent(refusal(error), {})


def _truncated(response: Response) -> Response:
    body = bytes(response.body)
    cut = Response(body[: len(body) // 2], response.status_code)
    cut.headers["Content-Type"] = response.headers.get("content-type", "application/json")
    return cut
