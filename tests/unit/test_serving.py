"""Who may hold a connection, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import uvicorn
from anyio.abc import SocketStream
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.serving import PART_OF_BODY, Http

pytestmark = pytest.mark.anyio
HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
SOON = 0.3


class Impatient(Http):
    """Waits as long as a test does."""

    patience = SOON


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body, takes its time before or after that, and answers."""
    if scope["path"] == "/later":
        await anyio.sleep(3 * SOON)
    while (await receive()).get("more_body"):
        pass
    if scope["path"] == "/slow":
        await anyio.sleep(3 * SOON)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def caller() -> AsyncIterator[SocketStream]:
    """Somebody who connected."""
    config = uvicorn.Config(app, log_config=None, access_log=False)
    server = await asyncio.get_running_loop().create_server(
        lambda: Impatient(config, ServerState(), {}), "127.0.0.1", 0
    )
    async with server, await anyio.connect_tcp(*server.sockets[0].getsockname()) as connected:
        yield connected


async def all_that_comes(stream: SocketStream) -> bytes:
    """What is sent until the other end hangs up, which it must."""
    told = b""
    with anyio.fail_after(20):
        async for piece in stream:
            told += piece
    return told


async def drip(stream: SocketStream, piece: bytes) -> None:
    """Sends it again and again, until it is no longer taken."""
    try:
        while True:
            await stream.send(piece)
            await anyio.sleep(SOON / 5)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return


async def dripped(stream: SocketStream, piece: bytes) -> bytes:
    """What is answered to whoever sends so slowly."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drip, stream, piece)
        told = await all_that_comes(stream)
        tasks.cancel_scope.cancel()
    return told


async def test_who_connects_and_says_nothing_is_left_without_a_word() -> None:
    async with caller() as stream:
        assert await all_that_comes(stream) == b""


@pytest.mark.parametrize("before", [b"", HEAD], ids=["the first request", "a later one"])
async def test_a_head_that_does_not_come_to_its_end_is_cut_off_with_408(before: bytes) -> None:
    async with caller() as stream:
        if before:
            await stream.send(before)
            assert (await stream.receive()).endswith(b"done")
        await stream.send(HEAD[:-2])
        told = await dripped(stream, b"X: y\r\n")
        assert told.startswith(b"HTTP/1.1 408 ")
        head, _, body = told.partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head.split(b"\r\n")


async def test_what_is_not_even_a_beginning_holds_no_connection() -> None:
    async with caller() as stream:
        await stream.send(HEAD)
        assert (await stream.receive()).endswith(b"done")
        assert await dripped(stream, b"\r\n") == b""


def a_post(path: str, length: int) -> bytes:
    """The head of a request with such a body."""
    return b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % (path.encode(), length)


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["nothing comes", "drops come"])
async def test_a_body_that_does_not_come_is_cut_off_with_408(piece: bytes) -> None:
    async with caller() as stream:
        await stream.send(a_post("/", PART_OF_BODY))
        told = await dripped(stream, piece)
        assert told.startswith(b"HTTP/1.1 408 ")
        head, _, body = told.partition(b"\r\n\r\n")
        assert b"content-length: %d" % len(body) in head.split(b"\r\n")


async def test_a_body_that_comes_slowly_has_all_the_time_it_needs() -> None:
    pieces = 10
    async with caller() as stream:
        await stream.send(a_post("/", pieces * PART_OF_BODY))
        for _ in range(pieces):
            await anyio.sleep(SOON / 3)
            await stream.send(b"x" * PART_OF_BODY)
        assert (await stream.receive()).endswith(b"done")


async def test_whoever_waits_for_our_word_to_send_the_body_is_not_late_when_we_are() -> None:
    async with caller() as stream:
        await stream.send(a_post("/later", 4)[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 100 ")
        await stream.send(b"body")
        assert (await stream.receive()).endswith(b"done")


@pytest.mark.parametrize("path", ["/later", "/slow"])
async def test_whoever_sent_a_request_is_not_late_when_we_are(path: str) -> None:
    """Neither while we do not read the body, nor while we work on the answer."""
    body = b"x" * 64 * PART_OF_BODY
    async with caller() as stream:
        for _ in range(2):
            await stream.send(a_post(path, len(body)) + body)
            assert (await stream.receive()).endswith(b"done")
