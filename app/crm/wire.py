"""One request to the Web API and its answer, alone or as a part of a `$batch`: values to bytes and back.

`$batch` is multipart/mixed with CRLF line ends (OData 4.0 part 1, 11.7). Ours hold no change sets: each part
is its own transaction.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

CRLF = b"\r\n"
BLANK = CRLF + CRLF
_PART_HEAD = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_ABSOLUTE = ("/", "https://", "http://")


@dataclass(slots=True)
class Request:
    """A request. Nobody changes it; like all that is made for each row it is not frozen, which would be three times as
    dear. `path` is relative to the service root, or a link that CRM gave us, verbatim."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Headers(Mapping[str, str]):
    """The headers of one part of a batch, read when somebody asks for one: of most parts nobody does."""

    __slots__ = ("_head", "_read")

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._read: dict[str, str] | None = None

    def _named(self) -> dict[str, str]:
        if self._read is None:
            lines = self._head.decode("utf-8", "replace").split("\r\n")[1:]  # the first has the status
            pairs = (line.partition(":") for line in lines)
            self._read = {name.strip().lower(): value.strip() for name, _, value in pairs}
        return self._read

    def __getitem__(self, name: str) -> str:
        return self._named()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._named())

    def __len__(self) -> int:
        return len(self._named())


@dataclass(slots=True)
class Answer:
    """An answer, which nobody changes. Header names are in lower case.

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
        value = read_json(self.body)
        if not isinstance(value, dict):
            raise ValueError("The answer is JSON, but no object.")
        return value


def read_json(body: bytes) -> Any:
    """What a body says; numbers with a point as Decimal. Raises ValueError if it is no JSON, or too deep."""
    try:
        return json.loads(body, parse_float=Decimal)
    except RecursionError as error:
        raise ValueError("It is JSON, but nested too deep.") from error


def batch_body(requests: Sequence[Request], boundary: str, root: str) -> bytes:
    """The body of a `$batch`; `root` is the path of the service root (`/api/data/v9.2/`)."""
    begin = f"--{boundary}\r\n{_PART_HEAD}"
    pieces: list[bytes] = []
    for request in requests:
        path = request.path if request.path.startswith(_ABSOLUTE) else root + request.path
        # What is written is answered in the form it came in; a batch carries every byte a thousandfold.
        form = "Accept" if request.body is None else "Content-Type"
        head = f"{begin}{request.method} {path} HTTP/1.1\r\n{form}: application/json\r\n"
        for name, value in request.headers.items():
            head += f"{name}: {value}\r\n"
        pieces += (head.encode(), CRLF, request.body or b"", CRLF)
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def batch_answers(answer: Answer) -> list[Answer]:
    """The answers to the parts, in their order, with the JSON of those that succeeded. Raises ValueError if the body
    is not whole."""
    found = _BOUNDARY.search(answer.headers.get("content-type", ""))
    if found is None:
        raise ValueError("The answer to a $batch is not multipart.")
    pieces = answer.body.split(b"--" + found[1].encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("The answer to a $batch ends too early.")
    parts = [_part(piece) for piece in pieces[1:-1]]
    shown = iter(_objects([body for status, _, body in parts if _shows(status, body)]))
    return [
        Answer(status, Headers(head), body, answer.repeated, next(shown) if _shows(status, body) else None)
        for status, head, body in parts
    ]


def _part(piece: bytes) -> tuple[int, bytes, bytes]:
    """The status, the head and the body of a part."""
    _, _, http = piece.partition(BLANK)
    head, _, body = http.partition(BLANK)
    _, _, rest = head.partition(b" ")
    return int(rest[:3]), head, body.strip()


def _shows(status: int, body: bytes) -> bool:
    return bool(body) and 200 <= status < 300


def _objects(bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    """The JSON objects of many bodies, read as one list: the names of their columns are then made and kept once."""
    read = read_json(b"[" + b",".join(bodies) + b"]")
    if len(read) != len(bodies) or not all(isinstance(each, dict) for each in read):
        raise ValueError("A part of the answer to a $batch is no JSON object.")
    return read  # type: ignore[no-any-return]  # a list of dicts, as it was just seen
