"""The option review list over HTTP."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.operation import CRM, api_router, operation
from app.api.pages import Page, PagingDep
from app.domain.access import Scope
from app.use_cases.option_review import OptionState, ReviewedOption, review_options

router = api_router(f"{BASE}/companies/{{company}}/option-review", "Integration table mappings")


class ReviewedOptionOut(BaseModel):
    """A NAV record that stands for an option of CRM, or half of such a pair."""

    mapping: str = Field(examples=["PAYMENT TERMS"])
    nav_table: str
    nav_no: str | None = Field(description="null: NAV has no record for the option.")
    crm_entity: str
    crm_attribute: str = Field(examples=["paymenttermscode"])
    option_value: int | None = Field(description="null: CRM has no option for the record.")
    option_label: str | None
    state: OptionState
    fix: str | None = Field(description="What brings the missing half.")


def _out(found: ReviewedOption) -> dict[str, Any]:
    option = found.option
    return {
        "mapping": found.mapping,
        "nav_table": found.nav_table,
        "nav_no": found.nav_no,
        "crm_entity": found.crm_entity,
        "crm_attribute": found.crm_attribute,
        "option_value": None if option is None else option.value,
        "option_label": None if option is None else option.label or option.name,
        "state": found.state,
        "fix": found.fix,
    }


def _position(found: ReviewedOption) -> tuple[str, str | None, int | None]:
    return found.mapping, found.nav_no, None if found.option is None else found.option.value


@router.get(
    "",
    summary="Review the options",
    response_model=Page[ReviewedOptionOut],
    **operation(Scope.READ, 404, *CRM),
)
async def list_option_review(
    ctx: ContextDep,
    company: CompanyDep,
    paging: PagingDep,
    state: Annotated[OptionState | None, Query(description="Only options in this state.")] = None,
) -> dict[str, object]:
    """The options that both sides have, and those that one of them lacks: records that hold such a value are
    synchronized without it."""
    found = [each for each in await review_options(ctx, company) if state in (None, each.state)]
    page, next_cursor = paging.of_all(found, tuple[str, str | None, int | None], _position)
    return {"items": [_out(each) for each in page], "next_cursor": next_cursor}
