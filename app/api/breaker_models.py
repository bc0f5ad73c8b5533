"""How the circuit breaker of a connection looks over HTTP, and what it, or a connection that is not enabled, stops."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel, Field

from app.api.dependencies import CompanyDep, ContextDep
from app.domain.breaker import Breaker
from app.domain.connection import require_enabled
from app.domain.coupling import Failure
from app.domain.errors import ConnectionDisabled, SecretsUnreadable
from app.ports import Transaction


class BreakerOut(BaseModel):
    """Whether CRM lets our user in. While it is `open` every job of the company waits; it closes by itself when a probe
    succeeds, and at once when the connection is tested or corrected."""

    state: Literal["closed", "open"]
    failures: int = Field(description="Refusals that were counted.")
    opened_at: datetime | None
    code: str | None = Field(
        description="`crm-login-refused` or `crm-permission-missing`.", examples=["crm-login-refused"]
    )
    reason: str | None = Field(description="What CRM or the login service said last.")
    fix: str | None
    probes: int = Field(description="How often CRM was asked since.")
    next_probe_at: datetime | None


class StoppedOut(BaseModel):
    """Why an entry that would run by itself does not."""

    code: str
    message: str
    fix: str | None
    since: datetime | None
    next_probe_at: datetime | None = Field(description="When CRM is asked again.")


async def _breaker(ctx: ContextDep, company: CompanyDep) -> Breaker:
    async with ctx.uow(reading=True) as tx:
        return await tx.breakers.find(company.id)


BreakerDep = Annotated[Breaker, Depends(_breaker)]


def breaker_out(breaker: Breaker) -> dict[str, Any]:
    """A breaker for `BreakerOut`."""
    reason = breaker.reason
    return {
        "state": "open" if breaker.is_open else "closed",
        "failures": breaker.failures,
        "opened_at": breaker.opened_at,
        "code": reason and reason.code,
        "reason": reason and reason.message,
        "fix": reason and reason.fix,
        "probes": breaker.probes,
        "next_probe_at": breaker.probe_at,
    }


@dataclass(frozen=True, slots=True)
class Stop:
    """What keeps the jobs of a company waiting, and until when they wait."""

    reason: Failure
    until: str
    since: datetime | None = None
    next_probe_at: datetime | None = None


async def stop_of(tx: Transaction, company_id: int) -> Stop | None:
    """What keeps the jobs of the company waiting; None when nothing does."""
    try:
        require_enabled(await tx.connections.find(company_id))
    except ConnectionDisabled as error:
        return Stop(Failure.of(error), "the connection is enabled")
    except SecretsUnreadable:
        return None  # its jobs run, and say so
    breaker = await tx.breakers.find(company_id)
    if not breaker.is_open or breaker.reason is None:
        return None
    return Stop(breaker.reason, "CRM lets us in", breaker.opened_at, breaker.probe_at)


async def _stop(ctx: ContextDep, company: CompanyDep) -> Stop | None:
    async with ctx.uow(reading=True) as tx:
        return await stop_of(tx, company.id)


StopDep = Annotated[Stop | None, Depends(_stop)]


def stopped_out(stop: Stop | None) -> dict[str, Any] | None:
    """A stop for `StoppedOut`."""
    if stop is None:
        return None
    return {
        "code": stop.reason.code,
        "message": stop.reason.message,
        "fix": stop.reason.fix,
        "since": stop.since,
        "next_probe_at": stop.next_probe_at,
    }
