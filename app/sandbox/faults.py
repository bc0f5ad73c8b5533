"""Faults on request: what goes wrong, when, and for which requests."""

import random
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import httpx

Kind = Literal[
    "400",
    "401",
    "403",
    "404",
    "412",
    "429",
    "500",
    "502",
    "503",
    "504",
    "hang",
    "reset_before_commit",
    "reset_after_commit",
    "truncated",
    "not_json",
    "html",
    "overtaken",
    "token_expired",
]
KINDS: tuple[str, ...] = get_args(Kind)
CODES = {
    400: ("0x80040265", "A plug-in refused the operation."),
    401: ("", "The token was refused."),
    403: ("0x80040220", "Principal user is missing a privilege."),
    404: ("0x80040217", "The row Does Not Exist"),
    412: ("0x80060882", "The version of the existing record doesn't match the RowVersion property provided."),
    429: ("0x80072322", "Number of requests exceeded the limit of 6000 over time window of 300 seconds."),
    500: ("0x80040216", "An unexpected error occurred."),
    502: ("", "Bad Gateway"),
    503: ("", "Service Unavailable"),
    504: ("", "Gateway Timeout"),
}


@dataclass(slots=True)
class Fault:
    r"""One kind of trouble.

    Args:
        match: a regular expression over `METHOD /path?query`, such as `POST .*/\$batch`.
        kind: an HTTP status, or hang, reset_before_commit, reset_after_commit, truncated, not_json, html; overtaken:
            just before, somebody else changes the rows that the request would update with If-Match; or token_expired:
            all tokens given out so far end here.
        every: strikes at each n-th matching request.
        times: strikes so often and no more.
        probability: strikes by chance, 0 to 1.
        after: lets so many matching requests pass first.
        retry_after: seconds for the Retry-After header of 429 and 503.
        seconds: how long `hang` takes before it goes on.
        code: Dataverse error code in place of the usual one of the status.
        message: error message in place of the usual one.
        values: columns that `overtaken` changes, with their new values; without any the rows are saved as they are.
    """

    match: str = ".*"
    kind: Kind = "500"
    every: int | None = None
    times: int | None = None
    probability: float | None = None
    after: int = 0
    retry_after: float | None = None
    seconds: float = 60
    code: str | None = None
    message: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    seen: int = field(default=0, compare=False)
    struck: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"'{self.kind}' is no kind of fault: choose from {', '.join(KINDS)}.")

    def strikes(self, request: str) -> bool:
        """Whether this request is hit; counts it."""
        if not re.match(self.match, request):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.struck >= self.times):
            return False
        if self.every is not None and (self.seen - self.after) % self.every:
            return False
        if self.probability is not None and random.random() >= self.probability:
            return False
        self.struck += 1
        return True

    @property
    def status(self) -> int | None:
        """The HTTP status, for faults that are one."""
        return int(self.kind) if self.kind.isdigit() else None

    def as_json(self) -> dict[str, Any]:
        """The fault and its counts."""
        return {name: getattr(self, name) for name in self.__slots__}


def from_json(value: dict[str, Any]) -> Fault:
    """A fault from the control endpoint; counts start anew."""
    return Fault(**{name: item for name, item in value.items() if name not in ("seen", "struck")})


class ConnectionReset(httpx.RemoteProtocolError):
    """The connection ends without an answer: what an httpx client sees that calls the application directly."""
