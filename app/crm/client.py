"""Dataverse over HTTP: one request in, one answer or one domain error out.

Everything sent here may be repeated: reads, writes to a chosen id with a condition, and batches of these. So a
lost connection, a 500, 502, 503 or 504 is tried again a few times, and a 429 after the wait that CRM asks for.
"""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from secrets import token_hex
from typing import TypeVar

import httpx

from app.crm import measured
from app.crm.bounded import LARGEST, bounded
from app.crm.failures import DEFAULT_WAIT, TOO_MANY_AT_ONCE, code_and_message, error_of, retry_after, shut_out
from app.crm.lanes import Lanes, granted
from app.crm.reach import watched
from app.crm.wire import Answer, Request, batch_answers, batch_body
from app.domain.errors import CrmRefused, CrmUnavailable, IntegrationError, LoginRefused, Throttled
from app.telemetry.figures import crm_repeated, crm_throttled


def _user_agent() -> str:
    try:
        return f"navcrm/{version('navcrm')}"
    except PackageNotFoundError:  # run from the source tree, not installed
        return "navcrm"


T = TypeVar("T")

NO_CONTENT, TOO_MANY_REQUESTS = 204, 429
CONTEXT = "@odata.context"
BOUNDARY_BYTES = 8  # comes before every part of a batch; so long that no row holds it by chance
POSTPONED = frozenset({TOO_MANY_REQUESTS, 500, 502, 503, 504})
IDLE_SECONDS = 60.0
"""So long a connection is kept that nobody uses: runs come every few seconds, and need not begin with handshakes.
Servers hang up later: IIS after 120 s (connectionTimeout)."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "OData-Version": "4.0",
    "OData-MaxVersion": "4.0",
    "If-None-Match": "null",  # no caches on the way (Dataverse: HTTP headers)
    "User-Agent": _user_agent(),
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried. Times in seconds."""

    tries: int = 4  # of one that fails without being throttled
    first_wait: float = 0.5  # doubles with every try
    longest: float = 60.0  # all waits of one request together; after that the caller decides
    connect: float = 10.0
    read: float = 60.0
    read_per_part: float = 0.3  # CRM works the parts of a batch off one after the other


PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Contact:
    """What the latest contact showed; `at` is the monotonic clock's time, `error` why CRM could not be worked
    with."""

    at: float
    error: str | None = None


class DataverseClient:
    """A connection to one organization.

    Args:
        server_url: the organization, `https://contoso.crm4.dynamics.com`.
        auth: adds the token.
        without_secrets: takes what nobody should read out of what CRM says about failures.
        lanes: shared by all clients of the organization in this process.
        transport: what carries the requests; the network if not given.
        tls: whom to trust; the system's certificate authorities if not given.
        largest: bytes of an answer; what has more is none of CRM.
    """

    def __init__(
        self,
        server_url: str,
        auth: httpx.Auth,
        *,
        api_version: str = "v9.2",
        lanes: Lanes | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
        patience: Patience = PATIENCE,
        without_secrets: Callable[[bytes], bytes] = bytes,
        largest: int = LARGEST,
    ) -> None:
        root = httpx.URL(f"{server_url.rstrip('/')}/api/data/{api_version}/")
        self.server_url = server_url.rstrip("/")
        self.root_path = root.path
        self.lanes = lanes or Lanes()
        self.contact: Contact | None = None
        self._root = str(root)
        self._auth = auth
        self._patience = patience
        self._without_secrets = without_secrets
        width = self.lanes.size
        called = measured.hooks()
        self._http = httpx.AsyncClient(
            headers=HEADERS,
            event_hooks={
                "request": [watched, *called["request"]],
                "response": [*called["response"], bounded(largest)],
            },
            transport=transport,
            verify=tls or _system_authorities(),
            limits=httpx.Limits(
                max_connections=width + 2, max_keepalive_connections=width + 2, keepalive_expiry=IDLE_SECONDS
            ),
            # Proxies of the environment are for the way out, not for this machine.
            trust_env=root.host not in LOOPBACK,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def knock(self) -> int:
        """The HTTP status with which CRM answers someone without a token. Raises CrmUnavailable."""
        try:
            response = await self._exchanged(self._http.build_request("GET", self._root), None)
        except _Lost as lost:
            raise lost.error from lost
        return response.status_code

    async def log_in(self) -> None:
        """Gets a token, if there is none. Raises LoginRefused, CrmUnavailable."""
        request = self._http.build_request("GET", self._root)
        flow = self._auth.async_auth_flow(request)
        try:
            first = await anext(flow)
            if first is not request:
                await flow.asend(await self._exchanged(first, None))
        except _Lost as lost:
            raise lost.error from lost
        finally:
            await flow.aclose()

    async def send(self, request: Request, subject: str = "the request") -> Answer:
        """The answer to a request that succeeded; `subject` names it in errors. Raises domain errors."""
        answer = await self.ask(request, subject)
        if not answer.ok:
            raise error_of(answer, subject)
        return answer

    async def ask(self, request: Request, subject: str = "the request") -> Answer:
        """The answer to a request, even one that was refused. Raises CrmUnavailable."""
        return await self._persistently(request, subject, self._patience.read, _readable)

    async def batch(self, requests: Sequence[Request], subject: str = "the batch") -> list[Answer]:
        """The answer to each of up to 1000 requests, in order, each alone, refused or not.

        Parts that CRM could not take at the moment are sent again. Raises what holds for the whole batch.
        """
        answers = await self._batch_once(requests, subject)
        backoff = _Backoff(self._patience)
        while again := [i for i, answer in enumerate(answers) if answer.status in POSTPONED]:
            waits = [backoff.wait_after(answers[i]) for i in again]
            wait = max((wait for wait in waits if wait is not None), default=None)
            if wait is None or not backoff.allows(wait):
                break
            refused = [answers[i] for i in again if answers[i].status == TOO_MANY_REQUESTS]
            if refused:
                self._throttled(wait, refused[0])
            await backoff.pause(wait)
            try:
                later = await self._batch_once([requests[i] for i in again], subject)
            except CrmUnavailable:
                break  # what is known of the other parts stays known
            for i, answer in zip(again, later, strict=True):
                answers[i] = replace(answer, repeated=True)
        return answers

    async def _batch_once(self, requests: Sequence[Request], subject: str) -> list[Answer]:
        boundary = token_hex(BOUNDARY_BYTES)
        body = batch_body(requests, boundary, self.root_path)
        headers = {
            "Content-Type": f'multipart/mixed; boundary="{boundary}"',
            "Prefer": "odata.continue-on-error",
        }
        seconds = self._patience.read + self._patience.read_per_part * len(requests)

        def parts(answer: Answer) -> list[Answer]:
            if not answer.ok:
                raise error_of(answer, subject)
            found = batch_answers(answer)
            if len(found) != len(requests):
                raise ValueError("the answer to a $batch lacks parts")
            return found

        return await self._persistently(Request("POST", "$batch", headers, body), subject, seconds, parts)

    async def _persistently(
        self, request: Request, subject: str, seconds: float, read: Callable[[Answer], T]
    ) -> T:
        """As `_patiently`, and notes whether CRM can be worked with at all."""

        def noted(answer: Answer) -> T:
            found = read(answer)
            self.contact = Contact(time.monotonic(), shut_out(answer))
            return found

        try:
            return await self._patiently(request, subject, seconds, noted)
        except Throttled:
            raise
        except CrmUnavailable as error:
            self.contact = Contact(time.monotonic(), error.detail)
            raise

    async def _patiently(
        self, request: Request, subject: str, seconds: float, read: Callable[[Answer], T]
    ) -> T:
        """Sends the request until CRM has an opinion about it or our patience ends."""
        backoff = _Backoff(self._patience)
        repeated = False
        while True:
            failure: IntegrationError
            wait: float | None
            try:
                answer = replace(await self._once(request, seconds), repeated=repeated)
                if answer.status not in POSTPONED:
                    return read(answer)
            except (_Lost, ValueError) as error:
                failure, wait, repeated = self._failure(error), backoff.next_wait(), True
            else:
                failure, wait = error_of(answer, subject), backoff.wait_after(answer)
                if answer.status == TOO_MANY_REQUESTS:
                    self._throttled(wait or 0.0, answer)
                else:
                    repeated = True
            if wait is None or not backoff.allows(wait):
                raise failure
            crm_repeated()
            await backoff.pause(wait)

    def _failure(self, error: Exception) -> CrmUnavailable:
        if isinstance(error, _Lost):
            return error.error
        return CrmUnavailable(
            f"What {self.server_url} answered cannot be read: {error}",
            fix="Check server_url of the connection, and what stands between us and CRM.",
        )

    def _throttled(self, seconds: float, answer: Answer) -> None:
        crm_throttled()
        self.lanes.throttled(seconds, at_once=code_and_message(answer)[0] == TOO_MANY_AT_ONCE)

    async def _once(self, request: Request, seconds: float) -> Answer:
        """One exchange. Raises _Lost if nothing came back, and what the login says."""
        headers = dict(request.headers)
        if request.body is not None:
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        built = self._http.build_request(
            request.method,
            self._address(request.path),
            headers=headers,
            content=request.body,
            timeout=httpx.Timeout(seconds, connect=self._patience.connect),
        )
        async with self._lane():
            began = time.monotonic()
            response = await self._exchanged(built, self._auth)
            if response.status_code != TOO_MANY_REQUESTS:
                self.lanes.told(time.monotonic() - began, *granted(response.headers))
        if response.status_code < 400:
            self.lanes.answered()
        names = {name.lower(): value for name, value in response.headers.items()}
        content = response.content
        del response.stream  # it knows the response: in that circle the text of a page would outlive the page
        if response.status_code >= 400 or names.get("content-type", "").startswith("multipart/"):
            content = self._without_secrets(content)
        return Answer(response.status_code, names, content)

    async def _exchanged(self, request: httpx.Request, auth: httpx.Auth | None) -> httpx.Response:
        if self._http.is_closed:
            raise CrmUnavailable(
                "The connection to CRM was changed or closed meanwhile.", fix="Try again: it is opened anew."
            )
        try:
            return await self._http.send(request, auth=auth)
        except (httpx.TransportError, httpx.DecodingError, OSError) as error:
            measured.ended(request, error)
            raise _Lost(_unreachable(error, request.url.host)) from error
        except (LoginRefused, Throttled):
            raise
        except CrmUnavailable as error:  # the login service has no answer at the moment
            raise _Lost(error) from error
        finally:
            measured.ended(request)

    def _address(self, path: str) -> str:
        """The address of a request. Links that CRM gave us stay as they are, but must lead back to it."""
        if "://" not in path:
            return self._root + path
        link, root = httpx.URL(path), httpx.URL(self._root)
        same = (link.scheme, link.host, link.port) == (root.scheme, root.host, root.port)
        if not same or not link.path.startswith(root.path):
            raise CrmRefused(
                f"CRM answered with a link to another place ({link.host}), which we do not follow."
            )
        return path

    @asynccontextmanager
    async def _lane(self) -> AsyncIterator[None]:
        if self.lanes.closed_for > self._patience.longest:
            raise Throttled("CRM asks to wait.", retry_after=timedelta(seconds=self.lanes.closed_for))
        async with self.lanes.lane():
            yield


def _readable(answer: Answer) -> Answer:
    """The answer with its JSON read. Raises ValueError: what is no OData does not come from CRM, but from what stands
    between us, which may answer 200 with nothing, or with a JSON of its own."""
    if not answer.ok or answer.status == NO_CONTENT:
        return answer
    data = answer.json()
    if CONTEXT not in data:
        raise ValueError("It is JSON, but no OData.")
    return replace(answer, data=data)


def _unreachable(error: Exception, host: str) -> CrmUnavailable:
    if isinstance(error, httpx.TimeoutException):
        return CrmUnavailable(f"{host} did not answer in time.", fix="Try again later.")
    reason = str(error) or type(error).__name__
    return CrmUnavailable(
        f"{host} cannot be reached: {reason}",
        fix="Check server_url of the connection, name resolution, proxies and certificates on our side.",
    )


@cache
def _system_authorities() -> ssl.SSLContext:
    """Whom we trust by default; read once, because reading takes a while."""
    return httpx.create_ssl_context()


class _Lost(Exception):
    """Nothing usable came back; whether the request was carried out is unknown."""

    def __init__(self, error: CrmUnavailable) -> None:
        super().__init__(error.detail)
        self.error = error


class _Backoff:
    """The waits of one request."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._tries = 1
        self._waited = 0.0

    def next_wait(self) -> float | None:
        """Before another try after a failure; None when there were enough."""
        if self._tries >= self._patience.tries:
            return None
        wait: float = self._patience.first_wait * 2 ** (self._tries - 1)
        return wait * random.uniform(0.5, 1.5)

    def wait_after(self, answer: Answer) -> float | None:
        """What the answer asks for, never less; a little more, so that not all come back at once."""
        asked = retry_after(answer.headers)
        if answer.status == TOO_MANY_REQUESTS:
            seconds = (asked or DEFAULT_WAIT).total_seconds()
            return seconds + random.uniform(0, min(1.0, seconds / 10))
        wait = self.next_wait()
        return wait if wait is None or asked is None else max(wait, asked.total_seconds())

    def allows(self, wait: float) -> bool:
        """Whether so long a wait is still within our patience."""
        return self._waited + wait <= self._patience.longest

    async def pause(self, wait: float) -> None:
        """Waits."""
        self._tries += 1
        self._waited += wait
        await asyncio.sleep(wait)
