"""Whether the service lives, whether it is ready, how it fares."""

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from app.api.dependencies import door_of
from app.api.metrics import registry_of
from app.domain.errors import DatabaseUnavailable

router = APIRouter(tags=["Service"])


class Health(BaseModel):
    """The process lives."""

    status: Literal["ok"]


class ReadinessOut(BaseModel):
    """What the service needs to do its work, check by check."""

    ready: bool
    checks: dict[str, str] = Field(
        description="`ok`, or what is in the way.",
        examples=[{"database": "ok", "migrations": "ok", "worker": "no worker was seen in the last minute"}],
    )


@router.get("/healthz", summary="Whether the process lives")
async def get_health() -> Health:
    """Answers as long as the process does; looks at nothing else."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Whether the service is ready",
    response_model=ReadinessOut,
    responses={503: {"model": ReadinessOut, "description": "Something is in the way; `checks` names it."}},
)
async def get_readiness(request: Request) -> Response:
    """Ready when the database answers, its migrations are at head and a worker was seen in the last minute."""
    found = await door_of(request).readiness()
    ready = not any(found.values())
    body = ReadinessOut(ready=ready, checks={check: reason or "ok" for check, reason in found.items()})
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """The figures of this process, and of the synch jobs of all processes, in the text format of Prometheus.

    While the database does not answer, those of the process alone.
    """
    text = generate_latest(REGISTRY)
    ctx = door_of(request).context
    try:
        async with ctx.uow() as tx:
            text += generate_latest(registry_of(await tx.jobs.figures(ctx.clock.now())))
    except DatabaseUnavailable:
        pass
    return Response(text, media_type=CONTENT_TYPE_LATEST)
