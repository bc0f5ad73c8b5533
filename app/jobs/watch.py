"""The watch: a change on either side lets the job queue entry of its mapping start at once (nav-behaviour 13.4).

Every worker watches; a company is claimed by one of them at a time. What the watch misses, the schedule finds.
"""

import asyncio
from collections.abc import Collection, Iterable
from datetime import timedelta

import structlog

from app.domain.breaker import BreakerPolicy
from app.domain.company import Company, ConnectionSetup
from app.domain.errors import IntegrationError
from app.domain.records import Side
from app.jobs.schedule import start_due
from app.ports import Context, RecordStore, Watch
from app.use_cases.admission import note_refusal

log = structlog.get_logger(__name__)
AT_ONCE = 8
"""Companies that one worker looks at side by side."""
QUIET = timedelta(seconds=3)
"""So long after a run its mapping is left alone: what the run wrote itself is no news."""
PATIENCE = timedelta(seconds=15)
"""A side that has not answered by then is asked again at the next look."""


BREAKER = BreakerPolicy()


async def watch(ctx: Context, every: timedelta, breaker: BreakerPolicy = BREAKER) -> int:
    """Looks at every company nobody looked at for `every`, and starts what has changes; how many entries."""
    woken = 0
    began = ctx.clock.now()
    while True:
        async with ctx.uow() as tx:
            companies = await tx.watches.claim(began, began - every, AT_ONCE)
        woken += sum(await asyncio.gather(*(_look(ctx, company_id, breaker) for company_id in companies)))
        if len(companies) < AT_ONCE:
            break
    if woken:
        await start_due(ctx)
    return woken


async def _look(ctx: Context, company_id: int, breaker: BreakerPolicy) -> int:
    """Wakes the entries of the company's mappings that have changes; a side without an answer wakes none."""
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await _wake_changed(ctx, company_id)
    except (IntegrationError, TimeoutError) as error:
        why = str(error) or "One of its sides did not answer in time."  # a TimeoutError says nothing
        log.info("a company could not be watched", company_id=company_id, error=why)
        if isinstance(error, IntegrationError):
            await note_refusal(ctx, company_id, error, breaker)
        return 0


async def _wake_changed(ctx: Context, company_id: int) -> int:
    now = ctx.clock.now()
    async with ctx.uow() as tx:
        watches = await tx.watches.of_company(company_id, now, now - QUIET)
        if not watches:
            return 0
        company = await tx.companies.by_id(company_id)
        connection = await tx.connections.find(company_id)
    if connection is None:
        return 0
    changed = await _changed(ctx, company, connection, watches)
    if not changed:
        return 0
    async with ctx.uow() as tx:
        return await tx.job_queue.wake(company_id, changed, ctx.clock.now())


async def _changed(
    ctx: Context, company: Company, connection: ConnectionSetup, watches: Collection[Watch]
) -> set[str]:
    """The mappings with something to do: changes on a side they read from, records that were released,
    or couplings before a first run."""
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    from_nav, from_crm = await asyncio.gather(_after(nav, watches), _after(crm, watches))
    others = {w.mapping for w in watches if w.has_released or (w.is_coupled and _has_side_unread(w))}
    return from_nav | from_crm | others


async def _after(store: RecordStore, watches: Iterable[Watch]) -> set[str]:
    """The mappings that read from this side and have changes there."""
    places = {
        w.mapping: (w.table(store.side), watermark)
        for w in watches
        if store.side in _sources(w) and (watermark := w.watermark(store.side)) is not None
    }
    changed = await store.changed(set(places.values())) if places else set()
    return {mapping for mapping, place in places.items() if place in changed}


def _has_side_unread(watched: Watch) -> bool:
    return any(watched.watermark(side) is None for side in _sources(watched))


def _sources(watched: Watch) -> tuple[Side, ...]:
    return tuple(run.source for run in watched.direction.runs)
