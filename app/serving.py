"""Serves an application on a socket until told to stop."""

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

LONGEST_HEAD = 64 * 1024
"""Bytes of a request before its body: address and headers."""
PATIENCE = 30.0
"""Seconds in which a whole head has to come, from when somebody connects or begins one: a connection costs a place.
A further part of a body has to come within one to two of them."""
PART_OF_BODY = 16 * 1024
"""Bytes of such a part: whoever sends less than half a kilobyte a second holds a connection, and nothing else."""
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 34\r\n"
    b"connection: close\r\n\r\nThe request did not come in time.\n"
)


class Stopping:
    """Whether this process was told to stop; those who need to know at once leave word."""

    def __init__(self) -> None:
        self.told = False
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls it when the process is told to stop, in the thread of the event loop."""
        self._listeners.append(listener)

    def tell(self) -> None:
        """The process was told to stop."""
        self.told = True
        for listener in self._listeners:
            listener()


def serve_until_told(
    app: ASGIApp,
    listening: socket.socket,
    drain_seconds: int,
    started: Callable[[], None],
    *,
    stopping: Stopping | None = None,
    notice_seconds: float = 0,
) -> None:
    """Serves until SIGTERM or SIGINT; open requests get `drain_seconds` to end.

    `started` is called once the application is ready and can be reached. `stopping` is told at once, and requests are
    taken for `notice_seconds` more, so that whoever sends them can learn it from /readyz; a second signal ends that.
    Raises what kept the application from becoming ready.
    """
    watched = _Watched(app)
    config: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "proxy_headers": False,  # the application believes those proxies alone that the settings name
        "http": Http,
        "ws": "none",
        "timeout_graceful_shutdown": drain_seconds,
    }
    server = _Server(uvicorn.Config(watched, **config), started, stopping or Stopping(), notice_seconds)
    # The caller tells why the start failed, in words of its own.
    logging.getLogger("uvicorn.error").addFilter(lambda record: watched.failure is None)
    try:
        server.run(sockets=[listening])
    except SystemExit:
        if watched.failure is None:
            raise
    if watched.failure is not None:
        raise watched.failure


class _HeadTooLong(Exception):
    """The request has not come to its body after so many bytes."""


class _HostUnclear(Exception):
    """The request names no host, or several."""


class _InOne:
    """A transport that sends the head of an answer together with what follows it.

    By itself each would be a trip of its own, and the caller woken for a head alone. What is written waits for more of
    it until the event loop turns, and no longer: a stream whose next event is hours away has its head at once.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        """Everything else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends what waits with this; this waits if nothing does."""
        held, self._held = self._held, b""
        if held:
            self._transport.write(held + data)
        elif data:
            self._held = data
            asyncio.get_running_loop().call_soon(self._send)

    def close(self) -> None:
        """Sends what waits and closes."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)


class Http(HttpToolsProtocol):
    """HTTP whose requests have heads of at most LONGEST_HEAD bytes that come within PATIENCE, and bodies of which
    PART_OF_BODY comes in one of any two PATIENCEs; others are answered 400 or 408, and cut off.

    As many bytes may lie between two parts of a body, and behind the last one: sizes of chunks and trailers. An offer
    to go on in another protocol is declined, as HTTP lets a server do (RFC 9110, 7.8): the parser would take the body
    for words of that protocol.
    """

    _in_message = False
    _in_head = False
    _head = 0  # bytes of the address and of complete headers
    _fed = 0  # bytes since the head, or a part of the body, beyond those that it came with
    _request_line = b""  # of one that offers another protocol
    _came = False  # whether one came with what is being fed
    _body = 0  # bytes of it since it is waited for, or since the last look at how it comes
    _late = False  # whether that look found too few
    _overdue: asyncio.TimerHandle | None = None  # set while a head, or the rest of a body, is waited for
    patience = PATIENCE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Somebody connected."""
        super().connection_made(cast(asyncio.Transport, _InOne(transport)))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        if self._overdue is not None:
            self._overdue.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_message = self._in_head = self._came = True
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Those behind a body count, but are none of the request's (RFC 9110, 6.5.1)."""
        self._count(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head ends. What it names as host is named once (RFC 9112, 3.2)."""
        self._in_head = False
        self._body, self._late = 0, False
        self._stop_waiting()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise _HostUnclear  # the parser makes it an invalid request
        if not self.parser.should_upgrade():
            super().on_headers_complete()
        else:  # the parser forgets it before it says where the head ended
            method, version = self.parser.get_method(), self.parser.get_http_version()
            self._request_line = b"%b %b HTTP/%b" % (method, self.url, version.encode())

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._came = True
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._in_message = False
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """What the parser keeps of an unfinished header is known to it alone, so what it was fed is counted."""
        self._came = False
        self._unset_keepalive_if_required()
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        self._fed = self._fed + len(data) if self._in_message and not self._came else 0
        if self._fed > LONGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")
        self._watch()

    def _watch(self) -> None:
        """Limits the time until the next whole head or part of a body, unless it is our turn. Without a byte after an
        answer uvicorn hangs up by itself, but any byte would hold the connection for good."""
        latest = cast("RequestResponseCycle | None", self.cycle)  # none before the first head
        if latest is not None and not latest.response_complete and not self._in_body():
            self._stop_waiting()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(self.patience, self._look)

    def _stop_waiting(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _in_body(self) -> bool:
        """Whether more is to come of a body that is not answered yet."""
        return self._in_message and not self._in_head and not self.cycle.response_complete

    def _is_late(self) -> bool:
        """Whether too little came of the body since the last look, and it is not we who keep it waiting."""
        ours = self.flow.read_paused or self.pipeline or self.cycle.waiting_for_100_continue
        return self._body < PART_OF_BODY and not ours

    def _look(self) -> None:
        """Goes on waiting for a body that comes, or whose turn is not yet; hangs up on whoever else is late. A body is
        so when two looks in a row find it so: shortly before the first we may not have read."""
        self._overdue = None
        was_late, self._late = self._late, self._in_body() and self._is_late()
        if not self._in_body() or (was_late and self._late):
            self._hang_up()
        else:
            self._body = 0
            self._watch()

    def _hang_up(self) -> None:
        """Who began a request is told; where none was begun, or its answer was, this would be taken for that of a later
        one."""
        if self._in_head or (self._in_body() and not self.cycle.response_started):
            self.transport.write(TOO_SLOW)
        self.transport.close()

    def _parse(self, data: memoryview) -> None:
        """Raises HttpParserError."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data, head = data[offer.args[0] :], self._without_offer()
                self.parser.feed_data(head)
            else:
                return

    def _without_offer(self) -> bytes:
        """The head that was just read, for a parser that begins anew, without the offer of another protocol."""
        if self._request_line.startswith(b"CONNECT "):
            raise httptools.HttpParserError("There is nothing here to connect to.")
        kept = (name + b": " + value for name, value in self.headers if name != b"upgrade")
        head = b"\r\n".join((self._request_line, *kept, b"", b""))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        return head

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > LONGEST_HEAD:
            raise _HeadTooLong  # the parser makes it an invalid request


class _Server(uvicorn.Server):
    """A server that says that it has started, and that it will stop before it does."""

    def __init__(
        self, config: uvicorn.Config, told: Callable[[], None], stopping: Stopping, notice_seconds: float
    ) -> None:
        super().__init__(config)
        self._told = told
        self._stopping = stopping
        self._notice_seconds = notice_seconds
        self._ends_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tells of it when connections are taken: when the application is ready they are not yet."""
        await super().startup(sockets)
        if self.started:
            self._told()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came: the first one gives notice, unless there is no time for that."""
        again = self._stopping.told
        self._stopping.told = True
        if again or not self.started or not self._notice_seconds:
            super().handle_exit(sig, frame)
        else:
            self._captured_signals.append(sig)

    async def on_tick(self, counter: int) -> bool:
        """Looks ten times a second whether it is time to end."""
        if self._stopping.told and self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + self._notice_seconds
            self._stopping.tell()
        if self._ends_at is not None and asyncio.get_running_loop().time() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)


class _Watched:
    """ASGI middleware that keeps what went wrong at the start, instead of having its traceback logged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        started = False

        async def quiet_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.complete":
                started = True
            quiet = {"message": ""} if message["type"] == "lifespan.startup.failed" else {}
            await send({**message, **quiet})

        try:
            await self.app(scope, receive, quiet_send)
        except Exception as error:
            if started:
                raise
            self.failure = error
