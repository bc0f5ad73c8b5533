"""A CRM for tests: the sandbox behind a connector, over ASGI or over real HTTP."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from starlette.applications import Starlette

from app.crm.client import Patience
from app.crm.connector import Connector
from app.crm.store import Dataverse
from app.domain.company import ConnectionSetup, Credentials
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Fault, Organization, create_sandbox

URL = "http://127.0.0.1:65000"
QUICK = Patience(tries=4, first_wait=0.01, longest=5, read=5)


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


@contextlib.asynccontextmanager
async def crm_in_process(patience: Patience = QUICK, lanes: int = 4, **options: Any) -> AsyncIterator[Crm]:
    """A sandbox called without a network."""
    sandbox = create_sandbox(**options)
    connector = Connector(lanes=lanes, transport=lambda: httpx.ASGITransport(sandbox), patience=patience)
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
async def served(app: Starlette) -> AsyncIterator[str]:
    """An application behind uvicorn on a free port of this machine, in the same event loop."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # the test runner's own stay
    server.capture_signals = _nothing  # type: ignore[method-assign]  # likewise, in newer versions
    task = asyncio.create_task(server.serve(sockets=[listener]))
    for _ in range(500):
        if server.started:
            break
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        server.force_exit = True
        await task
        listener.close()


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield
