"""Carrying a set out to the end: synchronized and remembered.

Towards CRM what is about to be written is noted first, and what became of it is remembered afterwards. What is kept in
our own database is written and remembered in one transaction.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from uuid import UUID

from app.domain.coupling import Coupling
from app.domain.errors import Busy
from app.domain.records import Snapshot
from app.ports import Transaction
from app.use_cases import remembering
from app.use_cases.engine import ROUNDS, Exchange
from app.use_cases.items import Item

Finish = Callable[[Transaction, Sequence[Item], bool], Awaitable[None]]
"""What else is written down with these items in the transaction that remembers them, and whether they are the last."""
Turn = Callable[[], AbstractAsyncContextManager[object]]


async def nothing_more(tx: Transaction, items: Sequence[Item], last: bool) -> None:
    """For sets of which nothing else is written down."""


async def carry_out(
    exchange: Exchange,
    sources: Sequence[Snapshot],
    finish: Finish = nothing_more,
    coupled: Mapping[UUID, Coupling] | None = None,
    turn: Turn = nullcontext,
) -> list[Item]:
    """Synchronizes a set and remembers it; `finish` adds to each remembering transaction (progress), which waits for
    its `turn` where several sets are under way, after it was begun.

    Records whose coupling was written by somebody else meanwhile are synchronized again, so that what is
    remembered is what both sides really agree on. Raises Busy when that happens to a run again and again.
    """
    if exchange.options.preview:
        return await exchange.synchronize(sources, coupled)
    if exchange.in_one:
        return await _in_one(exchange, sources, finish, coupled, turn)
    return await _one_after_the_other(exchange, sources, finish, coupled, turn)


async def _one_after_the_other(
    exchange: Exchange,
    sources: Sequence[Snapshot],
    finish: Finish,
    coupled: Mapping[UUID, Coupling] | None,
    turn: Turn,
) -> list[Item]:
    """Noted, written, remembered."""
    ctx, done = exchange.ctx, list[Item]()
    items = await exchange.synchronize(sources, coupled)
    for rounds in range(ROUNDS + 1):
        async with AsyncExitStack() as until_committed, ctx.uow() as tx:
            await until_committed.enter_async_context(turn())
            lost = await exchange.remember(tx, items, ctx.clock.now())
            if rounds == ROUNDS and not exchange.options.background:
                lost = []  # what somebody asked for is done; a run would move its watermark past them
            behind = {item.source.id for item in lost}
            kept = [item for item in items if item.source.id not in behind]
            await finish(tx, kept, not lost)
        done += kept
        if not lost:
            return done
        items = await exchange.anew(lost)
        items += _vanished(exchange, lost, items)
    raise _contended(exchange, lost)


class _Overtaken(Exception):
    """Takes a transaction back in which couplings could not be saved as they were read."""

    def __init__(self, items: Sequence[Item]) -> None:
        super().__init__()
        self.items = items


async def _in_one(
    exchange: Exchange,
    sources: Sequence[Snapshot],
    finish: Finish,
    coupled: Mapping[UUID, Coupling] | None,
    turn: Turn,
) -> list[Item]:
    """Written and remembered in one transaction: what is interrupted did not happen, so no intents are noted.

    Records that somebody else changed in NAV go round again by themselves; when a coupling was changed, the whole
    set does, and nothing of it had been written.
    """
    done: list[Item] = []
    open_ = await exchange.enter(sources, coupled)
    rounds = overtaken = 0
    while True:
        todo = [item for item in open_ if not item.settled]
        if rounds == ROUNDS:
            exchange.give_up(todo)
        elif todo:
            await exchange.prepare(todo)
            await exchange.choose(todo)
        try:
            settled, again = await _round(exchange, open_, finish, turn)
        except _Overtaken as behind:
            overtaken += 1
            if overtaken > ROUNDS:
                raise _contended(exchange, behind.items) from None
            open_ = await exchange.enter(await _sources(exchange, open_, behind.items))
            open_ += _vanished(exchange, behind.items, open_)
            rounds = 0
            continue
        done += settled
        if not again:
            return done
        open_ = again
        rounds += 1


async def _sources(exchange: Exchange, items: Sequence[Item], behind: Sequence[Item]) -> list[Snapshot]:
    """The records of a set, those that are behind what is remembered of them as they are now."""
    ids = {item.source.id for item in behind}
    return [item.source for item in items if item.source.id not in ids] + await exchange.afresh(behind)


def _vanished(exchange: Exchange, behind: Sequence[Item], entered: Sequence[Item]) -> list[Item]:
    """Those that were deleted or uncoupled meanwhile. Whoever asked for them is told; a run has nothing to do."""
    ids = {item.source.id for item in entered}
    gone = [item for item in behind if item.source.id not in ids]
    if exchange.options.background:
        return []
    for item in gone:
        item.fail(remembering.vanished(remembering.named(exchange.setting, exchange.run, item)))
        item.coupling = None
    return gone


async def _round(
    exchange: Exchange, items: Sequence[Item], finish: Finish, turn: Turn
) -> tuple[list[Item], list[Item]]:
    """Writes and remembers what is decided. Returns the items that are settled and those that have to be looked at
    again. Raises _Overtaken."""
    ctx = exchange.ctx
    async with AsyncExitStack() as until_committed, ctx.uow() as tx:
        again = await exchange.write_within(tx, items)
        open_ = {item.source.id for item in again}
        settled = [item for item in items if item.source.id not in open_]
        if lost := await exchange.remember(tx, settled, ctx.clock.now()):
            raise _Overtaken(lost)
        await until_committed.enter_async_context(turn())
        await finish(tx, settled, not again)
    return settled, again


def _contended(exchange: Exchange, lost: Sequence[Item]) -> Busy:
    named = remembering.named(exchange.setting, exchange.run, lost[0])
    return Busy(
        f"The coupling of {named} was written by somebody else {ROUNDS + 1} times meanwhile.",
        fix="Try again.",
    )
