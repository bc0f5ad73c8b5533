"""The records of CRM over HTTP."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Response
from pydantic import BaseModel, Field

from app.api.couplings import OUTSIDE
from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import (
    CoupledQuery,
    FailureOut,
    FilterQuery,
    Flag,
    MappingQuery,
    RecordResultOut,
    SearchQuery,
)
from app.api.nav_couplings import CREATE, CreateIn
from app.api.nav_records import NavRecordOut, nav_address, nav_item_out
from app.api.operation import CRM, api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import Previewable
from app.api.results import PairOutcomeOut, error_failure_out, pair_out, result_out
from app.api.values import JsonValue, shown_fields
from app.domain.access import Scope
from app.use_cases import records, synchronize
from app.use_cases.results import CrmItem

router = api_router(f"{BASE}/companies/{{company}}/crm", "CRM records")

MAXIMUM_IDS = 1000

EntitySet = Annotated[str, Path(description="The entity set.", examples=["accounts"])]
CrmId = Annotated[UUID, Path(alias="id", description="Primary key of the record.")]


class CrmRecordOut(BaseModel):
    """A record of CRM and its NAV partner."""

    id: UUID
    name: str
    fields: dict[str, JsonValue]
    coupled: bool
    nav_table: str | None
    nav_no: str | None
    url: str = Field(description="Opens the record in CRM.")
    error: FailureOut | None = Field(description="Why a value of the record cannot be shown; null: all can.")


class CreatedInNavOut(BaseModel):
    """The record that was created in NAV; a preview has none."""

    record: NavRecordOut | None
    nav_url: str | None = Field(
        description="Opens the record in NAV, where the company has a client address."
    )
    synchronization: RecordResultOut


class IdsIn(Previewable):
    """Several CRM records."""

    ids: list[UUID] = Field(
        min_length=1, max_length=MAXIMUM_IDS, description="One that is named twice is created once."
    )
    replace_existing: Flag = Field(
        default=False, description="Whether records may leave the partner they have."
    )
    outside_filter: Flag = Field(default=False, description=OUTSIDE)


class CreatedOutcomesOut(BaseModel):
    """What became of each id, in the order of the request; of one that is named twice, twice the same."""

    outcomes: list[PairOutcomeOut]


def _out(item: CrmItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "name": item.name,
        "fields": shown_fields(item.fields),
        "coupled": item.coupled,
        "nav_table": item.nav_table,
        "nav_no": item.nav_no,
        "url": item.url,
        "error": error_failure_out(item.error),
    }


@router.get(
    "/{entity_set:key}",
    summary="List CRM records",
    response_model=Page[CrmRecordOut],
    **operation(Scope.READ, 404, *CRM),
)
async def list_crm_records(
    ctx: ContextDep,
    company: CompanyDep,
    entity_set: EntitySet,
    paging: PagingDep,
    filter: FilterQuery = None,
    search: SearchQuery = None,
    coupled: CoupledQuery = None,
) -> dict[str, object]:
    """All rows of the entity, coupled or not, each with its NAV partner."""
    items, cursor = await records.crm_list(
        ctx,
        company,
        entity_set,
        filter=filter,
        search=search,
        coupled=coupled,
        limit=paging.limit,
        cursor=paging.after(str),
    )
    return {
        "items": [_out(item) for item in items],
        "next_cursor": paging.next(cursor),
    }


@router.get(
    "/{entity_set:key}/{id}",
    summary="Get a CRM record",
    response_model=CrmRecordOut,
    **operation(Scope.READ, 404, *CRM),
)
async def get_crm_record(
    ctx: ContextDep, company: CompanyDep, entity_set: EntitySet, crm_id: CrmId
) -> dict[str, object]:
    """One row, by its id."""
    return _out(await records.crm_get(ctx, company, entity_set, crm_id))


@router.post(
    "/{entity_set:key}/{id}/create-in-nav",
    status_code=201,
    summary="Create a record in NAV",
    response_model=CreatedInNavOut,
    **operation(Scope.SYNC, 404, *CRM, preview=CreatedInNavOut),
)
async def create_in_nav(
    ctx: ContextDep,
    company: CompanyDep,
    entity_set: EntitySet,
    crm_id: CrmId,
    response: Response,
    body: CreateIn = CREATE,
    mapping: MappingQuery = None,
) -> dict[str, object]:
    """Creates a NAV record from the CRM record and couples the two. A preview answers 200."""
    coupled, result = await synchronize.create_in_nav(
        ctx,
        company,
        entity_set,
        crm_id,
        replace_existing=body.replace_existing,
        outside_filter=body.outside_filter,
        preview=body.preview,
        mapping=mapping,
    )
    if coupled is None:
        response.status_code = 200
        return {"record": None, "nav_url": None, "synchronization": result_out(result)}
    coupling = coupled.coupling
    item = await records.nav_get(ctx, company, coupling.nav_table, coupling.nav_key, mapping=mapping)
    response.headers["Location"] = nav_address(company, item.table, item.no)
    return {
        "record": nav_item_out(item),
        "nav_url": coupled.nav_url,
        "synchronization": result_out(result),
    }


@router.post(
    "/{entity_set:key}/create-in-nav",
    summary="Create several records in NAV",
    response_model=CreatedOutcomesOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def create_many_in_nav(
    ctx: ContextDep, company: CompanyDep, entity_set: EntitySet, body: IdsIn, mapping: MappingQuery = None
) -> dict[str, object]:
    """Creates a NAV record from each CRM record; one that cannot be created harms no other and says why."""
    found = await synchronize.create_in_nav_many(
        ctx,
        company,
        entity_set,
        body.ids,
        replace_existing=body.replace_existing,
        outside_filter=body.outside_filter,
        preview=body.preview,
        mapping=mapping,
    )
    return {"outcomes": [pair_out(outcome) for outcome in found]}
