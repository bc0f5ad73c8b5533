"""The records of NAV over HTTP."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import (
    CoupledQuery,
    CouplingOut,
    FailureOut,
    FilterQuery,
    Input,
    MappingQuery,
    RecordNo,
    SearchQuery,
    TableName,
    answered,
)
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import Previewable, PreviewQuery, previewed
from app.api.results import coupled_record_out, error_failure_out
from app.api.statistics import CrmStatisticsOut
from app.api.values import JsonValue, id_text, shown_fields
from app.domain.access import Scope
from app.domain.company import Company
from app.domain.errors import IntegrationError
from app.ports import NavRecord
from app.use_cases import records, related
from app.use_cases.results import NavItem

router = api_router(f"{BASE}/companies/{{company}}/nav", "NAV records")

MAXIMUM_BULK = 5000
FIELDS_EXAMPLE = {"Name": "Adatum Corporation", "City": "Manchester", "Salesperson_Code": "PS"}


class ActionOut(BaseModel):
    """Something that can be done with the record, or why it cannot."""

    name: str
    allowed: bool
    reason: str | None


class NavRecordOut(BaseModel):
    """A record of NAV with its coupling."""

    table: str
    no: str
    integration_id: UUID | None = Field(description="By which it is known across renames; null: none yet.")
    fields: dict[str, JsonValue]
    modified_at: datetime | None
    coupling: CouplingOut | None
    actions: list[ActionOut]


class NavCardOut(NavRecordOut):
    """A record of NAV, and what was asked for besides."""

    crm_statistics: CrmStatisticsOut | None = Field(
        default=None,
        description="Of a coupled customer, when `include` asks for them; left out otherwise.",
    )


class Included(StrEnum):
    """What can be asked for besides the record."""

    CRM_STATISTICS = "crm_statistics"


class NavRowIn(Input):
    """A record among several. Without `no` the number series of the table gives one."""

    # A blank one is refused by the table: of many records, it must not harm the others.
    no: str | None = Field(default=None, max_length=250)
    fields: dict[str, Any] = Field(default_factory=dict, examples=[FIELDS_EXAMPLE])


class NavRecordIn(Previewable, NavRowIn):
    """A record to be created. Without `no` the number series of the table gives one."""


class NavFieldsIn(Previewable):
    """Fields to be changed; a new value of the key renames the record."""

    fields: dict[str, Any] = Field(examples=[FIELDS_EXAMPLE])


class NavBulkIn(Previewable):
    """Records to be created or changed."""

    records: list[NavRowIn] = Field(
        max_length=MAXIMUM_BULK,
        description="Of those that name the same record the first is written, and the others are refused.",
    )


class NavBulkOutcomeOut(BaseModel):
    """What became of one record of a set."""

    no: str | None
    integration_id: UUID | None
    error: FailureOut | None


class NavBulkOut(BaseModel):
    """What became of each record, in the order of the request."""

    outcomes: list[NavBulkOutcomeOut]


def nav_address(company: Company, table: str, no: str) -> str:
    """Where a record is found."""
    return f"{BASE}/companies/{company.name}/nav/{table}/{quote(no, safe='')}"


def nav_item_out(item: NavItem) -> dict[str, Any]:
    """A record for `NavRecordOut`."""
    return {
        "table": item.table,
        "no": item.no,
        "integration_id": id_text(item.integration_id),
        "fields": shown_fields(item.fields),
        "modified_at": item.modified_at,
        "coupling": coupled_record_out(item.coupling),
        "actions": [
            {"name": action.name, "allowed": action.allowed, "reason": action.reason}
            for action in item.actions
        ],
    }


def _bulk_out(no: str | None, outcome: NavRecord | IntegrationError) -> dict[str, Any]:
    if isinstance(outcome, IntegrationError):
        return {"no": no, "integration_id": None, "error": error_failure_out(outcome)}
    return {"no": outcome.key, "integration_id": outcome.integration_id, "error": None}


@router.get(
    "/{table:key}",
    summary="List NAV records",
    response_model=Page[NavRecordOut],
    **operation(Scope.READ, 404, 503),
)
async def list_nav_records(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    paging: PagingDep,
    filter: FilterQuery = None,
    search: SearchQuery = None,
    coupled: CoupledQuery = None,
    mapping: MappingQuery = None,
) -> Response:
    """The records of a table in the order of their keys, each with its coupling and what can be done with it."""
    items, cursor = await records.nav_list(
        ctx,
        company,
        table,
        filter=filter,
        search=search,
        coupled=coupled,
        limit=paging.limit,
        cursor=paging.after(str),
        mapping=mapping,
    )
    return answered(
        {
            "items": [nav_item_out(item) for item in items],
            "next_cursor": paging.next(cursor),
        }
    )


@router.post(
    "/{table:key}",
    status_code=201,
    summary="Create a NAV record",
    response_model=NavRecordOut,
    **operation(Scope.SYNC, 404, 409, 503, preview=NavRecordOut),
)
async def create_nav_record(
    ctx: ContextDep, company: CompanyDep, table: TableName, body: NavRecordIn, response: Response
) -> dict[str, object]:
    """Creates a record; its values are checked against the definition of the table.

    A new customer makes its company contact and business relation, as NAV does. A preview answers 200: the number
    that it shows is not used up.
    """
    item = await records.nav_create(ctx, company, table, body.no, body.fields, preview=body.preview)
    if body.preview:
        response.status_code = 200
        return nav_item_out(item)
    response.headers["Location"] = nav_address(company, table, item.no)
    return nav_item_out(item)


@router.post(
    "/{table:key}/bulk",
    summary="Create or change many NAV records",
    response_model=NavBulkOut,
    **operation(Scope.SYNC, 404, 409, 503),
)
async def write_nav_records(
    ctx: ContextDep, company: CompanyDep, table: TableName, body: NavBulkIn
) -> dict[str, object]:
    """Creates the records that do not exist and changes the others; one bad record harms no other."""
    given = [(record.no, record.fields) for record in body.records]
    found = await records.nav_bulk(ctx, company, table, given, preview=body.preview)
    outcomes = [_bulk_out(no, outcome) for (no, _), outcome in zip(given, found, strict=True)]
    return {"outcomes": outcomes}


@router.get(
    "/{table:key}/{no:key}",
    summary="Get a NAV record",
    response_model=NavCardOut,
    response_model_exclude_unset=True,
    **operation(Scope.READ, 404, 503, at_times=(409, 502)),
)
async def get_nav_record(
    ctx: ContextDep,
    company: CompanyDep,
    table: TableName,
    no: RecordNo,
    mapping: MappingQuery = None,
    include: Annotated[
        Included | None,
        Query(
            description="`crm_statistics`: the figures that CRM counts for a coupled customer, asked for now."
        ),
    ] = None,
) -> Response:
    """One record, by its key. CRM is asked for nothing unless `include` says so."""
    item = await records.nav_get(ctx, company, table, no, mapping=mapping)
    found = nav_item_out(item)
    if include is Included.CRM_STATISTICS:
        counted = table == related.CUSTOMERS and item.coupling is not None
        statistics = await related.crm_statistics(ctx, company, no) if counted else None
        found["crm_statistics"] = (
            None if statistics is None else {**statistics.counts, "as_of": statistics.as_of}
        )
    return answered(found)


@router.patch(
    "/{table:key}/{no:key}",
    summary="Change a NAV record",
    response_model=NavRecordOut,
    **operation(Scope.SYNC, 404, 409, 503),
)
async def change_nav_record(
    ctx: ContextDep, company: CompanyDep, table: TableName, no: RecordNo, body: NavFieldsIn
) -> dict[str, object]:
    """Changes the fields that the body names. A new key renames the record; its integration id stays."""
    item = await records.nav_change(ctx, company, table, no, body.fields, preview=body.preview)
    return nav_item_out(item)


@router.delete(
    "/{table:key}/{no:key}",
    status_code=204,
    response_model=None,
    summary="Delete a NAV record",
    **operation(Scope.SYNC, 404, 409, 503, preview=NavRecordOut),
)
async def delete_nav_record(
    ctx: ContextDep, company: CompanyDep, table: TableName, no: RecordNo, preview: PreviewQuery = False
) -> Response | None:
    """Deletes the record. Its coupling stays until the deletion rule of its mapping deals with it.

    A preview answers 200 with the record.
    """
    if preview:
        item = await records.preview_nav_delete(ctx, company, table, no)
        return previewed(NavRecordOut, nav_item_out(item))
    await records.nav_delete(ctx, company, table, no)
    return None
