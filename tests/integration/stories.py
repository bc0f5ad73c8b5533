"""What people did to a record, what the service made of it, and whether it was allowed to.

Whatever a side shows differently from before, without a person having done it, was done by the service. It may
carry a value over, create a partner and delete one; it may never write a value that nobody entered, nor write over
or delete what a person entered since both sides last agreed, unless a rule or a person chose the other side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.domain.mapping import DeletionConflictResolution, UpdateConflictResolution
from app.domain.records import Side, Snapshot

SHOWN = Mapping[str, str]
WINNERS = {
    UpdateConflictResolution.SEND_TO_CRM: Side.NAV,
    UpdateConflictResolution.GET_FROM_CRM: Side.CRM,
}


@dataclass(frozen=True)
class Kind:
    """A mapping, the fields that people change, and the field that tells which record it is."""

    mapping: str
    table: str
    entity: str
    fields: Mapping[str, str]
    tag: tuple[str, str]
    implied: tuple[str, ...] = ()

    def place(self, side: Side) -> str:
        """The table or entity."""
        return self.table if side is Side.NAV else self.entity

    def names(self, side: Side) -> list[str]:
        """The fields to look at."""
        fields = self.fields.keys() if side is Side.NAV else self.fields.values()
        return [*fields, self.tag_on(side)]

    def tag_on(self, side: Side) -> str:
        """The field that is never changed."""
        return self.tag[0] if side is Side.NAV else self.tag[1]

    def shown(self, record: Snapshot, side: Side) -> dict[str, str]:
        """The values of a record, by NAV's names."""
        return {
            name: str(record.values.get(name if side is Side.NAV else there) or "")
            for name, there in self.fields.items()
        }


CUSTOMERS = Kind(
    "CUSTOMER",
    "customers",
    "account",
    {"Name": "name", "City": "address1_city", "Phone_No": "telephone1"},
    ("Fax_No", "fax"),
)
CONTACTS = Kind(
    "CONTACT",
    "contacts",
    "contact",
    {"Pager": "pager", "Mobile_Phone_No": "mobilephone"},
    ("Address_2", "address1_line2"),  # companies pass their fax number on to their contacts
    implied=("First_Name", "Surname", "Type"),
)
KINDS = (CUSTOMERS, CONTACTS)


@dataclass(frozen=True)
class Rules:
    """What the mappings say, and which fields they leave alone because their rows are switched off."""

    update: UpdateConflictResolution = UpdateConflictResolution.MERGE
    deletion: DeletionConflictResolution = DeletionConflictResolution.NONE
    off: frozenset[str] = frozenset()


@dataclass
class Story:
    """One record, on whichever sides it is."""

    kind: Kind
    tag: str
    shown: dict[Side, SHOWN | None] = field(default_factory=lambda: {Side.NAV: None, Side.CRM: None})
    agreed: dict[str, set[str]] = field(default_factory=dict)  # what both may have agreed on last, by field
    past: dict[Side, list[SHOWN]] = field(default_factory=lambda: {Side.NAV: [], Side.CRM: []})
    chosen: Side | None = None  # whose values a person wants to win, whatever they overwrite
    deleted: bool = False
    needed: bool = False  # another record hangs on it
    company: "Story | None" = None

    def __post_init__(self) -> None:
        self.never_agreed()

    @property
    def paired(self) -> bool:
        """Whether it is on both sides."""
        return None not in self.shown.values()

    def never_agreed(self) -> None:
        """Both sides know each other anew: blanks may be filled, differences are conflicts."""
        self.agreed = {name: {""} for name in self.kind.fields}

    def begin(self) -> None:
        """The service is about to do something."""
        self.past = {side: [shown] if shown is not None else [] for side, shown in self.shown.items()}

    # --- what people do ---

    def entered(self, side: Side, values: SHOWN) -> None:
        """A person created or changed the record."""
        self.shown[side] = dict(values)
        self.past[side].append(dict(values))

    def removed(self, side: Side) -> None:
        """A person deleted the record."""
        self.shown[side], self.deleted = None, True

    # --- what the service did ---

    def seen(self, now: Mapping[Side, SHOWN | None], rules: Rules) -> None:
        """Takes in what both sides show; all that is new was done by the service."""
        for side, other in ((Side.NAV, Side.CRM), (Side.CRM, Side.NAV)):
            before, after = self.shown[side], now[side]
            if before is not None and after is None:
                self._may_delete(side, before, rules)
            elif after is not None:
                for name, value in after.items():
                    if before is None or before[name] != value:
                        self._carried(name, value, before, side, other, rules)
        self.shown = dict(now)
        for side, after in now.items():
            if after is not None:
                self.past[side].append(after)

    def _may_delete(self, side: Side, before: SHOWN, rules: Rules) -> None:
        told = f"{self.tag} was deleted in {side}"
        assert rules.deletion is DeletionConflictResolution.PROPAGATE, f"{told} by nobody"
        assert self.deleted, f"{told}, and nobody deleted its partner"
        carried = {name: value for name, value in before.items() if name not in rules.off}
        unseen = {name: value for name, value in carried.items() if value not in self.agreed[name]}
        assert not unseen, f"{told} with {unseen}, which was never carried over"

    def _carried(
        self, name: str, value: str, before: SHOWN | None, side: Side, other: Side, rules: Rules
    ) -> None:
        old = before[name] if before is not None else None
        told = f"{self.tag}.{name} in {side}: {old!r} became {value!r}"
        sources = {shown[name] for shown in self.past[other]}
        if old is None and not value and name in rules.off:
            self.agreed[name] = {""}  # a new record without it: nothing was agreed on with that one
            return
        assert value in sources, f"{told}, while {other} showed {sorted(sources)}"
        if old is not None and old not in self.agreed[name] and self.chosen is not other:
            decided = WINNERS.get(rules.update) is other and self.agreed[name] != {value}
            assert decided, f"{told}: an edit was lost; they had agreed on {self.agreed[name]}"
        self.agreed[name] = {value}

    # --- what must be so in the end ---

    def equal(self, rules: Rules, *, surely: bool) -> None:
        """Where both show the same, they may agree on it; they surely do when a run was over and nothing failed."""
        ours, theirs = self.shown[Side.NAV], self.shown[Side.CRM]
        if ours is None or theirs is None:
            return
        for name in self.kind.fields:
            if ours[name] == theirs[name]:
                looked = surely and name not in rules.off
                self.agreed[name] = {ours[name]} if looked else self.agreed[name] | {ours[name]}

    @property
    def differing(self) -> list[str]:
        """The fields in which both sides differ."""
        ours, theirs = self.shown[Side.NAV], self.shown[Side.CRM]
        if ours is None or theirs is None:
            return []
        return [name for name in self.kind.fields if ours[name] != theirs[name]]

    def may_conflict(self, rules: Rules) -> bool:
        """Whether people changed the record on both sides since they agreed, as the mapping understands it."""
        if rules.update in WINNERS:
            return False
        if rules.update is UpdateConflictResolution.NONE:
            return all(self._changed(side) for side in Side)
        return any(self._both_changed(name) for name in self.differing)

    def _changed(self, side: Side) -> bool:
        shown = self.shown[side]
        return shown is not None and any(self.agreed[name] != {shown[name]} for name in self.differing)

    def _both_changed(self, name: str) -> bool:
        values = {shown[name] for shown in self.shown.values() if shown is not None}
        return bool(self.agreed[name] - values)
