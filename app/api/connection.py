"""The connection of a company to CRM over HTTP, and what is set up once it is enabled."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from app.api.breaker_models import BreakerDep
from app.api.connection_models import (
    ConnectionIn,
    ConnectionOut,
    ConnectionPatch,
    ConnectionTestOut,
    DefaultSetupIn,
    DefaultSetupOut,
    EnabledConnectionOut,
    connection_out,
    report_out,
)
from app.api.dependencies import BASE, CallerDep, CompanyDep, ContextDep
from app.api.etags import Preconditions, PreconditionsDep, of_revisions
from app.api.models import Flag, Input
from app.api.operation import CRM, api_router, operation
from app.api.previews import PreviewQuery, previewed
from app.domain.access import Scope
from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.errors import FieldProblem, Invalid, NotFound
from app.ports import Context
from app.use_cases import companies, connection, default_setup, integration_ids
from app.use_cases.button import show_company
from app.use_cases.callers import check_mapped
from app.use_cases.rehearsal import rehearsal
from app.use_cases.sales_orders import switch_sales_orders

router = api_router(f"{BASE}/companies/{{company}}/crm-connection", "CRM connection")


class GenerateIdsIn(Input):
    """Whether ids are made or only counted."""

    preview: Flag = Field(default=False, description="Say how many would be made, and make none.")


class GeneratedIdsOut(BaseModel):
    """How many records got an integration id."""

    generated: dict[str, int] = Field(description="By NAV table.", examples=[{"customers": 3}])
    total: int


ALONE = "This is a setting of CRM, which may refuse it: send it in a PATCH of its own."
WHOLE_SETUP = DefaultSetupIn()
EVERY_ID = GenerateIdsIn()


async def _connection(ctx: ContextDep, company: CompanyDep) -> ConnectionSetup | None:
    async with ctx.uow(reading=True) as tx:
        return await tx.connections.find(company.id)


MaybeConnection = Annotated[ConnectionSetup | None, Depends(_connection)]


def _revision(preconditions: Preconditions, company: Company, present: ConnectionSetup | None) -> int | None:
    if present is None:
        preconditions.require(None)
        # Who wants to be the first is not to overwrite who was faster.
        return None if preconditions.if_none_match is None else 0
    return preconditions.revision(_tag(company, present), present.revision)


def _tag(company: Company, setup: ConnectionSetup) -> str:
    """A connection is shown with the address of the NAV client, which belongs to the company."""
    return of_revisions(setup.revision, company.revision)


@router.get("", summary="Get the CRM connection", response_model=ConnectionOut, **operation(Scope.READ, 404))
async def get_crm_connection(
    company: CompanyDep, present: MaybeConnection, breaker: BreakerDep, preconditions: PreconditionsDep
) -> Any:
    """The connection and what the last contact with CRM showed. Secrets are never shown."""
    if present is None:
        raise NotFound(
            f"The company {company.name} has no connection to CRM.",
            fix=f"PUT {BASE}/companies/{company.name}/crm-connection saves one.",
        )
    return preconditions.answer(connection_out(company, present, breaker), _tag(company, present))


@router.put(
    "",
    summary="Replace the CRM connection",
    response_model=ConnectionOut,
    **operation(Scope.ADMIN, 404, 409, 412, 503),
)
async def replace_crm_connection(
    ctx: ContextDep,
    company: CompanyDep,
    present: MaybeConnection,
    body: ConnectionIn,
    preconditions: PreconditionsDep,
) -> Any:
    """Saves the whole setup; never enables. While the connection is enabled, a new address is tried first."""
    revision = _revision(preconditions, company, present)
    read = None if present is None else _tag(company, present)
    address, given = _parted(company, body.changes())
    ctx = rehearsal(ctx, body.preview)
    saved = await connection.save_connection(
        ctx, company, given, whole=True, touched=bool(address), revision=revision
    )
    if body.is_enabled is False and saved.is_enabled:
        saved = await _disabled(ctx, company, saved, body.preview)
    company = await _with_address(ctx, company, address)
    if address and not body.preview:
        await show_company(ctx, company, saved)
    tag = read if body.preview else _tag(company, saved)
    return preconditions.answer(await _shown(ctx, company, saved), tag)


@router.patch(
    "",
    summary="Change, enable or disable the CRM connection",
    response_model=EnabledConnectionOut,
    response_model_exclude_unset=True,
    **operation(Scope.ADMIN, 404, 409, 412, 503, at_times=(502,)),
)
async def change_crm_connection(
    ctx: ContextDep,
    company: CompanyDep,
    present: MaybeConnection,
    body: ConnectionPatch,
    caller: CallerDep,
    preconditions: PreconditionsDep,
) -> Any:
    """Changes what the body names.

    `is_enabled: true` tests the connection first; on failure it stays disabled and the answer is 422
    `connection-test-failed` with the cause. Mappings are never touched. `is_enabled: false` keeps everything, and
    jobs wait: one that is running stops after the pages in flight and goes on from there when the connection is enabled
    again. Who does not want that cancels it.
    `sales_order_integration_enabled` is a setting of CRM, which is switched there and may be refused: another value
    than the present one is sent alone.
    """
    revision = _revision(preconditions, company, present)
    read = None if present is None else _tag(company, present)
    switch = _switch(body, present)
    address, given = _parted(company, body.changes())
    if present is not None and given.get("user_mapping_required") and present.is_enabled:
        await check_mapped(ctx.sides.crm(company, present), present, caller.email, caller.id)
    ctx = rehearsal(ctx, body.preview)
    extra: Mapping[str, object] = {}
    if body.is_enabled is True:
        enabled = await connection.enable_connection(
            ctx, company, revision, given, body.resync, preview=body.preview
        )
        saved, extra = enabled.connection, _next_steps(company, enabled)
    elif body.is_enabled is False and not given:
        saved = await connection.disable_connection(ctx, company, body.disabled_reason, revision)
    else:
        saved = await connection.save_connection(
            ctx, company, given, touched=bool(address), revision=revision
        )
        if body.is_enabled is False:
            saved = await _disabled(ctx, company, saved, body.preview, body.disabled_reason)
    if switch is not None and not body.preview:
        saved = await switch_sales_orders(ctx, company, switch)
    company = await _with_address(ctx, company, address)
    if address and not body.preview:
        await show_company(ctx, company, saved)
    shown = await _shown(ctx, company, saved)
    return preconditions.answer(shown | dict(extra), read if body.preview else _tag(company, saved))


def _switch(body: ConnectionPatch, present: ConnectionSetup | None) -> bool | None:
    """To what the sales order integration of CRM is to be switched. Raises Invalid when more is to be changed: half of
    it would be done when CRM refuses; ConnectionDisabled."""
    asked = body.sales_order_integration_enabled
    if asked is None or present is None:
        return None
    if body.is_enabled is not None or body.changes():
        if present.sales_order_integration_enabled is asked:
            return None
        raise Invalid(ALONE, errors=[FieldProblem("/sales_order_integration_enabled", ALONE)])
    require_enabled(present)
    return asked


async def _shown(ctx: Context, company: Company, saved: ConnectionSetup) -> dict[str, Any]:
    """The connection after a change, which may have closed its breaker."""
    async with ctx.uow(reading=True) as tx:
        return connection_out(company, saved, await tx.breakers.find(company.id))


async def _disabled(
    ctx: Context, company: Company, saved: ConnectionSetup, preview: bool, reason: str | None = None
) -> ConnectionSetup:
    if preview:
        return connection.turned_off(saved, reason)
    return await connection.disable_connection(ctx, company, reason)


def _parted(company: Company, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The address of the NAV client, which belongs to the company, and the rest. Raises Invalid for the address."""
    rest = dict(given)
    address = {name: rest.pop(name) for name in ("nav_web_client_url",) if name in rest}
    companies.check_change(company, address)
    return {name: value for name, value in address.items() if value != getattr(company, name)}, rest


async def _with_address(ctx: Context, company: Company, address: Mapping[str, Any]) -> Company:
    """Saved last, when nothing can be refused any more."""
    return await companies.change_company(ctx, company.name, address) if address else company


def _next_steps(company: Company, enabled: connection.Enabled) -> dict[str, object]:
    missing = enabled.records_without_integration_id
    total = None if missing is None else sum(missing.values())
    address = f"{BASE}/companies/{company.name}/crm-connection"
    steps = []
    if enabled.default_setup_needed:
        steps.append(f"POST {address}/use-default-synchronization-setup creates mappings and jobs.")
    if total:
        steps.append(f"POST {address}/generate-integration-ids gives {total} records their integration id.")
    return {
        "default_setup_needed": enabled.default_setup_needed,
        "records_without_integration_id": total,
        "records_without_integration_id_by_table": None if missing is None else dict(missing),
        "next_steps": steps,
    }


@router.delete(
    "",
    status_code=204,
    response_model=None,
    summary="Delete the CRM connection",
    **operation(Scope.ADMIN, 404, 412, preview=ConnectionOut),
)
async def delete_crm_connection(
    ctx: ContextDep,
    company: CompanyDep,
    present: MaybeConnection,
    preconditions: PreconditionsDep,
    preview: PreviewQuery = False,
) -> Response | None:
    """Removes the setup with its secrets. Mappings, couplings and jobs are kept.

    A preview answers 200 with the connection.
    """
    revision = _revision(preconditions, company, present)
    await connection.delete_connection(rehearsal(ctx, preview), company, revision)
    return previewed(ConnectionOut, connection_out(company, present)) if preview and present else None


@router.post(
    "/test",
    summary="Test the CRM connection",
    response_model=ConnectionTestOut,
    **operation(Scope.ADMIN, 404),
)
async def check_crm_connection(ctx: ContextDep, company: CompanyDep) -> dict[str, object]:
    """Tries the connection step by step, enabled or not. Changes nothing about it; jobs that waited because CRM refused
    our user go on when it succeeds."""
    return report_out(await connection.test_connection(ctx, company))


@router.post(
    "/use-default-synchronization-setup",
    summary="Use the default synchronization setup",
    response_model=DefaultSetupOut,
    **operation(Scope.ADMIN, 404, *CRM),
)
async def use_default_synchronization_setup(
    ctx: ContextDep, company: CompanyDep, body: DefaultSetupIn = WHOLE_SETUP
) -> dict[str, object]:
    """Creates the default mappings, their fields, job queue entries, and integration ids for their records.

    What exists already is replaced only with `replace_existing: true`; couplings survive. Twice has the same outcome.
    """
    found = await default_setup.use_default_setup(
        ctx,
        company,
        replace_existing=body.replace_existing,
        mappings=body.mappings,
        preview=body.preview,
    )
    return asdict(found)


@router.post(
    "/generate-integration-ids",
    summary="Generate integration ids",
    response_model=GeneratedIdsOut,
    **operation(Scope.ADMIN, 404, 503),
)
async def generate_integration_ids(
    ctx: ContextDep, company: CompanyDep, body: GenerateIdsIn = EVERY_ID
) -> dict[str, object]:
    """Gives every record of the mapped tables that has none an integration id. Existing ids never change."""
    found = await integration_ids.generate_integration_ids(ctx, company, preview=body.preview)
    return {"generated": dict(found.generated), "total": found.total}
