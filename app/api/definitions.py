"""What can be mapped: NAV tables with their fields, CRM entities with their attributes, over HTTP."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, Field

from app.api.dependencies import BASE, CompanyDep, ContextDep
from app.api.models import TableName
from app.api.operation import CRM, api_router, operation
from app.api.pages import Page, PagingDep
from app.domain.access import Scope
from app.domain.connection import require_enabled
from app.domain.records import FieldDefinition, FieldType, TableDefinition

router = api_router(f"{BASE}/companies/{{company}}", "Companies")


class OptionOut(BaseModel):
    """One member of an option field."""

    value: int
    name: str
    label: str


class FieldOut(BaseModel):
    """A field of a NAV table, or an attribute of a CRM entity."""

    name: str = Field(description="As it stands in mappings, filters and records.")
    label: str
    type: FieldType
    length: int | None
    options: list[OptionOut]
    relation: list[str] = Field(
        description="NAV: the tables it refers to; CRM: the entities it may point to."
    )
    key: bool
    required: bool
    computed: bool = Field(description="Never stored: cannot be written.")
    insertable: bool
    updatable: bool
    number: int | None = Field(description="NAV: the number of the field.")
    precision: int | None
    minimum: float | None
    maximum: float | None


class TableOut(BaseModel):
    """A NAV table, or a CRM entity."""

    name: str
    label: str
    number: int | None = Field(description="NAV: the number of the table.")
    entity_set: str | None = Field(description="CRM: the word in URLs.")
    primary_key: list[str]
    name_field: str | None
    field_count: int


class TableWithFieldsOut(TableOut):
    """A table or an entity with its fields."""

    fields: list[FieldOut]


def _table(definition: TableDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "label": definition.label,
        "number": definition.number,
        "entity_set": definition.entity_set,
        "primary_key": list(definition.primary_key),
        "name_field": definition.name_field,
        "field_count": len(definition.fields),
    }


def _with_fields(definition: TableDefinition) -> dict[str, Any]:
    return _table(definition) | {"fields": [_field(field) for field in definition.fields.values()]}


def _field(field: FieldDefinition) -> dict[str, Any]:
    as_is = ("name", "label", "type", "length", "key", "required", "computed", "insertable", "updatable")
    return {name: getattr(field, name) for name in as_is} | {
        "options": [
            {"value": option.value, "name": option.name, "label": option.label} for option in field.options
        ],
        "relation": list(field.relation),
        "number": field.number,
        "precision": field.precision,
        "minimum": _bound(field.minimum),
        "maximum": _bound(field.maximum),
    }


def _bound(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


@router.get(
    "/nav-tables",
    summary="List the NAV tables that can be mapped",
    response_model=Page[TableOut],
    **operation(Scope.READ, 404, 503),
)
async def list_nav_tables(ctx: ContextDep, company: CompanyDep, paging: PagingDep) -> dict[str, object]:
    """The tables of the company's NAV, by name."""
    after = paging.after(str) or ""
    tables = sorted(await ctx.sides.nav(company).definitions(), key=lambda table: table.name)
    found = [table for table in tables if table.name > after]
    page, next_cursor = paging.cut(found, lambda table: table.name)
    return {"items": [_table(table) for table in page], "next_cursor": next_cursor}


@router.get(
    "/nav-tables/{table:key}",
    summary="Get a NAV table",
    response_model=TableWithFieldsOut,
    **operation(Scope.READ, 404, 503),
)
async def get_nav_table(ctx: ContextDep, company: CompanyDep, table: TableName) -> dict[str, object]:
    """One table with its fields: names, labels, types, lengths, options, relations."""
    return _with_fields(await ctx.sides.nav(company).definition(table))


@router.get(
    "/crm-entities/{entity_set:key}",
    summary="Get a CRM entity",
    response_model=TableWithFieldsOut,
    **operation(Scope.READ, 404, *CRM),
)
async def get_crm_entity(
    ctx: ContextDep,
    company: CompanyDep,
    entity_set: Annotated[str, Path(description="The entity set.", examples=["accounts"])],
) -> dict[str, object]:
    """One entity with its attributes, as CRM told them ten minutes ago at most."""
    async with ctx.uow(reading=True) as tx:
        connection = require_enabled(await tx.connections.find(company.id))
    return _with_fields(await ctx.sides.crm(company, connection).definition_of_set(entity_set))
