"""Update Account Statistics: a customer's figures into the statistics row of its account (nav-behaviour 15)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from app.domain import solution
from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.coupling import NO_CHANGES, Changes, Coupling, CouplingStatus, Failure, Outcome, SynchAction
from app.domain.errors import (
    CrmRecordNotFound,
    IntegrationError,
    LookupNotCoupled,
    SolutionNotInstalled,
    TableNotFound,
)
from app.domain.job import Counts, JobKind, JobStatus, SynchJob, SynchMode
from app.domain.links import address_of
from app.domain.mapping import Direction, TableMapping
from app.domain.records import FieldDefinition, Reference, Side, Snapshot, TableDefinition, Value
from app.domain.statistics import StatisticsTable
from app.ports import Context, CrmSide, Insert, NavSide, Refused, Report, Transaction, Update, Write
from app.use_cases.results import RecordResult
from app.use_cases.subject import subject
from app.use_cases.tally import Tally

CUSTOMERS = "customers"
ACCOUNT = "account"
UPDATED = "The account statistics were updated"
UP_TO_DATE = "The account statistics are up to date"
PAGE = 1000
"""Customers whose statistics are updated together."""


@dataclass(slots=True)
class _Entry:
    """One customer on its way."""

    coupling: Coupling
    customer_no: str
    table: StatisticsTable
    account: Snapshot | None = None
    row_id: UUID | None = None
    write: Write | None = None
    changes: Changes = field(default_factory=lambda: NO_CHANGES)
    action: SynchAction = SynchAction.UNMODIFIED
    error: IntegrationError | None = None
    account_version: str | None = None  # after its lookup was set

    def fail(self, error: IntegrationError) -> None:
        self.action, self.error, self.changes = SynchAction.FAILED, error, NO_CHANGES

    def points_elsewhere(self) -> bool:
        """Whether the account does not know its statistics row yet."""
        link = self.account.values.get(self.table.link) if self.account else None
        return not (isinstance(link, Reference) and link.id == self.row_id)


@dataclass(slots=True)
class _Desk:
    """What updating statistics works with, read once."""

    ctx: Context
    company: Company
    nav: NavSide
    crm: CrmSide
    table: StatisticsTable
    fields: Mapping[str, FieldDefinition]
    currency: UUID
    as_of: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.as_of = self.ctx.clock.now()


async def update_account_statistics(
    ctx: Context, company: Company, customer_no: str, *, preview: bool = False
) -> RecordResult:
    """Writes the figures of one customer to the statistics of its account, if they changed.

    Raises NotCoupled, SolutionNotInstalled, CrmRecordNotFound when the account is gone, and what CRM says.
    """
    started = ctx.clock.now()
    about = await subject(ctx, company, CUSTOMERS, customer_no, make_id=False)
    coupling = about.coupled
    desk = await _desk(ctx, company, about.setting.connection)
    entry = _Entry(coupling, about.snapshot.key, desk.table)
    await _update(desk, [entry], preview=preview)
    job_id = None if preview else ctx.new_id()
    if job_id is not None:
        job = _job_of_one(entry, job_id, started, ctx.clock.now())
        async with ctx.uow() as tx:
            await tx.jobs.add(company.id, [job])
            await _remember(tx, desk, [entry], job_id, log_unmodified=True)
    if entry.error is not None:
        raise entry.error
    message = _told(entry)
    return RecordResult(
        message="Preview: nothing was written" if preview else message,
        action=entry.action,
        changes=tuple(entry.changes),
        synch_job_id=job_id,
    )


async def run_account_statistics(ctx: Context, company: Company, job: SynchJob, report: Report) -> None:
    """Carries out a job that updates the statistics of every coupled customer, page by page.

    A customer whose account is gone fails alone. Raises ConnectionDisabled, SolutionNotInstalled, and what
    CRM says when it cannot be reached.
    """
    async with ctx.uow() as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        mappings = [m.mapping.name for m in await tx.mappings.all(company.id) if _serves(m.mapping)]
    desk = await _desk(ctx, company, connection)
    tally = Tally()
    for mapping in mappings:
        after: UUID | None = None
        while True:
            report.go_on()
            async with ctx.uow() as tx:
                page = await tx.couplings.page(company.id, mapping=mapping, after=after, limit=PAGE)
            entries = await _entries(desk, page)
            await _update(desk, entries, preview=False)
            for entry in entries:
                tally.count(entry.action)
            async with ctx.uow() as tx:
                await _remember(tx, desk, entries, job.id, log_unmodified=False)
                await report.progress(Direction.TO_CRM.value, tally.counts, tx=tx)
            if len(page) < PAGE:
                break
            after = page[-1].id


def _serves(mapping: TableMapping) -> bool:
    return (mapping.nav_table, mapping.crm_entity) == (CUSTOMERS, ACCOUNT) and not mapping.option_attribute


async def _desk(ctx: Context, company: Company, connection: ConnectionSetup) -> _Desk:
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    table, definition = await _statistics_table(crm)
    local = company.local_currency
    found = await crm.match("transactioncurrency", "isocurrencycode", [local])
    if not found.get(local):
        raise LookupNotCoupled(
            f"CRM has no currency with the ISO code {local}, the local currency of the company.",
            fix=f"Add the currency {local} in CRM.",
        )
    return _Desk(ctx, company, nav, crm, table, definition.fields, found[local][0].id)


async def _statistics_table(crm: CrmSide) -> tuple[StatisticsTable, TableDefinition]:
    """The table of the solution that is installed. Raises SolutionNotInstalled."""
    for prefix in solution.PREFIXES:
        table = StatisticsTable(prefix)
        try:
            return table, await crm.definition(table.entity)
        except TableNotFound:
            continue
    raise SolutionNotInstalled(
        "CRM has no account statistics: the integration solution is not installed there.",
        fix="Import the integration solution into CRM, then POST …/crm-connection/test.",
    )


async def _entries(desk: _Desk, couplings: Sequence[Coupling]) -> list[_Entry]:
    """The customers that still exist, under the numbers they have now."""
    coupled = {c.nav_id: c for c in couplings if c.status is CouplingStatus.COUPLED}
    customers = await desk.nav.get(CUSTOMERS, coupled, ()) if coupled else {}
    return [_Entry(coupled[nav_id], customer.key, desk.table) for nav_id, customer in customers.items()]


async def _update(desk: _Desk, entries: Sequence[_Entry], *, preview: bool) -> None:
    """Reads the figures, the accounts and their rows, and writes what changed: a fixed number of requests."""
    if not entries:
        return
    await _find_accounts(desk, entries)
    there = [entry for entry in entries if entry.error is None]
    figures = await desk.nav.figures([entry.customer_no for entry in there])
    rows = await desk.crm.get(desk.table.entity, _row_ids(there), desk.table.read)
    for entry in there:
        known = figures.get(entry.customer_no, {})
        wanted = desk.table.row(entry.customer_no, known, desk.as_of, desk.currency)
        _decide(desk, entry, wanted, rows)
    if preview:
        return
    await _write(desk, [entry for entry in there if entry.write is not None])
    await _point(desk, [entry for entry in there if entry.error is None and entry.points_elsewhere()])


async def _find_accounts(desk: _Desk, entries: Sequence[_Entry]) -> None:
    ids = [entry.coupling.crm_id for entry in entries]
    accounts = await desk.crm.get(ACCOUNT, ids, ("name", desk.table.link))
    for entry in entries:
        entry.account = accounts.get(entry.coupling.crm_id)
        if entry.account is None:
            entry.fail(
                CrmRecordNotFound(
                    f"The account {entry.coupling.crm_id} of customer {entry.customer_no} is gone from CRM.",
                    fix=f"DELETE {address_of(CUSTOMERS, entry.customer_no)}/coupling uncouples it.",
                )
            )


def _row_ids(entries: Sequence[_Entry]) -> set[UUID]:
    """The rows that accounts point to, and those an earlier attempt may have made."""
    links = (entry.account.values.get(entry.table.link) for entry in entries if entry.account)
    linked = {link.id for link in links if isinstance(link, Reference)}
    return linked | {entry.table.row_id(entry.coupling.crm_id) for entry in entries}


def _decide(desk: _Desk, entry: _Entry, wanted: dict[str, Value], rows: Mapping[UUID, Snapshot]) -> None:
    """What to write for one customer, as values."""
    link = entry.account.values.get(desk.table.link) if entry.account else None
    linked = rows.get(link.id) if isinstance(link, Reference) else None
    own_id = desk.table.row_id(entry.coupling.crm_id)
    row = linked or rows.get(own_id)
    if row is None:
        name = entry.account.values.get("name") if entry.account else None
        entry.row_id = own_id
        entry.write = Insert(own_id, {**wanted, desk.table.name: name})
        entry.action, shown, written = SynchAction.INSERTED, {}, wanted
    else:
        entry.row_id, shown = row.id, dict(row.values)
        written = desk.table.changes(wanted, row.values, desk.fields)
        if written:
            entry.write, entry.action = Update(row.id, written), SynchAction.MODIFIED
        elif entry.points_elsewhere():
            entry.action = SynchAction.MODIFIED
    entry.changes = Changes(Side.CRM, written, shown)


async def _write(desk: _Desk, entries: Sequence[_Entry]) -> None:
    writes = [entry.write for entry in entries if entry.write is not None]
    for entry, answer in zip(entries, await desk.crm.write(desk.table.entity, writes), strict=True):
        if isinstance(answer, Refused):
            entry.fail(answer.error)


async def _point(desk: _Desk, entries: Sequence[_Entry]) -> None:
    """Lets accounts know their statistics rows. Their own synchronization need not take that for a change."""
    writes = [
        Update(entry.coupling.crm_id, {desk.table.link: Reference(entry.row_id, desk.table.entity)})
        for entry in entries
        if entry.row_id is not None
    ]
    for entry, answer in zip(entries, await desk.crm.write(ACCOUNT, writes), strict=True):
        if isinstance(answer, Refused):
            entry.fail(answer.error)
        elif answer.snapshot is not None:
            entry.account_version = answer.snapshot.version


# --- remembering -----------------------------------------------------------------------------------


async def _remember(
    tx: Transaction, desk: _Desk, entries: Sequence[_Entry], job_id: UUID, *, log_unmodified: bool
) -> None:
    """Logs what was done, and keeps the new versions of accounts that nobody else had changed."""
    touched = [coupling for entry in entries if (coupling := _with_version(entry)) is not None]
    if touched:
        await tx.couplings.save(desk.company.id, touched)
    logged = [_outcome(e) for e in entries if log_unmodified or e.action is not SynchAction.UNMODIFIED]
    if logged:
        await tx.synch_log.add(desk.company.id, job_id, logged, desk.ctx.clock.now())


def _with_version(entry: _Entry) -> Coupling | None:
    base, account = entry.coupling.base, entry.account
    if not entry.account_version or base is None or account is None or base.crm_version != account.version:
        return None
    return replace(entry.coupling, base=replace(base, crm_version=entry.account_version))


def _outcome(entry: _Entry) -> Outcome:
    coupling = entry.coupling
    return Outcome(
        action=entry.action,
        direction=Direction.TO_CRM.value,
        nav_table=CUSTOMERS,
        nav_key=entry.customer_no,
        nav_id=coupling.nav_id,
        crm_entity=ACCOUNT,
        crm_id=coupling.crm_id,
        coupling_id=coupling.id,
        error=Failure.of(entry.error) if entry.error is not None else None,
        changes=entry.changes,
    )


def _job_of_one(entry: _Entry, job_id: UUID, started: datetime, ended: datetime) -> SynchJob:
    failed = entry.error is not None
    return SynchJob(
        id=job_id,
        kind=JobKind.ACCOUNT_STATISTICS,
        mapping=None,
        mode=SynchMode.SELECTION,
        direction=Direction.TO_CRM,
        status=JobStatus.FAILED if failed else JobStatus.SUCCEEDED,
        counts={Direction.TO_CRM.value: Counts.of({entry.action: 1})},
        message=entry.error.detail if entry.error is not None else _told(entry),
        created_at=started,
        started_at=started,
        finished_at=ended,
    )


def _told(entry: _Entry) -> str:
    return UP_TO_DATE if entry.action is SynchAction.UNMODIFIED else UPDATED
