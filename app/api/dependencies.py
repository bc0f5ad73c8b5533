"""What a handler may ask for: the caller, the company, the context."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from app.api.auth import Gate
from app.domain.access import Caller
from app.domain.company import Company
from app.ports import Context
from app.use_cases.callers import require_mapped

BASE = "/api/v1"
WORKS_IN_CRM = frozenset({409, 502, 503})
"""Who declares these answers works in CRM: not enabled, refused, not reached."""


@dataclass(frozen=True, slots=True)
class Door:
    """What the API was opened with."""

    context: Context
    gate: Gate
    stopping: Callable[[], bool] = lambda: False
    """Whether the process was told to stop."""


def door_of(request: Request) -> Door:
    """The door the request came through."""
    return cast(Door, request.app.state.door)


# Coroutines, all of them: what is no coroutine is carried out in a thread, which costs more than it does.
async def _context(request: Request) -> Context:
    return door_of(request).context


async def _caller(request: Request) -> Caller:
    return cast(Caller, request.state.caller)


ContextDep = Annotated[Context, Depends(_context)]
CallerDep = Annotated[Caller, Depends(_caller)]

CompanyName = Annotated[
    str, Path(description="Name of the company, the word in the URL.", examples=["cronus"], max_length=60)
]


async def _company(request: Request, company: CompanyName) -> Company:
    found = cast(Company | None, request.state.company)
    if found is None:
        async with door_of(request).context.uow(reading=True) as tx:
            found = await tx.companies.get(company)
    if request.scope["route"].responses.keys() >= WORKS_IN_CRM:
        caller = cast(Caller, request.state.caller)
        await require_mapped(door_of(request).context, found, caller.email, caller.id)
    return found


CompanyDep = Annotated[Company, Depends(_company)]
"""The company of the path. Raises CompanyNotFound; UserNotMapped where the operation works in CRM and the company
wants its callers to be users there."""
