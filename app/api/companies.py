"""Companies over HTTP."""

from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.dependencies import BASE, CallerDep, CompanyDep, ContextDep
from app.api.etags import PreconditionsDep, of_revision
from app.api.models import Input
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import Previewable, PreviewQuery, previewed
from app.domain.access import Scope
from app.domain.company import Company, Generation
from app.domain.errors import Forbidden
from app.use_cases import companies
from app.use_cases.button import show_company
from app.use_cases.rehearsal import rehearsal

router = api_router(f"{BASE}/companies", "Companies")

EXAMPLE: JsonDict = {
    "name": "cronus",
    "display_name": "CRONUS International Ltd.",
    "nav": {"kind": "embedded"},
    "nav_web_client_url": "https://nav.cronus.example:8080/DynamicsNAV110",
}


class EmbeddedNav(Input):
    """The records of NAV are kept in the database of this service."""

    kind: Literal["embedded"] = "embedded"


class CompanyPatch(Previewable):
    """What is to change about a company; its name stays, being its address."""

    display_name: str | None = Field(default=None, max_length=200, description="null: the name.")
    nav: EmbeddedNav | None = Field(default=None, description="Where the records of NAV live.")
    nav_web_client_url: str | None = Field(
        default=None, max_length=1000, description="The NAV client that links open; null: no links."
    )
    defaults_generation: Generation = Field(
        default=Generation.NAV2018, description="Which generation of NAV the default setup follows."
    )
    local_currency: str = Field(default="GBP", description="ISO code of the local currency (LCY).")


class CompanyIn(CompanyPatch):
    """A company to be created."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(max_length=50, description="The word in the URL: small letters, digits, hyphens.")


class CompanyOut(BaseModel):
    """A NAV company, and the tenant of everything below it."""

    name: str
    display_name: str
    nav: EmbeddedNav
    nav_web_client_url: str | None
    defaults_generation: Generation
    local_currency: str


class NavTestOut(BaseModel):
    """What the NAV side said when it was reached; connectors say more than `kind`."""

    model_config = ConfigDict(extra="allow")

    ok: Literal[True]
    kind: str


def _out(company: Company) -> dict[str, Any]:
    return {
        "name": company.name,
        "display_name": company.display_name,
        "nav": {"kind": company.nav["kind"]},
        "nav_web_client_url": company.nav_web_client_url,
        "defaults_generation": company.defaults_generation,
        "local_currency": company.local_currency,
    }


@router.get("", summary="List companies", response_model=Page[CompanyOut], **operation(Scope.READ))
async def list_companies(ctx: ContextDep, caller: CallerDep, paging: PagingDep) -> dict[str, object]:
    """The companies that the key may see, by name."""
    async with ctx.uow(reading=True) as tx:
        found = await tx.companies.page(paging.limit + 1, paging.after(str), caller.companies)
    page, next_cursor = paging.cut(found, lambda company: company.name)
    return {"items": [_out(company) for company in page], "next_cursor": next_cursor}


@router.post(
    "",
    status_code=201,
    summary="Create a company",
    response_model=CompanyOut,
    **operation(Scope.ADMIN, 409, preview=CompanyOut),
)
async def create_company(
    ctx: ContextDep, caller: CallerDep, body: CompanyIn, response: Response
) -> dict[str, object]:
    """Adds a company. A key that is bound to companies cannot."""
    if caller.companies is not None:
        raise Forbidden("A key that is bound to companies cannot add one.")
    given = body.model_dump(exclude_unset=True)
    company = await companies.create_company(rehearsal(ctx, body.preview), **given)
    if body.preview:
        response.status_code = 200
        return _out(company)
    response.headers["Location"] = f"{BASE}/companies/{company.name}"
    response.headers["ETag"] = of_revision(company.revision)
    return _out(company)


@router.get("/{company}", summary="Get a company", response_model=CompanyOut, **operation(Scope.READ, 404))
async def get_company(company: CompanyDep, preconditions: PreconditionsDep) -> Any:
    """One company, by its name."""
    return preconditions.answer(_out(company), of_revision(company.revision))


@router.patch(
    "/{company}",
    summary="Change a company",
    response_model=CompanyOut,
    **operation(Scope.ADMIN, 404, 409, 412),
)
async def change_company(
    ctx: ContextDep, company: CompanyDep, body: CompanyPatch, preconditions: PreconditionsDep
) -> Any:
    """Changes what the body names."""
    revision = preconditions.revision(of_revision(company.revision), company.revision)
    given = body.model_dump(exclude_unset=True)
    saved = await companies.change_company(rehearsal(ctx, body.preview), company.name, given, revision)
    if not body.preview and saved.nav_web_client_url != company.nav_web_client_url:
        async with ctx.uow(reading=True) as tx:
            connection = await tx.connections.find(saved.id)
        await show_company(ctx, saved, connection)
    present = company if body.preview else saved
    return preconditions.answer(_out(saved), of_revision(present.revision))


@router.delete(
    "/{company}",
    status_code=204,
    response_model=None,
    summary="Delete a company",
    **operation(Scope.ADMIN, 404, 412, preview=CompanyOut),
)
async def delete_company(
    ctx: ContextDep, company: CompanyDep, preconditions: PreconditionsDep, preview: PreviewQuery = False
) -> Response | None:
    """Deletes the company with everything below it. Nothing changes in CRM. A preview answers 200 with the company."""
    revision = preconditions.revision(of_revision(company.revision), company.revision)
    if preview:
        return previewed(CompanyOut, _out(company))
    await companies.delete_company(ctx, company.name, revision)
    return None


@router.post(
    "/{company}/nav/test",
    summary="Test the NAV side",
    response_model=NavTestOut,
    **operation(Scope.ADMIN, 404, 502, 503),
)
async def check_nav(ctx: ContextDep, company: CompanyDep) -> dict[str, object]:
    """Reaches the NAV side and says what it found. Changes nothing."""
    return {"kind": company.nav["kind"], **await companies.test_nav(ctx, company), "ok": True}
