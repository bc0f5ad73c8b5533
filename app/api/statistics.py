"""The figures of both sides on a customer: what CRM knows of its sales, what NAV tells the account."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import RecordNo, RecordResultOut
from app.api.operation import CRM, api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import Previewable
from app.api.results import result_out
from app.api.values import JsonValue, shown_fields
from app.domain.access import Scope
from app.use_cases import related, statistics

router = api_router(f"{BASE}/companies/{{company}}/nav/customers/{{no:key}}", "Statistics")


class RelatedKind(StrEnum):
    """What sales works on with a customer."""

    OPPORTUNITIES = "opportunities"
    QUOTES = "quotes"
    CASES = "cases"


class CrmStatisticsOut(BaseModel):
    """The Dynamics CRM Statistics of a customer."""

    opportunities: int = Field(description="Open opportunities of the account.")
    quotes: int = Field(description="Active quotes of the account.")
    cases: int = Field(description="Active cases of the account.")
    as_of: datetime = Field(description="When CRM was asked.")


class RelatedRowOut(BaseModel):
    """An opportunity, a quote or a case of the account."""

    id: UUID
    name: str
    fields: dict[str, JsonValue]
    url: str = Field(description="Opens the record in CRM.")


class UpdateStatisticsIn(Previewable):
    """How the account statistics are updated."""


UPDATE = UpdateStatisticsIn()


@router.get(
    "/crm-statistics",
    summary="Get the CRM statistics of a customer",
    response_model=CrmStatisticsOut,
    **operation(Scope.READ, 404, *CRM),
)
async def get_crm_statistics(ctx: ContextDep, company: CompanyDep, no: RecordNo) -> dict[str, object]:
    """Open opportunities, active quotes and active cases of the coupled account, counted by CRM now.

    A customer that is not coupled has none to show: 409 `not-coupled`.
    """
    found = await related.crm_statistics(ctx, company, no)
    return {**found.counts, "as_of": found.as_of}


@router.get(
    "/crm-statistics/{kind}",
    summary="List what the CRM statistics count",
    response_model=Page[RelatedRowOut],
    **operation(Scope.READ, 404, *CRM),
)
async def list_crm_statistics(
    ctx: ContextDep, company: CompanyDep, no: RecordNo, kind: RelatedKind, paging: PagingDep
) -> dict[str, object]:
    """The opportunities, quotes or cases behind a number, each with the link that opens it in CRM."""
    rows, cursor = await related.related_rows(
        ctx, company, no, kind.value, limit=paging.limit, cursor=paging.after(str)
    )
    return {
        "items": [_row_out(row) for row in rows],
        "next_cursor": paging.next(cursor),
    }


def _row_out(row: related.RelatedRow) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "fields": shown_fields(row.fields), "url": row.url}


@router.post(
    "/update-account-statistics",
    summary="Update the account statistics of a customer",
    response_model=RecordResultOut,
    **operation(Scope.SYNC, 404, *CRM),
)
async def update_account_statistics(
    ctx: ContextDep, company: CompanyDep, no: RecordNo, body: UpdateStatisticsIn = UPDATE
) -> dict[str, object]:
    """Writes the customer's amounts to the statistics record of its account in CRM; what did not change is not
    written. Without the integration solution in CRM: 409 `integration-solution-not-installed`."""
    done = await statistics.update_account_statistics(ctx, company, no, preview=body.preview)
    return result_out(done)
