"""What a synch job would do, told before it is started: the same records through the same engine, and nothing is
written on either side or remembered."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.coupling import Failure, Outcome, SynchAction
from app.domain.errors import TooManyDeletions
from app.domain.job import Counts, SynchMode
from app.domain.mapping import Direction
from app.ports import Context, Page
from app.use_cases import batch, deleted, remembering
from app.use_cases.brake import Brake
from app.use_cases.engine import Exchange
from app.use_cases.items import Item, Options
from app.use_cases.options import open_options, option_mapping
from app.use_cases.reading import Reading, chunks
from app.use_cases.rehearsal import rehearsal
from app.use_cases.run import creates, failure
from app.use_cases.setting import Setting, open_setting
from app.use_cases.tally import Tally


@dataclass(frozen=True, slots=True)
class JobPreview:
    """What a job would do. `outcomes` are the first of those records that something would be done to, or that
    would fail; `further` says how many more there are. `error` is what would stop the job."""

    mapping: str | None
    mode: SynchMode
    directions: Mapping[str, Counts]
    outcomes: Sequence[Outcome]
    further: int = 0
    error: Failure | None = None


@dataclass(slots=True)
class _Report:
    """Gathers a preview; keeps no more outcomes than were asked for."""

    limit: int
    directions: dict[str, Counts] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    further: int = 0
    error: Failure | None = None

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        told = [outcome for outcome in outcomes if outcome.action is not SynchAction.UNMODIFIED]
        kept = told[: self.limit - len(self.outcomes)]
        self.outcomes += kept
        self.further += len(told) - len(kept)

    def preview(self, mapping: str | None, mode: SynchMode) -> JobPreview:
        return JobPreview(mapping, mode, self.directions, self.outcomes, self.further, self.error)


async def preview_mapping(
    ctx: Context,
    company: Company,
    mapping: str,
    *,
    mode: SynchMode,
    direction: Direction | None = None,
    create_uncoupled: bool | None = None,
    allow_deletions: bool = False,
    limit: int = 100,
) -> JobPreview:
    """What `batch.start` with the same arguments would come to. Raises what it raises."""
    ctx, report = rehearsal(ctx), _Report(limit)
    if (chosen := await option_mapping(ctx, company, mapping)) is not None:
        batch.require_direction(chosen, direction)
        found = await open_options(ctx, company, chosen, preview=True)
        report.directions[Direction.FROM_CRM.value] = found.counts
        report.tell(found.outcomes)
        return report.preview(mapping, mode)
    setting = await open_setting(ctx, company, mapping=mapping)
    batch.require_direction(setting.mapping, direction)
    await _mapping(ctx, setting, report, mode, direction, create_uncoupled, allow_deletions)
    return report.preview(mapping, mode)


async def preview_all(
    ctx: Context,
    company: Company,
    *,
    mode: SynchMode,
    mappings: Sequence[str] | None = None,
    create_uncoupled: bool | None = None,
    limit: int = 100,
) -> list[JobPreview]:
    """What each child of `batch.start_all` would come to as things stand now: what an earlier mapping would
    create or change is not there yet for a later one. `limit` holds for all of them together."""
    ctx = rehearsal(ctx)
    async with ctx.uow() as tx:
        ordered = await batch.in_order(tx, company, mappings)
    previews: list[JobPreview] = []
    for mapping in ordered:
        report = _Report(limit - sum(len(each.outcomes) for each in previews))
        setting = await open_setting(ctx, company, mapping=mapping.name)
        await _mapping(ctx, setting, report, mode, None, create_uncoupled, allow_deletions=False)
        previews.append(report.preview(mapping.name, mode))
    return previews


async def preview_selection(
    ctx: Context,
    company: Company,
    table: str,
    keys: Sequence[str],
    direction: str | None,
    mapping: str | None = None,
    limit: int = 100,
) -> JobPreview:
    """What `batch.start_selection` with the same arguments would come to. Raises what it raises."""
    ctx = rehearsal(ctx)
    async with ctx.uow() as tx:
        chosen, run = await batch.for_selection(tx, company, table, keys, direction, mapping)
    setting, report, tally = await open_setting(ctx, company, mapping=chosen.name), _Report(limit), Tally()
    exchange = Exchange(
        ctx, setting, run, Options(force=True, background=False, look=True, log_unmodified=True, preview=True)
    )
    reading = Reading(ctx, setting)
    for chunk in chunks(list(dict.fromkeys(keys))):
        sources, missing = await reading.named(run, chunk)
        _count(exchange, tally, report, await exchange.synchronize(sources))
        report.tell([failure(setting, run, key, error) for key, error in missing.items()])
        tally.count(SynchAction.FAILED, len(missing))
    report.directions[run.value] = tally.counts
    return report.preview(chosen.name, SynchMode.SELECTION)


async def preview_uncouple(ctx: Context, company: Company, mapping: str, limit: int = 100) -> JobPreview:
    """The couplings that `batch.start_uncouple` would remove. Raises what it raises."""
    ctx = rehearsal(ctx)
    async with ctx.uow() as tx:
        require_enabled(await tx.connections.find(company.id))
        await tx.mappings.get(company.id, mapping)
    report, tally = _Report(limit), Tally()
    after: UUID | None = None
    while True:
        async with ctx.uow() as tx:
            page = await tx.couplings.page(company.id, mapping=mapping, after=after, limit=1000)
        report.tell([deleted.outcome(None, c, SynchAction.UNCOUPLED) for c in page])
        tally.count(SynchAction.UNCOUPLED, len(page))
        if len(page) < 1000:
            report.directions[Direction.TO_CRM.value] = tally.counts
            return report.preview(mapping, SynchMode.UNCOUPLE)
        after = page[-1].id


async def _mapping(
    ctx: Context,
    setting: Setting,
    report: _Report,
    mode: SynchMode,
    direction: Direction | None,
    create_uncoupled: bool | None,
    allow_deletions: bool,
) -> None:
    options = Options(create=creates(setting, create_uncoupled), preview=True)
    for run in setting.mapping.runs(direction):
        tally = Tally()
        exchange = Exchange(ctx, setting, run, options)
        reading = Reading(ctx, setting)
        pages = reading.pages(run, full=mode is SynchMode.FULL, create=options.create)
        brake = Brake(ctx, setting, run, reading, released=allow_deletions)
        try:
            await _pages(exchange, tally, report, pages, brake)
        except TooManyDeletions as error:
            report.error = Failure.of(error)
        report.directions[run.value] = tally.counts
        if report.error is not None:
            return  # the job would stop here


async def _pages(
    exchange: Exchange, tally: Tally, report: _Report, pages: AsyncIterator[Page], brake: Brake
) -> None:
    ctx, setting, run = exchange.ctx, exchange.setting, exchange.run
    async for page in pages:
        exchange.waiting.release(page.released)
        for chunk in chunks(page.records):
            _count(exchange, tally, report, await exchange.synchronize(chunk))
        if page.deleted:
            gone = await deleted.gone(ctx, setting, run, page.deleted)
            await brake.check(page, deleted.to_ask_about(gone))
            aftermath = await deleted.follow(ctx, setting, run, gone, job_id=None, preview=True)
            deleted.count(aftermath, tally)
            report.tell(deleted.outcomes_of(setting, run, aftermath))
            if aftermath.restorer is not None:
                report.tell(_outcomes(aftermath.restorer, aftermath.restored))


def _count(exchange: Exchange, tally: Tally, report: _Report, items: Sequence[Item]) -> None:
    tally.add(items)
    report.tell(_outcomes(exchange, items))


def _outcomes(exchange: Exchange, items: Sequence[Item]) -> list[Outcome]:
    return [remembering.outcome(exchange.setting, exchange.run, item) for item in items]
