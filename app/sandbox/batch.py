"""`$batch`: requests in one body, in order; change sets happen as a whole or not at all."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from app.sandbox import addresses
from app.sandbox.addresses import Context
from app.sandbox.errors import DataverseError, query_error
from app.sandbox.messages import ApiRequest, ApiResponse, refusal

MAXIMUM_REQUESTS = 1000
CRLF = "\r\n"
FAILED = 400  # statuses from here on
REASONS = {
    200: "OK",
    201: "Created",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class Part:
    """One request of a batch."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    content_id: str | None


Handler = Callable[[Context, ApiRequest], ApiResponse]
Unit = Part | list[Part]  # a list is a change set


def handle(context: Context, request: ApiRequest, handle_part: Handler) -> ApiResponse:
    """Carry out a batch.

    Args:
        context: who asks.
        request: the batch.
        handle_part: answers one request.
    Raises:
        DataverseError: 400, when the batch itself is malformed or too long; then nothing was done.
    """
    units = list(_units(request.headers.get("content-type", ""), request.body))
    if sum(len(unit) if isinstance(unit, list) else 1 for unit in units) > MAXIMUM_REQUESTS:
        raise query_error(f"The number of requests in the batch exceeds the limit of {MAXIMUM_REQUESTS}.")
    run = _Run(context, handle_part)
    boundary = f"batchresponse_{uuid4()}"
    out: list[bytes] = []
    status = 200
    for unit in units:
        done, failed = run.unit(unit)
        out.append(f"--{boundary}{CRLF}".encode() + done)
        if failed is not None and not request.prefer.continue_on_error:
            status = failed
            break
    out.append(f"--{boundary}--{CRLF}".encode())
    response = ApiResponse(status, b"".join(out), content_type=f"multipart/mixed; boundary={boundary}")
    if request.prefer.continue_on_error:
        response.headers["Preference-Applied"] = "odata.continue-on-error"
    return response


@dataclass(slots=True)
class _Run:
    context: Context
    handle_part: Handler

    def unit(self, unit: Unit) -> tuple[bytes, int | None]:
        """The written answer of a unit, and the status it failed with."""
        if isinstance(unit, list):
            return self._change_set(unit)
        response = self._answer(unit, {})
        return _written(response, None), response.status if response.status >= FAILED else None

    def _change_set(self, parts: list[Part]) -> tuple[bytes, int | None]:
        """A change set that fails answers with nothing but the part that failed."""
        written: list[bytes] = []
        failed: int | None = None
        references: dict[str, str] = {}
        try:
            with self.context.organization.storage.transaction():
                for part in parts:
                    response = self._answer(part, references)
                    if response.status >= FAILED:
                        written, failed = [_written(response, part.content_id)], response.status
                        raise _RolledBack
                    written.append(_written(response, part.content_id))
        except _RolledBack:
            pass
        boundary = f"changesetresponse_{uuid4()}"
        head = f"Content-Type: multipart/mixed; boundary={boundary}{CRLF}{CRLF}".encode()
        body = b"".join(f"--{boundary}{CRLF}".encode() + item for item in written)
        return head + body + f"--{boundary}--{CRLF}".encode(), failed

    def _answer(self, part: Part, references: dict[str, str]) -> ApiResponse:
        outer = self.context
        inner = Context(outer.organization, outer.api, outer.user, outer.behind, references, in_batch=True)
        url, _, query = part.url.partition("?")
        request = None
        try:
            path = addresses.relative(inner, url)
            request = ApiRequest(part.method, path, query, part.headers, part.body)
            if path.startswith("$batch"):
                raise query_error("A batch cannot hold another batch.")
            response = self.handle_part(inner, request)
        except DataverseError as error:
            response = refusal(error, request.prefer if request else None)
        response.headers.setdefault("OData-Version", "4.0")
        if part.content_id is not None and (made := response.headers.get("OData-EntityId")):
            references[f"${part.content_id}"] = addresses.relative(inner, made)
        if response.status >= FAILED:
            response.headers["REQ_ID"] = str(uuid4())
        return response


class _RolledBack(Exception):
    """Ends the transaction of a change set."""


def _written(response: ApiResponse, content_id: str | None) -> bytes:
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id is not None:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Error')}"]
    body = response.body()
    if body:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return (CRLF.join(lines) + CRLF + CRLF).encode() + body + CRLF.encode()


# -- reading


def _boundary(content_type: str) -> str:
    match = re.search(r'boundary="?([^";\s]+)"?', content_type)
    if not content_type.lower().startswith("multipart/mixed") or match is None:
        raise query_error("The content type of a batch must be multipart/mixed with a boundary.")
    return match[1]


def _units(content_type: str, body: bytes) -> Iterator[Unit]:
    seen: set[str] = set()
    for headers, content in _parts(_boundary(content_type), body):
        kind = headers.get("content-type", "")
        if kind.lower().startswith("multipart/mixed"):
            parts = [_part(inner, text) for inner, text in _parts(_boundary(kind), content)]
            for part in parts:
                _require_change(part, seen)
            yield parts
        else:
            yield _part(headers, content)


def _require_change(part: Part, seen: set[str]) -> None:
    if part.method == "GET":
        raise query_error("A change set cannot hold GET requests.")
    if part.content_id is None:
        raise query_error("Each request of a change set needs a Content-ID.")
    if part.content_id in seen:
        raise query_error(f"The Content-ID '{part.content_id}' is used twice in the batch.")
    seen.add(part.content_id)


def _parts(boundary: str, body: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    marker = f"--{boundary}".encode()
    pieces = re.split(rb"(?:^|\r\n)" + re.escape(marker), body)
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):  # preamble, one part, the end
        raise query_error(
            "The batch body is malformed: lines must end in CRLF and the last boundary must be closed with '--'."
        )
    for piece in pieces[1:-1]:
        head, separator, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not separator:
            raise query_error("A part of the batch has no empty line after its headers.")
        yield _headers(head), content


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("utf-8", "replace").split(CRLF) if line.strip())
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _part(headers: dict[str, str], content: bytes) -> Part:
    if not headers.get("content-type", "").lower().startswith("application/http"):
        raise query_error("The content type of a part of a batch must be application/http.")
    head, _, body = content.partition(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    words = first.decode("utf-8", "replace").rsplit(" ", 1)[0].split(" ", 1)
    if len(words) != 2 or not first.rstrip().endswith(b"HTTP/1.1"):  # method and address
        raise query_error("A part of the batch does not begin with a request line.")
    return Part(words[0], words[1], _headers(rest), body.rstrip(b"\r\n"), headers.get("content-id"))
