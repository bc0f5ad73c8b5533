"""decide(): what synchronizing one record would do, and why.

A field has three values: what the source wants, what the destination shows, and the base both agreed on
last. Clocks never decide. A missing base counts as blank: a freshly coupled pair fills each other's
blanks, and where both hold something different it is a conflict (nav-behaviour 6.4, 18.3).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.domain import conversion
from app.domain.cell import Route, Shape
from app.domain.coupling import Base
from app.domain.errors import IntegrationError
from app.domain.mapping import Direction, UpdateConflictResolution
from app.domain.records import FieldDefinition, Side, Snapshot, Value, Values
from app.domain.transfer import Translation


@dataclass(frozen=True, slots=True)
class Create:
    """The destination has no such record: create it with these values."""

    values: Values


@dataclass(frozen=True, slots=True)
class Modify:
    """Write these fields."""

    changes: Values


@dataclass(frozen=True, slots=True)
class AlreadyEqual:
    """Both sides show the same; only our memory of it is older."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source did not change."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Left alone, for a reason that is not a failure; the error's code is the reason."""

    error: IntegrationError


@dataclass(frozen=True, slots=True)
class Clash:
    """One field that both sides changed to different values."""

    field: str
    wanted: Value
    found: Value
    base: Value


@dataclass(frozen=True, slots=True)
class Conflict:
    """Both sides changed; nothing is written."""

    clashes: tuple[Clash, ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """The record cannot be transferred."""

    error: IntegrationError


Plan = Create | Modify | AlreadyEqual | Unchanged | Skip | Conflict | Fail

SKIPPED_REASONS = frozenset(
    {
        "contact-without-account",
        "contact-without-company",
        "contact-type-not-person",
        "filtered",
        "currency-without-iso",
    }
)
"""Errors that leave a record out with a reason instead of failing it (seed-checklist, decisions and E)."""


def why_not(error: IntegrationError) -> Skip | Fail:
    """An error of the translation as a plan."""
    if error.code in SKIPPED_REASONS:
        return Skip(error)
    return Fail(error)


def decide(
    shape: Shape,
    run: Direction,
    source: Values,
    found: Values | None,
    translation: Translation,
    base: Base | None,
    *,
    force: bool,
) -> Plan:
    """What to do with the destination of a one-way run.

    `force` is Synchronize Now with a direction: the source wins every field.
    """
    if translation.error is not None:
        return why_not(translation.error)
    if found is None:
        return Create(dict(translation.wanted))
    cells = _differing(shape, run, source, found, translation, base or Base())
    policy = shape.mapping.update_conflict_resolution
    if not force and (clashes := _clashes(cells, policy)):
        return Conflict(clashes)
    changes = {cell.name: cell.wanted for cell in cells if force or cell.flows(run, policy)}
    if changes:
        return Modify(changes)
    return Unchanged() if cells else AlreadyEqual()


@dataclass(frozen=True, slots=True)
class _Cell:
    """A field in which the destination does not show what the source wants."""

    name: str
    wanted: Value
    found: Value
    base: Value
    two_way: bool
    source_changed: bool
    found_changed: bool
    may_wait: bool
    """Whether a change of it may be still to come until somebody does something: an owner who is no salesperson."""

    @property
    def clashes(self) -> bool:
        return self.two_way and self.source_changed and self.found_changed

    def flows(self, run: Direction, policy: UpdateConflictResolution) -> bool:
        if not self.two_way:
            return True  # one-way: the source always wins
        if self.clashes:
            return winner(policy) is run.source
        return self.source_changed


def winner(policy: UpdateConflictResolution) -> Side | None:
    """The side whose value counts where both changed a field; None where a person is asked."""
    match policy:
        case UpdateConflictResolution.SEND_TO_CRM:
            return Side.NAV
        case UpdateConflictResolution.GET_FROM_CRM:
            return Side.CRM
        case UpdateConflictResolution.NONE | UpdateConflictResolution.MERGE:
            return None


def _clashes(cells: list[_Cell], policy: UpdateConflictResolution) -> tuple[Clash, ...]:
    if winner(policy) is not None:
        return ()
    both = [cell for cell in cells if cell.clashes]
    if policy is UpdateConflictResolution.NONE and not both:
        # NAV's record rule: changed on both sides, whichever the fields (nav-behaviour 6.4)
        ours = [cell for cell in cells if cell.two_way and cell.source_changed]
        theirs = [cell for cell in cells if cell.two_way and cell.found_changed and not cell.may_wait]
        both = [*ours, *theirs] if ours and theirs else []
    return tuple(Clash(cell.name, cell.wanted, cell.found, cell.base) for cell in both)


def _differing(
    shape: Shape, run: Direction, source: Values, found: Values, translation: Translation, base: Base
) -> list[_Cell]:
    cells = []
    for route in shape.routes(run):
        target = route.target
        if target is None or target.name not in translation.wanted:
            continue
        wanted, shown = translation.wanted[target.name], found.get(target.name)
        if wanted is not shown and not conversion.equal(wanted, shown, target, route.origin):
            cells.append(_cell(route, target, run, source, wanted, shown, base))
    return cells


def _cell(
    route: Route,
    target: FieldDefinition,
    run: Direction,
    source: Values,
    wanted: Value,
    shown: Value,
    base: Base,
) -> _Cell:
    row, origin = route.row, route.origin
    agreed = base.on(run.destination).get(target.name)
    source_changed = origin is None or not conversion.equal(
        source.get(origin.name), base.on(run.source).get(origin.name), origin
    )
    found_changed = not conversion.equal(shown, agreed, target)
    if row.clear_value_on_failed_synch and agreed in (None, "") and not found_changed:
        # It may have been cleared for want of a partner: what the source has is still to come.
        source_changed = True
    return _Cell(
        name=target.name,
        wanted=wanted,
        found=shown,
        base=agreed,
        two_way=row.direction is Direction.BIDIRECTIONAL and row.rule != "blocked_when_inactive",
        source_changed=source_changed,
        found_changed=found_changed,
        may_wait=row.rule == "owner",
    )


def rebase(
    shape: Shape,
    run: Direction,
    source: Snapshot,
    after: Snapshot,
    translation: Translation,
    base: Base | None,
    *,
    written: Collection[str] = (),
    created: bool = False,
) -> Base:
    """What both sides agree on after a run, given the source as it was read and the destination as it is now.

    A two-way field is agreed on when the destination shows what the source wants; until then its old base
    stays, so that the change of the other side is still seen as one. Of a field that was `written` by this run the
    destination may show something else, where CRM rounds it, cuts it or has a plug-in write it its own way: that is
    nobody's change, or the two would be in conflict for ever. Fields of one-way rows are simply
    remembered, except the source of a row that this run does not carry: what changed there is still to come.
    A version is kept only when the base holds every mapped value the record of that version has: then, and
    only then, "same version" means "same values as the base".

    `created` tells that the destination was made by this run: what creation itself put into fields that we
    leave alone (the owner, the status) is nobody's change.
    """
    here, there = run.source, run.destination
    old = base or Base()
    ours: dict[str, Value] = dict(old.on(here))
    theirs: dict[str, Value] = dict(old.on(there))
    wanted, shown, read = translation.wanted, after.values, source.values
    for known, left in shape.left_alone(run):
        if known is not None:
            ours[known] = read.get(known)
        if left is not None and created:
            theirs[left] = shown.get(left)
    sent, arrived = shape.one_way(run)
    ours.update((name, read.get(name)) for name in sent)
    theirs.update((name, shown.get(name)) for name in arrived)
    for route, origin, name in shape.either_way(run):
        found, kept = shown.get(name), name in translation.kept
        if kept and here is Side.CRM and route.row.rule == "owner" and old.on(here).get(origin) is not None:
            continue  # the owner stands for no salesperson yet: a change of it is still to come
        # A blank that we wrote and that shows something got it from a template: that is news for the source.
        ours_alone = name in written and not (created and wanted.get(name) in (None, ""))
        agreed = ours_alone or (name in wanted and _shows(route, wanted[name], found))
        if origin and (agreed or kept):
            ours[origin] = read.get(origin)
        if (agreed and not kept) or (kept and created):
            theirs[name] = found
    our_version = (source.version if covers(shape, here, ours, read) else None) or None
    their_version = (after.version if covers(shape, there, theirs, shown) else None) or None
    if here is Side.NAV:
        return Base(ours, theirs, our_version, their_version)
    return Base(theirs, ours, their_version, our_version)


def _shows(route: Route, wanted: Value, shown: Value) -> bool:
    """Whether the destination shows what the source wants."""
    return wanted is shown or (
        route.target is not None and conversion.equal(wanted, shown, route.target, route.origin)
    )


def covers(shape: Shape, side: Side, base: Mapping[str, Value], values: Values) -> bool:
    """Whether the base of that side holds every mapped value that the record shows."""
    mapped = shape.mapped(side)
    try:
        if mapped(base) == mapped(values):
            return True  # nearly always
    except KeyError:
        pass  # a field that nothing is known of yet
    fields = shape.definition(side).fields
    for name in shape.mapping.names_on(side):
        shown, held = values.get(name), base.get(name)
        if shown is not held and name in fields and not conversion.equal(shown, held, fields[name]):
            return False
    return True
