"""A CRM to try things on: the Dataverse Web API v9.2 over rows in memory, as an ASGI application.

It knows nothing of the rest of the service: what it answers comes from the Web API's documentation.
"""

import datetime as dt
from collections.abc import Callable, Sequence

from starlette.applications import Starlette

from app.sandbox import catalogue, imports
from app.sandbox.faults import ConnectionReset, Fault
from app.sandbox.limits import Limits
from app.sandbox.organization import (
    DEFAULT_CLIENT,
    DEFAULT_SECRET,
    DEFAULT_TENANT,
    Organization,
    Requested,
    Settings,
)
from app.sandbox.routes import Api

__all__ = [
    "DEFAULT_CLIENT",
    "DEFAULT_SECRET",
    "DEFAULT_TENANT",
    "ConnectionReset",
    "Fault",
    "Limits",
    "Organization",
    "Requested",
    "create_sandbox",
]


def create_sandbox(
    *,
    faults: Sequence[Fault] = (),
    limits: Limits | None = None,
    latency: float = 0,
    row_latency: float = 0,
    solution_installed: bool = True,
    solutions: Sequence[bytes] = (),
    tenant_id: str = DEFAULT_TENANT,
    client_id: str = DEFAULT_CLIENT,
    client_secret: str = DEFAULT_SECRET,
    certificates: Sequence[bytes] = (),
    token_lifetime: int = 3599,
    base_currency: str = "GBP",
    tracked: Sequence[str] = catalogue.TRACKED,
    tracking_days: int = 7,
    clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> Starlette:
    """An organization behind the Dataverse Web API.

    `app.state.organization` is the organization itself: its rows, its request log, its faults.

    Args:
        faults: what goes wrong.
        limits: service protection limits; None = none.
        latency: seconds each request takes at least.
        row_latency: seconds more per row read or written.
        solution_installed: whether the tables of the NAV integration solution are there.
        solutions: solution files that were imported besides.
        tenant_id: of the token endpoint `/<tenant>/oauth2/v2.0/token`.
        client_id: the app registration that the application user is bound to.
        client_secret: its secret.
        certificates: its certificates, PEM, for client assertions.
        token_lifetime: seconds a token is good for.
        base_currency: ISO code of the organization's currency.
        tracked: logical names of the tables with change tracking.
        tracking_days: how long delta links live.
        clock: the time now, with a zone.
    """
    settings = Settings(
        tenant_id=tenant_id,
        client_id=client_id,
        client_secret=client_secret,
        certificates=tuple(certificates),
        token_lifetime=token_lifetime,
        base_currency=base_currency,
        solution_installed=solution_installed,
        solutions=tuple(imports.read(content) for content in solutions),
        tracked=tuple(tracked),
        tracking_days=tracking_days,
        latency=latency,
        row_latency=row_latency,
        clock=clock,
    )
    return Api(Organization(settings, faults, limits)).application()
