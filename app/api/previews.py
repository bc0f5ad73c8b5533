"""Previews, the same everywhere: asked for with `preview: true`, answered with 200 by what would be written."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from pydantic import BaseModel, Field

from app.api.models import ChangeOut, FailureOut, Flag, Input, answered, changes_out, failure_out
from app.api.pages import DEFAULT_LIMIT, MAXIMUM_LIMIT
from app.api.synch_job_models import CountsOut, counts_out
from app.domain.coupling import Outcome, SynchAction
from app.domain.job import Counts, SynchMode
from app.use_cases.previews import JobPreview

ASKED = "Say what would be written, and write nothing."


class Previewable(Input):
    """What a request carries that can be asked for a preview."""

    preview: Flag = Field(default=False, exclude=True, description=ASKED)


class PreviewIn(Previewable):
    """Whether it is done, or only told."""


DO_IT = PreviewIn()
PreviewQuery = Annotated[bool, Query(description=ASKED)]
LimitQuery = Annotated[
    int, Query(alias="limit", ge=1, le=MAXIMUM_LIMIT, description="How many outcomes a preview shows.")
]
OUTCOMES = DEFAULT_LIMIT


class ForeseenOut(BaseModel):
    """What would become of one record."""

    nav_table: str | None
    nav_no: str | None
    crm_entity: str | None
    crm_id: UUID | None
    direction: str | None
    action: SynchAction
    reason: str | None = Field(description="A stable word, such as `filtered`.")
    message: str | None
    error: FailureOut | None
    changes: list[ChangeOut]


class JobPreviewOut(CountsOut):
    """What a synch job would do."""

    mapping: str | None
    mode: SynchMode
    directions: dict[str, CountsOut] = Field(description="The counts by direction: `to_crm`, `from_crm`.")
    outcomes: list[ForeseenOut] = Field(
        description="The first records that something would be done to, or that would be left out or fail."
    )
    further: int = Field(description="How many outcomes there are besides these.")
    error: FailureOut | None = Field(description="What would stop the job.")


class JobPreviewsOut(BaseModel):
    """What several synch jobs would do, in the order in which they would run."""

    mappings: list[JobPreviewOut]


def previewed(model: type[BaseModel], found: Mapping[str, Any]) -> Response:
    """The answer to a preview of an operation that otherwise answers in another way."""
    return answered(model.model_validate(found).model_dump(mode="json"))


def job_preview_out(found: JobPreview) -> dict[str, Any]:
    """A preview for `JobPreviewOut`."""
    return counts_out(sum(found.directions.values(), Counts())) | {
        "mapping": found.mapping,
        "mode": found.mode,
        "directions": {direction: counts_out(counts) for direction, counts in found.directions.items()},
        "outcomes": [_foreseen_out(outcome) for outcome in found.outcomes],
        "further": found.further,
        "error": failure_out(found.error),
    }


def _foreseen_out(outcome: Outcome) -> dict[str, Any]:
    new = outcome.action is SynchAction.INSERTED
    to_crm = outcome.direction == "to_crm"
    return {
        "nav_table": outcome.nav_table,
        "nav_no": None if new and not to_crm else outcome.nav_key,
        "crm_entity": outcome.crm_entity,
        "crm_id": None if new and to_crm else outcome.crm_id,
        "direction": outcome.direction,
        "action": outcome.action,
        "reason": outcome.reason,
        "message": outcome.message,
        "error": failure_out(outcome.error),
        "changes": changes_out(outcome.changes),
    }
