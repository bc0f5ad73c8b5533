"""Deep links: what a browser follows from one side to the other.

They need no key: whoever follows one lands in NAV or CRM, which ask for a login of their own. A link only ever leads to
the addresses that an administrator configured, and the answers show no values of records.
"""

from collections.abc import Mapping
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
    "invoice",
    "uom",
    "uomschedule",
    "pricelevel",
)
"""The entities whose records a link may name."""

WORDS = {
    "systemuser": "user",
    "transactioncurrency": "currency",
    "uom": "unit",
    "uomschedule": "unit group",
    "pricelevel": "price list",
}
"""What people call an entity, where it is not its logical name."""

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
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 "Segoe UI", system-ui, sans-serif; margin: 0; padding: 12vh 1.25rem 2rem }}
main {{ margin: 0 auto; max-width: 34rem; overflow-wrap: anywhere }}
h1 {{ font-size: 1.6rem; font-weight: 600; line-height: 1.2; margin: 0 0 .75rem }}
p {{ margin: 0 0 1rem }}
dl {{ border-top: 1px solid #8886; display: grid; font-size: .875rem; gap: .25rem 1rem;
     grid-template-columns: max-content 1fr; margin: 1.5rem 0 0; padding-top: 1rem }}
dt {{ opacity: .75 }}
dd {{ margin: 0 }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
<p>{advice}</p>
{link}</main>
</body>
</html>
"""

SHOWN = 100
"""Characters of a value out of the link that the page repeats."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    302: {"description": "The record, in the client that shows it.", "content": {}},
    300: {
        "description": "The CRM record is several records in NAV: a page to choose one.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    },
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

    def __init__(self, status: int, title: str, text: str, advice: str) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text
        self.advice = advice


def _explained(found: _NoWay, **link: str) -> Response:
    """The page for a person: what is wrong, what to do, and what the link said, to pass on to an administrator."""
    said = "".join(
        f"<dt>{escape(name.capitalize())}</dt><dd>{escape(_short(value))}</dd>\n"
        for name, value in link.items()
        if value
    )
    page = PAGE.format(
        title=escape(found.title),
        text=escape(found.text),
        advice=escape(found.advice),
        link=f"<dl>\n{said}</dl>\n" if said else "",
    )
    return HTMLResponse(page, found.status, headers=HEADERS)


def _choice(addresses: Mapping[str, str]) -> Response:
    """The page on which a person chooses among the records that a CRM record is in NAV."""
    links = "".join(
        f'<li><a href="{escape(address)}">{escape(name)}</a></li>\n' for name, address in addresses.items()
    )
    page = PAGE.format(
        title="Which record?",
        text="This record is coupled with several records in Dynamics NAV.",
        advice="Choose the one to open:",
        link=f"<ul>\n{links}</ul>\n",
    )
    return HTMLResponse(page, 300, headers=HEADERS)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


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
    """What the button in CRM calls: leads to the card of the coupled record in the NAV client of the company.

    A CRM record that is coupled with several NAV records, such as an item and a resource, lets the person choose.
    """
    try:
        addresses = await _nav_addresses(ctx, company, entity.strip().lower(), id)
        return _to(*addresses.values()) if len(addresses) == 1 else _choice(addresses)
    except _NoWay as found:
        return _explained(found, company=company, entity=entity, id=id)
    except Invalid:
        return _explained(
            _incomplete("a company, an entity and an id"), company=company, entity=entity, id=id
        )


async def _nav_addresses(ctx: Context, name: str, entity: str, id: str) -> dict[str, str]:
    """By what people call them, the addresses of the coupled records: one, but for a CRM record that is several
    things in NAV."""
    record = guid_of(id)
    if not name or entity not in ENTITIES or record is None:
        raise _incomplete("a company, an entity and an id")
    company, _ = await _enabled(ctx, name)
    async with ctx.uow(reading=True) as tx:
        found = (await tx.couplings.of_entity(company.id, entity, [record])).get(record, [])
    coupled = [each for each in found if each.status is CouplingStatus.COUPLED]
    if not coupled:
        raise _NoWay(
            404,
            "Not coupled",
            f"This {WORDS.get(entity, entity)} is not coupled with a record in Dynamics NAV: there is nothing to open.",
            "Ask whoever looks after the integration to couple it, or to create it in NAV.",
        )
    addresses: dict[str, str] = {}
    gone: _NoWay | None = None
    for coupling in coupled:
        try:
            key = await _present_key(ctx, company, coupling)
        except _NoWay as deleted:
            gone = deleted
            continue
        if (address := nav_url(company, coupling.nav_table, key)) is not None:
            addresses[f"{coupling.nav_table.replace('-', ' ').capitalize()} {key}"] = address
    if gone is not None and not addresses:
        raise gone
    if not addresses:
        raise _NoWay(
            409,
            "No address of NAV",
            f"The integration does not know where the NAV client of {_called(company)} is.",
            "An administrator can set it: the NAV web client URL of the company.",
        )
    return addresses


async def _present_key(ctx: Context, company: Company, coupling: Coupling) -> str:
    """The number of the NAV record, which may have been renamed; as last seen while NAV cannot tell."""
    try:
        found = await ctx.sides.nav(company).get(coupling.nav_table, [coupling.nav_id], [])
    except (SideUnavailable, SideRefused):
        return coupling.nav_key
    if coupling.nav_id not in found:
        raise _NoWay(
            404,
            "Deleted in NAV",
            f"The coupled record {coupling.nav_key} no longer exists in Dynamics NAV.",
            "Ask whoever looks after the integration to couple this record with another one.",
        )
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
        return _explained(found, company=company, table=table, no=no)
    except Invalid:
        return _explained(_incomplete("a company, a table and a number"), company=company, table=table, no=no)


async def _crm_address(ctx: Context, name: str, table: str, no: str) -> str:
    if not name or table not in CARD_PAGES or not no:
        raise _incomplete("a company, a table and a number")
    company, connection = await _enabled(ctx, name)
    integration_id = await _integration_id(ctx, company, table, no)
    async with ctx.uow(reading=True) as tx:
        found = await tx.couplings.of_nav(company.id, table, [integration_id] if integration_id else [])
    coupling = found.get(integration_id) if integration_id else None
    if coupling is None or coupling.status is not CouplingStatus.COUPLED:
        raise _NoWay(
            404,
            "Not coupled",
            "This record is not coupled with a record in Dynamics CRM: there is nothing to open.",
            "Ask whoever looks after the integration to couple it, or to create it in CRM.",
        )
    return crm_url(connection, coupling.crm_entity, coupling.crm_id)


async def _integration_id(ctx: Context, company: Company, table: str, no: str) -> UUID | None:
    try:
        found = (await ctx.sides.nav(company).by_key(table, [no], [])).get(no)
    except (SideUnavailable, SideRefused) as error:
        raise _NoWay(
            409,
            "NAV does not answer",
            "Dynamics NAV cannot be reached, so the record cannot be looked up now.",
            "Try again in a few minutes.",
        ) from error
    if found is None:
        raise _NoWay(
            404,
            "No such record",
            "Dynamics NAV has no record with this number.",
            "It may have been renamed or deleted: look it up in NAV and follow the link from there.",
        )
    return found.integration_id


async def _enabled(ctx: Context, name: str) -> tuple[Company, ConnectionSetup]:
    async with ctx.uow(reading=True) as tx:
        try:
            company = await tx.companies.get(name)
        except CompanyNotFound as error:
            raise _NoWay(
                404,
                "Unknown company",
                "The integration has no company of this name.",
                "An administrator can correct the company that the link or the NAV Connection in CRM names.",
            ) from error
        connection = await tx.connections.find(company.id)
    if connection is None or not connection.is_enabled:
        raise _NoWay(
            409,
            "Not enabled",
            f"The connection between {_called(company)} and Dynamics CRM is not enabled.",
            "Try again later, or ask an administrator to enable it.",
        )
    return company, connection


def _incomplete(what: str) -> _NoWay:
    return _NoWay(
        400,
        "This link does not work",
        f"A link to a record names {what}. In this one something is missing or cannot be read.",
        "Open the record again and use its button. If that does not help, show this page to an administrator.",
    )


def _called(company: Company) -> str:
    return company.display_name or company.name
