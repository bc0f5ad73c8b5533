"""Whether CRM lets our user in at all: counted when it does not, asked again now and then, and let go of as soon as it
does (docs/decisions/circuit-breaker.md)."""

import asyncio
from datetime import timedelta

import structlog

from app.domain.breaker import Breaker, BreakerPolicy
from app.domain.coupling import Failure
from app.domain.errors import CrmUnavailable, IntegrationError, LoginRefused, PermissionMissing
from app.ports import Context

log = structlog.get_logger(__name__)
AT_ONCE = 20
"""Breakers that one look probes, side by side."""
PATIENCE = timedelta(seconds=20)
"""A CRM that has not answered by then has not said whether it lets us in."""


async def note_refusal(
    ctx: Context, company_id: int, error: IntegrationError, policy: BreakerPolicy
) -> Breaker | None:
    """Counts that CRM refused our user, if that is what the error says and it concerns the whole connection.

    A login that is refused always does. A missing permission does when CRM shows us nothing of any mapped entity.
    Answers how the breaker stands then; None when this was none of its business.
    """
    if not isinstance(error, LoginRefused | PermissionMissing):
        return None
    if isinstance(error, PermissionMissing) and not await _is_shut_out(ctx, company_id):
        return None
    async with ctx.uow() as tx:
        before = await tx.breakers.locked(company_id)
        if before is None:
            return None
        after = before.refused(Failure.of(error), ctx.clock.now(), policy)
        await tx.breakers.save(company_id, after)
    if after.is_open and not before.is_open:
        log.warning("CRM refuses our user: the jobs of the company wait", company=company_id, code=error.code)
    return after


async def probe_due(ctx: Context, policy: BreakerPolicy) -> int:
    """Asks CRM again for those connections whose time has come; how many it lets in now."""
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        due = await tx.breakers.due(now, AT_ONCE)
        for each in due:
            await tx.breakers.save(each.company_id, each.breaker.probed(now, policy))
    return sum(await asyncio.gather(*(_probe(ctx, each.company_id, policy) for each in due)))


async def let_in(ctx: Context, company_id: int) -> bool:
    """CRM was seen to let our user in: waiting jobs go on. False when none were kept waiting."""
    async with ctx.uow() as tx:
        closed = await tx.breakers.close(company_id, ctx.clock.now())
    if closed:
        log.info("CRM lets our user in again: the jobs of the company go on", company=company_id)
    return closed


async def _probe(ctx: Context, company_id: int, policy: BreakerPolicy) -> bool:
    try:
        await _enter(ctx, company_id)
    except (LoginRefused, PermissionMissing) as error:
        async with ctx.uow() as tx:
            breaker = await tx.breakers.locked(company_id)
            if breaker is not None and breaker.is_open:
                await tx.breakers.save(
                    company_id, breaker.refused(Failure.of(error), ctx.clock.now(), policy)
                )
        return False
    except IntegrationError as error:  # whether it would let us in is not known: the next probe may tell
        log.info("CRM could not be asked whether it lets us in", company=company_id, error=error.detail)
        return False
    return await let_in(ctx, company_id)


async def _is_shut_out(ctx: Context, company_id: int) -> bool:
    """Whether CRM refuses us everything, as far as one request can tell."""
    try:
        await _enter(ctx, company_id)
    except (LoginRefused, PermissionMissing):
        return True
    except IntegrationError:
        return False
    return False


async def _enter(ctx: Context, company_id: int) -> None:
    async with ctx.uow() as tx:
        company = await tx.companies.by_id(company_id)
        connection = await tx.connections.find(company_id)
        mappings = await tx.mappings.all(company_id)
    if connection is None:
        return
    entities = {stored.mapping.crm_entity for stored in mappings}
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            await ctx.sides.crm(company, connection).require_entry(entities)
    except TimeoutError as error:
        raise CrmUnavailable(
            "CRM did not say in time whether it lets us in.", fix="Try again later."
        ) from error
