"""One record on its way through a run, and how a run treats its records."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from app.domain.coupling import NO_CHANGES, Changes, Coupling, CouplingStatus, Intent, SynchAction
from app.domain.errors import IntegrationError
from app.domain.plan import Create, Modify, Plan
from app.domain.records import Snapshot
from app.domain.transfer import NOTHING, Translation


@dataclass(frozen=True, slots=True)
class Options:
    """How a run treats its records.

    `force`: the source wins every field (Synchronize Now). `create`: uncoupled records are created on the
    destination. `look`: the destination is always read, even where its kept version may still stand (previews,
    comparisons by field). `background`: skipped couplings are left alone. `replace`: the records of these
    couplings get new partners, which take over the couplings once they exist. `alone`: sources that get no partner
    although others do.
    """

    force: bool = False
    create: bool = False
    look: bool = False
    background: bool = True
    preview: bool = False
    replace: frozenset[UUID] = frozenset()
    alone: frozenset[UUID] = frozenset()
    log_unmodified: bool = False


@dataclass(slots=True)
class Item:
    """One record on its way through a run."""

    source: Snapshot
    coupling: Coupling | None = None
    found: Snapshot | None = None
    looked: bool = False
    translation: Translation = field(default_factory=lambda: NOTHING)
    plan: Plan | None = None
    after: Snapshot | None = None
    action: SynchAction | None = None
    error: IntegrationError | None = None
    changes: Changes = field(default_factory=lambda: NO_CHANGES)
    release: bool = False  # the reservation is to go: nothing was created under it
    uncouple: bool = False
    replaced: Coupling | None = None  # the coupling that the new one takes the place of
    job_id: UUID | None = None  # the synch job that logs it, for a record synchronized by itself
    unsaved: bool = False  # its coupling is saved with what becomes of it, in one transaction
    matched: bool = False  # its partner was found by its name; the coupling is not saved yet
    repeated: bool = False  # an earlier attempt had created the record already
    noted: Intent | None = None  # what the stored coupling holds, where this one's own is another

    def fail(self, error: IntegrationError) -> None:
        """The record failed."""
        self.action, self.error = SynchAction.FAILED, error

    def skip(self, error: IntegrationError) -> None:
        """The record was left alone; the error's code is the reason."""
        self.action, self.error = SynchAction.SKIPPED, error

    @property
    def unreadable(self) -> Translation | None:
        """The translation of a record that one of the sides shows with a value that cannot be read."""
        error = self.source.unreadable or (self.found.unreadable if self.found else None)
        return Translation({}, error=error) if error is not None else None

    @property
    def held(self) -> Coupling:
        """The coupling, for records that have one by now."""
        if self.coupling is None:
            raise RuntimeError(f"{self.source.key} is neither coupled nor reserved")
        return self.coupling

    @property
    def reserved(self) -> bool:
        """Whether its coupling is only an intent: the partner may not exist yet."""
        return self.coupling is not None and self.coupling.status is CouplingStatus.RESERVED

    @property
    def written(self) -> Collection[str]:
        """The fields of the write that the destination answered with `after`; none where it was looked at only."""
        match self.plan:
            case Create(values) | Modify(values):
                return values.keys()
            case _:
                return ()

    @property
    def settled(self) -> bool:
        """Whether nothing more will be done to it in this run."""
        return self.action is not None


def foresee(items: Iterable[Item]) -> list[Item]:
    """Notes what acting on the plans would come to. Returns the items whose destination is known from the base
    alone: acting would find out whether that still stands, so it has to be looked at."""
    unsure: list[Item] = []
    for item in items:
        if item.settled:
            continue
        if isinstance(item.plan, Create):
            item.action = SynchAction.INSERTED
        elif isinstance(item.plan, Modify) and item.looked:
            item.action = SynchAction.MODIFIED
        else:
            item.looked, item.plan, item.changes = True, None, NO_CHANGES
            unsure.append(item)
    return unsure
