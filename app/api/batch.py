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
from app.api.synch_job_models import SynchJobOut
from app.api.synch_jobs import accepted
from app.domain.access import Scope
from app.domain.job import SynchMode
from app.use_cases import batch, matching

router = api_router(f"{BASE}/companies/{{company}}", "Integration table mappings")

MODE = "`modified`: what changed since the last run; `full`: every record."
CREATE = "Whether records without a coupling get a partner; without it the mapping says so."


class SynchronizeMappingIn(Input):
    """Which records are looked at, and what may be done with them."""

    mode: Literal[SynchMode.MODIFIED, SynchMode.FULL] = Field(description=MODE)
    create_uncoupled: Flag | None = Field(default=None, description=CREATE)
    direction: OneWay | None = Field(
        default=None, description="One way only; without it as the mapping says."
    )
    allow_deletions: Flag = Field(
        default=False, description="Goes on although an unusual number of records was deleted."
    )


class SynchronizeAllIn(Input):
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


class MatchIn(Input):
    """By what records are recognized as the same thing."""

    criteria: list[CriterionIn] = Field(min_length=1, max_length=20)
    create_unmatched: Flag = Field(default=False, description="Whether what finds no partner gets a new one.")
    preview: Flag = Field(default=False, description="Say what would be coupled, and couple nothing.")


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
    **operation(Scope.SYNC, 404, 409),
)
async def synchronize_integration_table_mapping(
    ctx: ContextDep, company: CompanyDep, mapping: MappingName, body: SynchronizeMappingIn, response: Response
) -> dict[str, Any]:
    """Starts a synch job; one of the same kind that still waits is the answer."""
    job = await batch.start(
        ctx,
        company,
        mapping,
        mode=body.mode,
        direction=body.direction,
        create_uncoupled=body.create_uncoupled,
        allow_deletions=body.allow_deletions,
    )
    return await accepted(ctx, company, job, response)


@router.post(
    "/synchronize",
    status_code=202,
    summary="Synchronize several mappings",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, 409),
)
async def synchronize_company(
    ctx: ContextDep, company: CompanyDep, body: SynchronizeAllIn, response: Response
) -> dict[str, Any]:
    """Starts a parent job with a child for each mapping, in the order in which they depend on each other."""
    job = await batch.start_all(
        ctx, company, mode=body.mode, mappings=body.mappings, create_uncoupled=body.create_uncoupled
    )
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
    **operation(Scope.SYNC, 404, 409),
)
async def uncouple_integration_table_mapping(
    ctx: ContextDep, company: CompanyDep, mapping: MappingName, response: Response
) -> dict[str, Any]:
    """Starts a job that removes the couplings of the mapping; the records stay as they are."""
    return await accepted(ctx, company, await batch.start_uncouple(ctx, company, mapping), response)
