"""A CRM for tests: the sandbox behind a connector, over ASGI or over real HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from starlette.applications import Starlette

from app.crm.client import Patience
from app.crm.connector import Connector
from app.crm.store import Dataverse
from app.domain.company import ConnectionSetup, Credentials
from app.sandbox import (
    DEFAULT_CLIENT,
    DEFAULT_SECRET,
    DEFAULT_TENANT,
    ConnectionReset,
    Fault,
    Organization,
    create_sandbox,
)
from app.sandbox.server import server
from tests.servers import IDLE_SECONDS, START_SECONDS

URL = "http://127.0.0.1:65000"
QUICK = Patience(tries=4, first_wait=0.01, longest=5, read=30)


def setup_for(url: str = URL, **changes: Any) -> ConnectionSetup:
    """A connection setup for the sandbox at that address."""
    credentials = {"type": "client_secret", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT}
    given = credentials | {"authority": url, "client_secret": DEFAULT_SECRET} | changes
    return ConnectionSetup(url, Credentials(**given), is_enabled=True)


@dataclass(frozen=True, slots=True)
class Crm:
    """A store, and the organization behind it."""

    store: Dataverse
    organization: Organization

    @property
    def requests(self) -> list[str]:
        """What was asked of CRM, tokens and the like left out: `POST 200 $batch`."""
        root = "/api/data/v9.2/"
        return [
            f"{each.method} {each.status} {each.path.removeprefix(root).split('?', maxsplit=1)[0]}"
            for each in self.organization.log
            if each.path.startswith(root)
        ]

    def forget_requests(self) -> None:
        """Counts requests from here on."""
        self.organization.log.clear()

    def faults(self, *faults: Fault) -> None:
        """What goes wrong from now on."""
        self.organization.faults[:] = faults

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The rows of a table, as CRM keeps them."""
        return self.organization.rows(table)

    @property
    def user_id(self) -> UUID:
        """The application user."""
        return UUID(self.organization.user)


class Wire(httpx.ASGITransport):
    """ASGI in place of a network; a connection that the sandbox drops looks like one."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except ConnectionReset as error:
            raise httpx.RemoteProtocolError(str(error)) from error


@contextlib.asynccontextmanager
async def crm_in_process(patience: Patience = QUICK, lanes: int = 4, **options: Any) -> AsyncIterator[Crm]:
    """A sandbox called without a network; the options are those of `create_sandbox`."""
    sandbox = create_sandbox(**options)
    connector = Connector(lanes=lanes, transport=lambda: Wire(sandbox), patience=patience)
    try:
        yield Crm(connector.open(1, setup_for()), sandbox.state.organization)
    finally:
        await connector.aclose()


@contextlib.asynccontextmanager
async def crm_over_http(patience: Patience = QUICK, lanes: int = 4, **options: Any) -> AsyncIterator[Crm]:
    """A sandbox called over TCP."""
    sandbox = create_sandbox(**options)
    connector = Connector(lanes=lanes, patience=patience)
    async with served(sandbox) as url:
        try:
            yield Crm(connector.open(1, setup_for(url)), sandbox.state.organization)
        finally:
            await connector.aclose()


@contextlib.asynccontextmanager
async def served(
    app: Starlette, certfile: Path | None = None, keyfile: Path | None = None
) -> AsyncIterator[str]:
    """An application behind a server on a free port of this machine, in the same event loop."""
    running = server(app, certfile=certfile, keyfile=keyfile)
    running.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]  # the runner's own stay
    running.config.timeout_keep_alive = IDLE_SECONDS
    task = asyncio.create_task(running.serve())
    try:
        async with asyncio.timeout(START_SECONDS):
            while not running.started and not task.done():  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.005)
        port = running.servers[0].sockets[0].getsockname()[1]
        yield f"{'https' if certfile else 'http'}://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        await task
