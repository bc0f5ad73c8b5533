"""Whether the service lives, whether it is ready, how it fares."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

router = APIRouter(tags=["Service"])


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the addresses below ask, in the API and in a worker that has a port."""

    readiness: Callable[[], Awaitable[Mapping[str, str | None]]]
    """What stands between the service and being ready: by check the reason, None where all is well."""
    scrape: Callable[[], Awaitable[bytes]]


def _vitals(request: Request) -> Vitals:
    return cast(Vitals, request.app.state.vitals)


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
    found = await _vitals(request).readiness()
    ready = not any(found.values())
    body = ReadinessOut(ready=ready, checks={check: reason or "ok" for check, reason in found.items()})
    return JSONResponse(body.model_dump(), status_code=200 if ready else 503)


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
async def get_metrics(request: Request) -> Response:
    """The figures of this process, and those that all processes share, in the text format of Prometheus.

    While the database does not answer, those of the process alone. What is shared is at most five seconds old.
    """
    return Response(await _vitals(request).scrape(), media_type=CONTENT_TYPE_LATEST)
