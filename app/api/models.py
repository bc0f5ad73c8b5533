"""Models that several resources share."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import to_json, to_jsonable_python

from app.api.values import JsonValue, id_text, json_of, shown
from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Change, Coupling, CouplingStatus, Failure, SynchAction, SynchResult
from app.domain.links import crm_url, nav_url
from app.domain.mapping import Direction
from app.domain.records import Side

MappingQuery = Annotated[
    str | None,
    Query(
        alias="mapping", description="Name of the mapping to use; without it the default one of the table."
    ),
]
TableName = Annotated[str, Path(description="The NAV table.", examples=["customers"])]
RecordNo = Annotated[
    str,
    Path(
        description="Primary key of the record, percent-encoded; parts joined by a comma.", examples=["10000"]
    ),
]
FilterQuery = Annotated[
    str | None,
    Query(description="An OData `$filter` expression.", examples=["Name eq 'Adatum'"], max_length=8000),
]
SearchQuery = Annotated[
    str | None, Query(description="Words to look for in the number and the name.", max_length=200)
]
CoupledQuery = Annotated[
    bool | None, Query(description="Only coupled (true) or only uncoupled (false) records.")
]


def answered(body: Mapping[str, Any]) -> Response:
    """An answer out of a dictionary that is, name by name and type by type, what the response model of its operation
    says. It is not checked again, which costs more than shaping it did."""
    text = json_of(lambda: to_json(body), lambda: to_jsonable_python(body))
    return Response(text, media_type="application/json")


Flag = Annotated[bool, Strict()]
"""true or false, and no word or number that might mean it."""
Whole = Annotated[int, Strict()]
"""A whole number, and no text that might hold one."""


def _no_count(moment: object) -> object:
    """A number would be taken for seconds since 1970, and so would a year."""
    if isinstance(moment, int | float) or (isinstance(moment, str) and moment.strip().isdecimal()):
        raise ValueError("A time is written as 2026-11-22T12:00:00Z.")
    return moment


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("In UTC this lies outside of the years 1 to 9999.") from error


Moment = Annotated[AwareDatetime, BeforeValidator(_no_count), AfterValidator(_in_utc)]
"""A time with its offset, in UTC from here on."""


class Input(BaseModel):
    """What a request carries: nothing but the fields it names."""

    model_config = ConfigDict(extra="forbid")


class FailureOut(BaseModel):
    """Why a record failed."""

    code: str = Field(description="Stable, kebab-case.")
    message: str
    fix: str | None = Field(description="Which call mends it.")
    retryable: bool = Field(description="Whether trying again may help.")


class CouplingOut(BaseModel):
    """Two records that are the same thing."""

    id: UUID
    mapping: str
    nav_table: str
    nav_no: str
    integration_id: UUID
    crm_entity: str
    crm_id: UUID
    last_synch_at: datetime | None
    last_synch_action: SynchAction | None
    last_synch_result: SynchResult | None
    last_error: FailureOut | None
    skipped: bool = Field(description="Left out by background runs after failing twice the same way.")
    nav_url: str | None = Field(description="Opens the NAV record, where the company has a client address.")
    crm_url: str | None = Field(description="Opens the CRM record, once there is one.")


class ChangeOut(BaseModel):
    """One field that was written, or would be."""

    side: Side
    field: str
    old: JsonValue
    new: JsonValue


class RecordResultOut(BaseModel):
    """What became of one record."""

    message: str = Field(examples=["Synchronization completed"])
    action: SynchAction
    changes: list[ChangeOut]
    synch_job_id: UUID | None
    integration_id_generated: bool = Field(
        description="Whether the NAV record got its integration id on the way."
    )
    notes: str | None = Field(description="What was left out, and why.")


OneWay = Literal[Direction.TO_CRM, Direction.FROM_CRM]


def failure_out(failure: Failure | None) -> dict[str, Any] | None:
    """A failure for `FailureOut`."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "message": failure.message,
        "fix": failure.fix,
        "retryable": failure.retryable,
    }


def coupling_out(coupling: Coupling, company: Company, connection: ConnectionSetup | None) -> dict[str, Any]:
    """A coupling for `CouplingOut`, with links by the present settings to the records that are there."""
    in_nav = bool(coupling.nav_key)
    in_crm = coupling.status is CouplingStatus.COUPLED or not in_nav
    to_nav = nav_url(company, coupling.nav_table, coupling.nav_key) if in_nav else None
    to_crm = crm_url(connection, coupling.crm_entity, coupling.crm_id) if connection and in_crm else None
    return linked_coupling_out(coupling, to_nav, to_crm)


def linked_coupling_out(coupling: Coupling, to_nav: str | None, to_crm: str | None) -> dict[str, Any]:
    """A coupling for `CouplingOut`."""
    return {
        "id": id_text(coupling.id),
        "mapping": coupling.mapping,
        "nav_table": coupling.nav_table,
        "nav_no": coupling.nav_key,
        "integration_id": id_text(coupling.nav_id),
        "crm_entity": coupling.crm_entity,
        "crm_id": id_text(coupling.crm_id),
        "last_synch_at": coupling.last_synch_at,
        "last_synch_action": coupling.last_synch_action,
        "last_synch_result": coupling.last_synch_result,
        "last_error": failure_out(coupling.last_error),
        "skipped": coupling.skipped,
        "nav_url": to_nav,
        "crm_url": to_crm,
    }


def changes_out(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Changes for `ChangeOut`."""
    return [
        {
            "side": change.side,
            "field": change.field,
            "old": shown(change.old),
            "new": shown(change.new),
        }
        for change in changes
    ]
