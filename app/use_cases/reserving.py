"""Couplings that are chosen before the other side hears of the record."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID, uuid5

from app.domain.coupling import Coupling, CouplingStatus, Intent
from app.domain.mapping import Direction
from app.domain.plan import Create
from app.domain.records import Side, Snapshot
from app.ports import Context
from app.use_cases import acting, remembering
from app.use_cases.items import Item, Options
from app.use_cases.setting import Setting


class Reservations:
    """The couplings of the new records of one run. A partner gets the id of its source where that is not taken
    (docs/decisions/writes.md)."""

    def __init__(self, ctx: Context, setting: Setting, run: Direction, options: Options) -> None:
        self._ctx = ctx
        self._setting = setting
        self._run = run
        self._options = options
        self._foreign: set[UUID] = set()

    async def choose(self, todo: Iterable[Item]) -> None:
        """Gives new records couplings that are saved with what becomes of them."""
        new = _new(todo)
        taken = {*self._foreign, *(await self._taken(new))}
        for item in new:
            item.coupling, item.unsaved = self._chosen(item, taken, None), True

    def held_by(self, items: Sequence[Item], holders: Sequence[Coupling]) -> None:
        """Which couplings hold the records of these items, or the ids that were chosen for their partners: these are
        not chosen again."""
        for item, holder in zip(items, holders, strict=True):
            if holder.id_on(self._run.source) != item.source.id:
                self._foreign.add(item.source.id)

    async def save(self, todo: Iterable[Item]) -> None:
        """Gives new records couplings and saves them before the other side hears of the records."""
        new = _new(todo)
        if not new:
            return
        taken = await self._taken(new)
        for _ in range(2):
            foreign = await self._hold(new, taken)
            taken, new = {item.source.id for item in foreign}, foreign
            if not new:
                return
        raise RuntimeError(
            f"{remembering.named(self._setting, self._run, new[0])}: a new id is another record's"
        )

    async def _hold(self, items: Sequence[Item], taken: Collection[UUID]) -> list[Item]:
        """Returns the items whose id turns out to be in another record's coupling."""
        chosen = [
            self._chosen(item, taken, acting.intent_of(self._setting, self._run, item)) for item in items
        ]
        async with self._ctx.uow() as tx:
            held = await tx.couplings.reserve(self._setting.company.id, chosen)
        foreign = []
        for item, coupling in zip(items, held, strict=True):
            if coupling.id_on(self._run.source) == item.source.id:
                item.coupling, item.noted = coupling, coupling.intent
            else:
                foreign.append(item)
        return foreign

    def _chosen(self, item: Item, taken: Collection[UUID], intent: Intent | None) -> Coupling:
        other = self._ctx.new_id() if item.source.id in taken else item.source.id
        return reservation(self._setting, self._run, item.source, self._ctx.new_id(), other, intent)

    async def _taken(self, items: Sequence[Item]) -> Collection[UUID]:
        """The ids of these records that a record over there has already. A run couples the two: an older memory, put
        back after a loss, has forgotten that they belong together. Who asks for a new record gets a new one."""
        if self._options.background or not items:
            return ()
        store = self._setting.side(self._run.destination)
        table = self._setting.mapping.table_on(self._run.destination)
        return (await store.get(table, [item.source.id for item in items], ())).keys()


def _new(items: Iterable[Item]) -> list[Item]:
    """The records that are to be created and have no coupling."""
    return [i for i in items if not i.settled and isinstance(i.plan, Create) and i.coupling is None]


def reservation(
    setting: Setting,
    run: Direction,
    source: Snapshot,
    coupling_id: UUID,
    other: UUID,
    intent: Intent | None = None,
) -> Coupling:
    """The coupling of a record with a partner that is to be created under the id `other`."""
    here = run.source is Side.NAV
    return Coupling(
        id=coupling_id,
        mapping=setting.mapping.name,
        nav_table=setting.mapping.nav_table,
        nav_id=source.id if here else other,
        nav_key=source.key if here else "",
        crm_entity=setting.mapping.crm_entity,
        crm_id=other if here else source.id,
        status=CouplingStatus.RESERVED,
        intent=intent,
    )


def successor(setting: Setting, run: Direction, source: Snapshot, old: Coupling) -> Coupling:
    """The coupling with a new partner that takes the place of an old one.

    Its ids follow from the old coupling, so they need not be saved beforehand: a second attempt chooses the
    same, and the old coupling stands until the new partner exists.
    """
    chosen = uuid5(old.id, f"coupling {old.revision}")
    intent = old.intent if old.replacing else None
    return reservation(setting, run, source, chosen, uuid5(old.id, "partner"), intent)
