"""Workers for the tests, in this process or in one of their own, and a job that commits page after page."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import connect, create_engine
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company
from app.domain.coupling import Outcome, SynchAction
from app.domain.job import Counts, SynchJob
from app.jobs.worker import Worker, WorkerOptions
from app.ports import Context, Handler, JobFilter, Report, SideFactory
from app.worker import run_worker
from tests.integration.db.memory import a_memory

PATIENCE = 60.0  # seconds, on a machine that does much else
QUICK = WorkerOptions(poll=timedelta(seconds=0.2), drain=timedelta(seconds=20), retry=timedelta(seconds=0.2))
UNHURRIED = 1200
"""Pages of a job in a process of its own, a minute of them: it is not done before the test has done what it is to."""


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """In UTC."""
        return datetime.now(UTC)


def a_context(memory: SqlUnitOfWork) -> Context:
    """What handlers are given; these tests reach for no side."""
    return Context(memory, cast(SideFactory, None), SystemClock(), uuid4)


@asynccontextmanager
async def a_worker(
    address: str, memory: SqlUnitOfWork, handlers: Mapping[str, Handler], options: WorkerOptions = QUICK
) -> AsyncIterator[Worker]:
    """A worker in this process, listening; stopped at the end."""
    worker = Worker(lambda: connect(address), a_context(memory), handlers, options)
    task = asyncio.create_task(worker.run())
    try:
        await until(lambda: _seen(memory, worker.id))
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)


async def _seen(memory: SqlUnitOfWork, worker_id: UUID) -> bool:
    async with memory() as tx:
        return worker_id in {one.id for one in await tx.workers.seen_since(datetime.min.replace(tzinfo=UTC))}


async def until(happened: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Waits until it has happened, looking often."""
    async with asyncio.timeout(patience):
        while not await happened():  # noqa: ASYNC110 - it happens in the database, where no event of ours is set
            await asyncio.sleep(0.02)


async def ended(memory: SqlUnitOfWork, company_id: int, ids: Collection[UUID]) -> list[SynchJob]:
    """Waits until all of these jobs ended, and answers them in order."""
    found: list[SynchJob] = []

    async def look() -> bool:
        async with memory() as tx:
            page = {job.id: job for job in await tx.jobs.page(company_id, JobFilter(), None, 1000)}
        found[:] = [page[job_id] for job_id in ids]
        return all(job.status.ended for job in found)

    await until(look)
    return found


def pages(count: int, seconds: float) -> Handler:
    """A job that commits so many pages, each with its progress, going on where it was left."""

    async def handler(ctx: Context, company: Company, job: SynchJob, report: Report) -> None:
        counted = job.counts.get("to_crm", Counts())
        for number in range(counted.inserted, count):
            report.go_on()
            await asyncio.sleep(seconds)
            counted = replace(counted, inserted=number + 1)
            async with ctx.uow() as tx:
                page = Outcome(SynchAction.INSERTED, nav_key=str(number), extra={"fence": str(job.fence)})
                await tx.synch_log.add(company.id, job.id, [page], ctx.clock.now())
                await report.progress("to_crm", counted, count, tx)

    return handler


async def pages_of(memory: SqlUnitOfWork, company_id: int, job_id: UUID) -> list[tuple[int, int]]:
    """The pages that were committed, and under which fence, in the order of their commit."""
    async with memory() as tx:
        logged = await tx.synch_log.outcomes(company_id, job_id, None, 0, 1000)
    return [(int(one.outcome.nav_key or -1), int(one.outcome.extra["fence"])) for one in logged]


async def long_silent(engine: AsyncEngine) -> None:
    """The running jobs gave their last sign of life an hour ago: whoever looks takes their workers for dead."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE synch_job SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE status = 'running'"
        )


@asynccontextmanager
async def a_worker_process(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, whose jobs have UNHURRIED pages of 50 ms."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.jobs.workers", address, cwd=Path(__file__).parents[3]
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main(address: str) -> None:
    """What runs in the process."""
    engine: AsyncEngine = create_engine(address, pool_size=5)
    handlers = {"synchronize": pages(UNHURRIED, 0.05)}
    await run_worker(Worker(lambda: connect(address), a_context(a_memory(engine)), handlers, QUICK))
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
