"""Coupling: the pair of ids that says "these two records are the same thing"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from app.domain.errors import IntegrationError
from app.domain.records import Side, Values


class CouplingStatus(StrEnum):
    """A reserved coupling is an intent: its partner may not exist yet, but its id is chosen."""

    RESERVED = "reserved"
    COUPLED = "coupled"


class SynchAction(StrEnum):
    """What became of one record of a synchronization."""

    INSERTED = "inserted"
    MODIFIED = "modified"
    UNMODIFIED = "unmodified"
    DELETED = "deleted"
    SKIPPED = "skipped"
    FAILED = "failed"
    COUPLED = "coupled"
    UNCOUPLED = "uncoupled"


class SynchResult(StrEnum):
    """How the last synchronization of a coupling ended."""

    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record failed, as it is shown everywhere."""

    code: str
    message: str
    fix: str | None = None
    retryable: bool = False

    @classmethod
    def of(cls, error: IntegrationError) -> "Failure":
        """The failure that an error of ours stands for."""
        return cls(error.code, error.detail, error.fix, error.retryable)


@dataclass(slots=True, eq=False)
class Base:
    """The values both sides had when they last agreed, each in its own terms, and the versions they had. Nobody
    changes it (see Snapshot).

    A version is missing when the side did not say it after our last write; the next read tells it.
    """

    nav: Values = field(default_factory=dict)
    crm: Values = field(default_factory=dict)
    nav_version: str | None = None
    crm_version: str | None = None

    def __eq__(self, other: object) -> bool:
        """Whether it says the same, however it is kept."""
        return isinstance(other, Base) and all(
            getattr(self, each.name) == getattr(other, each.name) for each in fields(Base)
        )

    __hash__ = None  # type: ignore[assignment]  # its values may be dictionaries

    def on(self, side: Side) -> Values:
        """The base values of that side."""
        return self.nav if side is Side.NAV else self.crm

    def version(self, side: Side) -> str | None:
        """The version the record of that side had."""
        return self.nav_version if side is Side.NAV else self.crm_version


@dataclass(slots=True)
class Intent:
    """A write to `side` that was sent: the values of both sides it is about. It is kept until the answer is
    remembered, so that after a crash what we wrote ourselves is not taken for somebody's change. Nobody changes it
    (see Snapshot)."""

    side: Side
    nav: Values = field(default_factory=dict)
    crm: Values = field(default_factory=dict)

    def on(self, side: Side) -> Values:
        """The values it is about on that side."""
        return self.nav if side is Side.NAV else self.crm

    def then(self, later: "Intent | None") -> "Intent":
        """This one and a later one together: what this one achieved is not remembered either until that is."""
        if later is None:
            return self
        if later.side is not self.side:
            return later
        return Intent(self.side, {**self.nav, **later.nav}, {**self.crm, **later.crm})


@dataclass(slots=True)
class Coupling:
    """Two coupled records. `base` is missing until they have been synchronized once. Nobody changes it (see Snapshot).

    `edition` is that of the mapping when the base was agreed on: its versions speak of the fields the mapping had then.
    `replacing` says that the intent is to create a new partner, whose coupling takes the place of this one.
    `revision` counts the writes of this row and guards them against each other.
    """

    id: UUID
    mapping: str
    nav_table: str
    nav_id: UUID
    nav_key: str
    crm_entity: str
    crm_id: UUID
    status: CouplingStatus = CouplingStatus.COUPLED
    base: Base | None = None
    edition: int = 0
    last_synch_at: datetime | None = None
    last_synch_action: SynchAction | None = None
    last_synch_result: SynchResult | None = None
    last_error: Failure | None = None
    last_job_id: UUID | None = None
    skipped: bool = False
    intent: Intent | None = None
    replacing: bool = False
    revision: int = 0

    def id_on(self, side: Side) -> UUID:
        """The record's id on that side."""
        return self.nav_id if side is Side.NAV else self.crm_id

    def table_on(self, side: Side) -> str:
        """The record's table or entity on that side."""
        return self.nav_table if side is Side.NAV else self.crm_entity

    def agreed(
        self,
        base: Base,
        action: SynchAction,
        at: datetime,
        job_id: UUID | None = None,
        *,
        nav_key: str = "",
        edition: int = 0,
    ) -> "Coupling":
        """The coupling after a successful synchronization under that edition of its mapping, with the key that the NAV
        record has now."""
        return Coupling(  # `replace` would take three times as long
            id=self.id,
            mapping=self.mapping,
            nav_table=self.nav_table,
            nav_id=self.nav_id,
            nav_key=nav_key or self.nav_key,
            crm_entity=self.crm_entity,
            crm_id=self.crm_id,
            base=base,
            edition=edition,
            last_synch_at=at,
            last_synch_action=action,
            last_synch_result=SynchResult.SUCCESS,
            last_job_id=job_id or self.last_job_id,
            skipped=self.skipped,
            replacing=self.replacing,
            revision=self.revision,
        )

    def failed(self, failure: Failure, at: datetime, job_id: UUID | None = None) -> "Coupling":
        """The coupling after a failure.

        The same permanent failure twice in a row marks it skipped (nav-behaviour 14): background
        runs leave it alone until somebody restores it.
        """
        before = self.last_error if self.last_synch_result is SynchResult.FAILURE else None
        if before is not None and job_id is not None and job_id == self.last_job_id:
            # Both directions of one run are one time; what is the same trouble keeps its first words.
            told = before if before.code == failure.code else failure
            return replace(self, last_synch_at=at, last_error=told)
        again = (
            before is not None
            and (before.code, before.message) == (failure.code, failure.message)
            and not failure.retryable
        )
        return replace(
            self,
            last_synch_at=at,
            last_synch_action=SynchAction.FAILED,
            last_synch_result=SynchResult.FAILURE,
            last_error=failure,
            last_job_id=job_id or self.last_job_id,
            skipped=self.skipped or again,
        )

    def restored(self) -> "Coupling":
        """Taken back into synchronization; its last failure stays visible until it succeeds."""
        return replace(self, skipped=False)


class Change(NamedTuple):
    """One field that a synchronization wrote, or would write."""

    side: Side
    field: str
    old: object
    new: object


@dataclass(slots=True)
class Changes:
    """The fields of one side that a synchronization wrote, or would write. The old values are what the record held: a
    field that is not among them held nothing, and others are of no account. Nobody changes it (see Snapshot)."""

    side: Side
    new: Values
    old: Values = field(default_factory=dict)

    def __iter__(self) -> Iterator[Change]:
        """Field by field."""
        for name, value in self.new.items():
            yield Change(self.side, name, self.old.get(name), value)

    def __len__(self) -> int:
        """How many fields."""
        return len(self.new)

    def __add__(self, more: "Changes") -> "Changes":
        """What was written in two steps."""
        first = {name: self.old.get(name) for name in self.new}
        return Changes(more.side, {**self.new, **more.new}, {**more.old, **first})


NO_CHANGES: Final = Changes(Side.NAV, {})


@dataclass(slots=True)
class Outcome:
    """What became of one record, as it is logged. Nobody changes it (see Snapshot)."""

    action: SynchAction
    direction: str | None = None
    nav_table: str | None = None
    nav_key: str | None = None
    nav_id: UUID | None = None
    crm_entity: str | None = None
    crm_id: UUID | None = None
    coupling_id: UUID | None = None
    reason: str | None = None  # a stable word, such as `filtered` or `contact-without-account`
    message: str | None = None
    error: Failure | None = None
    changes: Changes = field(default_factory=lambda: NO_CHANGES)
    extra: Mapping[str, str] = field(default_factory=dict)
