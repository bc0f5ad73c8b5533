"""Requests and answers as values, so that a batch can send its parts the same way as the network does."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any
from urllib.parse import unquote_plus

from app.sandbox.errors import DataverseError

JSON = "application/json; odata.metadata=minimal"
STREAMED = "application/json; odata.metadata=minimal; odata.streaming=true"
MAXIMUM_PAGE = 5000


@dataclass(slots=True)
class Preferences:
    """What the Prefer header asks for."""

    representation: bool = False
    annotations: tuple[str, ...] = ()
    page_size: int | None = None
    track_changes: bool = False
    continue_on_error: bool = False
    applied: tuple[str, ...] = ()

    def annotated(self, name: str) -> bool:
        """Whether an annotation was asked for; patterns may end in `*`."""
        return any(p == name or (p.endswith("*") and name.startswith(p[:-1])) for p in self.annotations)


def preferences(text: str) -> Preferences:
    """Read a Prefer header; commas inside the quoted list of annotations do not separate."""
    found = Preferences()
    applied = []
    for item in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        name, _, value = item.strip().partition("=")
        value = value.strip().strip('"')
        match name.strip().lower():
            case "return" if value == "representation":
                found.representation = True
            case "odata.include-annotations":
                found.annotations = tuple(part.strip() for part in value.split(","))
            case "odata.maxpagesize" if value.isdigit() and int(value):
                found.page_size = min(int(value), MAXIMUM_PAGE)
            case "odata.track-changes":
                found.track_changes = True
            case "odata.continue-on-error":
                found.continue_on_error = True
            case _:
                continue
        applied.append(item.strip())
    found.applied = tuple(applied)
    return found


@dataclass(slots=True)
class ApiRequest:
    """One request below the service root.

    `path` is decoded, `query` is as it was sent; header names are in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    options: dict[str, str] = field(init=False)
    prefer: Preferences = field(init=False)

    def __post_init__(self) -> None:
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        self.options = {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
        self.prefer = preferences(self.headers.get("prefer", ""))

    def condition(self, header: str) -> str | None:
        """If-Match or If-None-Match; `null`, which clients send by habit, counts as nothing."""
        value = self.headers.get(header, "").strip()
        return value if value and value != "null" else None


@dataclass(slots=True)
class ApiResponse:
    """One answer; the body is JSON unless content_type says otherwise."""

    status: int
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def body(self) -> bytes:
        """The bytes to send."""
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        if isinstance(self.content, str):
            return self.content.encode()
        # CRM keeps half a character of a text that was cut, and sends it as an escape.
        return to_json(self.content).encode("utf-8", "backslashreplace")


def applied(request: ApiRequest, response: ApiResponse) -> ApiResponse:
    """Say which preferences were honoured."""
    if request.prefer.applied:
        response.headers["Preference-Applied"] = ", ".join(request.prefer.applied)
    return response


def refusal(error: DataverseError, prefer: Preferences | None = None) -> ApiResponse:
    """The answer for a refused request."""
    content: dict[str, Any] = {"code": error.code, "message": error.message}
    if prefer is not None and "*" in prefer.annotations:
        content |= {
            "@Microsoft.PowerApps.CDS.ErrorDetails.OperationStatus": "0",
            "@Microsoft.PowerApps.CDS.ErrorDetails.SubErrorCode": error.code,
            "@Microsoft.PowerApps.CDS.HelpLink": f"http://go.microsoft.com/fwlink/?LinkID=398563&error={error.code}",
            "@Microsoft.PowerApps.CDS.InnerError.Message": error.message,
        }
    return ApiResponse(error.status, {"error": content}, dict(error.headers))


def to_json(value: Any) -> str:
    """JSON text; decimals as numbers in all their digits."""
    out: list[str] = []
    _write(value, out)
    return "".join(out)


def _write(value: Any, out: list[str]) -> None:
    match value:
        case None:
            out.append("null")
        case str():
            out.append(encode_basestring(value))
        case bool():
            out.append("true" if value else "false")
        case int():
            out.append(str(value))
        case Decimal():
            out.append(f"{value:f}")
        case dict():
            _members(value, out)
        case list() | tuple():
            _items(value, out)
        case _:
            out.append(json.dumps(value))


def _members(value: dict[str, Any], out: list[str]) -> None:
    separator = "{"
    for name, item in value.items():
        out.append(separator)
        out.append(encode_basestring(name))
        out.append(":")
        _write(item, out)
        separator = ","
    out.append("}" if separator == "," else "{}")


def _items(value: Iterable[Any], out: list[str]) -> None:
    separator = "["
    for item in value:
        out.append(separator)
        _write(item, out)
        separator = ","
    out.append("]" if separator == "," else "[]")
