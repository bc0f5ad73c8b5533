"""One NAV record and its coupling over HTTP: see both sides, couple, create, synchronize."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from app.api.couplings import OUTSIDE, Then
from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import (
    CouplingOut,
    Flag,
    MappingQuery,
    OneWay,
    RecordNo,
    RecordResultOut,
    TableName,
)
from app.api.nav_records import nav_address
from app.api.operation import CRM, api_router, operation
from app.api.previews import (
    OUTCOMES,
    JobPreviewOut,
    LimitQuery,
    Previewable,
    PreviewQuery,
    job_preview_out,
    previewed,
)
from app.api.results import coupled_record_out, result_out
from app.api.synch_job_models import SynchJobOut
from app.api.synch_jobs import accepted
from app.api.values import JsonValue, shown
from app.domain.access import Scope
from app.domain.records import Side
from app.use_cases import batch, couplings, previews, synchronize

router = api_router(f"{BASE}/companies/{{company}}/nav", "Couplings")

MAXIMUM_SELECTION = 5000


class CouplingIn(Previewable):
    """The CRM record to couple with, or the wish to create one."""

    crm_id: UUID | None = Field(default=None, description="The CRM record to couple with.")
    create_new: Flag = Field(default=False, description="Create the CRM record; implies `nav_data`.")
    synchronize_after_coupling: Then | None = Field(
        default=None, description="`no` where it is left out, `nav_data` with `create_new`."
    )
    replace_existing: Flag = Field(
        default=False, description="Whether records may leave the partner they have."
    )
    outside_filter: Flag = Field(default=False, description=OUTSIDE)


class CoupledOut(BaseModel):
    """What coupling did, or would do. A preview of a new coupling has none yet."""

    coupling: CouplingOut | None
    synchronization: RecordResultOut | None


class CreateIn(Previewable):
    """How a record is created on the other side."""

    replace_existing: Flag = Field(
        default=False, description="Whether the record may leave the partner it has."
    )
    outside_filter: Flag = Field(default=False, description=OUTSIDE)


class CreatedOut(RecordResultOut):
    """The record that was created, and its coupling."""

    coupling: CouplingOut | None


class SynchronizeIn(Previewable):
    """Which way the values go. Needed where the mapping goes both ways."""

    direction: Literal["to_crm", "from_crm", "merge"] | None = Field(
        default=None, description="The side it comes from wins; `merge`: by field, as a background run would."
    )


class SelectionIn(Previewable):
    """Several records to be synchronized."""

    nos: list[str] = Field(
        min_length=1,
        max_length=MAXIMUM_SELECTION,
        description="A record that is named twice is synchronized once, and has one outcome.",
    )
    direction: OneWay | None = None


class ComparedFieldOut(BaseModel):
    """One pair of fields."""

    nav_field: str | None
    label: str
    nav_value: JsonValue
    crm_attribute: str | None
    crm_value: JsonValue
    equal: bool
    direction: str


class ComparisonOut(BaseModel):
    """Both records side by side, read just now."""

    newer_side: Side | None = Field(description="Where the later change was made; null when nobody can tell.")
    fields: list[ComparedFieldOut]


CREATE = CreateIn()
SYNCHRONIZE = SynchronizeIn()
RECORD = "/{table:key}/{no:key}"


@router.get(
    f"{RECORD}/coupling",
    summary="Get the coupling of a record",
    response_model=CouplingOut,
    **operation(Scope.READ, 404, 503),
)
async def get_record_coupling(
    ctx: ContextDep, company: CompanyDep, table: TableName, no: RecordNo
) -> dict[str, object] | None:
    """The CRM record it is coupled with, and how the last synchronization went; 404 `not-coupled` without one."""
    return coupled_record_out(await couplings.coupling_of(ctx, company, table, no))


@router.get(
    f"{RECORD}/coupling/comparison",
    summary="Compare a record with its CRM record",
    response_model=ComparisonOut,
    **operation(Scope.READ, 404, *CRM),
)
async def compare_record(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    no: RecordNo,
    crm_id: Annotated[UUID | None, Query(description="A CRM record to compare with before coupling.")] = None,
    mapping: MappingQuery = None,
) -> dict[str, object]:
    """Both records field by field, read now from both sides, before or after coupling."""
    found = await couplings.comparison(ctx, company, table, no, crm_id=crm_id, mapping=mapping)
    fields = [
        {
            "nav_field": field.nav_field,
            "label": field.label,
            "nav_value": shown(field.nav_value),
            "crm_attribute": field.crm_attribute,
            "crm_value": shown(field.crm_value),
            "equal": field.equal,
            "direction": field.direction,
        }
        for field in found.fields
    ]
    return {"newer_side": found.newer_side, "fields": fields}


@router.put(
    f"{RECORD}/coupling",
    summary="Couple a record",
    response_model=CoupledOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def couple_record(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    no: RecordNo,
    body: CouplingIn,
    mapping: MappingQuery = None,
) -> dict[str, object]:
    """Couples the record with a CRM record, or with a new one, and synchronizes them once if asked to."""
    found = await couplings.couple(
        ctx,
        company,
        table,
        no,
        crm_id=body.crm_id,
        create_new=body.create_new,
        then=body.synchronize_after_coupling,
        replace_existing=body.replace_existing,
        outside_filter=body.outside_filter,
        preview=body.preview,
        mapping=mapping,
    )
    return {
        "coupling": coupled_record_out(found.coupling),
        "synchronization": result_out(found.synchronization) if found.synchronization else None,
    }


@router.delete(
    f"{RECORD}/coupling",
    status_code=204,
    response_model=None,
    summary="Uncouple a record",
    **operation(Scope.SYNC, 404, 503, preview=CouplingOut),
)
async def uncouple_record(
    ctx: ContextDep, company: CompanyDep, table: TableName, no: RecordNo, preview: PreviewQuery = False
) -> Response | None:
    """Removes the coupling; both records stay as they are. A preview answers 200 with the coupling."""
    if preview:
        found = await couplings.coupling_of(ctx, company, table, no)
        return previewed(CouplingOut, coupled_record_out(found) or {})
    await couplings.uncouple(ctx, company, table, no)
    return None


@router.post(
    f"{RECORD}/create-in-crm",
    status_code=201,
    summary="Create a record in CRM",
    response_model=CreatedOut,
    **operation(Scope.SYNC, 404, *CRM, preview=CreatedOut),
)
async def create_in_crm(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    no: RecordNo,
    response: Response,
    body: CreateIn = CREATE,
    mapping: MappingQuery = None,
) -> dict[str, object]:
    """Creates a CRM record from the NAV record and couples the two; `Location` is the coupling, which leads to both.

    A preview answers 200.
    """
    coupled, result = await synchronize.create_in_crm(
        ctx,
        company,
        table,
        no,
        replace_existing=body.replace_existing,
        outside_filter=body.outside_filter,
        preview=body.preview,
        mapping=mapping,
    )
    if body.preview:
        response.status_code = 200
    else:
        response.headers["Location"] = f"{nav_address(company, table, no)}/coupling"
    return {**result_out(result), "coupling": coupled_record_out(coupled)}


@router.post(
    f"{RECORD}/synchronize",
    summary="Synchronize a record",
    response_model=RecordResultOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def synchronize_record(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    no: RecordNo,
    body: SynchronizeIn = SYNCHRONIZE,
    mapping: MappingQuery = None,
) -> dict[str, object]:
    """Synchronizes the record with its CRM record now. The side the values come from wins."""
    found = await synchronize.synchronize_record(
        ctx, company, table, no, direction=body.direction, preview=body.preview, mapping=mapping
    )
    return result_out(found)


@router.post(
    "/{table:key}/synchronize",
    status_code=202,
    summary="Synchronize several records",
    response_model=SynchJobOut,
    **operation(Scope.SYNC, 404, *CRM, preview=JobPreviewOut),
)
async def synchronize_records(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    body: SelectionIn,
    response: Response,
    mapping: MappingQuery = None,
    limit: LimitQuery = OUTCOMES,
) -> Any:
    """A synch job for these records; what became of each is at its `outcomes`. A preview answers 200."""
    if body.preview:
        found = await previews.preview_selection(
            ctx, company, table, body.nos, body.direction, mapping, limit=limit
        )
        return previewed(JobPreviewOut, job_preview_out(found))
    job = await batch.start_selection(ctx, company, table, body.nos, body.direction, mapping)
    return await accepted(ctx, company, job, response)
