"""What is kept of a record after a run: its coupling, its line in the log, and its name in words."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.domain.coupling import Base, Coupling, Failure, Outcome, SynchAction
from app.domain.errors import CouplingSkipped, StaleRecord, UpdateConflict
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.plan import Clash, Create, rebase
from app.domain.records import Reference, Side, Value
from app.use_cases.items import Item
from app.use_cases.setting import Setting


def coupling_after(
    setting: Setting, run: Direction, item: Item, at: datetime, job_id: UUID | None, *, force: bool
) -> Coupling | None:
    """The coupling as it is to be saved, or None when there is nothing new to say.

    A success does not clear the failure of the other direction: as long as a change of theirs is still to
    come, the record stays among those that are tried again. `force` chose a side, which settles it.
    """
    if item.coupling is None or item.release or item.uncouple:
        return None
    coupling = adopted(setting, item.coupling)
    if item.action is SynchAction.FAILED and item.error is not None:
        if item.replaced is not None:
            return None  # the old coupling stands as it was
        nav = item.source if run.source is Side.NAV else item.found
        named = coupling if nav is None else replace(coupling, nav_key=nav.key)
        return named.failed(Failure.of(item.error), at, job_id)
    if item.action is SynchAction.SKIPPED or item.after is None or item.action is None:
        return None
    created = isinstance(item.plan, Create)
    base = rebase(
        setting.shape,
        run,
        item.source,
        item.after,
        item.translation,
        coupling.base,
        written=item.written,
        created=created,
    )
    if coupling.mapping != setting.mapping.name:
        base = Base(base.nav, base.crm)  # a version says that nothing changed for the mapping of the coupling
    both_ways = setting.mapping.direction is Direction.BIDIRECTIONAL
    if coupling.last_error is not None and both_ways and not force and not base.version(run.destination):
        return replace(coupling, base=base, edition=setting.edition)
    looked_from_there = created or setting.version(item.coupling, run.destination) is not None
    if both_ways and not looked_from_there and setting.shape.left_alone(run):
        base = _seen_from(run.source, base)
    key = item.source.key if run.source is Side.NAV else item.after.key
    return coupling.agreed(base, item.action, at, job_id, nav_key=key, edition=setting.edition)


def adopted(setting: Setting, coupling: Coupling) -> Coupling:
    """The coupling; one whose mapping is gone belongs to this one now, which has seen none of its versions. Runs find
    what failed, and what is gone, by the mapping."""
    if coupling.mapping in setting.mappings or not setting.couples_like(coupling):
        return coupling
    base = None if coupling.base is None else Base(coupling.base.nav, coupling.base.crm)
    return replace(coupling, mapping=setting.mapping.name, base=base)


def _seen_from(side: Side, base: Base) -> Base:
    """The base with the version of that side alone. The other direction has not looked at the record under the mapping
    as it is now: its own rows may bring a constant, a blank, or the same value in other words."""
    if side is Side.NAV:
        return Base(base.nav, base.crm, nav_version=base.nav_version)
    return Base(base.nav, base.crm, crm_version=base.crm_version)


def outcome(setting: Setting, run: Direction, item: Item) -> Outcome:
    """The item as the log and the API show it."""
    nav = item.source if run.source is Side.NAV else item.after or item.found
    coupling = item.coupling
    known_key = (coupling.nav_key or None) if coupling else None
    from_crm = item.source.id if run.source is Side.CRM else None
    return Outcome(
        action=item.action or SynchAction.UNMODIFIED,
        direction=run.value,
        nav_table=setting.mapping.nav_table,
        nav_key=nav.key if nav else known_key,
        nav_id=coupling.nav_id if coupling else None,
        crm_entity=setting.mapping.crm_entity,
        crm_id=coupling.crm_id if coupling else from_crm,
        coupling_id=coupling.id if coupling else None,
        reason=item.error.code if item.error and item.action is SynchAction.SKIPPED else None,
        message=told(item),
        error=Failure.of(item.error) if item.error and item.action is SynchAction.FAILED else None,
        changes=item.changes,
        extra={"mapping": setting.mapping.name},
    )


def told(item: Item) -> str | None:
    """What there is to say about a record that did not fail: why it was left alone, what was left out, and that
    whoever synchronized it has not taken it back into background runs (nav-behaviour 6.6)."""
    if item.error is not None and item.action is SynchAction.SKIPPED:
        return item.error.detail
    notes = list(item.translation.notes)
    if item.coupling is not None and item.coupling.skipped and item.error is None:
        restore = f"POST …/couplings/{item.coupling.id}/restore"
        notes.append(f"Background runs still leave it out: {restore} takes it back.")
    return "; ".join(notes) or None


def named(setting: Setting, run: Direction, item: Item) -> str:
    """The record in words, both halves where they are known."""
    here = f"{setting.shape.definition(run.source).label} {item.source.key}"
    if item.coupling is None or item.reserved:
        return here
    there = item.coupling.crm_id if run.source is Side.NAV else item.coupling.nav_key
    return f"{here} (coupled with {setting.mapping.table_on(run.destination)} {there})"


def skipped(named: str, coupling: Coupling) -> CouplingSkipped:
    """The reason why background runs leave a record alone."""
    return CouplingSkipped(
        f"{named} is skipped: it failed twice in the same way.",
        fix=f"POST …/couplings/{coupling.id}/restore takes it back.",
    )


def overtaken(named: str) -> StaleRecord:
    """The error of a record whose coupling was written since it was read."""
    return StaleRecord(f"{named} was synchronized by somebody else meanwhile.", fix="Try again.")


def vanished(named: str) -> StaleRecord:
    """The error of a record that was there, and coupled, when its synchronization began."""
    return StaleRecord(
        f"{named} was deleted or uncoupled by somebody else meanwhile.",
        fix="GET the record: if it is there without a coupling, PUT …/coupling couples it again.",
    )


def conflict(named: str, coupling: Coupling, clashes: Sequence[Clash]) -> UpdateConflict:
    """The error of a record that both sides changed, with the three values of each field."""
    fields = "; ".join(
        f"{clash.field}: wanted {shown(clash.wanted)}, found {shown(clash.found)}, "
        f"last agreed on {shown(clash.base)}"
        for clash in clashes
    )
    return UpdateConflict(
        f"Both sides changed {named} since they last agreed. {fields}",
        fix=f"Choose a side: POST {address_of(coupling.nav_table, coupling.nav_key)}/synchronize with direction to_crm "
        "or from_crm.",
        extra={"fields": [clash.field for clash in clashes]},
    )


def shown(value: Value) -> str:
    """A value in a sentence."""
    if value is None or value == "":
        return "nothing"
    return str(value.id if isinstance(value, Reference) else value)
