"""What the use cases need from outside, and the words everyone uses.

SIDE       NAV or CRM. Both keep the same contract, `RecordStore`.
RECORD     a row of a NAV table or of a CRM entity. One record is a set of one.
SNAPSHOT   a record as one side showed it at one moment.
VERSION    changes whenever the record does: the NAV row version, the CRM etag.
INTEGRATION ID  the GUID by which a NAV record is known across renames.
COUPLING   the pair of ids that says "these two records are the same thing".
BASE       the values both sides agreed on when we last synchronized them.
WATERMARK  up to where the changes of one side have been read and safely recorded. Opaque text.
RUN        one synchronization in one direction; a synch job holds one or two.
RESERVED   a coupling whose partner may not exist yet: its id is chosen and saved before it is written.
WAITING    a record that cannot be transferred until one it refers to is coupled; RELEASED once that is.
COMPANION  a CRM row that goes along with a record: the price of a product, the unit of a unit group.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from app.domain.access import ApiKey
from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Coupling, Failure, Outcome
from app.domain.errors import Awaited, IntegrationError
from app.domain.job import Counts, JobQueueEntry, JobStatus, Standing, SynchJob, SynchMode
from app.domain.mapping import Direction, TableMapping
from app.domain.records import Side, Snapshot, TableDefinition, Values

# --- writes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Insert:
    """Create the record under this id; if it exists already, its present state is the answer.

    `key` is the number a NAV record shall have; without it the number series of the table gives one.
    `fields` are to be answered besides the written ones: what the side itself made of them.
    """

    id: UUID
    values: Values
    key: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Update:
    """Change these fields, if the record still has this version. Without a version: if it exists.

    `fields` are to be answered besides the written ones.
    """

    id: UUID
    values: Values
    version: str | None = None
    fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the record, if it still has this version. One that is gone already counts as deleted."""

    id: UUID
    version: str | None = None


Write = Insert | Update | Delete


@dataclass(frozen=True, slots=True)
class Written:
    """What the side has now. `created` tells an insert that created from one that found.

    `snapshot` is missing after a delete. Its values hold at least the written fields, and
    those asked for, as the side stored them; its version is empty when the side did not say.
    """

    id: UUID
    snapshot: Snapshot | None
    created: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """This write failed, alone. StaleRecord and CrmRecordNotFound/NavRecordNotFound ask for a new look."""

    id: UUID
    error: IntegrationError


# --- reads ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Some changed and deleted records. `watermark` is where to continue once they are recorded;
    it is missing on pages after which one cannot continue (the middle of a first read).

    `released` are those records that had waited, each with the coupling it had waited for.
    """

    records: Sequence[Snapshot]
    deleted: Sequence[UUID] = ()
    watermark: str | None = None
    released: Mapping[UUID, UUID] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list a person works from. `cursor` is opaque and missing on the last page."""

    records: Sequence[Snapshot]
    cursor: str | None = None


class RecordStore(Protocol):
    """One side. Every method takes sets; none keeps a transaction of ours open."""

    side: Side

    async def definition(self, table: str) -> TableDefinition:
        """What the table holds. Raises TableNotFound."""
        ...

    async def get(self, table: str, ids: Collection[UUID], fields: Collection[str]) -> dict[UUID, Snapshot]:
        """The records that exist among these ids, with at least these fields."""
        ...

    def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """What changed or was deleted since the watermark, or everything, page by page.

        Every page that can be continued from says so in its watermark. A record may come twice, never
        not at all. Raises WatermarkExpired when the side no longer knows.
        """
        ...

    async def changed(self, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these tables and watermarks after which `changes` has something, or no longer knows.

        One trip, whatever their number. It may miss what became visible late; `changes` does not.
        """
        ...

    async def match(
        self, table: str, field: str, values: Collection[str], fields: Collection[str] = ()
    ) -> dict[str, list[Snapshot]]:
        """The records whose field has one of these values, by value as given; the side compares."""
        ...

    async def listing(
        self,
        table: str,
        fields: Collection[str] | None,
        *,
        filter: str | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Listing:
        """A page of records in a stable order (by key). `fields` None: all. Raises InvalidFilter."""
        ...

    async def write(self, table: str, writes: Sequence[Write]) -> list[Written | Refused]:
        """Apply every write it can, answers in the order of the writes: one bad row fails alone.

        Raises SideUnavailable when nothing is known about the outcome; every write may be repeated.
        """
        ...


@dataclass(frozen=True, slots=True)
class NavRecord:
    """A NAV record as a person sees it; `integration_id` may be missing."""

    key: str
    integration_id: UUID | None
    version: str
    values: Values
    modified_at: datetime | None = None

    def snapshot(self, integration_id: UUID) -> Snapshot:
        """The record under its integration id."""
        return Snapshot(integration_id, self.key, self.version, self.values, self.modified_at)


class NavSide(RecordStore, Protocol):
    """What only NAV can do."""

    async def definitions(self) -> Sequence[TableDefinition]:
        """Every table that can be mapped."""
        ...

    async def test(self) -> Mapping[str, Any]:
        """Reaches NAV and says what it found. Raises NavUnavailable."""
        ...

    async def by_key(
        self, table: str, keys: Collection[str], fields: Collection[str] | None = None
    ) -> dict[str, NavRecord]:
        """The records with these keys, with or without an integration id, by key as given."""
        ...

    async def records(
        self,
        table: str,
        *,
        filter: str | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> tuple[Sequence[NavRecord], str | None]:
        """A page of records in key order, with or without an integration id, and the next cursor."""
        ...

    async def create(
        self, table: str, key: str | None, values: Mapping[str, Any], *, preview: bool = False
    ) -> NavRecord:
        """A new record from outside input. Raises InvalidValues, AlreadyExists.

        A preview, here and below, checks and answers in the same way and writes nothing: a number of the series
        is shown and not used up, an integration id that would be new is missing.
        """
        ...

    async def change(
        self,
        table: str,
        key: str,
        values: Mapping[str, Any],
        version: str | None = None,
        *,
        preview: bool = False,
    ) -> NavRecord:
        """Changes fields from outside input; a new key renames, the integration id stays."""
        ...

    async def remove(self, table: str, key: str, *, preview: bool = False) -> None:
        """Deletes the record and leaves a tombstone. Raises NavRecordNotFound."""
        ...

    async def bulk(
        self,
        table: str,
        records: Sequence[tuple[str | None, Mapping[str, Any]]],
        *,
        preview: bool = False,
    ) -> list[NavRecord | IntegrationError]:
        """Creates or changes many; one bad record harms no other. Answers in order."""
        ...

    async def count_changes(self, table: str, since: str | None) -> int:
        """How many records with an integration id changed since the watermark; all of them without one."""
        ...

    async def ensure_ids(self, table: str, keys: Collection[str]) -> dict[str, UUID]:
        """The integration ids of these records, made on the way where missing."""
        ...

    async def generate_ids(self, tables: Collection[str]) -> dict[str, int]:
        """Gives every record of these tables that has none an integration id; how many, by table."""
        ...

    async def without_ids(self, tables: Collection[str]) -> dict[str, int]:
        """How many records of these tables have no integration id."""
        ...

    async def clear(self) -> None:
        """Forgets what is kept here of the company; a NAV far away is left as it is."""
        ...

    async def figures(self, customers: Collection[str]) -> dict[str, Values]:
        """The statistics figures of these customers, by number."""
        ...


@dataclass(frozen=True, slots=True)
class TestStep:
    """One step of a connection test; `ms` is its duration."""

    name: str
    ok: bool
    detail: str
    fix: str | None
    ms: int


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a connection test found out; it changes nothing."""

    steps: Sequence[TestStep]
    user_id: UUID | None = None
    organization_id: UUID | None = None
    crm_version: str | None = None
    base_currency: str | None = None
    integration_solution_installed: bool | None = None

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)


class CrmSide(RecordStore, Protocol):
    """What only CRM can do."""

    async def definition_of_set(self, entity_set: str) -> TableDefinition:
        """The entity behind a word in our URLs (`accounts`). Raises TableNotFound."""
        ...

    async def count(self, table: str, filter: str) -> int:
        """How many rows pass the filter."""
        ...

    async def counts(self, queries: Sequence[tuple[str, str]]) -> list[int]:
        """How many rows of each table pass its filter, asked together. Raises InvalidFilter."""
        ...


class SideFactory(Protocol):
    """Opens the two sides of a company."""

    def nav(self, company: Company) -> NavSide:
        """The NAV side of the company."""
        ...

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side behind the connection."""
        ...

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection step by step, whether it is enabled or not."""
        ...

    async def forget(self, company: Company) -> None:
        """Closes what was opened for the company, after its connection changed."""
        ...


class Clock(Protocol):
    """The time, in UTC."""

    def now(self) -> datetime: ...


# --- our memory -----------------------------------------------------------------------------------


class Companies(Protocol):
    async def get(self, name: str) -> Company:
        """Raises CompanyNotFound."""
        ...

    async def by_id(self, company_id: int) -> Company: ...
    async def page(self, limit: int, after: str | None, names: Collection[str] | None) -> list[Company]: ...
    async def add(self, company: Company) -> Company:
        """Raises AlreadyExists."""
        ...

    async def save(self, company: Company) -> Company:
        """Guarded by revision: raises PreconditionFailed."""
        ...

    async def delete(self, company_id: int) -> None: ...


class Connections(Protocol):
    async def find(self, company_id: int) -> ConnectionSetup | None: ...
    async def save(self, company_id: int, connection: ConnectionSetup) -> ConnectionSetup:
        """Inserts or updates, guarded by revision: raises PreconditionFailed."""
        ...

    async def contacted(self, company_id: int, error: str | None, at: datetime) -> None:
        """Records what the latest contact with CRM showed, if the connection is enabled and nothing newer is
        known; not a change of the setup, so its revision stays."""
        ...

    async def delete(self, company_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredMapping:
    """A mapping with what our memory adds to it."""

    mapping: TableMapping
    nav_watermark: str | None = None
    crm_watermark: str | None = None
    nav_synched_until: datetime | None = None
    crm_synched_until: datetime | None = None
    revision: int = 0


class Mappings(Protocol):
    async def get(self, company_id: int, name: str) -> StoredMapping:
        """Raises MappingNotFound."""
        ...

    async def all(self, company_id: int) -> list[StoredMapping]:
        """In the order of their position, then name."""
        ...

    async def add(self, company_id: int, mapping: TableMapping) -> StoredMapping:
        """Raises AlreadyExists."""
        ...

    async def save(
        self, company_id: int, mapping: TableMapping, revision: int | None = None
    ) -> StoredMapping:
        """Replaces the mapping and its field rows (rows keep their ids). Raises PreconditionFailed."""
        ...

    async def delete(self, company_id: int, names: Collection[str] | None = None) -> tuple[int, int]:
        """Deletes these mappings, or all; how many mappings and field rows went."""
        ...

    async def set_watermark(
        self, company_id: int, mapping: str, side: Side, watermark: str | None, until: datetime | None
    ) -> None:
        """Moves one side's watermark. Call it in the transaction that records what came before it."""
        ...


class OptionMappings(Protocol):
    async def replace(
        self, company_id: int, nav_table: str, crm_attribute: str, values: Mapping[str, int]
    ) -> None:
        """Which NAV key stands for which option value."""
        ...

    async def all(self, company_id: int) -> dict[tuple[str, str], dict[str, int]]:
        """By NAV table and CRM attribute: key -> option value."""
        ...


class Couplings(Protocol):
    async def get(self, company_id: int, coupling_id: UUID) -> Coupling:
        """Raises NoCoupling."""
        ...

    async def of_nav(
        self, company_id: int, nav_table: str, nav_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]: ...
    async def of_crm(
        self, company_id: int, nav_table: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]:
        """The couplings of these CRM rows with records of that NAV table."""
        ...

    async def of_entity(
        self, company_id: int, crm_entity: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, list[Coupling]]:
        """The couplings of these CRM rows with whatever NAV table."""
        ...

    async def page(
        self,
        company_id: int,
        *,
        mapping: str | None = None,
        skipped: bool | None = None,
        last_synch_result: str | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[Coupling]:
        """In the order of their ids."""
        ...

    async def count(
        self, company_id: int, mapping: str | None = None, skipped: bool | None = None
    ) -> int: ...

    async def reserve(self, company_id: int, couplings: Sequence[Coupling]) -> list[Coupling]:
        """Inserts what it can and answers, in order, the coupling that holds now: ours, or the one that was
        there first for that NAV record or, failing that, for that CRM row."""
        ...

    async def save(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        """Writes back couplings read before; those whose revision moved meanwhile are left alone.
        Returns the ids that were saved."""
        ...

    async def delete(self, company_id: int, ids: Collection[UUID]) -> int: ...


@dataclass(frozen=True, slots=True)
class Wait:
    """A record that waits, and what for. The coupling in `despite` is there and did not help: its NAV record was
    deleted, or renamed since; another one has to come."""

    record_id: UUID
    awaited: Awaited
    despite: UUID | None = None


class WaitingRecords(Protocol):
    """Records of a mapping that wait, by the side they come from."""

    async def note(self, company_id: int, mapping: str, side: Side, waits: Sequence[Wait]) -> None:
        """Notes what records wait for now, in one statement; a record waits for one thing at a time."""
        ...

    async def forget(self, company_id: int, mapping: str, side: Side, ids: Collection[UUID]) -> None:
        """These records wait no longer."""
        ...

    async def released(
        self,
        company_id: int,
        mapping: str,
        side: Side,
        *,
        uncoupled: bool,
        after: UUID | None = None,
        limit: int = 1000,
    ) -> dict[UUID, UUID]:
        """The records whose wait is over, each with the coupling it had waited for, in the order of their ids.
        Without `uncoupled` only those that have a coupling themselves."""
        ...


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which synch jobs a list shows."""

    mapping: str | None = None
    status: JobStatus | None = None
    parent_id: UUID | None = None
    entry_id: UUID | None = None  # of this job queue entry


TICKET = "synch_job"
"""The name under which the queue carries tickets: "run that synch job", its id as 16 bytes."""


@dataclass(frozen=True, slots=True)
class CompanyJob:
    """A synch job and the company it belongs to."""

    company_id: int
    job: SynchJob


@dataclass(frozen=True, slots=True)
class JobFigures:
    """Jobs by status, the ended ones of the last hour; and by mapping how far it is behind in the company where that
    is furthest."""

    jobs: Mapping[JobStatus, int]
    lag: Mapping[str, timedelta]


class SynchJobs(Protocol):
    """The synch jobs. Whatever ends a job, or takes it from its worker, also lets the queue carry the
    tickets of those that waited for it: the next of its mapping, and its dependants."""

    async def add(self, company_id: int, jobs: Sequence[SynchJob]) -> None:
        """Saves the jobs and lets the queue carry a ticket for each that can start.

        A job that another of them names as its parent is a parent: it gets no ticket and ends with its
        children. A job whose `request["depends_on"]` names others of them waits until those ended.
        """
        ...

    async def get(self, company_id: int, job_id: UUID) -> SynchJob:
        """Raises NotFound. A parent shows the sums of its children."""
        ...

    async def page(
        self, company_id: int, which: JobFilter, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[SynchJob]:
        """The newest first."""
        ...

    async def children(self, parent_id: UUID) -> list[SynchJob]:
        """The children of a parent, the oldest first."""
        ...

    async def waiting(
        self, company_id: int, mapping: str, mode: SynchMode, direction: Direction | None, kind: str
    ) -> SynchJob | None:
        """A queued job that would do the same, without a parent. Whoever asks next waits until this
        transaction ends, so that asking and adding cannot pile up jobs."""
        ...

    async def claim(self, job_id: UUID, worker_id: UUID, now: datetime) -> CompanyJob | None:
        """Makes a queued job a running one. None when it is not to run now: it is gone or not queued,
        its mapping is busy, it waits for siblings, or its `not_before` has not come."""
        ...

    async def heartbeat(self, jobs: Collection[SynchJob], now: datetime) -> dict[UUID, Standing]:
        """A sign of life of running jobs, guarded by their fences; how each stands with us."""
        ...

    async def progress(
        self, job: SynchJob, direction: str, counts: Counts, expected: int | None = None
    ) -> Standing:
        """Records how far a running job came, guarded by its fence; how it stands with us.

        `counts` are all of that direction so far. Call it in the transaction that commits the page, and
        undo that when the answer is LOST.
        """
        ...

    async def finish(
        self,
        job: SynchJob,
        status: JobStatus,
        message: str | None,
        at: datetime,
        error: Failure | None = None,
    ) -> bool:
        """Ends a running job, guarded by its fence; False when it is no longer ours.

        `error` says that the job as a whole failed, apart from records that did.
        """
        ...

    async def requeue(self, job: SynchJob, not_before: datetime | None, now: datetime) -> bool:
        """Takes a running job back into the queue with its `attempt` and `message`, guarded by its fence."""
        ...

    async def cancel(self, company_id: int, job_id: UUID, at: datetime) -> SynchJob:
        """A queued job ends at once, a running one is asked to stop; a parent with all its children.
        One that ended is left as it is. Raises NotFound."""
        ...

    async def lost(self, before: datetime, limit: int = 100) -> list[CompanyJob]:
        """Running jobs without a sign of life since then."""
        ...

    async def send_missing_tickets(self, now: datetime, older_than: timedelta) -> int:
        """New tickets for queued jobs that could start and have not for so long; how many."""
        ...

    async def figures(self, now: datetime) -> JobFigures:
        """How the jobs of all companies fare."""
        ...

    async def failed(self, company_id: int) -> tuple[int, datetime | None]:
        """How many jobs failed since the count was last reset, and when that was."""
        ...

    async def reset_failed(self, company_id: int, at: datetime) -> None:
        """Lets the count of failed jobs begin again."""
        ...

    async def delete_ended(self, before: datetime, company_id: int | None = None) -> int:
        """Deletes jobs that ended before then, with their outcomes and history, and log rows without a job
        of that age; jobs that a skipped coupling refers to stay (nav-behaviour 14)."""
        ...


@dataclass(frozen=True, slots=True)
class LoggedOutcome:
    """An outcome as the log keeps it."""

    outcome: Outcome
    job_id: UUID | None
    at: datetime
    position: int = 0


class SynchLog(Protocol):
    async def add(
        self, company_id: int, job_id: UUID | None, outcomes: Sequence[Outcome], at: datetime
    ) -> None:
        """Records outcomes, their errors and the history of what was written, in sets."""
        ...

    async def outcomes(
        self, company_id: int, job_id: UUID, result: str | None, after: int, limit: int
    ) -> list[LoggedOutcome]: ...

    async def errors(
        self,
        company_id: int,
        *,
        job_id: UUID | None = None,
        mapping: str | None = None,
        code: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[LoggedOutcome]:
        """The newest first; `position` continues."""
        ...

    async def history(
        self, company_id: int, coupling_id: UUID, after: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Every write of one coupling: when, by which job, side, field, old, new. The newest first."""
        ...


@dataclass(frozen=True, slots=True)
class CompanyEntry:
    """A job queue entry and the company it belongs to."""

    company_id: int
    entry: JobQueueEntry


class JobQueue(Protocol):
    async def get(self, company_id: int, entry_id: UUID) -> JobQueueEntry:
        """Raises NotFound."""
        ...

    async def all(self, company_id: int) -> list[JobQueueEntry]:
        """In the order of their descriptions."""
        ...

    async def add(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry: ...
    async def save(self, company_id: int, entry: JobQueueEntry) -> JobQueueEntry:
        """Guarded by revision: raises PreconditionFailed, NotFound."""
        ...

    async def delete(self, company_id: int, ids: Collection[UUID] | None = None) -> int: ...

    async def due(self, now: datetime, limit: int) -> list[CompanyEntry]:
        """Entries whose time has come, of companies whose connection is enabled, locked until this
        transaction ends; what another worker has locked is left out."""
        ...

    async def ended(self, limit: int) -> list[tuple[CompanyEntry, SynchJob | None]]:
        """Entries in process whose job ended or is gone, with that job, locked like `due`."""
        ...

    async def locked(self, company_id: int, entry_id: UUID) -> JobQueueEntry | None:
        """The entry, locked until this transaction ends."""
        ...

    async def wake(self, company_id: int, mappings: Collection[str], at: datetime) -> int:
        """Lets the entries of these mappings that a change starts begin then; how many.

        These are entries with an inactivity timeout that sleep, or are ready and would start later.
        """
        ...


@dataclass(frozen=True, slots=True)
class Watch:
    """A mapping whose job queue entry a change would start, and where its changes begin."""

    mapping: str
    nav_table: str
    crm_entity: str
    direction: Direction
    nav_watermark: str | None
    crm_watermark: str | None
    is_coupled: bool  # whether it has couplings
    has_released: bool  # whether its next run would find a record whose wait is over

    def watermark(self, side: Side) -> str | None:
        """Up to where the changes of that side are recorded; None before its first run."""
        return self.nav_watermark if side is Side.NAV else self.crm_watermark

    def table(self, side: Side) -> str:
        """The table or entity on that side."""
        return self.nav_table if side is Side.NAV else self.crm_entity


class Watches(Protocol):
    """What the watch for changes needs to know."""

    async def claim(self, now: datetime, before: datetime, limit: int) -> list[int]:
        """Takes companies whose connection is enabled and that nobody looked at since `before`; their ids."""
        ...

    async def of_company(self, company_id: int, now: datetime, ended_before: datetime) -> Sequence[Watch]:
        """The mappings with an entry that a change would start. One of which a job waits, runs or ended later
        than `ended_before` is left out."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker and its last sign of life."""

    id: UUID
    name: str
    started_at: datetime
    seen_at: datetime


class Workers(Protocol):
    async def heartbeat(self, worker_id: UUID, name: str, now: datetime) -> None:
        """A sign of life of a worker."""
        ...

    async def leave(self, worker_id: UUID) -> None:
        """The worker stops."""
        ...

    async def seen_since(self, moment: datetime) -> list[WorkerSeen]:
        """The workers that gave a sign of life since then."""
        ...

    async def forget(self, before: datetime) -> int:
        """Forgets workers not seen since then; how many."""
        ...


class ApiKeys(Protocol):
    async def add(self, key: ApiKey, hash: bytes) -> None:
        """Keeps a new key by its hash."""
        ...

    async def find(self, hash: bytes) -> ApiKey | None:
        """The key with this hash, unless it was revoked; an expired one is found."""
        ...

    async def page(self, after: UUID | None, limit: int) -> list[ApiKey]:
        """The keys that were not revoked, in the order of their ids."""
        ...

    async def revoke(self, key_id: UUID, at: datetime) -> None:
        """Raises NotFound, also for a key that was revoked before."""
        ...

    async def touch(self, key_id: UUID, at: datetime) -> None:
        """Notes when the key was last used."""
        ...


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to a request that carried an Idempotency-Key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class IdempotencyKeys(Protocol):
    async def claim(self, caller: str, key: str, fingerprint: bytes, at: datetime) -> StoredAnswer | None:
        """Takes the key for a request that is about to be carried out: None. Used before: the first answer.

        A key is forgotten a day after its use, a claim without an answer ten minutes after it was made.
        Raises IdempotencyKeyReused when the fingerprint differs, Busy while the first request is at work.
        """
        ...

    async def answer(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keeps the answer for those who ask again."""
        ...

    async def forget(self, before: datetime) -> int:
        """Forgets keys used before then; how many."""
        ...

    async def release(self, caller: str, key: str) -> None:
        """Gives a claim back: nothing was done, the next request may try."""
        ...


class Transaction(Protocol):
    """One short transaction; commits when its block ends, rolls back when it raises."""

    companies: Companies
    connections: Connections
    mappings: Mappings
    option_mappings: OptionMappings
    couplings: Couplings
    waiting: WaitingRecords
    jobs: SynchJobs
    synch_log: SynchLog
    job_queue: JobQueue
    watches: Watches
    api_keys: ApiKeys
    idempotency: IdempotencyKeys
    workers: Workers


class UnitOfWork(Protocol):
    """Opens transactions. Never held while another system is waited for."""

    def __call__(self) -> AbstractAsyncContextManager[Transaction]: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What every use case is given: the memory, the two sides, the time."""

    uow: UnitOfWork
    sides: SideFactory
    clock: Clock
    new_id: Callable[[], UUID]  # time-ordered, so that rows written together lie together


# --- time -----------------------------------------------------------------------------------------


class JobStopped(Exception):
    """A job is to stop here. Not an error of the integration: use cases let it pass."""


class Fenced(JobStopped):
    """Another worker has taken the job; nothing more may be written for it."""


class Cancelled(JobStopped):
    """Somebody cancelled the job."""


class Draining(JobStopped):
    """The worker is stopping; another one continues the job."""


class Report(Protocol):
    """How a running job tells how far it came, and hears whether to go on."""

    async def progress(
        self, direction: str, counts: Counts, expected: int | None = None, tx: Transaction | None = None
    ) -> None:
        """Call it after every page; `counts` are all of that direction so far, `expected` the rows there
        will be to read.

        With the page's own transaction both commit or neither does: it raises Fenced, which must undo the
        page, and nothing else; ask `go_on` before the next page. Without one it asks `go_on` itself.
        """
        ...

    def go_on(self) -> None:
        """Call it before every page. Raises Cancelled, Draining or Fenced when the job is to stop here."""
        ...


class Handler(Protocol):
    """Carries out the jobs of one kind."""

    async def __call__(self, ctx: Context, company: Company, job: SynchJob, report: Report, /) -> None: ...
