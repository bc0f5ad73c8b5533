"""Synchronizing, matching and uncoupling whole mappings over HTTP."""

from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.mappings import MappingName
from app.api.models import Flag, Input, OneWay, Whole
from app.api.operation import CRM, api_router, operation
from app.api.previews import (
    DO_IT,
    OUTCOMES,
    JobPreviewOut,
    JobPreviewsOut,
    LimitQuery,
    Previewable,
    PreviewIn,
    job_preview_out,
    previewed,
)
from app.api.synch_job_models import SynchJobOut
from app.api.synch_jobs import accepted
from app.domain.access import Scope
from app.domain.job import SynchMode
from app.use_cases import batch, matching, previews

router = api_router(f"{BASE}/companies/{{company}}", "Integration table mappings")

MODE = "`modified`: what changed since the last run; `full`: every record."
CREATE = "Whether records without a coupling get a partner; without it the mapping says so."


class SynchronizeMappingIn(Previewable):
    """Which records are looked at, and what may be done with them."""

    mode: Literal[SynchMode.MODIFIED, SynchMode.FULL] = Field(description=MODE)
    create_uncoupled: Flag | None = Field(default=None, description=CREATE)
    direction: OneWay | None = Field(
        default=None, description="One way only; without it as the mapping says."
    )
    allow_deletions: Flag = Field(
        default=False, description="Goes on although an unusual number of records was deleted."
    )


class SynchronizeAllIn(Previewable):
    """Which mappings are synchronized, and which of their records."""

    mode: Literal[SynchMode.MODIFIED, SynchMode.FULL] = Field(description=MODE)
    mappings: list[str] | None = Field(default=None, min_length=1, description="null: all of them.")
    create_uncoupled: Flag | None = Field(default=None, description=CREATE)


class CriterionIn(Input):
    """Two fields that must agree. All criteria of one priority must; lower numbers are tried first."""

    nav_field: str = Field(examples=["E_Mail"])
    crm_attribute: str = Field(examples=["emailaddress1"])
    ignore_case: Flag = True
    ignore_spaces: Flag = True
    priority: Whole = Field(default=1, ge=1, le=100)


class MatchIn(Previewable):
    """By what records are recognized as the same thing."""

    criteria: list[CriterionIn] = Field(min_length=1, max_length=20)
    create_unmatched: Flag = Field(default=False, description="Whether what finds no partner gets a new one.")


class MatchedPairOut(BaseModel):
    """A NAV record and the CRM records that agree with it."""

    nav_no: str
    crm_ids: list[UUID]


class MatchOut(BaseModel):
    """What matching coupled, or would couple."""

    coupled: list[MatchedPairOut]
    ambiguous: list[MatchedPairOut] = Field(description="Those with several candidates, left alone.")
    unmatched: int = Field(description="NAV records without a candidate.")
    synch_job_id: UUID | None = Field(description="The job that creates what found no partner.")


@router.post(
    "/integration-table-mappings/{mapping:key}/synchronize",
    status_code=202,
    summary="Synchronize a mapping",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, *CRM, preview=JobPreviewOut),
)
async def synchronize_integration_table_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    mapping: MappingName,
    body: SynchronizeMappingIn,
    response: Response,
    limit: LimitQuery = OUTCOMES,
) -> Any:
    """Starts a synch job; one of the same kind that still waits is the answer.

    A preview reads both sides now and answers 200 with what the job would do, direction by direction; what the
    first direction would write is not there yet for the second.
    """
    asked = body.model_dump()
    if body.preview:
        found = await previews.preview_mapping(ctx, company, mapping, **asked, limit=limit)
        return previewed(JobPreviewOut, job_preview_out(found))
    job = await batch.start(ctx, company, mapping, **asked)
    return await accepted(ctx, company, job, response)


@router.post(
    "/synchronize",
    status_code=202,
    summary="Synchronize several mappings",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, *CRM, preview=JobPreviewsOut),
)
async def synchronize_company(
    ctx: ContextDep,
    company: CompanyDep,
    body: SynchronizeAllIn,
    response: Response,
    limit: LimitQuery = OUTCOMES,
) -> Any:
    """Starts a parent job with a child for each mapping, in the order in which they depend on each other.

    A preview answers 200 with what each child would do as things stand now: what an earlier mapping would create
    is not there yet for a later one.
    """
    asked = body.model_dump()
    if body.preview:
        found = await previews.preview_all(ctx, company, **asked, limit=limit)
        return previewed(JobPreviewsOut, {"mappings": [job_preview_out(each) for each in found]})
    job = await batch.start_all(ctx, company, **asked)
    return await accepted(ctx, company, job, response)


@router.post(
    "/integration-table-mappings/{mapping:key}/match",
    summary="Couple matching records",
    response_model=MatchOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def match_integration_table_mapping(
    ctx: ContextDep, company: CompanyDep, mapping: MappingName, body: MatchIn
) -> dict[str, Any]:
    """Couples uncoupled records that agree one to one; several candidates are reported and left alone.

    With `create_unmatched` a full synchronization then creates what found no partner.
    """
    criteria = [matching.Criterion(**each.model_dump()) for each in body.criteria]
    found = await matching.match(
        ctx, company, mapping, criteria, create_unmatched=body.create_unmatched, preview=body.preview
    )
    return asdict(found)


@router.post(
    "/integration-table-mappings/{mapping:key}/uncouple",
    status_code=202,
    summary="Uncouple a mapping",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, 409, preview=JobPreviewOut),
)
async def uncouple_integration_table_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    mapping: MappingName,
    response: Response,
    body: PreviewIn = DO_IT,
    limit: LimitQuery = OUTCOMES,
) -> Any:
    """Starts a job that removes the couplings of the mapping; the records stay as they are. A preview answers 200."""
    if body.preview:
        found = await previews.preview_uncouple(ctx, company, mapping, limit)
        return previewed(JobPreviewOut, job_preview_out(found))
    return await accepted(ctx, company, await batch.start_uncouple(ctx, company, mapping), response)
