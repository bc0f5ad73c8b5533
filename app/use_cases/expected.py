"""How many rows a synch job will read, where a statement or two can tell: what its progress is measured against."""

from collections.abc import Sequence

from app.domain.job import Counts, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.domain.records import Side
from app.ports import Context, Report
from app.use_cases.setting import Setting


async def announce(ctx: Context, setting: Setting, job: SynchJob, report: Report, *, create: bool) -> None:
    """Tells how many rows the job will read, if that is known. It is an estimate: filters may leave rows out.

    `create` says that uncoupled records get a partner, and so are read too.
    """
    runs = setting.mapping.runs(job.direction)
    expected = await _expected(ctx, setting, job, runs, create=create)
    if expected is not None and runs:
        first = runs[0].value
        await report.progress(first, job.counts.get(first, Counts()), expected)


async def _expected(
    ctx: Context, setting: Setting, job: SynchJob, runs: Sequence[Direction], *, create: bool
) -> int | None:
    match job.mode:
        case SynchMode.SELECTION:
            keys = job.request.get("keys")
            return len(keys) if isinstance(keys, list | tuple) else None
        case SynchMode.UNCOUPLE:
            return await _coupled(ctx, setting)
        case SynchMode.FULL if not create:
            return await _coupled(ctx, setting) * len(runs)
        case SynchMode.FULL | SynchMode.MODIFIED if all(run.source is Side.NAV for run in runs):
            return await _from_nav(ctx, setting, job)
        case _:
            return None  # counting what changed in CRM takes as long as reading it


async def _coupled(ctx: Context, setting: Setting) -> int:
    async with ctx.uow() as tx:
        return await tx.couplings.count(setting.company.id, mapping=setting.mapping.name)


async def _from_nav(ctx: Context, setting: Setting, job: SynchJob) -> int:
    since = None
    if job.mode is SynchMode.MODIFIED:
        async with ctx.uow() as tx:
            since = (await tx.mappings.get(setting.company.id, setting.mapping.name)).nav_watermark
    return await setting.nav.count_changes(setting.mapping.nav_table, since)
