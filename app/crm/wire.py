"""One request to the Web API and its answer, alone or as a part of a `$batch`: values to bytes and back.

`$batch` is multipart/mixed with CRLF line ends (OData 4.0 part 1, 11.7). Ours hold no change sets: each part
is its own transaction.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

CRLF = b"\r\n"
BLANK = CRLF + CRLF
_PART_HEAD = b"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` is relative to the service root, or a link that CRM gave us, verbatim."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Header names are in lower case.

    `repeated` says that the request was sent more than once, so an earlier try may have been carried out.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    repeated: bool = False
    data: dict[str, Any] | None = None  # the body as JSON, where it was read already

    @property
    def ok(self) -> bool:
        """Whether CRM did what was asked."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The body; numbers with a point as Decimal. Raises ValueError if it is no JSON object."""
        if self.data is not None:
            return self.data
        value = json.loads(self.body, parse_float=Decimal)
        if not isinstance(value, dict):
            raise ValueError("The answer is JSON, but no object.")
        return value


def batch_body(requests: Sequence[Request], boundary: str, root: str) -> bytes:
    """The body of a `$batch`; `root` is the path of the service root (`/api/data/v9.2/`)."""
    mark = f"--{boundary}\r\n".encode()
    pieces: list[bytes] = []
    for request in requests:
        path = request.path if request.path.startswith(("/", "https://", "http://")) else root + request.path
        # What is written is answered in the form it came in; a batch carries every byte a thousandfold.
        form = "Accept" if request.body is None else "Content-Type"
        head = [f"{request.method} {path} HTTP/1.1", f"{form}: application/json"]
        head += [f"{name}: {value}" for name, value in request.headers.items()]
        pieces += (mark, _PART_HEAD, "\r\n".join(head).encode(), BLANK, request.body or b"", CRLF)
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def batch_answers(answer: Answer) -> list[Answer]:
    """The answers to the parts, in their order. Raises ValueError if the body is not whole."""
    found = _BOUNDARY.search(answer.headers.get("content-type", ""))
    if found is None:
        raise ValueError("The answer to a $batch is not multipart.")
    pieces = answer.body.split(b"--" + found[1].encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("The answer to a $batch ends too early.")
    return [_part(piece, answer.repeated) for piece in pieces[1:-1]]


def _part(piece: bytes, repeated: bool) -> Answer:
    _, _, http = piece.partition(BLANK)
    head, _, body = http.partition(BLANK)
    status_line, *lines = head.decode("utf-8", "replace").split("\r\n")
    _, _, rest = status_line.partition(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(int(rest[:3]), headers, body.strip(), repeated)
