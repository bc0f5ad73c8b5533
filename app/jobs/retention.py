"""Deletes what nobody asks for any more, a bounded set at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from app.domain.errors import IntegrationError
from app.domain.retention import Retention
from app.ports import Context, Transaction

SET = 5000
"""Rows in one transaction: nobody has to wait for a long one."""
COMPANIES_AT_ONCE = 100

log = structlog.get_logger(__name__)


async def clean_up(ctx: Context, retention: Retention, most: int = SET) -> None:
    """One round, at most so many rows in a transaction. Several workers may do it at once: each passes over the rows
    that another has in hand."""
    now, most_jobs = ctx.clock.now(), max(1, most // 50)  # a job goes with its children
    jobs, history = now - retention.jobs, now - max(retention.history, retention.jobs)
    # The log before the jobs: what a job left behind goes in sets, not with the job all at once.
    await _in_sets(ctx, most, lambda tx: tx.synch_log.forget(jobs, most, history=False))
    await _in_sets(ctx, most, lambda tx: tx.synch_log.forget(history, most, history=True))
    await _in_sets(ctx, most_jobs, lambda tx: tx.jobs.delete_ended(jobs, most_jobs))
    await _in_sets(ctx, most, lambda tx: tx.idempotency.forget(now - retention.answers, most))
    async with ctx.uow() as tx:
        await tx.api_keys.forget(now - retention.keys)
        await tx.refused_logins.forget(now - retention.signs_of_life)
        await tx.workers.forget(now - retention.signs_of_life)
        await tx.jobs.forget_tickets(retention.signs_of_life)
    await _forget_deletions(ctx, now - retention.deletions, most)


async def _in_sets(ctx: Context, size: int, forget: Callable[[Transaction], Awaitable[int]]) -> None:
    gone = size
    while gone >= size:
        async with ctx.uow() as tx:
            gone = await forget(tx)
        await asyncio.sleep(0)  # the jobs of this process go on meanwhile


async def _forget_deletions(ctx: Context, before: datetime, most: int) -> None:
    """Of every company, one after the other; one whose NAV side does not answer is for the next round."""
    after: str | None = None
    while True:
        async with ctx.uow() as tx:
            companies = await tx.companies.page(COMPANIES_AT_ONCE, after, None)
        for company in companies:
            try:
                nav, gone = ctx.sides.nav(company), most
                while gone >= most:
                    gone = await nav.forget_deletions(before, most)
            except IntegrationError as error:
                log.info("old deletions could not be forgotten", company=company.name, error=error.detail)
        if len(companies) < COMPANIES_AT_ONCE:
            return
        after = companies[-1].name
