"""The connection to CRM: save, test, enable, disable, delete (nav-behaviour 3)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from app.domain.company import Company, ConnectionSetup, ConnectionStatus, Credentials
from app.domain.connection import (
    checked_api_version,
    checked_authority,
    checked_server_url,
    checked_tenant,
    missing_credentials,
    require_credentials,
)
from app.domain.errors import (
    ConnectionTestFailed,
    FieldProblem,
    Invalid,
    NotFound,
    PreconditionFailed,
    SideUnavailable,
)
from app.ports import ConnectionReport, Context, TestStep
from app.use_cases.admission import let_in
from app.use_cases.button import show_company
from app.use_cases.integration_ids import mapped_tables, tracked
from app.use_cases.repeating import on_what_is_there
from app.use_cases.resync import Resync, marks, set_marks
from app.use_cases.timeline import begin_at_present

WRITABLE: Final = (
    "server_url",
    "api_version",
    "app_id",
    "authentication",
    "user_mapping_required",
    "ignore_changes_by_user",
)
FACTS: Final = (
    "crm_version",
    "organization_id",
    "user_id",
    "integration_solution_installed",
    "user_is_integration_user",
    "user_is_administrator",
    "sales_order_integration_enabled",
    "base_currency",
)
"""What a test finds out about CRM and our user there, and the setup keeps."""
_SECRETS: Final = ("client_secret", "certificate", "private_key", "private_key_password")


@dataclass(frozen=True, slots=True)
class Enabled:
    """An enabled connection and what is still to be done.

    `records_without_integration_id` is by table; None when NAV could not be asked.
    """

    connection: ConnectionSetup
    report: ConnectionReport
    default_setup_needed: bool
    records_without_integration_id: Mapping[str, int] | None


async def save_connection(
    ctx: Context,
    company: Company,
    changes: Mapping[str, Any],
    *,
    whole: bool = False,
    touched: bool = False,
    revision: int | None = None,
) -> ConnectionSetup:
    """Saves the setup; never enables or disables it.

    Args:
        changes: `server_url`, `api_version`, `app_id`, `authentication` (type, tenant_id, client_id,
            authority and the secrets), `user_mapping_required`, `ignore_changes_by_user`, as far as they are to
            change.
        whole: the changes are the whole setup (PUT); what they leave out gets its default.
        touched: something that is shown with the setup changes with it, so its revision goes on in any case.
        revision: the one the caller read, guards against changes by others; 0: there was none.

    A secret that is left out stays as it is while type, tenant, client and authority stay. While the
    connection is enabled, a new address or new credentials are tried first.

    Raises:
        NotFound: there is no connection to change, and this is not the whole of one.
        InvalidServerUrl, Invalid: with what is wrong per field.
        ConnectionTestFailed: the enabled connection would not work any more; the old values stay.
        PreconditionFailed: somebody else changed it.
    """
    _require_writable(changes)
    return await on_what_is_there(
        revision, lambda: _save_connection(ctx, company, changes, whole, touched, revision)
    )


async def _save_connection(
    ctx: Context,
    company: Company,
    changes: Mapping[str, Any],
    whole: bool,
    touched: bool,
    revision: int | None,
) -> ConnectionSetup:
    async with ctx.uow() as tx:
        stored = await tx.connections.find(company.id)
    _require_revision(stored, revision)
    if stored is None and not whole:
        raise _no_connection(company)
    setup = _changed(stored, changes, whole)
    if setup == stored and not touched:
        return setup
    tried = stored is not None and setup.is_enabled and _reaches_other(stored, setup)
    if tried:
        report = await _tested(ctx, company, setup)
        setup = _with_facts(ctx, setup, report)
    async with ctx.uow() as tx:
        saved = await tx.connections.save(company.id, setup)
        if tried:
            await tx.breakers.close(company.id, ctx.clock.now())
    await ctx.sides.forget(company)
    return saved


async def test_connection(ctx: Context, company: Company) -> ConnectionReport:
    """Tries the connection step by step, enabled or not. Changes nothing about it; a success lets jobs go on that
    waited because CRM refused our user. Raises NotFound when there is none."""
    setup = await _found(ctx, company)
    report = await _report(ctx, company, setup)
    if report.ok and setup.is_enabled:
        await let_in(ctx, company.id)
    return report


async def enable_connection(
    ctx: Context,
    company: Company,
    revision: int | None = None,
    changes: Mapping[str, Any] | None = None,
    resync: Resync = Resync.CHANGED,
    *,
    preview: bool = False,
) -> Enabled:
    """Tests the connection, enables it, and says what is still to be done.

    Never touches mappings. Jobs that waited for the connection go on; entries that slept because nothing happened are
    woken.

    Args:
        changes: what is to change about the setup before, as for `save_connection`; saved only if the test succeeds.
        preview: leave CRM alone too; our memory is a rehearsal's already.
        resync: which records count as changed; by default those that changed while the connection was off.
    Raises:
        ConnectionTestFailed: naming the step that failed; the connection stays as it was.
        InvalidServerUrl, Invalid: with what is wrong with `changes` per field.
    """
    _require_writable(changes or {})
    return await on_what_is_there(
        revision, lambda: _enable_connection(ctx, company, revision, changes, resync, preview)
    )


async def _enable_connection(
    ctx: Context,
    company: Company,
    revision: int | None,
    changes: Mapping[str, Any] | None,
    resync: Resync,
    preview: bool,
) -> Enabled:
    setup = await _found(ctx, company)
    _require_revision(setup, revision)
    if changes:
        setup = _changed(setup, changes, whole=False)
    report = await _tested(ctx, company, setup)
    enabled = replace(_with_facts(ctx, setup, report), is_enabled=True)
    found = await marks(ctx, company, enabled, resync)
    present = await begin_at_present(ctx, company)
    # Before it is saved: afterwards jobs begin at once, and would lose what they have just opened.
    await ctx.sides.forget(company)
    async with ctx.uow() as tx:
        saved = await tx.connections.save(company.id, enabled)
        await set_marks(tx, company, found)
        if resync is Resync.NONE or await tx.connections.posts_watermark(company.id) is None:
            await tx.connections.set_posts_watermark(company.id, present)
        await tx.breakers.close(company.id, ctx.clock.now())
        mappings = [stored.mapping for stored in await tx.mappings.all(company.id)]
        await tx.job_queue.wake(company.id, [mapping.name for mapping in mappings], ctx.clock.now())
        await tx.jobs.send_waiting(company.id, ctx.clock.now())
    if not preview:
        await show_company(ctx, company, saved)
    tables = mapped_tables(company.defaults_generation, mappings)
    return Enabled(saved, report, not mappings, await _without_ids(ctx, company, tables))


async def disable_connection(
    ctx: Context, company: Company, reason: str | None = None, revision: int | None = None
) -> ConnectionSetup:
    """Disables the connection. Mappings, couplings, watermarks and jobs are kept; jobs wait, those under way from
    where they are after the pages in flight."""
    async with ctx.uow() as tx:
        setup = await tx.connections.find(company.id, lock=True)
        if setup is None:
            raise _no_connection(company)
        _require_revision(setup, revision)
        saved = await tx.connections.save(company.id, turned_off(setup, reason))
        await tx.breakers.close(company.id, ctx.clock.now())
    await ctx.sides.forget(company)
    return saved


def turned_off(setup: ConnectionSetup, reason: str | None) -> ConnectionSetup:
    """The setup once it is disabled."""
    return replace(
        setup, is_enabled=False, status=ConnectionStatus.DISABLED, disabled_reason=reason, last_error=None
    )


async def delete_connection(ctx: Context, company: Company, revision: int | None = None) -> None:
    """Removes the setup with its secrets. Mappings, couplings and jobs are kept; jobs wait until there is a connection
    again and it is enabled. Raises NotFound."""
    async with ctx.uow() as tx:
        setup = await tx.connections.find(company.id, lock=True)
        if setup is None:
            raise _no_connection(company)
        _require_revision(setup, revision)
        await tx.connections.delete(company.id)
    await ctx.sides.forget(company)


# --- what the changes make of the setup ------------------------------------------------------------


def _require_writable(changes: Mapping[str, Any]) -> None:
    problems = [
        FieldProblem(f"/{name}", "This is read from CRM, or changed by enabling and disabling alone.")
        for name in changes
        if name not in WRITABLE
    ]
    if problems:
        raise Invalid("Some of these settings cannot be written.", errors=problems)


def _changed(stored: ConnectionSetup | None, changes: Mapping[str, Any], whole: bool) -> ConnectionSetup:
    missing = [name for name in ("server_url", "authentication") if stored is None or whole]
    problems = [FieldProblem(f"/{name}", "This is needed.") for name in missing if not changes.get(name)]
    if problems:
        raise Invalid("The connection setup is not complete.", errors=problems)
    base = ConnectionSetup("", Credentials("", "", "")) if stored is None else stored
    if whole:
        blank = ConnectionSetup("", Credentials("", "", ""))
        base = replace(
            base,
            api_version=blank.api_version,
            app_id=None,
            user_mapping_required=False,
            ignore_changes_by_user=False,
        )
    login = changes.get("authentication")
    setup = replace(
        base,
        server_url=checked_server_url(changes["server_url"]) if "server_url" in changes else base.server_url,
        api_version=checked_api_version(changes.get("api_version") or base.api_version),
        app_id=changes.get("app_id", base.app_id),
        user_mapping_required=changes.get("user_mapping_required", base.user_mapping_required),
        ignore_changes_by_user=changes.get("ignore_changes_by_user", base.ignore_changes_by_user),
        credentials=base.credentials if login is None else _credentials(stored, login, whole),
    )
    if stored is not None and stored.server_url != setup.server_url and not setup.is_enabled:
        setup = _without_facts(setup)
    return setup


def _credentials(stored: ConnectionSetup | None, given: Mapping[str, Any], whole: bool) -> Credentials:
    known = None if stored is None else stored.credentials
    start = Credentials("client_secret", "", "") if known is None or whole else known
    login = Credentials(
        type=given.get("type") or start.type,
        tenant_id=checked_tenant(given.get("tenant_id") or start.tenant_id),
        client_id=given.get("client_id") or start.client_id,
        authority=checked_authority(given.get("authority", start.authority) or None),
    )
    # A secret is never sent to another login server or for another client than it was entered for.
    same = known is not None and _without_secrets(known) == login
    kept: dict[str, Any] = {name: getattr(known, name) if same else None for name in _SECRETS}
    login = replace(login, **{name: given.get(name, kept[name]) for name in _SECRETS})
    wrong_type = [p for p in missing_credentials(login) if p.pointer == "/authentication/type"]
    if wrong_type:
        raise Invalid("There is no such way to log in.", errors=wrong_type)
    return login


def _without_secrets(login: Credentials) -> Credentials:
    return Credentials(login.type, login.tenant_id, login.client_id, login.authority)


def _reaches_other(stored: ConnectionSetup, setup: ConnectionSetup) -> bool:
    return (stored.server_url, stored.api_version, stored.credentials) != (
        setup.server_url,
        setup.api_version,
        setup.credentials,
    )


def _without_facts(setup: ConnectionSetup) -> ConnectionSetup:
    """What was read from the CRM of another address says nothing about this one."""
    unknown: dict[str, Any] = dict.fromkeys((*FACTS, "last_checked_at", "disabled_reason"))
    return replace(setup, **unknown)


def _with_facts(ctx: Context, setup: ConnectionSetup, report: ConnectionReport) -> ConnectionSetup:
    return replace(
        setup,
        **{name: getattr(report, name) for name in FACTS},
        status=ConnectionStatus.CONNECTED,
        disabled_reason=None,
        last_error=None,
        last_checked_at=ctx.clock.now(),
    )


# --- shared steps ----------------------------------------------------------------------------------


async def _found(ctx: Context, company: Company) -> ConnectionSetup:
    async with ctx.uow() as tx:
        setup = await tx.connections.find(company.id)
    if setup is None:
        raise _no_connection(company)
    return setup


def _no_connection(company: Company) -> NotFound:
    return NotFound(
        f"The company {company.name} has no connection to CRM.",
        fix=f"PUT /api/v1/companies/{company.name}/crm-connection saves one.",
    )


def _require_revision(setup: ConnectionSetup | None, revision: int | None) -> None:
    if revision is not None and revision != (setup.revision if setup is not None else 0):
        raise PreconditionFailed(
            "The connection was changed since you read it.",
            fix="GET …/crm-connection and repeat the change.",
        )


async def _tested(ctx: Context, company: Company, setup: ConnectionSetup) -> ConnectionReport:
    """The report of a test that succeeded. Raises ConnectionTestFailed."""
    report = await _report(ctx, company, setup)
    failed = next((step for step in report.steps if not step.ok), None)
    if failed is None:
        return report
    raise ConnectionTestFailed(
        f"The connection was not accepted at the step {failed.name}: {failed.detail}",
        fix=failed.fix or "POST …/crm-connection/test shows every step.",
        errors=missing_credentials(setup.credentials),
        extra={"steps": [asdict(step) for step in report.steps], "failed_step": failed.name},
    )


async def _report(ctx: Context, company: Company, setup: ConnectionSetup) -> ConnectionReport:
    """What a test finds out; CRM is asked only when there is something to log in with."""
    try:
        require_credentials(setup)
    except Invalid as incomplete:
        missing = ", ".join(problem.pointer.removeprefix("/authentication/") for problem in incomplete.errors)
        detail = f"The credentials are not complete: {missing} missing."
        return ConnectionReport((TestStep("credentials", False, detail, incomplete.fix, 0),))
    return await ctx.sides.test(setup, company.local_currency)


async def _without_ids(ctx: Context, company: Company, tables: set[str]) -> Mapping[str, int] | None:
    try:
        nav = ctx.sides.nav(replace(company, tracking=True))
        return await nav.without_ids(await tracked(nav, tables))
    except SideUnavailable:
        return None  # enabling needs CRM alone; NAV is asked as a courtesy
