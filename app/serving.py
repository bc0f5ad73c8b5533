"""Serves an application on a socket until told to stop."""

import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_HEAD = 64 * 1024
"""Bytes of a request before its body: address and headers."""


def serve_until_told(
    app: ASGIApp, listening: socket.socket, drain_seconds: int, started: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT; open requests get `drain_seconds` to end.

    `started` is called once the application is ready. Raises what kept it from becoming so.
    """
    watched = _Watched(app, started)
    config: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "proxy_headers": False,  # the application believes those proxies alone that the settings name
        "http": "h11",  # the other implementation takes headers of any length
        "h11_max_incomplete_event_size": LONGEST_HEAD,
        "ws": "none",
        "timeout_graceful_shutdown": drain_seconds,
    }
    server = uvicorn.Server(uvicorn.Config(watched, **config))
    # The caller tells why the start failed, in words of its own.
    logging.getLogger("uvicorn.error").addFilter(lambda record: watched.failure is None)
    try:
        server.run(sockets=[listening])
    except SystemExit:
        if watched.failure is None:
            raise
    if watched.failure is not None:
        raise watched.failure


class _Watched:
    """ASGI middleware that keeps what went wrong at the start, instead of having its traceback logged."""

    def __init__(self, app: ASGIApp, started: Callable[[], None]) -> None:
        self.app = app
        self.started = started
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
                self.started()
            quiet = {"message": ""} if message["type"] == "lifespan.startup.failed" else {}
            await send({**message, **quiet})

        try:
            await self.app(scope, receive, quiet_send)
        except Exception as error:
            if started:
                raise
            self.failure = error
