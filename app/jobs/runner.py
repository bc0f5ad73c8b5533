"""Runs synch jobs: claims one, calls its handler, writes down how it ended."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import structlog

from app.domain.breaker import BreakerPolicy
from app.domain.coupling import Failure
from app.domain.errors import ConnectionDisabled, IntegrationError, Invalid, NotFound, UnexpectedError
from app.domain.job import WAS_CANCELLED, JobStatus, SynchJob, ended_as, failures_told
from app.domain.retry import FIRST_DELAY, RetryIn, after_failure
from app.domain.schedule import RERUN_DELAY
from app.jobs.entries import note_attempt, settle_entry
from app.jobs.report import JobReport
from app.ports import Cancelled, CompanyJob, Context, Draining, Fenced, Handler, Transaction
from app.telemetry.figures import job_run
from app.telemetry.tracing import named_in_log, span
from app.use_cases.admission import note_refusal

log = structlog.get_logger(__name__)
TRIES_TO_WRITE_DOWN = 5
BREAKER = BreakerPolicy()


@dataclass(frozen=True, slots=True)
class Done:
    """The handler came to its end."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody cancelled the job."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker stops, or the connection was disabled; the job goes on later, and this was no attempt of it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Another worker has the job; nothing is ours to write down."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job as a whole failed. `shut_out`: CRM lets our user do nothing, so the job waits until it does."""

    error: IntegrationError
    shut_out: bool = False


End = Done | Stopped | Interrupted | Lost | Failed


class Runner:
    """Runs the jobs that tickets name, several at a time."""

    def __init__(
        self,
        ctx: Context,
        handlers: Mapping[str, Handler],
        worker_id: UUID,
        *,
        retry: timedelta = FIRST_DELAY,
        breaker: BreakerPolicy = BREAKER,
    ) -> None:
        """`retry` is the delay before the second attempt of a job that does not say one itself."""
        self._ctx = ctx
        self._retry = retry
        self._breaker = breaker
        self._handlers = handlers
        self._worker_id = worker_id
        self._running: dict[asyncio.Task[None], JobReport] = {}
        self._draining = False

    async def execute(self, job_id: UUID) -> None:
        """Runs the job if it is to run now. A ticket may come twice, too early or too late."""
        async with self._ctx.uow() as tx:
            claimed = await tx.jobs.claim(job_id, self._worker_id, self._ctx.clock.now())
        if claimed is None:
            return
        job = claimed.job
        kind = job.kind if job.kind in self._handlers else "unknown"
        about = {"company": claimed.company, "job": str(job_id), "kind": job.kind, "mapping": job.mapping}
        with (
            span(f"synch job {kind}", attributes=_attributes(about)) as current,
            # Every line of the log until the job is left says which one it is about.
            structlog.contextvars.bound_contextvars(**about, **named_in_log()),
        ):
            log.info("synch job started", attempt=job.attempt)
            with job_run(kind) as run:
                end = await self._run(claimed)
                run.end = type(end).__name__.lower()
            current.set_attribute("navcrm.end", run.end)
            await self._write_down(claimed, end)
            if isinstance(end, Failed):
                log.warning("synch job left", end=run.end, code=end.error.code, detail=end.error.detail)
            else:
                log.info("synch job left", end=run.end)

    async def heartbeat(self) -> None:
        """A sign of life of every running job; what is learned about them reaches their reports."""
        reports = list(self._running.values())
        if not reports:
            return
        async with self._ctx.uow() as tx:
            standings = await tx.jobs.heartbeat([report.job for report in reports], self._ctx.clock.now())
        for report in reports:
            report.note(standings[report.job.id])

    def drain(self) -> None:
        """Lets every job stop after the page in flight."""
        self._draining = True
        for report in self._running.values():
            report.drain()

    def interrupt(self) -> None:
        """Stops every job at once, wherever it is; others continue from what is recorded."""
        for task in self._running:
            task.cancel()

    async def _run(self, claimed: CompanyJob) -> End:
        report = JobReport(self._ctx.uow, claimed.job)
        if self._draining:
            report.drain()
        task = asyncio.create_task(self._handle(claimed, report))
        self._running[task] = report
        try:
            return await self._judged(claimed, await self._end_of(task))
        finally:
            del self._running[task]

    async def _handle(self, claimed: CompanyJob, report: JobReport) -> None:
        report.go_on()
        handler = self._handlers.get(claimed.job.kind)
        if handler is None:
            raise Invalid(
                f"This worker knows no job of the kind {claimed.job.kind}.",
                fix="Run the same version of the service everywhere.",
            )
        async with self._ctx.uow() as tx:
            company = await tx.companies.by_id(claimed.company_id)
        await handler(self._ctx, company, claimed.job, report)

    async def _end_of(self, task: asyncio.Task[None]) -> End:
        await asyncio.wait({task})
        if task.cancelled():
            return Interrupted()
        match task.exception():
            case None:
                return Done()
            case Fenced():
                return Lost()
            case Cancelled():
                return Stopped()
            case Draining() | ConnectionDisabled():  # it waits until somebody enables the connection again
                return Interrupted()
            case IntegrationError() as error:
                return Failed(error)
            case error:
                log.error("a synch job failed unexpectedly", exc_info=error)
                return Failed(
                    UnexpectedError(
                        f"An unexpected error stopped the job ({type(error).__name__}).",
                        fix="The log of the service says more.",
                    )
                )

    async def _judged(self, claimed: CompanyJob, end: End) -> End:
        """The end, and whether it befell more than this job."""
        if not isinstance(end, Failed):
            return end
        try:
            breaker = await note_refusal(self._ctx, claimed.company_id, end.error, self._breaker)
        except IntegrationError as error:  # our own memory is away: it is counted next time
            log.warning("a refusal of CRM could not be counted", error=error.detail)
            return end
        return replace(end, shut_out=breaker is not None and breaker.is_open)

    async def _write_down(self, claimed: CompanyJob, end: End) -> None:
        """Our database may be away for a moment. If it stays away, the job is lost and found again."""
        for attempt in range(TRIES_TO_WRITE_DOWN):
            try:
                async with self._ctx.uow() as tx:
                    await self._record(tx, claimed, end)
            except Exception as error:
                if attempt == TRIES_TO_WRITE_DOWN - 1:
                    raise
                log.warning("the end of a synch job could not be written down", exc_info=error)
                await asyncio.sleep(0.1 * 2**attempt)
            else:
                return

    async def _record(self, tx: Transaction, claimed: CompanyJob, end: End) -> None:
        company_id, job, now = claimed.company_id, claimed.job, self._ctx.clock.now()
        try:
            present = await tx.jobs.get(company_id, job.id)
        except NotFound:  # deleted meanwhile, with its company
            return
        match end:
            case Lost():
                return
            case Interrupted() if not present.cancel_requested:
                await tx.jobs.requeue(replace(job, attempt=job.attempt - 1), None, now)
                return
            case Failed(error=error) if not present.cancel_requested:
                told = replace(job, message=error.detail, error=Failure.of(error))
                if end.shut_out:  # this was no attempt: it is claimed again once the breaker is closed
                    await tx.jobs.requeue(replace(told, attempt=job.attempt - 1), None, now)
                    return
                retry = after_failure(error, job.attempt, job.maximum_attempts, self._first_delay(job))
                if isinstance(retry, RetryIn):
                    await tx.jobs.requeue(told, now + retry.delay, now)
                    await note_attempt(tx, company_id, told)
                    return
                ours = await tx.jobs.finish(job, JobStatus.FAILED, error.detail, now, Failure.of(error))
            case Stopped() | Interrupted() | Failed():
                ours = await tx.jobs.finish(job, JobStatus.CANCELLED, WAS_CANCELLED, now)
            case Done():
                failures = failures_told(present.counted, job.id)
                ours = await tx.jobs.finish(job, ended_as(present.counted), failures, now)
        if ours:
            await settle_entry(tx, company_id, job, now)

    def _first_delay(self, job: SynchJob) -> timedelta:
        seconds = job.request.get(RERUN_DELAY)
        return timedelta(seconds=seconds) if isinstance(seconds, int | float) else self._retry


def _attributes(about: Mapping[str, str | None]) -> dict[str, str]:
    return {f"navcrm.{name}": value for name, value in about.items() if value is not None}
