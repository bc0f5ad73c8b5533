"""Integration table mappings and their field rows over HTTP."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Path, Response

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.etags import PreconditionsDep, of_content, of_revision
from app.api.mapping_models import (
    FieldMappingIn,
    FieldMappingOut,
    FieldMappingPatch,
    ImportedOut,
    MappingDocument,
    MappingIn,
    MappingOut,
    MappingPatch,
    field_out,
    mapping_out,
)
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.api.previews import PreviewQuery, previewed
from app.domain.access import Scope
from app.domain.company import Company
from app.domain.mapping import FieldMapping
from app.ports import StoredMapping
from app.use_cases import mappings
from app.use_cases.rehearsal import rehearsal

router = api_router(f"{BASE}/companies/{{company}}/integration-table-mappings", "Integration table mappings")

NEEDS_CRM = (404, 409, 502, 503)
MappingName = Annotated[str, Path(alias="mapping", description="Name of the mapping.", examples=["CUSTOMER"])]
FieldId = Annotated[UUID, Path(alias="id", description="Id of the field row.")]


async def _mapping(ctx: ContextDep, company: CompanyDep, name: MappingName) -> StoredMapping:
    async with ctx.uow(reading=True) as tx:
        return await tx.mappings.get(company.id, name)


async def _row(stored: Annotated[StoredMapping, Depends(_mapping)], field_id: FieldId) -> FieldMapping:
    return mappings.row_of(stored.mapping, field_id)


MappingDep = Annotated[StoredMapping, Depends(_mapping)]
RowDep = Annotated[FieldMapping, Depends(_row)]


def _tag(row: FieldMapping) -> str:
    return of_content(FieldMappingOut.model_validate(field_out(row)))


def _address(company: Company, stored: StoredMapping) -> str:
    name = quote(stored.mapping.name, safe="")
    return f"{BASE}/companies/{company.name}/integration-table-mappings/{name}"


def _document_tag(document: Mapping[str, Any]) -> str:
    return of_content(MappingDocument.model_validate(document))


@router.get(
    "",
    summary="List integration table mappings",
    response_model=Page[MappingOut],
    **operation(Scope.READ, 404),
)
async def list_integration_table_mappings(
    ctx: ContextDep, company: CompanyDep, paging: PagingDep
) -> dict[str, object]:
    """The mappings of the company: the default ones in the order of their installation, then the others."""
    async with ctx.uow(reading=True) as tx:
        stored = await tx.mappings.all(company.id)
    page, next_cursor = paging.of_all(stored, str, lambda each: each.mapping.name)
    return {"items": [mapping_out(each) for each in page], "next_cursor": next_cursor}


@router.post(
    "",
    status_code=201,
    summary="Create an integration table mapping",
    response_model=MappingOut,
    **operation(Scope.ADMIN, *NEEDS_CRM, preview=MappingOut),
)
async def create_integration_table_mapping(
    ctx: ContextDep, company: CompanyDep, body: MappingIn, response: Response
) -> dict[str, object]:
    """Adds a mapping. Tables, entities, fields and attributes are checked against both sides."""
    stored = await mappings.create_mapping(rehearsal(ctx, body.preview), company, body.mapping())
    if body.preview:
        response.status_code = 200
        return mapping_out(stored)
    response.headers["Location"] = _address(company, stored)
    response.headers["ETag"] = of_revision(stored.revision)
    return mapping_out(stored)


@router.get(
    "/export",
    summary="Export the mappings",
    response_model=MappingDocument,
    **operation(Scope.READ, 404),
)
async def export_integration_table_mappings(
    ctx: ContextDep, company: CompanyDep, preconditions: PreconditionsDep
) -> Any:
    """All mappings with their field rows as one document, the same for the same mappings."""
    document = await mappings.export_mappings(ctx, company)
    return preconditions.answer(document, _document_tag(document))


@router.put(
    "/export",
    summary="Import mappings",
    response_model=ImportedOut,
    **operation(Scope.ADMIN, *NEEDS_CRM, 412),
)
async def import_integration_table_mappings(
    ctx: ContextDep,
    company: CompanyDep,
    body: MappingDocument,
    preconditions: PreconditionsDep,
    preview: PreviewQuery = False,
) -> Any:
    """Makes the mappings of the company those of the document. Couplings stay."""
    present = await mappings.export_mappings(ctx, company)
    preconditions.require(_document_tag(present))
    read = None if preconditions.if_match is None else present
    found = await mappings.import_mappings(ctx, company, body.model_dump(), present=read, preview=preview)
    return preconditions.answer(asdict(found), _document_tag(await mappings.export_mappings(ctx, company)))


@router.get(
    "/{mapping:key}",
    summary="Get an integration table mapping",
    response_model=MappingOut,
    **operation(Scope.READ, 404),
)
async def get_integration_table_mapping(stored: MappingDep, preconditions: PreconditionsDep) -> Any:
    """One mapping, by its name."""
    return preconditions.answer(mapping_out(stored), of_revision(stored.revision))


@router.patch(
    "/{mapping:key}",
    summary="Change an integration table mapping",
    response_model=MappingOut,
    **operation(Scope.ADMIN, *NEEDS_CRM, 412),
)
async def change_integration_table_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    stored: MappingDep,
    body: MappingPatch,
    preconditions: PreconditionsDep,
) -> Any:
    """Changes what the body names; null clears a filter or a template."""
    revision = preconditions.revision(of_revision(stored.revision), stored.revision)
    changes = body.model_dump(exclude_unset=True)
    ctx = rehearsal(ctx, body.preview)
    saved = await mappings.change_mapping(ctx, company, stored.mapping.name, changes, revision)
    present = stored if body.preview else saved
    return preconditions.answer(mapping_out(saved), of_revision(present.revision))


@router.delete(
    "/{mapping:key}",
    status_code=204,
    response_model=None,
    summary="Delete an integration table mapping",
    **operation(Scope.ADMIN, 404, 412, preview=MappingOut),
)
async def delete_integration_table_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    stored: MappingDep,
    preconditions: PreconditionsDep,
    preview: PreviewQuery = False,
) -> Response | None:
    """Deletes the mapping with its field rows and job queue entries. Its couplings stay.

    A preview answers 200 with the mapping.
    """
    revision = preconditions.revision(of_revision(stored.revision), stored.revision)
    await mappings.delete_mapping(rehearsal(ctx, preview), company, stored.mapping.name, revision)
    return previewed(MappingOut, mapping_out(stored)) if preview else None


@router.get(
    "/{mapping:key}/fields",
    summary="List the fields of a mapping",
    response_model=Page[FieldMappingOut],
    **operation(Scope.READ, 404),
)
async def list_integration_field_mappings(stored: MappingDep, paging: PagingDep) -> dict[str, object]:
    """The field rows of the mapping, in their order."""
    page, next_cursor = paging.of_all(stored.mapping.fields, UUID, lambda row: row.id)
    return {"items": [field_out(row) for row in page], "next_cursor": next_cursor}


@router.post(
    "/{mapping:key}/fields",
    status_code=201,
    summary="Add a field to a mapping",
    response_model=FieldMappingOut,
    **operation(Scope.ADMIN, *NEEDS_CRM, preview=FieldMappingOut),
)
async def create_integration_field_mapping(
    ctx: ContextDep, company: CompanyDep, stored: MappingDep, body: FieldMappingIn, response: Response
) -> dict[str, object]:
    """Adds a field row at the end. Types that cannot be converted into each other are refused."""
    row = await mappings.add_field(rehearsal(ctx, body.preview), company, stored.mapping.name, body.row())
    if body.preview:
        response.status_code = 200
        return field_out(row) | {"id": None}
    response.headers["Location"] = f"{_address(company, stored)}/fields/{row.id}"
    response.headers["ETag"] = _tag(row)
    return field_out(row)


@router.get(
    "/{mapping:key}/fields/{id}",
    summary="Get a field of a mapping",
    response_model=FieldMappingOut,
    **operation(Scope.READ, 404),
)
async def get_integration_field_mapping(row: RowDep, preconditions: PreconditionsDep) -> Any:
    """One field row, by its id."""
    return preconditions.answer(field_out(row), _tag(row))


@router.patch(
    "/{mapping:key}/fields/{id}",
    summary="Change a field of a mapping",
    response_model=FieldMappingOut,
    **operation(Scope.ADMIN, *NEEDS_CRM, 412),
)
async def change_integration_field_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    stored: MappingDep,
    row: RowDep,
    field_id: FieldId,
    body: FieldMappingPatch,
    preconditions: PreconditionsDep,
) -> Any:
    """Changes what the body names."""
    revision = preconditions.revision(_tag(row), stored.revision)
    changes = body.model_dump(exclude_unset=True, by_alias=True)
    ctx = rehearsal(ctx, body.preview)
    saved = await mappings.change_field(ctx, company, stored.mapping.name, field_id, changes, revision)
    return preconditions.answer(field_out(saved), _tag(row if body.preview else saved))


@router.delete(
    "/{mapping:key}/fields/{id}",
    status_code=204,
    response_model=None,
    summary="Delete a field of a mapping",
    **operation(Scope.ADMIN, 404, 412, preview=FieldMappingOut),
)
async def delete_integration_field_mapping(
    ctx: ContextDep,
    company: CompanyDep,
    stored: MappingDep,
    row: RowDep,
    field_id: FieldId,
    preconditions: PreconditionsDep,
    preview: PreviewQuery = False,
) -> Response | None:
    """Removes the field row; neither side's values change. A preview answers 200 with the row."""
    revision = preconditions.revision(_tag(row), stored.revision)
    await mappings.delete_field(rehearsal(ctx, preview), company, stored.mapping.name, field_id, revision)
    return previewed(FieldMappingOut, field_out(row)) if preview else None
