"""Records that wait for another to be coupled: noted when that keeps them from being transferred, looked at again
when the other one is coupled, by whomever, and forgotten once they were.

So do records whose values a run of the other direction found to win: they did not change, and would not be read.

What is noted of a record that got through meanwhile does no harm: it is looked at once more than needed.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

from app.domain.coupling import Coupling
from app.domain.errors import Awaited, ContactWithoutAccount, LookupNotCoupled, SalespersonNotCoupled
from app.domain.mapping import Direction
from app.domain.plan import winner
from app.ports import Transaction, Wait
from app.use_cases.items import Item
from app.use_cases.setting import Setting

WAITING: Final = frozenset({LookupNotCoupled.code, SalespersonNotCoupled.code, ContactWithoutAccount.code})
"""The failures that end when another record is coupled."""


class Waiting:
    """The waiting records of one run."""

    def __init__(self, setting: Setting, run: Direction) -> None:
        self._company = setting.company.id
        self._mapping = setting.mapping.name
        self._side = run.source
        self._there = run.destination
        two_way = setting.mapping.direction.allows(run.opposite)
        self._may_owe = two_way and winner(setting.mapping.update_conflict_resolution) is run.destination
        self._released: Mapping[UUID, UUID] = {}
        self._noted: set[UUID] = set()

    def release(self, released: Mapping[UUID, UUID]) -> None:
        """The records of the next page that had waited, each with the coupling it had waited for."""
        self._released, self._noted = released, set()

    def ends_skipping(self, record_id: UUID, coupling: Coupling) -> bool:
        """Whether the record was skipped for want of what is coupled by now."""
        failure = coupling.last_error
        return record_id in self._released and failure is not None and failure.code in WAITING

    def was_released(self, record_id: UUID) -> bool:
        """Whether the record is looked at because what it waited for is coupled by now."""
        return record_id in self._released

    async def note(self, tx: Transaction, items: Sequence[Item]) -> None:
        """Notes which of these records wait, and for what. No statement when none does."""
        waits = [
            Wait(item.source.id, awaited, self._released.get(item.source.id))
            for item in items
            if (awaited := _awaited(item)) is not None
        ]
        if waits:
            await tx.waiting.note(self._company, self._mapping, self._side, waits)
            self._noted.update(wait.record_id for wait in waits)
        if self._may_owe:
            owed = [
                Wait(held.id_on(self._there), Awaited(held.nav_table, crm_id=held.crm_id))
                for held in (item.held for item in items if self._owes(item))
            ]
            if owed:
                await tx.waiting.note(self._company, self._mapping, self._there, owed)

    def _owes(self, item: Item) -> bool:
        """Whether the destination shows something that was never agreed on, and wins: it has to come from there. The
        coupling is the one that is saved."""
        done = item.error is None and item.after is not None and item.coupling is not None
        base = item.held.base if done else None
        return base is not None and base.version(self._there) is None

    async def settle(self, tx: Transaction, deleted: Collection[UUID]) -> None:
        """Forgets the released records that wait no longer, and those that were deleted."""
        over = (self._released.keys() - self._noted) | set(deleted)
        self.release({})
        if over:
            await tx.waiting.forget(self._company, self._mapping, self._side, over)


def _awaited(item: Item) -> Awaited | None:
    """What the record waits for: what keeps it from being transferred, or what one of its fields was cleared for."""
    if item.error is not None:
        return item.error.waits_for
    return next(iter(item.translation.awaited), None)
