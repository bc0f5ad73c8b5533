"""Carrying out a synch job: a whole mapping, a selection of records, or the end of all its couplings.

A run reads the changes of the source side page by page, takes each page through the engine, and records it
in one transaction together with the counts and the watermark: what is before a watermark is recorded.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from app.domain.company import Company
from app.domain.coupling import Coupling, CouplingStatus, Failure, Outcome, SynchAction, SynchResult
from app.domain.errors import IntegrationError, NavRecordNotFound, NotCoupled, WatermarkExpired
from app.domain.job import SynchJob, SynchMode
from app.domain.mapping import Direction
from app.domain.records import Side, Snapshot
from app.ports import Context, Page, Report, Transaction
from app.use_cases import deleted
from app.use_cases.engine import Exchange, carry_out
from app.use_cases.items import Item, Options
from app.use_cases.setting import Setting, open_setting
from app.use_cases.tally import Tally

SET = 1000
"""Records that go through the engine together: bounds memory and the length of a transaction."""


async def run_job(ctx: Context, company: Company, job: SynchJob, report: Report) -> None:
    """Carries out a claimed synch job. Safe to repeat after any interruption.

    Raises SideUnavailable, Throttled and the like when the job should be tried again, other domain errors
    when it cannot be done; records that fail are recorded, not raised.
    """
    setting = await open_setting(ctx, company, mapping=job.mapping)
    run = Run(ctx, setting, job, report)
    match job.mode:
        case SynchMode.MODIFIED | SynchMode.FULL:
            for direction in job.direction.runs if job.direction else setting.mapping.direction.runs:
                if setting.mapping.direction.allows(direction):
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

    # --- a whole mapping ------------------------------------------------------------------------------

    async def whole(self, run: Direction) -> None:
        """Everything that changed, or everything there is, in one direction."""
        full = self._job.mode is SynchMode.FULL
        since, started = await self._watermark(run), self._ctx.clock.now()
        exchange = Exchange(self._ctx, self._setting, run, self._options(), self._job.id)
        # A full run that was interrupted reads everything again, so it counts again.
        tally = Tally(None if full else self._job.counts.get(run.value))
        if not full:
            await self._retry_failed(exchange, tally)
        if full or since is None:
            await self._everything(exchange, tally, started)
            return
        try:
            async for page in self._changes(run, since):
                await self._page(exchange, tally, page, started)
        except WatermarkExpired:
            await self._everything(exchange, tally, started)

    async def _everything(self, exchange: Exchange, tally: Tally, started: datetime) -> None:
        """Reads the source from the beginning. Which coupled records are no longer there shows only at the end,
        so the watermark moves only then."""
        seen: set[UUID] = set()
        reached: str | None = None
        async for page in self._changes(exchange.run, None):
            seen.update(record.id for record in page.records)
            reached = page.watermark or reached
            await self._page(exchange, tally, replace(page, watermark=None), started)
        unseen = await self._unseen(exchange.run.source, seen)
        await self._page(exchange, tally, Page((), unseen, reached), started)

    async def _unseen(self, side: Side, seen: Collection[UUID]) -> list[UUID]:
        """The coupled records of the mapping that a read from the beginning did not show."""
        unseen: list[UUID] = []
        async for couplings in self._couplings():
            coupled = (c for c in couplings if c.status is CouplingStatus.COUPLED)
            unseen += [c.id_on(side) for c in coupled if c.id_on(side) not in seen]
        return unseen

    def _options(self) -> Options:
        asked = self._job.request.get("create_uncoupled")
        create = not self._setting.mapping.synch_only_coupled_records if asked is None else bool(asked)
        return Options(create=create)

    async def _watermark(self, run: Direction) -> str | None:
        async with self._ctx.uow() as tx:
            stored = await tx.mappings.get(self._setting.company.id, self._setting.mapping.name)
        return stored.nav_watermark if run.source is Side.NAV else stored.crm_watermark

    def _changes(self, run: Direction, since: str | None) -> AsyncIterator[Page]:
        """The changes of the source side, or everything. Raises WatermarkExpired."""
        side = run.source
        table, fields = self._setting.mapping.table_on(side), self._setting.fields(side)
        return self._setting.side(side).changes(table, fields, since)

    async def _page(self, exchange: Exchange, tally: Tally, page: Page, started: datetime) -> None:
        self._report.go_on()
        for chunk in _chunks(page.records):
            await self._take(exchange, tally, chunk)
        aftermath = deleted.Aftermath()
        if page.deleted:
            aftermath = await deleted.follow(
                self._ctx,
                self._setting,
                exchange.run,
                page.deleted,
                job_id=self._job.id,
                allow_many=bool(self._job.request.get("allow_deletions")),
            )
        async with self._ctx.uow() as tx:
            await deleted.remember(self._ctx, self._setting, exchange.run, tx, aftermath, tally, self._job.id)
            if page.watermark is not None:
                name, side = self._setting.mapping.name, exchange.run.source
                await tx.mappings.set_watermark(self._setting.company.id, name, side, page.watermark, started)
            await self._report.progress(exchange.run.value, tally.counts, tx=tx)

    async def _take(self, exchange: Exchange, tally: Tally, sources: Sequence[Snapshot]) -> None:
        async def finish(tx: Transaction, items: Sequence[Item]) -> None:
            tally.add(items)
            await self._report.progress(exchange.run.value, tally.counts, tx=tx)

        await carry_out(exchange, sources, finish)
        self._report.go_on()

    async def _retry_failed(self, exchange: Exchange, tally: Tally) -> None:
        """Records whose last synchronization failed are tried again although they did not change
        (nav-behaviour 9.1)."""
        side, mapping = exchange.run.source, self._setting.mapping
        async for couplings in self._couplings(last_synch_result=SynchResult.FAILURE):
            ids = [c.id_on(side) for c in couplings if c.last_job_id != self._job.id]
            if ids:
                found = await self._setting.side(side).get(
                    mapping.table_on(side), ids, self._setting.fields(side)
                )
                await self._take(exchange, tally, list(found.values()))

    async def _couplings(self, last_synch_result: str | None = None) -> AsyncIterator[list[Coupling]]:
        """The mapping's couplings that are not skipped, page by page; no transaction stays open meanwhile."""
        after: UUID | None = None
        while True:
            async with self._ctx.uow() as tx:
                page = await tx.couplings.page(
                    self._setting.company.id,
                    mapping=self._setting.mapping.name,
                    skipped=False if last_synch_result else None,
                    last_synch_result=last_synch_result,
                    after=after,
                    limit=SET,
                )
            if page:
                yield page
            if len(page) < SET:
                return
            after = page[-1].id

    # --- a selection -----------------------------------------------------------------------------------

    async def selection(self) -> None:
        """The records named in the job, each with its own outcome. The chosen side wins."""
        run = self._job.direction or self._setting.mapping.direction.runs[0]
        named = self._job.request.get("keys")
        keys = [str(key) for key in named] if isinstance(named, list | tuple) else []
        options = Options(force=True, background=False, log_unmodified=True)
        exchange, tally = Exchange(self._ctx, self._setting, run, options, self._job.id), Tally()
        for chunk in _chunks(keys):
            self._report.go_on()
            sources, missing = await self._sources(run, chunk)
            await self._take(exchange, tally, sources)
            await self._record_missing(run, tally, missing)

    async def _sources(
        self, run: Direction, keys: Sequence[str]
    ) -> tuple[list[Snapshot], dict[str, IntegrationError]]:
        nav, table = self._setting.nav, self._setting.mapping.nav_table
        records = await nav.by_key(table, keys)
        missing: dict[str, IntegrationError] = {
            key: NavRecordNotFound(f"There is no record {key} in {table}.")
            for key in keys
            if key not in records
        }
        ids = {r.integration_id: key for key, r in records.items() if r.integration_id is not None}
        async with self._ctx.uow() as tx:
            found = await tx.couplings.of_nav(self._setting.company.id, table, ids)
        coupled = {i: c for i, c in found.items() if c.status is CouplingStatus.COUPLED}
        uncoupled = set(records) - {ids[i] for i in coupled}
        missing |= {
            key: NotCoupled(
                f"Record {key} of {table} is not coupled.", fix=f"PUT …/nav/{table}/{key}/coupling"
            )
            for key in sorted(uncoupled)
        }
        if run is Direction.TO_CRM:
            return [records[ids[i]].snapshot(i) for i in coupled], missing
        rows = await self._setting.crm.get(
            self._setting.mapping.crm_entity,
            [c.crm_id for c in coupled.values()],
            self._setting.fields(Side.CRM),
        )
        gone = [c for c in coupled.values() if c.crm_id not in rows]
        missing |= {c.nav_key: deleted.conflict(self._setting, Direction.FROM_CRM, c) for c in gone}
        return list(rows.values()), missing

    async def _record_missing(
        self, run: Direction, tally: Tally, missing: dict[str, IntegrationError]
    ) -> None:
        if not missing:
            return
        mapping = self._setting.mapping
        outcomes = [
            Outcome(
                action=SynchAction.FAILED,
                direction=run.value,
                nav_table=mapping.nav_table,
                nav_key=key,
                crm_entity=mapping.crm_entity,
                error=Failure.of(error),
                extra={"mapping": mapping.name},
            )
            for key, error in missing.items()
        ]
        tally.count(SynchAction.FAILED, len(outcomes))
        async with self._ctx.uow() as tx:
            await tx.synch_log.add(self._setting.company.id, self._job.id, outcomes, self._ctx.clock.now())
            await self._report.progress(run.value, tally.counts, tx=tx)

    # --- the end of all couplings ------------------------------------------------------------------------

    async def uncouple(self) -> None:
        """Removes the couplings of the mapping; the records stay."""
        tally = Tally()
        async for couplings in self._couplings():
            self._report.go_on()
            outcomes = [deleted.outcome(None, c, SynchAction.UNCOUPLED) for c in couplings]
            async with self._ctx.uow() as tx:
                gone = await tx.couplings.delete(self._setting.company.id, [c.id for c in couplings])
                await tx.synch_log.add(
                    self._setting.company.id, self._job.id, outcomes, self._ctx.clock.now()
                )
                tally.count(SynchAction.UNCOUPLED, gone)
                await self._report.progress(Direction.TO_CRM.value, tally.counts, tx=tx)


T = TypeVar("T")


def _chunks(things: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), SET):
        yield things[start : start + SET]
