"""How integration table mappings and their field rows look over HTTP."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.models import Flag, Input
from app.api.previews import Previewable
from app.domain.mapping import (
    DeletionConflictResolution,
    Direction,
    FieldMapping,
    FieldStatus,
    TableMapping,
    UpdateConflictResolution,
)
from app.ports import StoredMapping

EXAMPLE: JsonDict = {
    "name": "CUSTOMER",
    "nav_table": "customers",
    "crm_entity": "account",
    "direction": "bidirectional",
    "crm_filter": "statecode eq 0 and customertypecode eq 3",
    "depends_on": ["SALESPEOPLE", "CURRENCY"],
}
FILTER = "An OData `$filter` expression; null: every record."
TEMPLATE = "The template that new records get their other values from; null: none."


class _Row(Input):
    """What a field row says."""

    nav_field: str | None = Field(
        default=None, description="null: a constant goes to CRM.", examples=["Name"]
    )
    crm_attribute: str | None = Field(
        default=None, description="null: a constant goes to NAV.", examples=["name"]
    )
    direction: Direction = Direction.BIDIRECTIONAL
    constant_value: str | None = Field(
        default=None, description="Written instead of a value of the other side."
    )
    transformation: str | None = Field(default=None, description="A rule that changes the value on its way.")
    clear_value_on_failed_synch: Flag = False
    not_null: Flag = Field(default=False, description="Whether empty values stay behind.")
    validate_: Flag = Field(default=True, alias="validate", description="Whether NAV checks the value.")
    status: FieldStatus = FieldStatus.ENABLED

    def row(self) -> FieldMapping:
        """The row, without an id."""
        return FieldMapping(**self.model_dump(by_alias=True))


class FieldMappingRow(_Row):
    """A field row of a mapping that is to be created."""


class FieldMappingPatch(Previewable, _Row):
    """What is to change about a field row."""


class FieldMappingIn(Previewable, _Row):
    """A field row to be created."""


class FieldMappingOut(BaseModel):
    """One NAV field and the CRM attribute it agrees with."""

    model_config = ConfigDict(serialize_by_alias=True)

    id: UUID | None
    nav_field: str | None
    crm_attribute: str | None
    direction: Direction
    constant_value: str | None
    transformation: str | None
    clear_value_on_failed_synch: bool
    not_null: bool
    validate_: bool = Field(alias="validate")
    status: FieldStatus


class MappingPatch(Previewable):
    """What is to change about a mapping; name, table and entity stay."""

    direction: Direction = Direction.BIDIRECTIONAL
    nav_filter: str | None = Field(default=None, description=FILTER, max_length=8000)
    crm_filter: str | None = Field(default=None, description=FILTER, max_length=8000)
    synch_only_coupled_records: Flag = True
    update_conflict_resolution: UpdateConflictResolution = UpdateConflictResolution.MERGE
    deletion_conflict_resolution: DeletionConflictResolution = DeletionConflictResolution.NONE
    depends_on: list[str] = Field(default_factory=list, description="Mappings that are synchronized before.")
    nav_template: str | None = Field(default=None, description=TEMPLATE)
    crm_template: str | None = Field(default=None, description=TEMPLATE)
    is_default: Flag = Field(
        default=False, description="Serves its table unless a call names another mapping."
    )


class MappingIn(MappingPatch):
    """A mapping to be created, with or without its field rows."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    name: str = Field(min_length=1, max_length=50, examples=["CUSTOMER"])
    nav_table: str = Field(examples=["customers"])
    crm_entity: str = Field(description="Logical name of the entity.", examples=["account"])
    fields: list[FieldMappingRow] = Field(default_factory=list)

    def mapping(self) -> TableMapping:
        """The mapping as a value."""
        values = self.model_dump(exclude={"fields"})
        values["depends_on"] = tuple(values["depends_on"])
        return TableMapping(**values, fields=tuple(row.row() for row in self.fields))


class MappingOut(BaseModel):
    """Which NAV table goes with which CRM entity, and how their records are kept in step."""

    name: str
    nav_table: str
    crm_entity: str
    direction: Direction
    nav_filter: str | None
    crm_filter: str | None
    synch_only_coupled_records: bool
    update_conflict_resolution: UpdateConflictResolution
    deletion_conflict_resolution: DeletionConflictResolution
    depends_on: list[str]
    nav_template: str | None
    crm_template: str | None
    is_default: bool
    option_attribute: str | None = Field(
        description="Set where NAV records stand for the options of this attribute instead of for CRM rows."
    )
    nav_synched_until: datetime | None
    crm_synched_until: datetime | None
    field_count: int


class MappingDocument(BaseModel):
    """All mappings of a company with their rows, without ids and times; the same for the same mappings."""

    model_config = ConfigDict(extra="allow")

    format: str = Field(examples=["navcrm-integration-table-mappings"])
    version: int = Field(examples=[1])
    mappings: list[dict[str, Any]]


class ImportedOut(BaseModel):
    """What the document changed: names of mappings."""

    added: list[str]
    changed: list[str]
    unchanged: list[str]
    removed: list[str]


def field_out(row: FieldMapping) -> dict[str, Any]:
    """A row for `FieldMappingOut`."""
    return {
        info.alias or name: getattr(row, info.alias or name)
        for name, info in FieldMappingOut.model_fields.items()
    }


def mapping_out(stored: StoredMapping) -> dict[str, Any]:
    """A mapping for `MappingOut`."""
    mapping = stored.mapping
    own = {"nav_synched_until", "crm_synched_until", "field_count"}
    values = {name: getattr(mapping, name) for name in MappingOut.model_fields if name not in own}
    return values | {
        "nav_synched_until": stored.nav_synched_until,
        "crm_synched_until": stored.crm_synched_until,
        "field_count": len(mapping.fields),
    }
