"""Writing what was decided, in one set: the intents first, then the writes, then what their answers tell.

A write within the transaction that remembers it needs no intent: either both happened or nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from app.domain import intents
from app.domain.coupling import NO_CHANGES, Coupling, CouplingStatus, Intent, SynchAction
from app.domain.errors import CrmRecordNotFound, NavRecordNotFound, StaleRecord
from app.domain.mapping import Direction
from app.domain.plan import Create, Modify
from app.domain.records import Values
from app.ports import Context, Insert, RecordStore, Refused, Update, Write, Written
from app.use_cases import remembering
from app.use_cases.items import Item
from app.use_cases.setting import Setting


async def act(
    ctx: Context,
    setting: Setting,
    run: Direction,
    todo: Sequence[Item],
    *,
    background: bool,
    within: RecordStore | None = None,
) -> list[Item]:
    """Writes the set. Returns the records that have to be looked at again.

    `within` is the destination as a part of the transaction that remembers what becomes of the set.

    A creation that is refused in the `background` stays reserved: its record is tried again by the next run, and
    skipped and shown like any other that fails twice. Whoever asked for one record is told, and nothing remains.
    """
    again: list[Item] = []
    decided: list[Item] = []
    for item in todo:
        if item.settled or item.coupling is None:
            continue
        if isinstance(item.plan, Create) and not item.reserved and not item.looked:
            item.plan = None  # somebody else coupled it meanwhile
        (again if item.plan is None else decided).append(item)
    if within is None:
        await _note(ctx, setting, run, decided)
        decided = [item for item in decided if not item.settled]
    if not decided:
        return again
    writes = [_write_of(setting, run, item) for item in decided]
    store = within or setting.side(run.destination)
    answers = await store.write(setting.mapping.table_on(run.destination), writes)
    for item, write, answer in zip(decided, writes, answers, strict=True):
        if not _answered(setting, run, item, write, answer):
            again.append(item)
        elif item.release and background and item.replaced is None:
            item.release = False
    return again


# --- intents ----------------------------------------------------------------------------------------------


def intent_of(setting: Setting, run: Direction, item: Item) -> Intent | None:
    """What writing the record is about, for those who find it after a crash."""
    wanted = item.translation.wanted
    written: Values = item.plan.changes if isinstance(item.plan, Modify) else wanted
    return intents.intended(setting.shape, run, item.source.values, wanted, written)


def settle(setting: Setting, run: Direction, item: Item) -> None:
    """Takes what an earlier attempt achieved for agreed. The record on the written side must have been looked at."""
    held = item.coupling
    if held is None or held.intent is None:
        return
    item.noted = held.intent
    shown = item.source if held.intent.side is run.source else item.found
    item.coupling = intents.settled(setting.shape, held, shown.values if shown else None)


async def _note(ctx: Context, setting: Setting, run: Direction, items: Sequence[Item]) -> None:
    """Saves the intents before the other side hears of them, in one short transaction. A reservation came with
    its own.

    Where an earlier write may have got through, what it achieved is saved too. An intent in its place would take the
    outcome of the earlier one for an edit, or for its own. Fails the records whose coupling somebody else wrote since
    it was read: nothing may be written then, and they go round again when they cannot be remembered. Whoever asked for
    a new partner is told.
    """
    noted: list[Coupling] = []
    looked: list[Item] = []
    for item in items:
        if item.noted is not None and item.noted is item.held.intent:
            continue  # saved with the reservation
        intent, earlier, stored = intent_of(setting, run, item), item.noted, item.held.intent
        if item.replaced is not None and earlier is not None:
            # All that the old coupling says counts as agreed once the new partner is there.
            intent = earlier if item.repeated else earlier.then(intent)
        item.coupling = replace(item.held, intent=intent)
        item.noted = intent if earlier is None else earlier.then(intent)
        if item.replaced is not None:
            # The new coupling is not saved yet: the old one says what is to take its place.
            item.replaced = replace(item.replaced, intent=intent or Intent(run.destination), replacing=True)
            noted.append(item.replaced)
        elif earlier is not None or item.repeated:
            looked.append(item)
        elif intent is not None or stored is not None:
            noted.append(item.coupling)
    if not noted and not looked:
        return
    async with ctx.uow() as tx:
        written = await tx.couplings.intend(setting.company.id, noted)
        written |= await tx.couplings.save(setting.company.id, [item.held for item in looked])
    for item in looked:
        if item.held.id in written:
            item.coupling = replace(item.held, revision=item.held.revision + 1)
    overtaken = {one.id for one in (*noted, *(item.held for item in looked))} - written
    for item in items:
        if (item.replaced or item.held).id in overtaken:
            item.fail(remembering.overtaken(remembering.named(setting, run, item)))
            item.changes = NO_CHANGES


# --- writes and their answers -------------------------------------------------------------------------------


def _write_of(setting: Setting, run: Direction, item: Item) -> Write:
    there = run.destination
    target, asked = item.held.id_on(there), setting.fields(there)
    match item.plan:
        case Create(values):
            return Insert(target, values, fields=asked)
        case Modify(changes):
            version = item.found.version if item.found else None
            return Update(target, changes, version or None, asked)
        case _:
            named = remembering.named(setting, run, item)
            raise RuntimeError(f"{named}: nothing to write for {item.plan!r}")


def _answered(setting: Setting, run: Direction, item: Item, write: Write, answer: Written | Refused) -> bool:
    """Takes the destination's answer in; False when the record has to be looked at again."""
    if isinstance(answer, Written) and answer.snapshot is not None:
        item.after = answer.snapshot
        if item.found is not None:  # what the answer does not show is as it was
            item.after = replace(item.after, values={**item.found.values, **item.after.values})
        if isinstance(write, Insert) and not answer.created:
            # An earlier attempt got through, and the record may have been changed since: compare.
            if not item.looked:
                # It may even be one that an older memory has forgotten: only what is equal counts as agreed.
                item.coupling = replace(item.held, status=CouplingStatus.COUPLED)
            item.found, item.looked, item.plan = item.after, True, None
            take_up(setting, run, item)
            return False
        item.action = SynchAction.INSERTED if isinstance(write, Insert) else SynchAction.MODIFIED
        return True
    if isinstance(answer, Written):
        named = remembering.named(setting, run, item)
        raise RuntimeError(f"{named}: no record came back from the write")
    if isinstance(answer.error, StaleRecord | CrmRecordNotFound | NavRecordNotFound):
        item.looked, item.plan, item.changes = True, None, NO_CHANGES
        return False
    item.fail(answer.error)
    item.changes = NO_CHANGES
    item.release = item.reserved and not answer.error.retryable
    if not answer.error.retryable:
        item.coupling = replace(item.held, intent=None)  # it is known that nothing was written
    return True


def take_up(setting: Setting, run: Direction, item: Item) -> None:
    """The partner that was reserved turns out to exist: an earlier attempt made it."""
    settle(setting, run, item)
    item.repeated = True
    item.coupling = replace(item.held, status=CouplingStatus.COUPLED)
