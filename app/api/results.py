"""What use cases answer about records, as it looks over HTTP."""

from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.models import (
    CouplingOut,
    FailureOut,
    RecordResultOut,
    changes_out,
    failure_out,
    linked_coupling_out,
)
from app.domain.coupling import Failure
from app.domain.errors import IntegrationError
from app.use_cases.results import CoupledRecord, PairOutcome, RecordResult


class PairOutcomeOut(BaseModel):
    """What became of one pair."""

    nav_table: str
    nav_no: str | None
    crm_entity: str | None
    crm_id: UUID | None
    coupling: CouplingOut | None
    synchronization: RecordResultOut | None
    error: FailureOut | None = Field(description="Why it was not done; null when it was.")


def coupled_record_out(found: CoupledRecord | None) -> dict[str, Any] | None:
    """A coupling with its links for `CouplingOut`."""
    return None if found is None else linked_coupling_out(found.coupling, found.nav_url, found.crm_url)


def result_out(result: RecordResult) -> dict[str, Any]:
    """The result of one record for `RecordResultOut`."""
    return {
        "message": result.message,
        "action": result.action,
        "changes": changes_out(result.changes),
        "synch_job_id": result.synch_job_id,
        "integration_id_generated": result.integration_id_generated,
        "notes": result.notes,
    }


def error_failure_out(error: IntegrationError | None) -> dict[str, Any] | None:
    """An error of one record among several for `FailureOut`."""
    return None if error is None else failure_out(Failure.of(error))


def pair_out(outcome: PairOutcome) -> dict[str, Any]:
    """The outcome of one pair for `PairOutcomeOut`."""
    return {
        "nav_table": outcome.nav_table,
        "nav_no": outcome.nav_no,
        "crm_entity": outcome.crm_entity,
        "crm_id": outcome.crm_id,
        "coupling": coupled_record_out(outcome.coupling),
        "synchronization": result_out(outcome.synchronization) if outcome.synchronization else None,
        "error": error_failure_out(outcome.error),
    }
