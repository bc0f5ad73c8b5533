"""Synch jobs, their outcomes and errors, and the synch status, over HTTP."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.breaker_models import Stop, StopDep, stop_of
from app.api.dependencies import BASE, CompanyDep, ContextDep, door_of
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.api.synch_job_models import (
    FailureSummaryOut,
    LoggedErrorOut,
    OutcomeOut,
    SynchJobEvent,
    SynchJobOut,
    SynchStatusOut,
    error_out,
    event_out,
    job_out,
    outcome_out,
)
from app.domain.access import Scope
from app.domain.company import Company, ConnectionStatus
from app.domain.coupling import SynchAction
from app.domain.errors import NotFound
from app.domain.job import EntryStatus, JobStatus, SynchJob
from app.ports import Context, JobFilter, Transaction

router = api_router(f"{BASE}/companies/{{company}}", "Synch jobs")

LOOK_EVERY_SECONDS = 0.5
LONGEST_STREAM_SECONDS = 3600
"""Then the stream ends and the client, as event sources do, asks again."""

RUN_BY_THEMSELVES = (EntryStatus.READY, EntryStatus.IN_PROCESS, EntryStatus.ON_HOLD_INACTIVITY)
"""The entries that need nobody: those that sleep for inactivity are woken by a change."""

JobId = Annotated[UUID, Path(alias="id", description="Id of the synch job.")]


def job_address(company: Company, job: SynchJob) -> str:
    """Where a job is found: the Location of the answers that start one."""
    return f"{BASE}/companies/{company.name}/synch-jobs/{job.id}"


async def accepted(ctx: Context, company: Company, job: SynchJob, response: Response) -> dict[str, Any]:
    """The answer of every call that starts a job: the job, and its Location."""
    response.headers["Location"] = job_address(company, job)
    async with ctx.uow(reading=True) as tx:
        stop = await stop_of(tx, company.id)
        return await _with_children(tx, await tx.jobs.get(company.id, job.id), stop)


async def _with_children(tx: Transaction, job: SynchJob, stop: Stop | None) -> dict[str, Any]:
    (told,) = await _all_with_children(tx, [job], stop)
    return told


async def _all_with_children(
    tx: Transaction, jobs: Sequence[SynchJob], stop: Stop | None
) -> list[dict[str, Any]]:
    below: defaultdict[UUID | None, list[UUID]] = defaultdict(list)
    for child in await tx.jobs.children([job.id for job in jobs if job.mapping is None]):
        below[child.parent_id].append(child.id)
    return [job_out(job, below[job.id], stop) for job in jobs]


@router.get(
    "/synch-jobs", summary="List synch jobs", response_model=Page[SynchJobOut], **operation(Scope.READ, 404)
)
async def list_synch_jobs(
    ctx: ContextDep,
    company: CompanyDep,
    paging: PagingDep,
    mapping: Annotated[str | None, Query(description="Only jobs of this mapping.")] = None,
    status: Annotated[JobStatus | None, Query(description="Only jobs with this status.")] = None,
) -> dict[str, object]:
    """The synch jobs of the company, the newest first."""
    after = paging.after(tuple[datetime, UUID])
    async with ctx.uow(reading=True) as tx:
        found = await tx.jobs.page(company.id, JobFilter(mapping, status), after, paging.limit + 1)
        if not found and mapping is not None:
            await tx.mappings.get(company.id, mapping)  # a mistyped name is no empty list
        jobs, next_cursor = paging.cut(found, lambda job: (job.created_at, job.id))
        items = await _all_with_children(tx, jobs, await stop_of(tx, company.id))
    return {"items": items, "next_cursor": next_cursor}


async def _job(ctx: ContextDep, company: CompanyDep, job_id: JobId) -> SynchJob:
    async with ctx.uow(reading=True) as tx:
        return await tx.jobs.get(company.id, job_id)


JobDep = Annotated[SynchJob, Depends(_job)]


@router.get(
    "/synch-jobs/{id}", summary="Get a synch job", response_model=SynchJobOut, **operation(Scope.READ, 404)
)
async def get_synch_job(ctx: ContextDep, job: JobDep, stop: StopDep) -> dict[str, object]:
    """How the job stands: its status, its counts by direction, how far it came.

    While the connection is not enabled, or CRM refuses our user, a `queued` job says so in `message` and `error`. It
    goes on by itself, from where it was, once that has ended.
    """
    async with ctx.uow(reading=True) as tx:
        return await _with_children(tx, job, stop)


@router.get(
    "/synch-jobs/{id}/outcomes",
    summary="List the outcomes of a synch job",
    response_model=Page[OutcomeOut],
    **operation(Scope.READ, 404),
)
async def list_synch_job_outcomes(
    ctx: ContextDep,
    company: CompanyDep,
    job: JobDep,
    paging: PagingDep,
    result: Annotated[SynchAction | None, Query(description="Only records that ended so.")] = None,
) -> dict[str, object]:
    """What became of each record, in the order in which they were dealt with.

    Unmodified records are counted and not listed, unless the records were named when the job was asked for.
    """
    async with ctx.uow(reading=True) as tx:
        found = await tx.synch_log.outcomes(
            company.id, job.id, result, paging.after(int) or 0, paging.limit + 1
        )
    outcomes, next_cursor = paging.cut(found, lambda logged: logged.position)
    return {"items": [outcome_out(logged) for logged in outcomes], "next_cursor": next_cursor}


@router.get(
    "/synch-jobs/{id}/errors",
    summary="List the errors of a synch job",
    response_model=Page[LoggedErrorOut],
    **operation(Scope.READ, 404),
)
async def list_synch_job_errors(
    ctx: ContextDep, company: CompanyDep, job: JobDep, paging: PagingDep
) -> dict[str, object]:
    """The records that failed, the newest first, each with the call that mends it."""
    async with ctx.uow(reading=True) as tx:
        found = await tx.synch_log.errors(
            company.id, job_id=job.id, after=paging.after(int), limit=paging.limit + 1
        )
    errors, next_cursor = paging.cut(found, lambda logged: logged.position)
    return {"items": [error_out(logged) for logged in errors], "next_cursor": next_cursor}


@router.get(
    "/synch-jobs/{id}/events",
    summary="Follow a synch job",
    response_class=EventSourceResponse,
    **operation(Scope.READ, 404),
)
async def follow_synch_job(
    request: Request, ctx: ContextDep, company: CompanyDep, job: JobDep
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `progress` whenever the job moved, `end` when it ended, and the stream with it.

    The data of each is the job with its `rate` (records a second) and `remaining_seconds`. While nothing
    moves, a comment is sent every 15 seconds. A job that is deleted meanwhile, and a service that is stopping, end
    the stream without an event.
    """
    last: SynchJobEvent | None = None
    for _ in range(int(LONGEST_STREAM_SECONDS / LOOK_EVERY_SECONDS)):
        try:
            async with ctx.uow(reading=True) as tx:
                job = await tx.jobs.get(company.id, job.id)
                found = await _with_children(tx, job, await stop_of(tx, company.id))
        except NotFound:
            return
        now = ctx.clock.now()
        event = event_out(job, found, now)
        if job.status.ended:
            yield ServerSentEvent(event="end", data=event)
            return
        if last is None or event.moved_since(last):
            yield ServerSentEvent(event="progress", data=event)
            last = event
        if door_of(request).stopping():
            return
        await asyncio.sleep(LOOK_EVERY_SECONDS)


@router.post(
    "/synch-jobs/{id}/cancel",
    summary="Cancel a synch job",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404),
)
async def cancel_synch_job(ctx: ContextDep, company: CompanyDep, job_id: JobId) -> dict[str, object]:
    """A queued job ends at once, a running one after the batch in flight; a parent with all its children.

    A job that ended already is left as it is.
    """
    async with ctx.uow() as tx:
        job = await tx.jobs.cancel(company.id, job_id, ctx.clock.now())
        return await _with_children(tx, job, await stop_of(tx, company.id))


@router.get(
    "/synch-errors",
    summary="List synchronization errors",
    response_model=Page[LoggedErrorOut],
    **operation(Scope.READ, 404),
)
async def list_synch_errors(
    ctx: ContextDep,
    company: CompanyDep,
    paging: PagingDep,
    mapping: Annotated[str | None, Query(description="Only errors of this mapping.")] = None,
    code: Annotated[str | None, Query(description="Only errors with this code.")] = None,
) -> dict[str, object]:
    """Every failure of a record, the newest first, whichever job it happened in."""
    async with ctx.uow(reading=True) as tx:
        found = await tx.synch_log.errors(
            company.id, mapping=mapping, code=code, after=paging.after(int), limit=paging.limit + 1
        )
        if not found and mapping is not None:
            await tx.mappings.get(company.id, mapping)  # a mistyped name is no empty list
    errors, next_cursor = paging.cut(found, lambda logged: logged.position)
    return {"items": [error_out(logged) for logged in errors], "next_cursor": next_cursor}


@router.get(
    "/synch-errors/summary",
    summary="Summarize synchronization errors",
    response_model=Page[FailureSummaryOut],
    **operation(Scope.READ, 404),
)
async def summarize_synch_errors(ctx: ContextDep, company: CompanyDep) -> dict[str, object]:
    """By code how often records failed, and the last occurrence of each; the latest first. The whole list at once."""
    async with ctx.uow(reading=True) as tx:
        found = await tx.synch_log.failures(company.id)
    items = [
        {
            "code": each.last.outcome.error.code if each.last.outcome.error else "",
            "count": each.count,
            "last_occurred_at": each.last.at,
            "last": error_out(each.last),
        }
        for each in found
    ]
    return {"items": items, "next_cursor": None}


@router.get(
    "/synch-status",
    summary="Get the synch status",
    response_model=SynchStatusOut,
    **operation(Scope.READ, 404),
)
async def get_synch_status(ctx: ContextDep, company: CompanyDep) -> Mapping[str, object]:
    """How the integration of the company fares, at a glance."""
    return await _status(ctx, company)


@router.post(
    "/synch-status/reset",
    summary="Reset the synch status",
    response_model=SynchStatusOut,
    **operation(Scope.SYNC, 404),
)
async def reset_synch_status(ctx: ContextDep, company: CompanyDep) -> Mapping[str, object]:
    """Lets the count of failed synch jobs begin again at 0; the jobs stay."""
    async with ctx.uow() as tx:
        await tx.jobs.reset_failed(company.id, ctx.clock.now())
    return await _status(ctx, company)


async def _status(ctx: Context, company: Company) -> dict[str, object]:
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
        breaker = await tx.breakers.find(company.id)
        failed, since = await tx.jobs.failed(company.id)
        skipped = await tx.couplings.count(company.id, skipped=True)
        couplings = await tx.couplings.count(company.id)
        entries = await tx.job_queue.all(company.id)
        newest = await tx.jobs.page(company.id, JobFilter(has_started=True), None, 1)
    enabled = connection is not None and connection.is_enabled
    status = connection.status if connection else ConnectionStatus.DISABLED
    return {
        "connection_status": ConnectionStatus.FAILED if enabled and breaker.is_open else status,
        "failed_synch_jobs": failed,
        "failed_since": since,
        "skipped_couplings": skipped,
        "couplings": couplings,
        "job_queue_entries_ready": sum(entry.status in RUN_BY_THEMSELVES for entry in entries)
        if enabled and not breaker.is_open
        else 0,
        "job_queue_entries_total": len(entries),
        "last_run_at": newest[0].started_at if newest else None,
        "integration_solution_installed": connection.integration_solution_installed if connection else None,
    }
