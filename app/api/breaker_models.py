"""How the circuit breaker of a connection looks over HTTP, and where it shows."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends
from pydantic import BaseModel, Field

from app.api.dependencies import CompanyDep, ContextDep
from app.domain.breaker import Breaker


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


def stopped_out(breaker: Breaker) -> dict[str, Any] | None:
    """A breaker for `StoppedOut`; None while it is closed."""
    if not breaker.is_open or breaker.reason is None:
        return None
    return {
        "code": breaker.reason.code,
        "message": breaker.reason.message,
        "fix": breaker.reason.fix,
        "since": breaker.opened_at,
        "next_probe_at": breaker.probe_at,
    }
