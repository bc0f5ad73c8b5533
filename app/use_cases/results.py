"""What the use cases answer, as values; the API shapes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.domain.coupling import Change, Coupling, SynchAction
from app.domain.errors import IntegrationError
from app.domain.records import Side, Value, Values

COMPLETED = "Synchronization completed"


@dataclass(frozen=True, slots=True)
class RecordResult:
    """What synchronizing one record did, or would do. `integration_id_generated` says that the NAV record got
    its integration id on the way."""

    message: str
    action: SynchAction
    changes: tuple[Change, ...] = ()
    synch_job_id: UUID | None = None
    integration_id_generated: bool = False
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class CoupledRecord:
    """A coupling with the links of both its records."""

    coupling: Coupling
    nav_url: str | None
    crm_url: str | None


@dataclass(frozen=True, slots=True)
class CoupleResult:
    """What coupling did. `synchronization` is there when one was asked for; a preview has no coupling yet, and
    `foreseen` is the one that would be made."""

    coupling: CoupledRecord | None
    synchronization: RecordResult | None = None
    foreseen: Coupling | None = None


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """What became of one pair, or one id, of a set."""

    nav_table: str
    nav_no: str | None
    crm_entity: str | None
    crm_id: UUID | None
    coupling: CoupledRecord | None = None
    synchronization: RecordResult | None = None
    error: IntegrationError | None = None


@dataclass(frozen=True, slots=True)
class ComparedField:
    """One line of the Coupled Records FastTab."""

    nav_field: str | None
    label: str
    nav_value: Value
    crm_attribute: str | None
    crm_value: Value
    equal: bool
    direction: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both records side by side, read just now."""

    newer_side: Side | None
    fields: Sequence[ComparedField]


@dataclass(frozen=True, slots=True)
class ActionState:
    """An action of the record and whether it is possible now; the reason when it is not."""

    name: str
    allowed: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NavItem:
    """A NAV record as lists and cards show it."""

    table: str
    no: str
    integration_id: UUID | None
    version: str
    fields: Values
    modified_at: datetime | None
    coupling: CoupledRecord | None
    actions: Sequence[ActionState]


@dataclass(frozen=True, slots=True)
class CrmItem:
    """A CRM row as lists show it."""

    id: UUID
    name: str
    fields: Values
    coupled: bool
    nav_table: str | None
    nav_no: str | None
    url: str
    error: IntegrationError | None = None  # a value that cannot be read


@dataclass(frozen=True, slots=True)
class MatchedPair:
    """A NAV record and the CRM rows that agree with it: one when they were coupled, else the candidates."""

    nav_no: str
    crm_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class MatchReport:
    """What match-based coupling did, or would do. `unmatched` counts the NAV records without a candidate."""

    coupled: Sequence[MatchedPair]
    ambiguous: Sequence[MatchedPair]
    unmatched: int
    synch_job_id: UUID | None = None
