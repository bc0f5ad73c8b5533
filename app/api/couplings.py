"""Couplings as a list, several at once, their history, and skipped ones, over HTTP."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import Path, Query, Response
from pydantic import BaseModel, Field, model_validator

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import CouplingOut, Flag, Input, coupling_out
from app.api.operation import CRM, api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import DO_IT, Previewable, PreviewIn, PreviewQuery, previewed
from app.api.results import PairOutcomeOut, pair_out
from app.api.values import JsonValue, shown
from app.domain.access import Scope
from app.domain.coupling import CouplingStatus, SynchResult
from app.use_cases import couplings, pairs

router = api_router(f"{BASE}/companies/{{company}}/couplings", "Couplings")

MAXIMUM_PAIRS = 1000
CouplingId = Annotated[UUID, Path(alias="id", description="Id of the coupling.")]
Then = Literal["no", "nav_data", "crm_data"]
"""Which side's data, if any, goes to the other right after coupling."""
OUTSIDE = "Whether a record may lie outside the filter of the mapping."


class PairIn(Input):
    """Two records to be coupled."""

    nav_table: str
    nav_no: str
    crm_id: UUID


class PairsIn(Previewable):
    """Several pairs to be coupled."""

    pairs: list[PairIn] = Field(
        min_length=1,
        max_length=MAXIMUM_PAIRS,
        description="A pair that is named twice is coupled once, and is no failure.",
    )
    synchronize_after_coupling: Then = "no"
    replace_existing: Flag = Field(
        default=False, description="Whether records may leave the partner they have."
    )
    outside_filter: Flag = Field(default=False, description=OUTSIDE)


class RestoreIn(Previewable):
    """Which skipped couplings are taken back: by id, all of a mapping, or all with an error code."""

    ids: list[UUID] | None = Field(
        default=None,
        min_length=1,
        max_length=MAXIMUM_PAIRS,
        description="One that is named twice, is not skipped or does not exist adds nothing to what is restored.",
    )
    mapping: str | None = None
    error_code: str | None = None

    @model_validator(mode="after")
    def _names_some(self) -> Self:
        if (self.ids, self.mapping, self.error_code) == (None, None, None):
            raise ValueError("Say which: ids, mapping or error_code.")
        return self


class RestoredOut(BaseModel):
    """How many couplings were taken back into synchronization."""

    restored: int
    coupling_ids: list[UUID] = Field(description="Which they are; the first thousand of them.")


class HistoryOut(BaseModel):
    """One field that was written."""

    at: datetime
    synch_job_id: UUID | None
    side: Literal["nav", "crm"]
    field: str
    old: JsonValue
    new: JsonValue


class PairOutcomesOut(BaseModel):
    """What became of each pair, in the order of the request; of one that is named twice, twice the same."""

    outcomes: list[PairOutcomeOut]


@router.get("", summary="List couplings", response_model=Page[CouplingOut], **operation(Scope.READ, 404))
async def list_couplings(
    ctx: ContextDep,
    company: CompanyDep,
    paging: PagingDep,
    mapping: Annotated[str | None, Query(description="Only couplings of this mapping.")] = None,
    skipped: Annotated[bool | None, Query(description="Only skipped ones, or only others.")] = None,
    last_synch_result: Annotated[SynchResult | None, Query(description="Only those that ended so.")] = None,
) -> dict[str, object]:
    """The couplings of the company, in the order in which they were made.

    Among the skipped ones are records whose partner could not be created: they have no `nav_no` or no `crm_url`.
    """
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
        found = await tx.couplings.page(
            company.id,
            mapping=mapping,
            skipped=skipped,
            last_synch_result=last_synch_result,
            after=paging.after(UUID),
            limit=paging.limit + 1,
        )
        if not found and mapping is not None:
            await tx.mappings.get(company.id, mapping)  # a mistyped name is no empty list
    page, next_cursor = paging.cut(found, lambda coupling: coupling.id)
    # A reservation is no coupling yet: its partner may never come to be. A skipped one waits for a person.
    listed = [each for each in page if each.status is CouplingStatus.COUPLED or each.skipped]
    return {
        "items": [coupling_out(each, company, connection) for each in listed],
        "next_cursor": next_cursor,
    }


@router.get("/{id}", summary="Get a coupling", response_model=CouplingOut, **operation(Scope.READ, 404))
async def get_coupling(ctx: ContextDep, company: CompanyDep, coupling_id: CouplingId) -> dict[str, object]:
    """One coupling, by its id."""
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
        coupling = await tx.couplings.get(company.id, coupling_id)
    return coupling_out(coupling, company, connection)


@router.delete(
    "/{id}",
    status_code=204,
    response_model=None,
    summary="Delete a coupling",
    **operation(Scope.SYNC, 404, preview=CouplingOut),
)
async def delete_coupling(
    ctx: ContextDep, company: CompanyDep, coupling_id: CouplingId, preview: PreviewQuery = False
) -> Response | None:
    """Uncouples; both records stay as they are. A preview answers 200 with the coupling."""
    if preview:
        return previewed(CouplingOut, await get_coupling(ctx, company, coupling_id))
    await couplings.delete_coupling(ctx, company, coupling_id)
    return None


@router.get(
    "/{id}/history",
    summary="List what was written for a coupling",
    response_model=Page[HistoryOut],
    **operation(Scope.READ, 404),
)
async def list_coupling_history(
    ctx: ContextDep, company: CompanyDep, coupling_id: CouplingId, paging: PagingDep
) -> dict[str, object]:
    """Every write to either record: when, by which job, side, field, old and new value; the newest first.

    What was written stays to be read after the two were uncoupled.
    """
    async with ctx.uow(reading=True) as tx:
        found = await tx.synch_log.history(company.id, coupling_id, paging.after(int), paging.limit + 1)
        if not found:
            await tx.couplings.get(company.id, coupling_id)
    writes, next_cursor = paging.cut(found, lambda write: write["position"])
    items = [
        {
            "at": write["at"],
            "synch_job_id": write["job_id"],
            "side": write["side"],
            "field": write["field"],
            "old": shown(write["old"]),
            "new": shown(write["new"]),
        }
        for write in writes
    ]
    return {"items": items, "next_cursor": next_cursor}


@router.post(
    "",
    summary="Couple several records",
    response_model=PairOutcomesOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def couple_records(ctx: ContextDep, company: CompanyDep, body: PairsIn) -> dict[str, object]:
    """Couples pair by pair; one that cannot be coupled harms no other and says why."""
    named = [pairs.Pair(pair.nav_table, pair.nav_no, pair.crm_id) for pair in body.pairs]
    found = await pairs.couple_many(
        ctx,
        company,
        named,
        then=body.synchronize_after_coupling,
        replace_existing=body.replace_existing,
        outside_filter=body.outside_filter,
        preview=body.preview,
    )
    return {"outcomes": [pair_out(outcome) for outcome in found]}


@router.post(
    "/{id}/restore",
    summary="Restore a skipped coupling",
    response_model=CouplingOut,
    **operation(Scope.SYNC, 404),
)
async def restore_coupling(
    ctx: ContextDep, company: CompanyDep, coupling_id: CouplingId, body: PreviewIn = DO_IT
) -> dict[str, object]:
    """Takes the coupling back into synchronization; its last failure stays visible until it succeeds."""
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
        coupling = await tx.couplings.get(company.id, coupling_id)
    restored = await couplings.restore(ctx, company, ids=[coupling_id], preview=body.preview)
    return coupling_out(next(iter(restored.first), coupling), company, connection)


@router.post(
    "/restore",
    summary="Restore skipped couplings",
    response_model=RestoredOut,
    **operation(Scope.SYNC, 404),
)
async def restore_couplings(ctx: ContextDep, company: CompanyDep, body: RestoreIn) -> dict[str, object]:
    """Takes skipped couplings back into synchronization: those named, of a mapping, or with an error code."""
    restored = await couplings.restore(
        ctx,
        company,
        ids=body.ids,
        mapping=body.mapping,
        error_code=body.error_code,
        preview=body.preview,
    )
    return {"restored": restored.number, "coupling_ids": [coupling.id for coupling in restored.first]}
