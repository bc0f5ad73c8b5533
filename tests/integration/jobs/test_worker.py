"""Workers: what is queued runs once, whoever dies, pauses or stops meanwhile."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import connect
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company
from app.domain.errors import (
    ConnectionDisabled,
    CrmUnavailable,
    DatabaseUnavailable,
    IntegrationError,
    InvalidMapping,
    Throttled,
)
from app.domain.job import Counts, JobStatus, SynchJob
from app.jobs.worker import Worker
from app.ports import Context, Handler, Report
from tests.integration.db.memory import a_connected_company, a_job, a_memory
from tests.integration.jobs.workers import (
    PATIENCE,
    QUICK,
    a_context,
    a_worker,
    a_worker_process,
    ended,
    long_silent,
    pages,
    pages_of,
    until,
)

pytestmark = pytest.mark.anyio


async def add(memory: SqlUnitOfWork, company: Company, *jobs: SynchJob) -> list[UUID]:
    async with memory() as tx:
        await tx.jobs.add(company.id, jobs)
    return [job.id for job in jobs]


async def committed(memory: SqlUnitOfWork, company: Company, job: SynchJob, count: int) -> bool:
    return len(await pages_of(memory, company.id, job.id)) >= count


def failing(*errors: Exception) -> Handler:
    """A job that fails with one error after the other, then succeeds."""
    left = list(errors)

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        if left:
            raise left.pop(0)

    return handler


async def test_an_idle_worker_starts_a_job_at_once(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    started: list[float] = []

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        started.append(time.perf_counter())

    waits = []
    async with a_worker(
        database, memory, {"synchronize": handler}, replace(QUICK, poll=timedelta(minutes=5))
    ):
        for _ in range(5):
            asked = time.perf_counter()
            await ended(memory, company.id, await add(memory, company, a_job(created_at=datetime.now(UTC))))
            waits.append(started.pop() - asked)
    assert sorted(waits)[2] < PATIENCE / 2  # it was told: it will not look by itself for minutes


async def test_two_runs_of_a_mapping_never_overlap(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    running: set[str | None] = set()
    overlaps = []

    async def handler(_ctx: Context, _company: Company, job: SynchJob, report: Report) -> None:
        if job.mapping in running:
            overlaps.append(job)
        running.add(job.mapping)
        await asyncio.sleep(0.01)
        await report.progress("to_crm", Counts(inserted=1))
        running.remove(job.mapping)

    jobs = [a_job(f"M{number % 10}", number / 60) for number in range(100)]
    async with (
        a_worker(database, memory, {"synchronize": handler}),
        a_worker(database, memory, {"synchronize": handler}),
    ):
        found = await ended(memory, company.id, await add(memory, company, *jobs))
    assert overlaps == []
    assert {(job.status, job.attempt, job.fence) for job in found} == {(JobStatus.SUCCEEDED, 1, 1)}


async def test_when_a_worker_is_killed_another_continues_and_no_page_is_committed_twice(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    await add(memory, company, job)
    async with a_worker_process(database) as process:
        await until(lambda: committed(memory, company, job, 5))
        process.kill()
        await process.wait()
    await long_silent(engine)
    total = len(await pages_of(memory, company.id, job.id)) + 20
    async with a_worker(database, memory, {"synchronize": pages(total, 0.01)}):
        (found,) = await ended(memory, company.id, [job.id])
    written = await pages_of(memory, company.id, job.id)
    assert [page for page, _ in written] == list(range(total))
    assert {fence for _, fence in written} == {1, 2}
    assert (found.status, found.attempt, found.counted) == (JobStatus.SUCCEEDED, 2, Counts(inserted=total))


async def pause_between_pages(engine: AsyncEngine, process: asyncio.subprocess.Process) -> None:
    """Stops the process where it has no transaction open: whoever came after it would wait for that one."""
    open_ones = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )

    async def paused() -> bool:
        process.send_signal(signal.SIGSTOP)
        await until(lambda: is_stopped(process.pid))
        async with engine.connect() as connection:
            if await connection.scalar(open_ones) == 0:
                return True
        process.send_signal(signal.SIGCONT)
        return False

    await until(paused)


async def is_stopped(pid: int) -> bool:
    told = await anyio.Path(f"/proc/{pid}/stat").read_text()
    return told.rpartition(")")[2].split()[0] == "T"


async def test_a_worker_that_was_paused_finds_its_job_taken_and_stops(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    await add(memory, company, job)
    async with a_worker_process(database) as process:
        await until(lambda: committed(memory, company, job, 5))
        await pause_between_pages(engine, process)
        await long_silent(engine)
        before = len(await pages_of(memory, company.id, job.id))
        total = before + 40
        async with a_worker(database, memory, {"synchronize": pages(total, 0.05)}):
            await until(lambda: committed(memory, company, job, before + 5))
            process.send_signal(signal.SIGCONT)
            await ended(memory, company.id, [job.id])
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    written = await pages_of(memory, company.id, job.id)
    assert [page for page, _ in written] == list(range(total))
    assert [fence for _, fence in written] == sorted(fence for _, fence in written)


async def test_a_worker_that_is_told_to_stop_ends_its_page_and_gives_the_job_back(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    await add(memory, company, job)
    async with a_worker_process(database) as process:
        await until(lambda: committed(memory, company, job, 3))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    async with memory() as tx:
        waiting = await tx.jobs.get(company.id, job.id)
        assert await tx.workers.seen_since(datetime.now(UTC) - timedelta(minutes=5)) == []
    assert (waiting.status, waiting.attempt) == (JobStatus.QUEUED, 0)
    total = len(await pages_of(memory, company.id, job.id)) + 20
    async with a_worker(database, memory, {"synchronize": pages(total, 0)}):
        (found,) = await ended(memory, company.id, [job.id])
    assert [page for page, _ in await pages_of(memory, company.id, job.id)] == list(range(total))
    assert (found.status, found.attempt) == (JobStatus.SUCCEEDED, 1)


async def test_a_cancelled_job_stops_after_the_page_in_flight(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job, next_job = a_job(), a_job(minutes=1, kind="quick")
    await add(memory, company, job, next_job)
    async with a_worker(database, memory, {"synchronize": pages(200, 0.02), "quick": failing()}):
        await until(lambda: committed(memory, company, job, 3))
        async with memory() as tx:
            await tx.jobs.cancel(company.id, job.id, datetime.now(UTC))
        found, after = await ended(memory, company.id, [job.id, next_job.id])
    written = await pages_of(memory, company.id, job.id)
    assert found.status is JobStatus.CANCELLED
    assert found.counted == Counts(inserted=len(written))
    assert len(written) < 200
    assert after.status is JobStatus.SUCCEEDED


async def test_a_job_that_was_cancelled_before_its_worker_died_is_not_started_again(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    (job_id,) = await add(memory, company, a_job())
    async with memory() as tx:
        assert await tx.jobs.claim(job_id, UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC)) is not None
        await tx.jobs.cancel(company.id, job_id, datetime.now(UTC))
    async with a_worker(database, memory, {"synchronize": pages(5, 0)}):
        (found,) = await ended(memory, company.id, [job_id])
    assert (found.status, found.counted, found.fence) == (JobStatus.CANCELLED, Counts(), 1)


async def test_a_cancelled_job_that_finds_its_connection_disabled_does_not_wait_for_it(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        begun.set()
        await cancelled.wait()
        raise ConnectionDisabled("Not enabled.")

    async with a_worker(database, memory, {"synchronize": handler}):
        (job_id,) = await add(memory, company, a_job())
        await asyncio.wait_for(begun.wait(), PATIENCE)
        async with memory() as tx:
            await tx.jobs.cancel(company.id, job_id, datetime.now(UTC))
        cancelled.set()
        (found,) = await ended(memory, company.id, [job_id])
    assert (found.status, found.fence) == (JobStatus.CANCELLED, 1)


async def test_what_may_pass_is_tried_again_and_then_succeeds(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job(maximum_attempts=3, request={"rerun_delay_seconds": 0.1})
    handler = failing(CrmUnavailable("No answer."), Throttled("Wait.", retry_after=timedelta(seconds=0.4)))
    began = time.perf_counter()
    async with a_worker(database, memory, {"synchronize": handler}):
        (found,) = await ended(memory, company.id, await add(memory, company, job))
    assert (found.status, found.attempt, found.message) == (JobStatus.SUCCEEDED, 3, None)
    assert time.perf_counter() - began >= 0.5


@pytest.mark.parametrize(
    ("error", "code", "attempts"),
    [
        (CrmUnavailable("No answer."), "crm-unavailable", 2),
        (InvalidMapping("No such field."), "invalid-mapping", 1),
        (ZeroDivisionError("a secret"), "internal-error", 2),
    ],
)
async def test_a_job_that_fails_for_good_says_why_and_lets_the_next_one_run(
    engine: AsyncEngine, database: str, error: Exception, code: str, attempts: int
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job(maximum_attempts=2, request={"rerun_delay_seconds": 0.05})
    other = a_job(minutes=1)
    async with a_worker(database, memory, {"synchronize": failing(*[error] * attempts)}):
        await add(memory, company, job)
        (found,) = await ended(memory, company.id, [job.id])
        (after,) = await ended(memory, company.id, await add(memory, company, other))
    assert found.error is not None
    assert (found.status, found.error.code, found.attempt) == (JobStatus.FAILED, code, attempts)
    assert found.message == found.error.message
    assert isinstance(error, IntegrationError) or "secret" not in found.message
    assert after.status is JobStatus.SUCCEEDED


async def test_a_kind_that_nobody_knows_fails_and_blocks_nothing(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    async with a_worker(database, memory, {}):
        (found,) = await ended(memory, company.id, await add(memory, company, a_job(kind="unheard")))
    assert found.status is JobStatus.FAILED
    assert "unheard" in str(found.message)


T = TypeVar("T")


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Asks again where a connection turns out to be cut."""
    for _ in range(20):
        try:
            return await ask()
        except DatabaseUnavailable:
            await asyncio.sleep(0.05)
    return await ask()


async def cut_all_connections(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_worker_survives_the_loss_of_its_connection(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    async with a_worker(database, memory, {"synchronize": failing()}):
        await asyncio.sleep(0.3)
        await cut_all_connections(engine)
        ids = await patiently(lambda: add(memory, company, a_job()))
        (found,) = await patiently(lambda: ended(memory, company.id, ids))
    assert found.status is JobStatus.SUCCEEDED


async def test_a_job_goes_on_when_the_database_is_back(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    await add(memory, company, job)
    async with a_worker(database, memory, {"synchronize": pages(40, 0.02)}):
        await until(lambda: committed(memory, company, job, 3))
        await cut_all_connections(engine)
        await until(lambda: patiently(lambda: committed(memory, company, job, 15)))
        await cut_all_connections(engine)
        (found,) = await patiently(lambda: ended(memory, company.id, [job.id]))
    written = await patiently(lambda: pages_of(memory, company.id, job.id))
    assert found.status is JobStatus.SUCCEEDED
    assert [page for page, _ in written] == list(range(40))


async def test_a_job_whose_company_is_deleted_just_ends(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company, other = await a_connected_company(memory), await a_connected_company(memory, "fabrikam")
    job = a_job()
    async with a_worker(database, memory, {"synchronize": pages(100, 0.02)}):
        await add(memory, company, job)
        await until(lambda: committed(memory, company, job, 2))
        async with memory() as tx:
            await tx.companies.delete(company.id)
        quick = a_job(kind="unheard")
        (found,) = await ended(memory, other.id, await add(memory, other, quick))
    assert found.status is JobStatus.FAILED


async def test_a_page_that_does_not_end_is_interrupted_when_the_worker_stops(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    begun = asyncio.Event()

    async def stuck(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        begun.set()
        await asyncio.sleep(2 * PATIENCE)

    options = replace(QUICK, drain=timedelta(seconds=0.2), concurrency=1)
    (job_id,) = await add(memory, company, a_job())
    async with a_worker(database, memory, {"synchronize": stuck}, options):
        await asyncio.wait_for(begun.wait(), PATIENCE)
    async with memory() as tx:
        waiting = await tx.jobs.get(company.id, job_id)
    assert (waiting.status, waiting.attempt) == (JobStatus.QUEUED, 0)


async def test_a_worker_inside_another_process_may_be_cancelled(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    await add(memory, company, job)
    worker = Worker(lambda: connect(database), a_context(memory), {"synchronize": pages(100, 0.02)}, QUICK)
    task = asyncio.create_task(worker.run())
    await until(lambda: committed(memory, company, job, 2))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    async with memory() as tx:
        waiting = await tx.jobs.get(company.id, job.id)
    written = await pages_of(memory, company.id, job.id)
    assert waiting.status is JobStatus.QUEUED
    assert waiting.counted == Counts(inserted=len(written))


async def test_more_jobs_than_a_worker_runs_at_once_all_run(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    at_once, most, three = 0, 0, asyncio.Barrier(3)

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        async with asyncio.timeout(PATIENCE / 2):
            await three.wait()
        at_once -= 1

    jobs = [a_job(f"M{number}") for number in range(12)]
    async with a_worker(database, memory, {"synchronize": handler}, replace(QUICK, concurrency=3)):
        await ended(memory, company.id, await add(memory, company, *jobs))
    assert most == 3


async def test_a_worker_at_its_limit_leaves_tickets_to_others(engine: AsyncEngine, database: str) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    begun, end = asyncio.Semaphore(0), asyncio.Event()

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        begun.release()
        await end.wait()

    jobs = [a_job(f"M{number}") for number in range(4)]
    async with a_worker(database, memory, {"synchronize": handler}, replace(QUICK, concurrency=1)):
        ids = await add(memory, company, *jobs)
        await asyncio.wait_for(begun.acquire(), PATIENCE)
        await asyncio.sleep(0.3)  # more than one of its polls
        async with engine.connect() as connection:
            # A job that waits for long gets one more ticket, which does no harm.
            taken = await connection.execute(
                text("SELECT status, count(DISTINCT payload) AS number FROM pgqueuer GROUP BY 1")
            )
        assert {row.status: row.number for row in taken} == {"picked": 1, "queued": 3}
        end.set()
        await ended(memory, company.id, ids)


async def test_four_workers_of_one_job_each_run_four_waiting_mappings_at_the_same_time(
    engine: AsyncEngine, database: str
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    together = asyncio.Barrier(4)

    async def handler(_ctx: Context, _company: Company, _job: SynchJob, _report: Report) -> None:
        async with asyncio.timeout(PATIENCE / 2):
            await together.wait()  # none passes before all four are at work

    one_job = replace(QUICK, concurrency=1)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(a_worker(database, memory, {"synchronize": handler}, one_job))
        for _ in range(3):
            jobs = [a_job(f"M{number}") for number in range(4)]
            found = await ended(memory, company.id, await add(memory, company, *jobs))
            assert {job.status for job in found} == {JobStatus.SUCCEEDED}
