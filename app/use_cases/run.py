"""Carrying out a synch job: a whole mapping, a selection of records, or the end of all its couplings.

A run reads the changes of the source side page by page, takes each page through the engine in sets, and records it
once they are remembered, with the counts and the watermark: what is before a watermark is recorded.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from uuid import UUID

from app.domain.company import Company
from app.domain.coupling import Coupling, Failure, Outcome, SynchAction
from app.domain.errors import IntegrationError, MappingNotFound
from app.domain.job import SynchJob, SynchMode
from app.domain.mapping import Direction
from app.domain.records import Side, Snapshot
from app.ports import Context, Page, Report, Transaction
from app.use_cases import deleted
from app.use_cases.brake import Brake
from app.use_cases.carrying import carry_out
from app.use_cases.engine import Exchange
from app.use_cases.expected import announce
from app.use_cases.items import Item, Options
from app.use_cases.options import option_mapping, run_options
from app.use_cases.overlap import AT_ONCE, Belt
from app.use_cases.reading import Reading, chunks, sets_of
from app.use_cases.setting import Setting, open_setting
from app.use_cases.tally import Tally

WRITERS = 2
"""Of the sets under way about so many write to CRM at the same time, while another is decided or remembered: they share
the requests that may be under way."""
STOCK = 1000
"""After so many new records of a run the database counts anew what there is,"""
STOCK_GROWTH = 4
"""and again when there are so many times as many."""


async def run_job(ctx: Context, company: Company, job: SynchJob, report: Report) -> None:
    """Carries out a claimed synch job. Safe to repeat after any interruption.

    Raises SideUnavailable, Throttled and the like when the job should be tried again, other domain errors
    when it cannot be done; records that fail are recorded, not raised.
    """
    try:
        setting = await open_setting(ctx, company, mapping=job.mapping)
    except MappingNotFound:
        options = await option_mapping(ctx, company, job.mapping)
        if options is None:
            raise
        await run_options(ctx, company, options, job, report)
        return
    run = Run(ctx, setting, job, report)
    await announce(ctx, setting, job, report, create=creates(setting, job.request.get("create_uncoupled")))
    if job.mode is not SynchMode.UNCOUPLE:
        await run.finish_replacements()
    match job.mode:
        case SynchMode.MODIFIED | SynchMode.FULL:
            for direction in setting.mapping.runs(job.direction):
                await run.whole(direction)
        case SynchMode.SELECTION:
            await run.selection()
        case SynchMode.UNCOUPLE:
            await run.uncouple()


class Run:
    """One synch job at work."""

    def __init__(self, ctx: Context, setting: Setting, job: SynchJob, report: Report) -> None:
        self._ctx = ctx
        self._setting = setting
        self._job = job
        self._report = report
        self._reading = Reading(ctx, setting, job.id)
        self._tallies: dict[Direction, Tally] = {}
        self._stock = STOCK
        # Whoever waits for it has a connection: those who have the turn would wait for one where connections are few.
        self._turn = asyncio.Lock()

    async def finish_replacements(self) -> None:
        """Records whose new partner was being made when a run was interrupted."""
        async for run, sources in self._reading.unfinished():
            exchange = Exchange(self._ctx, self._setting, run, Options(background=False), self._job.id)
            await self._take(exchange, self._tally(run), sources)

    def _tally(self, run: Direction) -> Tally:
        """The counts of that direction. A full run that was interrupted reads everything again, so it counts again,
        and so does a selection."""
        if run not in self._tallies:
            goes_on = self._job.mode is SynchMode.MODIFIED
            self._tallies[run] = Tally(self._job.counts.get(run.value) if goes_on else None)
        return self._tallies[run]

    # --- a whole mapping ------------------------------------------------------------------------------

    async def whole(self, run: Direction) -> None:
        """Everything that changed, or everything there is, in one direction."""
        full = self._job.mode is SynchMode.FULL
        started = self._ctx.clock.now()
        options = self._options()
        in_order = self._setting.refers_to_itself(run)
        exchange = Exchange(self._ctx, self._setting, run, options, self._job.id)
        together = 1 if in_order else AT_ONCE if exchange.in_one else WRITERS
        tally = self._tally(run)
        allowed = bool(self._job.request.get("allow_deletions"))
        brake = Brake(self._ctx, self._setting, run, self._reading, released=allowed)
        async with Belt(1 if in_order else AT_ONCE) as belt:
            async for page in self._reading.pages(run, full=full, create=options.create):
                await self._page(belt, exchange, tally, brake, page, together)
                belt.then(partial(self._record, exchange, tally, page.deleted, page.watermark, started))
                if page.deleted or page.released:
                    await belt.empty()
        self._report.go_on()  # whoever is told to stop ends the pages in flight first

    def _options(self) -> Options:
        request = self._job.request
        named = request.get("leave_alone")
        alone = (
            frozenset(UUID(str(each)) for each in named) if isinstance(named, list | tuple) else frozenset()
        )
        return Options(create=creates(self._setting, request.get("create_uncoupled")), alone=alone)

    async def _page(
        self, belt: Belt, exchange: Exchange, tally: Tally, brake: Brake, page: Page, together: int
    ) -> None:
        self._report.go_on()
        if page.deleted or page.released:
            await belt.empty()  # what the page says of its records goes by what is known of all before it
        exchange.waiting.release(page.released)
        # Deletions first: a record that an interrupted run restored is among the page's records, and must be
        # known as the new half of its coupling before it is looked at, or it would get a second partner.
        if page.deleted:
            gone = await deleted.gone(self._ctx, self._setting, exchange.run, page.deleted)
            await brake.check(page, deleted.to_ask_about(gone))
            await self._follow(exchange, tally, gone)
        sets = sets_of(page, together)
        sharing = exchange.shared(min(len(sets), together))
        for some in sets:
            await belt.put(partial(self._take, sharing, tally, some), [record.id for record in some])

    async def _record(
        self,
        exchange: Exchange,
        tally: Tally,
        deleted: Collection[UUID],
        watermark: str | None,
        started: datetime,
    ) -> None:
        """Writes down that a page is done, with everything before it."""
        async with AsyncExitStack() as until_committed, self._ctx.uow() as tx:
            await until_committed.enter_async_context(self._turn)
            await exchange.waiting.settle(tx, deleted)
            if watermark is not None:
                await self._mark(tx, exchange.run.source, watermark, started)
            await self._report.progress(exchange.run.value, tally.counts, tx=tx)
        if tally.counts.inserted > self._stock:
            self._stock = tally.counts.inserted * STOCK_GROWTH
            async with self._ctx.uow() as tx:
                await tx.couplings.take_stock()
            await self._setting.nav.take_stock()

    async def _mark(self, tx: Transaction, side: Side, watermark: str, started: datetime) -> None:
        """Moves the watermark. Where somebody changed the mapping meanwhile everything is to be read again, also what
        this run has looked at as the mapping was."""
        company, name, edition = self._setting.company.id, self._setting.mapping.name, self._setting.edition
        await tx.mappings.set_watermark(company, name, side, watermark, started, edition=edition)

    async def _follow(self, exchange: Exchange, tally: Tally, gone: Sequence[Coupling]) -> None:
        """What follows from deletions. The watermark is still before them: an interruption has them told again."""
        aftermath = await deleted.follow(self._ctx, self._setting, exchange.run, gone, job_id=self._job.id)
        async with self._ctx.uow() as tx:
            await deleted.remember(self._ctx, self._setting, exchange.run, tx, aftermath, tally, self._job.id)
            await self._report.progress(exchange.run.value, tally.counts, tx=tx)
        self._report.go_on()

    async def _take(self, exchange: Exchange, tally: Tally, sources: Sequence[Snapshot]) -> None:
        async def finish(tx: Transaction, items: Sequence[Item], last: bool) -> None:
            tally.add(items)
            await self._report.progress(exchange.run.value, tally.counts, tx=tx)

        self._report.go_on()
        await carry_out(exchange, sources, finish, turn=partial(self._turn_of, tally))

    @asynccontextmanager
    async def _turn_of(self, tally: Tally) -> AsyncIterator[None]:
        """Sets are remembered one at a time: what is counted is what is committed, also after one has failed."""
        async with self._turn:
            with tally.if_committed():
                yield

    # --- a selection -----------------------------------------------------------------------------------

    async def selection(self) -> None:
        """The records named in the job, each with its own outcome. The chosen side wins."""
        run = self._job.direction or self._setting.mapping.runs()[0]
        named = self._job.request.get("keys")
        keys = [str(key) for key in named] if isinstance(named, list | tuple) else []
        options = Options(force=True, background=False, log_unmodified=True)
        exchange, tally = Exchange(self._ctx, self._setting, run, options, self._job.id), self._tally(run)
        for chunk in chunks(keys):
            sources, missing = await self._reading.named(run, chunk)
            await self._take(exchange, tally, sources)
            await self._record_missing(run, tally, missing)
            self._report.go_on()

    async def _record_missing(
        self, run: Direction, tally: Tally, missing: dict[str, IntegrationError]
    ) -> None:
        if not missing:
            return
        outcomes = [failure(self._setting, run, key, error) for key, error in missing.items()]
        tally.count(SynchAction.FAILED, len(outcomes))
        async with self._ctx.uow() as tx:
            await tx.synch_log.add(self._setting.company.id, self._job.id, outcomes, self._ctx.clock.now())
            await self._report.progress(run.value, tally.counts, tx=tx)

    # --- the end of all couplings ------------------------------------------------------------------------

    async def uncouple(self) -> None:
        """Removes the couplings of the mapping; the records stay."""
        tally = Tally()
        async for couplings in self._reading.couplings():
            self._report.go_on()
            outcomes = [deleted.outcome(None, c, SynchAction.UNCOUPLED) for c in couplings]
            async with self._ctx.uow() as tx:
                gone = await tx.couplings.delete(self._setting.company.id, [c.id for c in couplings])
                await tx.synch_log.add(
                    self._setting.company.id, self._job.id, outcomes, self._ctx.clock.now()
                )
                tally.count(SynchAction.UNCOUPLED, gone)
                await self._report.progress(Direction.TO_CRM.value, tally.counts, tx=tx)


def creates(setting: Setting, asked: object) -> bool:
    """Whether uncoupled records get a partner: as asked; without a word as the mapping says."""
    return not setting.mapping.synch_only_coupled_records if asked is None else bool(asked)


def failure(setting: Setting, run: Direction, key: str, error: IntegrationError) -> Outcome:
    """The outcome of a record that could not even be looked at."""
    return Outcome(
        action=SynchAction.FAILED,
        direction=run.value,
        nav_table=setting.mapping.nav_table,
        nav_key=key,
        crm_entity=setting.mapping.crm_entity,
        error=Failure.of(error),
        extra={"mapping": setting.mapping.name},
    )
