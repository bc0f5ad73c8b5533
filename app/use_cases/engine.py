"""Synchronizing a set of records in one direction: look, decide, act, remember.

The way of a set: the couplings (one short transaction), the destination where it is not known from the base,
the references of all of it, a decision per record, the new ids saved as reserved couplings, one write of the
whole set, and the memory of what both sides now agree on. One record is a set of one.

A destination whose kept version still stands needs no reading: the write is guarded by that version, and a
refusal (StaleRecord) sends just those records round again with a fresh look.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from typing import assert_never
from uuid import UUID

from app.domain.cell import Lookups
from app.domain.coupling import Changes, Coupling, CouplingStatus, SynchAction
from app.domain.errors import (
    AlreadyCoupled,
    Filtered,
    IntegrationError,
    InvalidMapping,
    PartnerGone,
    StaleRecord,
)
from app.domain.mapping import DeletionConflictResolution, Direction
from app.domain.mapping_rules import require_rows
from app.domain.plan import (
    AlreadyEqual,
    Conflict,
    Create,
    Fail,
    Modify,
    Skip,
    Unchanged,
    decide,
)
from app.domain.records import Side, Snapshot, Values, is_older
from app.domain.templates import completed
from app.domain.transfer import needs, translate
from app.ports import Context, RecordStore, Transaction
from app.use_cases import acting, deletions, partners, remembering, reserving
from app.use_cases.companions import Companions
from app.use_cases.items import Item, Options, foresee
from app.use_cases.lookups import Resolver
from app.use_cases.rehearsal import rehearsal
from app.use_cases.reserving import Reservations
from app.use_cases.setting import Setting, passes
from app.use_cases.waiting import Waiting

ROUNDS = 4
"""How often a record is looked at again when somebody else changes it at the same time."""
WRITTEN = (SynchAction.INSERTED, SynchAction.MODIFIED)
"""What is said of a record that was written to the other side."""


class Exchange:
    """A run of one mapping in one direction; keeps resolved references from page to page."""

    def __init__(
        self, ctx: Context, setting: Setting, run: Direction, options: Options, job_id: UUID | None = None
    ) -> None:
        if options.create:
            require_rows(setting.mapping, run)
        self.ctx = rehearsal(ctx, options.preview)
        self.setting = setting
        self.run = run
        self.options = options
        self.job_id = job_id
        self.waiting = Waiting(setting, run)
        self._resolver = Resolver(self.ctx, setting)
        self._companions = Companions(setting, run, force=options.force)
        self._source = setting.side(run.source)
        self._destination = setting.side(run.destination)
        self._reservations = Reservations(self.ctx, setting, run, options)

    @property
    def in_one(self) -> bool:
        """Whether what is written can be remembered in the same transaction."""
        return self.run.destination is Side.NAV and self.setting.nav.kept_here

    def shared(self, sharers: int) -> "Exchange":
        """This exchange for sets of which so many write to CRM at the same time. What is kept is kept for all."""
        if self.in_one or sharers < 2:
            return self
        one = copy(self)
        one.setting = self.setting.shared(sharers)
        return one

    # --- the way of a set ---------------------------------------------------------------------------

    async def synchronize(
        self, sources: Sequence[Snapshot], coupled: Mapping[UUID, Coupling] | None = None
    ) -> list[Item]:
        """Takes a set as far as the destination's answer; `remember` finishes it.

        `coupled` are the couplings of the sources by source, for who has just read them. Uncoupled records that
        are not to be created are ignored: they appear nowhere (nav-behaviour 9.1).
        Raises SideUnavailable when a side cannot be reached; everything may then be done again.
        """
        items = await self.enter(sources, coupled)
        todo = [item for item in items if not item.settled]
        for _ in range(ROUNDS):
            if not todo:
                break
            await self.prepare(todo)
            await partners.keep(self.ctx, self.setting, self.run, todo)
            if self.options.preview:
                todo = foresee(todo)
                continue
            await self._reservations.save(todo)
            todo = await acting.act(
                self.ctx, self.setting, self.run, todo, background=self.options.background
            )
        self.give_up(todo)
        await self._spare(items, self._destination)
        if not self.options.preview:
            await self._companions.follow(items)
        return items

    async def enter(
        self, sources: Sequence[Snapshot], coupled: Mapping[UUID, Coupling] | None = None
    ) -> list[Item]:
        """The records of a set with their couplings; what needs no look at the other side is settled."""
        if coupled is None:
            coupled = await self._couplings({source.id for source in sources})
        # A page may hold a record twice; the last is newest.
        unique = {source.id: source for source in sources}
        entered = [Item(source, coupled.get(key)) for key, source in unique.items()]
        return [item for item in await self._up_to_date(entered) if item.settled or self._enters(item)]

    async def prepare(self, todo: Sequence[Item]) -> None:
        """Decides what is to be done; nothing is written."""
        await self._look(todo)
        await partners.find(self.ctx, self.setting, self.run, todo)
        await self._decide(todo)

    async def choose(self, todo: Sequence[Item]) -> None:
        """Chooses couplings for new records, which are saved with what becomes of them."""
        await self._reservations.choose(todo)

    async def write_within(self, tx: Transaction, items: Sequence[Item]) -> list[Item]:
        """Writes what was decided to the NAV side in a transaction that remembers it, too: then the coupling of a new
        record need not be there before. Returns the items that have to be looked at again."""
        within = self.setting.nav.within(tx)
        todo = [item for item in items if not item.settled]
        again = await acting.act(
            self.ctx, self.setting, self.run, todo, background=self.options.background, within=within
        )
        await self._spare(items, within)
        return again

    def give_up(self, items: Iterable[Item]) -> None:
        """Fails what others changed again and again."""
        for item in items:
            said = f"{self._named(item)} was changed by somebody else {ROUNDS} times meanwhile."
            item.fail(StaleRecord(said, fix="Try again."))

    async def foresee(self, item: Item) -> Item:
        """What would become of a record whose partner was read."""
        await self._decide([item])
        foresee([item])
        return item

    async def remember(self, tx: Transaction, items: Sequence[Item], at: datetime) -> list[Item]:
        """Saves what both sides agree on now, with the log of it. Call it in one short transaction.

        Returns the items whose coupling was changed by somebody else meanwhile: what they agreed on is not
        saved; synchronize them again.
        """
        company = self.setting.company.id
        saves: dict[UUID, Item] = {}
        for item in items:
            coupling = remembering.coupling_after(
                self.setting, self.run, item, at, self.job_id, force=self.options.force
            )
            if coupling is not None:
                item.coupling = coupling
                saves[coupling.id] = item
        saved = await self._replace(tx, [item for item in saves.values() if item.replaced is not None])
        saved |= await self._add(tx, [item for item in saves.values() if item.unsaved])
        known = [item.held for key, item in saves.items() if key not in saved and not item.unsaved]
        saved |= await tx.couplings.save(company, known)
        gone = [item.held.id for item in items if (item.release and not item.unsaved) or item.uncouple]
        if gone:
            await tx.couplings.delete(company, gone)
        refused = [item.replaced for item in items if item.release and item.replaced is not None]
        if refused:
            await tx.couplings.intend(company, [replace(c, intent=None, replacing=False) for c in refused])
        await self.waiting.note(tx, items)
        lost = [item for key, item in saves.items() if key not in saved]
        kept = [item for item in items if item not in lost] if lost else list(items)
        logged = [remembering.outcome(self.setting, self.run, item) for item in kept if self._is_logged(item)]
        if logged:
            await tx.synch_log.add(company, self.job_id, logged, at)
        return lost

    # --- before the decision -------------------------------------------------------------------------

    async def _couplings(self, ids: Collection[UUID]) -> dict[UUID, Coupling]:
        company, table = self.setting.company.id, self.setting.mapping.nav_table
        async with self.ctx.uow(reading=True) as tx:
            by_source = tx.couplings.of_nav if self.run.source is Side.NAV else tx.couplings.of_crm
            return await by_source(company, table, ids)

    async def _up_to_date(self, items: Sequence[Item]) -> Sequence[Item]:
        """The records, those read again that are older than what both sides agreed on last: somebody else synchronized
        them since they were read, and they would undo that. Of those that are gone only whoever asked for them hears.
        """
        here = self.run.source
        old = [
            item
            for item in items
            if item.coupling is not None
            and item.coupling.base is not None
            and is_older(item.source.version, item.coupling.base.version(here))
        ]
        if not old:
            return items
        now = {source.id: source for source in await self.afresh(old)}
        for item in old:
            if item.source.id in now:
                item.source = now[item.source.id]
            else:
                item.fail(remembering.vanished(self._named(item)))
        return [item for item in items if item.error is None or not self.options.background]

    def _enters(self, item: Item) -> bool:
        """Settles what needs no look at the other side; False when the record is to be ignored."""
        if item.coupling is not None and not self.setting.couples_like(item.coupling):
            return self._taken(item, item.coupling)
        if item.coupling is not None and self._replaces(item.coupling):
            item.replaced = item.coupling
            item.coupling = reserving.successor(self.setting, self.run, item.source, item.replaced)
        coupling, source = item.coupling, item.source
        if coupling is None and (not self.options.create or source.id in self.options.alone):
            return False
        inside = self._inside(item)
        if coupling is None:
            return inside or self._left_out(item)
        if not inside and (not item.reserved or coupling.intent is None):
            item.release = item.reserved  # nothing was made of it, and nothing is to be made any more
            return self._left_out(item)
        if self.waiting.ends_skipping(source.id, coupling):
            item.coupling = coupling = coupling.restored()
        if coupling.skipped and self.options.background:
            item.skip(remembering.skipped(self._named(item), coupling))
        elif self._unchanged(coupling, source):
            item.action = SynchAction.UNMODIFIED
        return True

    def _taken(self, item: Item, coupling: Coupling) -> bool:
        """Leaves alone what another mapping of its table couples with another entity: it has one partner."""
        name, inside = self.setting.mapping.name, self._inside(item)
        item.coupling = None
        item.skip(
            AlreadyCoupled(
                f"{self._named(item)} is coupled with {coupling.crm_entity} {coupling.crm_id} already.",
                fix=f"PATCH …/integration-table-mappings/{name} can leave it out by its filter; "
                f"DELETE …/couplings/{coupling.id} uncouples the two.",
            )
        )
        return inside or not self.options.background

    def _inside(self, item: Item) -> bool:
        run, mapping = self.run, self.setting.mapping
        return self.options.force or passes(mapping.filter_on(run.source), item.source.values)

    def _replaces(self, coupling: Coupling) -> bool:
        """Whether the record gets a new partner, or got one in an attempt that was interrupted."""
        intent = coupling.intent if coupling.replacing else None
        begun = intent is not None and intent.side is self.run.destination
        return begun or coupling.id in self.options.replace

    def _left_out(self, item: Item) -> bool:
        if self.options.background and item.coupling is None:
            return False
        item.skip(
            Filtered(
                f"{self._named(item)} lies outside the filter of mapping {self.setting.mapping.name}.",
                fix=f"PATCH …/integration-table-mappings/{self.setting.mapping.name} changes the filter.",
            )
        )
        return True

    def _unchanged(self, coupling: Coupling, source: Snapshot) -> bool:
        if (
            self.options.force
            or self.options.look
            or self.setting.moves_with_base_rate
            or coupling.intent is not None
            or coupling.last_error is not None
            or self.waiting.was_released(source.id)
        ):
            return False
        return bool(source.version) and self.setting.version(coupling, self.run.source) == source.version

    async def _look(self, todo: Iterable[Item]) -> None:
        """Finds out what the destination shows: from the base where its version may still stand, else by
        reading the set."""
        unknown: dict[UUID, Item] = {}
        for item in todo:
            if item.coupling is None or (item.reserved and item.coupling.intent is None):
                item.found = None
            elif not item.looked and (assumed := self._assumed(item.coupling)) is not None:
                item.found = assumed
            else:
                unknown[item.coupling.id_on(self.run.destination)] = item
        if not unknown:
            return
        table = self.setting.mapping.table_on(self.run.destination)
        read = await self._destination.get(table, unknown.keys(), self.setting.fields(self.run.destination))
        for key, item in unknown.items():
            item.found, item.looked = read.get(key), True
            if item.found is None:
                self._partner_gone(item)
            elif item.reserved:
                acting.take_up(self.setting, self.run, item)
            else:
                acting.settle(self.setting, self.run, item)

    def _assumed(self, coupling: Coupling) -> Snapshot | None:
        there = self.run.destination
        version = self.setting.version(coupling, there)
        if self.options.look or coupling.base is None or version is None:
            return None
        if coupling.intent is not None:
            return None  # what was sent last may have got through
        if coupling.last_error is not None:
            return None  # what failed last may have been a change of theirs that we have not got yet
        key = coupling.nav_key if there is Side.NAV else str(coupling.crm_id)
        return Snapshot(coupling.id_on(there), key, version, coupling.base.on(there))

    def _partner_gone(self, item: Item) -> None:
        made_here = item.held.intent is not None and item.held.intent.side is self.run.source
        if item.reserved and not made_here:
            return  # it was never created: create it now, under the id that was chosen for it
        item.coupling = replace(item.held, status=CouplingStatus.COUPLED, intent=None)
        action = deletions.partner_gone(self.setting.mapping.deletion_conflict_resolution, self._named(item))
        if isinstance(action, IntegrationError):
            item.fail(action)
        elif action is DeletionConflictResolution.RESTORE:
            item.coupling = replace(item.held, base=None)
        else:
            item.skip(
                PartnerGone(f"The partner of {self._named(item)} was deleted; the coupling was removed.")
            )
            item.uncouple = True

    async def _decide(self, todo: Sequence[Item]) -> None:
        await self._translate(todo)
        for item in todo:
            if not item.settled:
                self._plan(item)

    async def _translate(self, todo: Sequence[Item]) -> None:
        shape, run = self.setting.shape, self.run
        open_items = [item for item in todo if not item.settled]
        try:
            wanted = [need for item in open_items for need in needs(shape, run, item.source.values)]
        except InvalidMapping as error:
            for item in open_items:
                item.fail(error)
            return
        lookups: Lookups = await self._resolver.resolve(wanted)
        for item in open_items:
            found = item.found.values if item.found else None
            item.translation = item.unreadable or translate(shape, run, item.source.values, found, lookups)

    def _plan(self, item: Item) -> None:
        base = item.coupling.base if item.coupling else None
        found = item.found.values if item.found else None
        item.plan = decide(
            self.setting.shape,
            self.run,
            item.source.values,
            found,
            item.translation,
            base,
            force=self.options.force,
        )
        match item.plan:
            case Create(values):
                self._plan_create(item, values)
            case Modify(changes):
                item.changes = Changes(self.run.destination, changes, found or {})
            case Unchanged() | AlreadyEqual() if self.options.force and not item.looked:
                item.looked, item.plan = True, None  # the chosen side wins: make sure of what is over there
            case Unchanged() | AlreadyEqual():
                item.action = SynchAction.INSERTED if item.repeated else SynchAction.UNMODIFIED
                item.after = item.found
            case Skip(error):
                item.skip(error)
                item.release = item.reserved
            case Conflict(clashes):
                item.fail(remembering.conflict(self._named(item), item.held, clashes))
            case Fail(error):
                item.fail(error)
                item.release = item.reserved
            case _:
                assert_never(item.plan)

    def _plan_create(self, item: Item, values: Values) -> None:
        mapping, there = self.setting.mapping, self.run.destination
        complete = completed(
            values, mapping.nav_template if there is Side.NAV else mapping.crm_template, there
        )
        if not passes(mapping.filter_on(there), complete):
            outside = Filtered(
                f"{self._named(item)} would be created outside the mapping's own filter for {there.value}.",
                fix=f"Change the filter or the template of mapping {mapping.name}.",
            )
            item.skip(outside)
            item.release = item.reserved
            return
        # A new record is sent without its blanks: a column left out is blank already.
        filled = {k: v for k, v in complete.items() if v or (v is not None and v != "")}
        item.plan = Create(filled)
        item.changes = Changes(self.run.destination, filled)

    # --- acting --------------------------------------------------------------------------------------

    async def _spare(self, items: Sequence[Item], store: RecordStore) -> None:
        """Keeps the reservations of failed records whose partner exists after all: an attempt whose answer was
        lost may have got through, and forgetting it would make a second partner."""
        released = [item for item in items if item.release and not item.unsaved]
        doubtful = {item.held.id_on(self.run.destination): item for item in released}
        if doubtful:
            table = self.setting.mapping.table_on(self.run.destination)
            for key in await store.get(table, doubtful.keys(), ()):
                doubtful[key].release = False

    async def afresh(self, items: Sequence[Item]) -> list[Snapshot]:
        """The records as their source shows them now."""
        table = self.setting.mapping.table_on(self.run.source)
        fields = self.setting.fields(self.run.source)
        found = await self._source.get(table, [item.source.id for item in items], fields)
        return list(found.values())

    async def anew(self, lost: Sequence[Item]) -> list[Item]:
        """Synchronizes what could not be remembered, somebody else having written the couplings meanwhile. What we
        wrote is held against what both sides show, as after a crash, or it would be taken for their change; but only
        where nobody wrote the record after us: what it shows is theirs then, even if it looks like ours. What is told
        of such a record is all that we wrote."""
        sources = await self.afresh(lost)
        coupled = await self._couplings({source.id for source in sources})
        told = [item for item in lost if item.action in WRITTEN]
        written = {item.held.id: item for item in told if item.written or not item.repeated}
        ours = {key: held for key, held in coupled.items() if held.id in written}
        if ours:
            there, table = self.run.destination, self.setting.mapping.table_on(self.run.destination)
            shown = await self._destination.get(table, [held.id_on(there) for held in ours.values()], ())
            for key, held in ours.items():
                item, now = written[held.id], shown.get(held.id_on(there))
                if item.noted and item.after and now is not None and now.version == item.after.version:
                    coupled[key] = replace(held, intent=item.noted.then(held.intent))
        items = await self.synchronize(sources, coupled)
        for item in items:
            before = written.get(item.held.id) if item.coupling is not None else None
            if before is not None and item.action in (SynchAction.UNMODIFIED, SynchAction.MODIFIED):
                item.action = before.action
                item.changes = before.changes + item.changes if item.changes else before.changes
        return items

    async def _replace(self, tx: Transaction, items: Sequence[Item]) -> set[UUID]:
        """The new partners exist: their couplings, whose ids are the answer, take the place of the old ones."""
        if items:
            company = self.setting.company.id
            await tx.couplings.delete(
                company, [item.replaced.id for item in items if item.replaced is not None]
            )
            await tx.couplings.reserve(company, [item.held for item in items])
        return {item.held.id for item in items}

    async def _add(self, tx: Transaction, items: Sequence[Item]) -> set[UUID]:
        """Saves couplings of which nothing was saved before. Returns the ids of those for which there was room."""
        if not items:
            return set()
        holders = await tx.couplings.reserve(self.setting.company.id, [item.held for item in items])
        self._reservations.held_by(items, holders)
        return {holder.id for holder in holders} & {item.held.id for item in items}

    def _is_logged(self, item: Item) -> bool:
        return item.action is not SynchAction.UNMODIFIED or self.options.log_unmodified

    def _named(self, item: Item) -> str:
        return remembering.named(self.setting, self.run, item)
