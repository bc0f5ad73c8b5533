"""Posted sales orders of coupled customers become posts on the timelines of their accounts, once per order."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.coupling import Coupling, CouplingStatus, Failure, Outcome, SynchAction
from app.domain.errors import IntegrationError, PermissionMissing, WatermarkExpired
from app.domain.job import SynchJob
from app.domain.mapping import Direction
from app.domain.records import Snapshot
from app.domain.timeline import FIELDS, INVOICES, POST, PostedOrder
from app.ports import Context, Insert, NavSide, Refused, Report
from app.use_cases.tally import Tally

CUSTOMERS, ACCOUNT = "customers", "account"
TO_CRM = Direction.TO_CRM.value


@dataclass(slots=True)
class _Told:
    """What became of one posted order."""

    order: PostedOrder
    account_id: UUID
    action: SynchAction = SynchAction.UNMODIFIED
    error: IntegrationError | None = None


async def begin_at_present(ctx: Context, company: Company) -> str:
    """The mark from which posted sales orders are told: orders that were posted before are history."""
    return await ctx.sides.nav(company).present()


async def run_timeline_posts(ctx: Context, company: Company, job: SynchJob, report: Report) -> None:
    """Carries out a job that tells CRM of the sales orders that were posted since the last one.

    An order of a customer that is not coupled is none of CRM's business. A post that CRM refuses fails alone; without
    the privilege to post at all the job fails and goes on at the same place once it is there.

    Raises ConnectionDisabled, PermissionMissing, and what CRM says when it cannot be reached.
    """
    async with ctx.uow() as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        since = await tx.connections.posts_watermark(company.id)
    nav, tally = ctx.sides.nav(company), Tally()
    if since is None:
        await _set_mark(ctx, company, await nav.present())
        return
    try:
        async for page in nav.changes(INVOICES, FIELDS, since):
            report.go_on()
            told = await _tell(ctx, company, connection, nav, page.records)
            for each in told:
                tally.count(each.action)
            async with ctx.uow() as tx:
                logged = [_outcome(each) for each in told if each.action is not SynchAction.UNMODIFIED]
                await tx.synch_log.add(company.id, job.id, logged, ctx.clock.now())
                if page.watermark is not None:
                    await tx.connections.set_posts_watermark(company.id, page.watermark)
                await report.progress(TO_CRM, tally.counts, tx=tx)
    except WatermarkExpired:
        await _set_mark(ctx, company, await nav.present())


async def _set_mark(ctx: Context, company: Company, mark: str) -> None:
    async with ctx.uow() as tx:
        await tx.connections.set_posts_watermark(company.id, mark)


async def _tell(
    ctx: Context, company: Company, connection: ConnectionSetup, nav: NavSide, invoices: Sequence[Snapshot]
) -> list[_Told]:
    """Posts about the orders behind these invoices: one request, and none without an order to tell."""
    orders = {o.order_no: o for invoice in invoices if (o := PostedOrder.of(invoice)) is not None}
    coupled = await _accounts(ctx, company, nav, {order.customer_no for order in orders.values()})
    told = [_Told(o, coupled[o.customer_no].crm_id) for o in orders.values() if o.customer_no in coupled]
    writes = [Insert(each.order.post_id(each.account_id), each.order.post(each.account_id)) for each in told]
    answers = await ctx.sides.crm(company, connection).write(POST, writes) if writes else []
    for each, answer in zip(told, answers, strict=True):
        if isinstance(answer, Refused):
            if isinstance(answer.error, PermissionMissing):
                raise answer.error
            each.action, each.error = SynchAction.FAILED, answer.error
        elif answer.created:
            each.action = SynchAction.INSERTED
    return told


async def _accounts(ctx: Context, company: Company, nav: NavSide, customers: set[str]) -> dict[str, Coupling]:
    """The couplings with accounts, by the number of the customer."""
    if not customers:
        return {}
    found = await nav.by_key(CUSTOMERS, customers, ())
    ids = {record.integration_id: no for no, record in found.items() if record.integration_id is not None}
    async with ctx.uow() as tx:
        couplings = await tx.couplings.of_nav(company.id, CUSTOMERS, list(ids))
    return {
        ids[nav_id]: coupling
        for nav_id, coupling in couplings.items()
        if coupling.status is CouplingStatus.COUPLED and coupling.crm_entity == ACCOUNT
    }


def _outcome(told: _Told) -> Outcome:
    invoice = told.order.invoice
    return Outcome(
        action=told.action,
        direction=TO_CRM,
        nav_table=INVOICES,
        nav_key=invoice.key,
        nav_id=invoice.id,
        crm_entity=POST,
        crm_id=told.order.post_id(told.account_id),
        error=Failure.of(told.error) if told.error is not None else None,
        message=f"Sales order {told.order.order_no} on the timeline of account {told.account_id}.",
    )
