"""Door one: the API."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import httpx
import structlog
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.api import (
    api_keys,
    batch,
    companies,
    connection,
    couplings,
    crm_records,
    definitions,
    docs,
    health,
    job_queue,
    links,
    mappings,
    nav_couplings,
    nav_records,
    openapi,
    options,
    problems,
    statistics,
    synch_jobs,
)
from app.api.auth import Gate, Tokens
from app.api.dependencies import Door
from app.api.directory import Directory
from app.api.entra import EntraTokens
from app.api.headers import BodyLimit, EveryAnswer
from app.api.limits import RateLimit
from app.api.paths import Segments
from app.api.response_headers import HEADERS
from app.ports import Context
from app.precautions import doubts
from app.probes import vitals
from app.serving import Stopping
from app.settings import Settings
from app.use_cases.api_keys import hashed
from app.wiring import open_parts, working

ROUTERS = (
    companies.router,
    definitions.router,
    api_keys.router,
    connection.router,
    mappings.router,
    batch.router,
    nav_records.router,
    nav_couplings.router,
    statistics.router,
    options.router,
    crm_records.router,
    couplings.router,
    synch_jobs.router,
    job_queue.router,
    links.router,
    health.router,
)

log = structlog.get_logger(__name__)

VERSION = "0.1.0"
"""Of the contract; that of the package too, as a test makes sure."""


def create_app(settings: Settings, *, worker: bool = False, stopping: Stopping | None = None) -> FastAPI:
    """The service as an ASGI application. Its lifespan opens the database and closes it again.

    Args:
        worker: run a worker inside this process, too.
        stopping: tells when the process is going to end: the service is no longer ready then, streams end, and
            jobs go back to the queue.
    """

    def lifespan(app: FastAPI) -> AbstractAsyncContextManager[None]:
        return opened(app, settings, worker=worker, stopping=stopping)

    app = FastAPI(
        title="navcrm",
        summary="Dynamics NAV and Dynamics CRM in step",
        version=VERSION,
        servers=[{"url": settings.public_url.rstrip("/")}] if settings.public_url else None,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,  # a redirect would name the host and scheme that this process sees
        generate_unique_id_function=lambda route: route.name,
        middleware=_middleware(settings),
        telemetry={"tracing": False, "metrics": False, "logs": False},  # app.telemetry tells
    )
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    docs.install(app)
    openapi.install(app)
    return app


@asynccontextmanager
async def opened(
    app: FastAPI, settings: Settings, *, worker: bool = False, stopping: Stopping | None = None
) -> AsyncIterator[None]:
    """An application with its database open; arguments as for `create_app`, which opens and closes it this way."""
    ending = stopping or Stopping()
    async with open_parts(settings) as parts, httpx.AsyncClient(timeout=10) as http:
        for doubt in doubts(settings):
            log.warning("settings", doubt=doubt)
        inside = parts.worker() if worker else None
        if inside is not None:
            ending.listen(inside.stop)
        app.state.door = door(settings, parts.context, http, lambda: ending.told)
        app.state.vitals = vitals(parts, lambda: ending.told)
        async with working(inside) if inside is not None else nullcontext():
            yield


def _middleware(settings: Settings) -> list[Middleware]:
    found = [
        Middleware(Segments),  # first: those after it see what routing makes of its path
        Middleware(EveryAnswer, over_tls=(settings.public_url or "").startswith("https://")),
        Middleware(BodyLimit, limit=settings.max_body_bytes),
        Middleware(Directory, routers=ROUTERS),
    ]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"],
            expose_headers=list(HEADERS),
        )
        found.insert(2, cors)
    if settings.trusted_proxies:
        found.insert(0, Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies)))
    return found


def door(
    settings: Settings, ctx: Context, http: httpx.AsyncClient, stopping: Callable[[], bool] = lambda: False
) -> Door:
    """What the settings say about callers, and what the handlers work with."""
    tokens: Tokens | None = None
    if settings.entra_openid_config_url and settings.entra_audience:
        tokens = EntraTokens(ctx, http, settings.entra_openid_config_url, settings.entra_audience)
    bootstrap = settings.bootstrap_api_key
    gate = Gate(
        ctx=ctx,
        bootstrap_hash=hashed(bootstrap.get_secret_value()) if bootstrap else None,
        tokens=tokens,
        requests=RateLimit(settings.rate_limit_per_minute),
        failures=RateLimit(settings.failed_logins_per_minute),
    )
    return Door(context=ctx, gate=gate, stopping=stopping)


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, without opening anything."""
    return create_app(Settings(_env_file=None, public_url=None)).openapi()
