"""Closing a connection without an answer, which ASGI has no word for."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DROP = "navcrm.sandbox.drop"  # extension of the ASGI scope: a function that cuts the connection
_open: dict[tuple[Any, ...], asyncio.Transport] = {}
"""By both ends: clients of two servers of this process may have the same port."""


class DroppingProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which remembers whose connection it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has come."""
        super().connection_made(transport)
        if self.client is not None:
            _open[self._ends] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        if self.client is not None:
            _open.pop(self._ends, None)
        super().connection_lost(exc)

    @property
    def _ends(self) -> tuple[Any, ...]:
        return self.client, self.server


def droppable(app: ASGIApp) -> ASGIApp:
    """The same application, with the means to drop the connection of a request."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            ends = scope["client"], scope["server"]

            def drop() -> None:
                if (transport := _open.get(ends)) is not None:
                    transport.abort()

            scope = {**scope, "extensions": {**scope.get("extensions", {}), DROP: drop}}
        await app(scope, receive, send)

    return wrapped
