"""Deep links: what a browser follows from one side to the other.

They need no key: whoever follows one lands in NAV or CRM, which ask for a login of their own. A link only ever leads to
the addresses that an administrator configured, and the answers show no values of records.
"""

from html import escape
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.responses import Response

from app.api.dependencies import ContextDep
from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.errors import CompanyNotFound, Invalid, SideRefused, SideUnavailable
from app.domain.links import CARD_PAGES, crm_url, guid_of, nav_url
from app.ports import Context

router = APIRouter(prefix="/open", tags=["Deep links"])

ENTITIES = (
    "account",
    "contact",
    "systemuser",
    "transactioncurrency",
    "product",
    "opportunity",
    "uom",
    "uomschedule",
    "pricelevel",
)
"""The entities whose records a link may name."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body {{ font: 16px/1.5 "Segoe UI", sans-serif; margin: 15vh auto 0; max-width: 34rem; padding: 0 1rem }}</style>
</head>
<body>
<h1>{title}</h1>
<p>{text}</p>
</body>
</html>
"""

RESPONSES: dict[int | str, dict[str, Any]] = {
    302: {"description": "The record, in the client that shows it.", "content": {}},
    **{
        status: {"description": reason, "content": {"text/html": {"schema": {"type": "string"}}}}
        for status, reason in (
            (400, "The link is not complete."),
            (404, "The record is unknown or not coupled."),
            (409, "The integration is not enabled, or has no address to lead to."),
        )
    },
}


class _NoWay(Exception):
    """The link leads nowhere; the person reads why."""

    def __init__(self, status: int, title: str, text: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text


def _explained(found: _NoWay) -> Response:
    page = PAGE.format(title=escape(found.title), text=escape(found.text))
    return HTMLResponse(page, found.status, headers=HEADERS)


def _to(address: str) -> Response:
    return RedirectResponse(address, 302, headers=HEADERS)


CompanyParameter = Annotated[str, Query(description="Name of the company.")]


@router.get(
    "/nav",
    summary="Open the NAV record of a CRM record",
    status_code=302,
    response_class=RedirectResponse,
    responses=RESPONSES,
)
async def open_nav(
    ctx: ContextDep,
    company: CompanyParameter = "",
    entity: Annotated[str, Query(description="Logical name of the CRM entity.")] = "",
    id: Annotated[str, Query(description="GUID of the CRM record, with or without braces.")] = "",
) -> Response:
    """What the button in CRM calls: leads to the card of the coupled record in the NAV client of the company."""
    try:
        return _to(await _nav_address(ctx, company, entity.strip().lower(), id))
    except _NoWay as found:
        return _explained(found)
    except Invalid:
        return _explained(_incomplete("company, entity and id"))


async def _nav_address(ctx: Context, name: str, entity: str, id: str) -> str:
    record = guid_of(id)
    if not name or entity not in ENTITIES or record is None:
        raise _incomplete("company, entity and id")
    company, _ = await _enabled(ctx, name)
    async with ctx.uow() as tx:
        found = (await tx.couplings.of_entity(company.id, entity, [record])).get(record, [])
    coupling = next((each for each in found if each.status is CouplingStatus.COUPLED), None)
    if coupling is None:
        raise _NoWay(
            404,
            "Not coupled",
            f"This {entity} is not coupled with a record in NAV. Couple it there, or create it in NAV from here.",
        )
    address = nav_url(company, coupling.nav_table, await _present_key(ctx, company, coupling))
    if address is None:
        raise _NoWay(
            409,
            "No address of NAV",
            f"The company {company.display_name} has no address of its NAV client. An administrator can set it.",
        )
    return address


async def _present_key(ctx: Context, company: Company, coupling: Coupling) -> str:
    """The number of the NAV record, which may have been renamed; as last seen while NAV cannot tell."""
    try:
        found = await ctx.sides.nav(company).get(coupling.nav_table, [coupling.nav_id], [])
    except (SideUnavailable, SideRefused):
        return coupling.nav_key
    if coupling.nav_id not in found:
        raise _NoWay(404, "Deleted in NAV", f"The coupled record {coupling.nav_key} no longer exists in NAV.")
    return found[coupling.nav_id].key


@router.get(
    "/crm",
    summary="Open the CRM record of a NAV record",
    status_code=302,
    response_class=RedirectResponse,
    responses=RESPONSES,
)
async def open_crm(
    ctx: ContextDep,
    company: CompanyParameter = "",
    table: Annotated[str, Query(description="The NAV table, such as `customers`.")] = "",
    no: Annotated[str, Query(description="Primary key of the NAV record.")] = "",
) -> Response:
    """Leads to the coupled record in CRM."""
    try:
        return _to(await _crm_address(ctx, company, table.strip().lower(), no))
    except _NoWay as found:
        return _explained(found)
    except Invalid:
        return _explained(_incomplete("company, table and no"))


async def _crm_address(ctx: Context, name: str, table: str, no: str) -> str:
    if not name or table not in CARD_PAGES or not no:
        raise _incomplete("company, table and no")
    company, connection = await _enabled(ctx, name)
    integration_id = await _integration_id(ctx, company, table, no)
    async with ctx.uow() as tx:
        found = await tx.couplings.of_nav(company.id, table, [integration_id] if integration_id else [])
    coupling = found.get(integration_id) if integration_id else None
    if coupling is None or coupling.status is not CouplingStatus.COUPLED:
        raise _NoWay(404, "Not coupled", f"The record {no} of {table} is not coupled with a record in CRM.")
    return crm_url(connection, coupling.crm_entity, coupling.crm_id)


async def _integration_id(ctx: Context, company: Company, table: str, no: str) -> UUID | None:
    try:
        found = (await ctx.sides.nav(company).by_key(table, [no], [])).get(no)
    except (SideUnavailable, SideRefused) as error:
        raise _NoWay(
            409, "NAV does not answer", "The record cannot be looked up now. Try again later."
        ) from error
    if found is None:
        raise _NoWay(404, "No such record", f"There is no record {no} of {table} in NAV.")
    return found.integration_id


async def _enabled(ctx: Context, name: str) -> tuple[Company, ConnectionSetup]:
    async with ctx.uow() as tx:
        try:
            company = await tx.companies.get(name)
        except CompanyNotFound as error:
            raise _NoWay(404, "Unknown company", f"There is no company {name}.") from error
        connection = await tx.connections.find(company.id)
    if connection is None or not connection.is_enabled:
        raise _NoWay(
            409,
            "Not enabled",
            f"The connection of {company.display_name} to CRM is not enabled. An administrator can enable it.",
        )
    return company, connection


def _incomplete(what: str) -> _NoWay:
    return _NoWay(400, "This link does not work", f"A link names {what} of a record, and this one does not.")
