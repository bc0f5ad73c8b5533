"""How a process is seen from outside: `/healthz`, `/readyz`, `/metrics`, in the API and in a worker that has a port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial

import uvicorn
from fastapi import FastAPI
from sqlalchemy.pool import QueuePool
from starlette.middleware import Middleware

from app.api import health
from app.api.headers import EveryAnswer
from app.api.metrics import Scrape
from app.db.figures import service_figures
from app.db.readiness import readiness
from app.ports import ProcessFigures, ServiceFigures
from app.serving import Http
from app.wiring import Parts
from app.worker import run_worker


def vitals(parts: Parts, stopping: Callable[[], bool]) -> health.Vitals:
    """What is told of a process that works with these parts. `stopping` says whether it was told to stop."""

    async def ready() -> Mapping[str, str | None]:
        found = await readiness(parts.engine)
        return (
            {**found, "draining": "it is stopping: what is under way comes to its end"}
            if stopping()
            else found
        )

    async def shared() -> ServiceFigures:
        return await service_figures(parts.engine, parts.context.clock.now())

    return health.Vitals(ready, Scrape(shared, partial(process_figures, parts)))


def process_figures(parts: Parts) -> ProcessFigures:
    """What the process holds at the moment."""
    lanes, pool = list(parts.connector.organizations().values()), parts.engine.pool
    database: dict[str, int] = {}
    if isinstance(pool, QueuePool):
        database = {"in_use": pool.checkedout(), "idle": pool.checkedin(), "most": pool.size()}
    return ProcessFigures(
        lanes={
            "in_use": sum(each.busy for each in lanes),
            "open": sum(each.open for each in lanes),
            "all": sum(each.size for each in lanes),
        },
        database=database,
    )


async def probed_worker(parts: Parts, listening: socket.socket | None) -> None:
    """Runs a worker until SIGTERM or SIGINT, and tells on this socket, if there is one, how it fares."""
    worker = parts.worker()
    told = vitals(parts, lambda: worker.stopping)
    async with probed(told, listening) if listening is not None else nullcontext():
        await run_worker(worker)


@asynccontextmanager
async def probed(told: health.Vitals, listening: socket.socket) -> AsyncIterator[None]:
    """Answers probes on this socket as long as the block lasts."""
    app = FastAPI(openapi_url=None, middleware=[Middleware(EveryAnswer)])
    app.include_router(health.router)
    app.state.vitals = told
    config = uvicorn.Config(
        app, http=Http, ws="none", lifespan="off", log_config=None, access_log=False, log_level="warning",
        server_header=False, timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """A server beside something else, which has the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves them alone."""
        yield
