"""Job queue entries over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Path, Response
from pydantic import BaseModel, Field

from app.api.breaker_models import Stop, StopDep, StoppedOut, stopped_out
from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.etags import PreconditionsDep, of_revision
from app.api.models import Moment, Whole
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import Previewable, PreviewQuery, previewed
from app.api.synch_job_models import SynchJobOut, job_out
from app.api.synch_jobs import RUN_BY_THEMSELVES, accepted
from app.domain.access import Scope
from app.domain.job import EntryStatus, JobKind, JobQueueEntry
from app.ports import JobFilter
from app.use_cases import job_queue
from app.use_cases.job_queue import LONGEST_MINUTES, MOST_ATTEMPTS
from app.use_cases.rehearsal import rehearsal

router = api_router(f"{BASE}/companies/{{company}}/job-queue-entries", "Job queue")

EntryId = Annotated[UUID, Path(alias="id", description="Id of the job queue entry.")]
EXAMPLE = "CUSTOMER every half hour"


class EntryPatch(Previewable):
    """What is to change about an entry."""

    description: str = Field(default="", min_length=1, max_length=250, examples=[EXAMPLE])
    earliest_start_at: Moment | None = Field(default=None, description="null: as soon as possible.")
    minutes_between_runs: Whole = Field(default=30, ge=1, le=LONGEST_MINUTES)
    inactivity_timeout_minutes: Whole | None = Field(
        default=None,
        ge=0,
        le=LONGEST_MINUTES,
        description="After a run without anything to do it waits for a change, and so long at most; "
        "null or 0: it runs by its interval alone.",
    )
    maximum_attempts: Whole = Field(default=10, ge=1, le=MOST_ATTEMPTS)


class EntryIn(EntryPatch):
    """An entry to be created."""

    description: str = Field(min_length=1, max_length=250, examples=[EXAMPLE])
    mapping: str | None = Field(
        default=None,
        description="The mapping that it synchronizes; of the other kinds, which belong to none, null.",
        examples=["CUSTOMER"],
    )
    kind: Literal[JobKind.SYNCHRONIZE, JobKind.ACCOUNT_STATISTICS, JobKind.TIMELINE_POSTS] = (
        JobKind.SYNCHRONIZE
    )
    status: Literal[EntryStatus.READY, EntryStatus.ON_HOLD] = EntryStatus.READY


class EntryOut(BaseModel):
    """A recurring job."""

    id: UUID
    description: str
    mapping: str | None
    kind: str
    minutes_between_runs: int
    inactivity_timeout_minutes: int | None
    status: EntryStatus
    earliest_start_at: datetime | None
    last_run_at: datetime | None
    last_job_id: UUID | None
    attempts: int
    maximum_attempts: int
    error_message: str | None
    is_default: bool = Field(description="Whether the default setup made it.")
    stopped_by: StoppedOut | None = Field(
        description="Why it does not run although it would: the connection is not enabled, or CRM refuses our user. It "
        "goes on by itself once that has ended."
    )


def _out(entry: JobQueueEntry, stop: Stop | None = None) -> dict[str, Any]:
    shown = {name: getattr(entry, name) for name in EntryOut.model_fields if name != "stopped_by"}
    return shown | {"stopped_by": stopped_out(stop) if entry.status in RUN_BY_THEMSELVES else None}


async def _entry(ctx: ContextDep, company: CompanyDep, entry_id: EntryId) -> JobQueueEntry:
    async with ctx.uow(reading=True) as tx:
        return await tx.job_queue.get(company.id, entry_id)


EntryDep = Annotated[JobQueueEntry, Depends(_entry)]


@router.get("", summary="List job queue entries", response_model=Page[EntryOut], **operation(Scope.READ, 404))
async def list_job_queue_entries(
    ctx: ContextDep, company: CompanyDep, stop: StopDep, paging: PagingDep
) -> dict[str, object]:
    """The recurring jobs of the company, by description."""
    async with ctx.uow(reading=True) as tx:
        entries = await tx.job_queue.all(company.id)
    page, next_cursor = paging.of_all(entries, UUID, lambda entry: entry.id)
    return {"items": [_out(entry, stop) for entry in page], "next_cursor": next_cursor}


@router.post(
    "",
    status_code=201,
    summary="Create a job queue entry",
    response_model=EntryOut,
    **operation(Scope.ADMIN, 404, preview=EntryOut),
)
async def create_job_queue_entry(
    ctx: ContextDep, company: CompanyDep, body: EntryIn, response: Response
) -> dict[str, object]:
    """Adds a recurring job for a mapping."""
    ctx = rehearsal(ctx, body.preview)
    entry = await job_queue.create_entry(ctx, company, **body.model_dump())
    if body.preview:
        response.status_code = 200
        return _out(entry)
    response.headers["Location"] = f"{BASE}/companies/{company.name}/job-queue-entries/{entry.id}"
    response.headers["ETag"] = of_revision(entry.revision)
    return _out(entry)


@router.get("/{id}", summary="Get a job queue entry", response_model=EntryOut, **operation(Scope.READ, 404))
async def get_job_queue_entry(entry: EntryDep, stop: StopDep, preconditions: PreconditionsDep) -> Any:
    """One recurring job."""
    return preconditions.answer(_out(entry, stop), of_revision(entry.revision))


@router.patch(
    "/{id}",
    summary="Change a job queue entry",
    response_model=EntryOut,
    **operation(Scope.ADMIN, 404, 409, 412),
)
async def change_job_queue_entry(
    ctx: ContextDep,
    company: CompanyDep,
    entry: EntryDep,
    body: EntryPatch,
    stop: StopDep,
    preconditions: PreconditionsDep,
) -> Any:
    """Changes what the body names: when it runs next, how often, how patiently."""
    revision = preconditions.revision(of_revision(entry.revision), entry.revision)
    ctx = rehearsal(ctx, body.preview)
    changes = body.model_dump(exclude_unset=True)
    saved = await job_queue.change_entry(ctx, company, entry.id, changes, revision)
    present = entry if body.preview else saved
    return preconditions.answer(_out(saved, stop), of_revision(present.revision))


@router.delete(
    "/{id}",
    status_code=204,
    response_model=None,
    summary="Delete a job queue entry",
    **operation(Scope.ADMIN, 404, 412, preview=EntryOut),
)
async def delete_job_queue_entry(
    ctx: ContextDep,
    company: CompanyDep,
    entry: EntryDep,
    stop: StopDep,
    preconditions: PreconditionsDep,
    preview: PreviewQuery = False,
) -> Response | None:
    """Deletes the entry. A job of it that is queued or running goes on. A preview answers 200 with the entry."""
    revision = preconditions.revision(of_revision(entry.revision), entry.revision)
    await job_queue.delete_entry(rehearsal(ctx, preview), company, entry.id, revision)
    return previewed(EntryOut, _out(entry, stop)) if preview else None


@router.post(
    "/{id}/run",
    status_code=202,
    summary="Run a job queue entry now",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, 409),
)
async def run_job_queue_entry(
    ctx: ContextDep, company: CompanyDep, entry_id: EntryId, response: Response
) -> dict[str, Any]:
    """Starts a synch job; while the last one has not ended, that is the answer. A held entry stays held.

    The ETag is that of the entry, which remembers its last job.
    """
    job = await job_queue.run_entry(ctx, company, entry_id)
    async with ctx.uow(reading=True) as tx:
        response.headers["ETag"] = of_revision((await tx.job_queue.get(company.id, entry_id)).revision)
    return await accepted(ctx, company, job, response)


@router.post(
    "/{id}/hold",
    summary="Put a job queue entry on hold",
    response_model=EntryOut,
    **operation(Scope.SYNC, 404),
)
async def hold_job_queue_entry(
    ctx: ContextDep, company: CompanyDep, entry_id: EntryId, stop: StopDep, response: Response
) -> dict[str, Any]:
    """It runs no more by itself until it is set ready. A job at work goes on."""
    entry = await job_queue.hold_entry(ctx, company, entry_id)
    response.headers["ETag"] = of_revision(entry.revision)
    return _out(entry, stop)


@router.post(
    "/{id}/ready",
    summary="Set a job queue entry ready",
    response_model=EntryOut,
    **operation(Scope.SYNC, 404),
)
async def ready_job_queue_entry(
    ctx: ContextDep, company: CompanyDep, entry_id: EntryId, stop: StopDep, response: Response
) -> dict[str, Any]:
    """It runs again when its time comes, at once when that has passed; its attempts start over."""
    entry = await job_queue.set_entry_ready(ctx, company, entry_id)
    response.headers["ETag"] = of_revision(entry.revision)
    return _out(entry, stop)


@router.get(
    "/{id}/log",
    summary="List the runs of a job queue entry",
    response_model=Page[SynchJobOut],
    **operation(Scope.READ, 404),
)
async def list_job_queue_entry_log(
    ctx: ContextDep, company: CompanyDep, entry: EntryDep, stop: StopDep, paging: PagingDep
) -> dict[str, object]:
    """The synch jobs of the entry, the newest first."""
    after = paging.after(tuple[datetime, UUID])
    async with ctx.uow(reading=True) as tx:
        found = await tx.jobs.page(company.id, JobFilter(entry_id=entry.id), after, paging.limit + 1)
    jobs, next_cursor = paging.cut(found, lambda job: (job.created_at, job.id))
    return {"items": [job_out(job, [], stop) for job in jobs], "next_cursor": next_cursor}
