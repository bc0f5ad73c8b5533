"""What a connection that is enabled again does about the time it was off (nav-behaviour 2.5, seed-checklist E-41)."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.domain.company import Company, ConnectionSetup
from app.domain.errors import WatermarkExpired
from app.domain.mapping import TableMapping
from app.domain.records import Side
from app.ports import Context, RecordStore, Transaction
from app.use_cases.setting import Setting, setting_of


class Resync(StrEnum):
    """Which records count as changed when the connection is enabled."""

    NONE = "none"  # nothing that happened meanwhile
    CHANGED = "changed"  # what really changed
    ALL = "all"  # everything, whether it changed or not


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a side of a mapping is followed from; no watermark: everything is looked at anew."""

    mapping: str
    side: Side
    watermark: str | None
    until: datetime | None


async def marks(ctx: Context, company: Company, connection: ConnectionSetup, resync: Resync) -> list[Mark]:
    """The new marks of the mappings. Reads what changed when it is to be passed over; writes nothing.

    Records passed over keep the values both sides last agreed on: they follow with their next change or a full run.
    """
    if resync is Resync.CHANGED:
        return []
    async with ctx.uow() as tx:
        stored = await tx.mappings.all(company.id)
        options = await tx.option_mappings.all(company.id)
    followed = [each for each in stored if each.mapping.option_attribute is None]
    if resync is Resync.ALL:
        return [Mark(m.mapping.name, side, None, None) for m in followed for side in _sources(m.mapping)]
    now = ctx.clock.now()
    found: list[Mark] = []
    for each in followed:
        setting = await setting_of(ctx, company, connection, each, stored, options)
        for side in _sources(each.mapping):
            since = each.watermark(side)
            if since is not None:  # a mapping that never ran begins with everything
                found.append(Mark(each.mapping.name, side, await _present(setting, side, since), now))
    return found


async def set_marks(tx: Transaction, company: Company, found: Collection[Mark]) -> None:
    """Writes them down."""
    for mark in found:
        await tx.mappings.set_watermark(company.id, mark.mapping, mark.side, mark.watermark, mark.until)


def _sources(mapping: TableMapping) -> list[Side]:
    return [run.source for run in mapping.runs()]


async def _present(setting: Setting, side: Side, since: str) -> str | None:
    """The watermark after everything there is now; None when the side no longer knows the old one."""
    store: RecordStore = setting.side(side)
    reached: str | None = since
    try:
        async for page in store.changes(setting.mapping.table_on(side), setting.fields(side), since):
            reached = page.watermark or reached
    except WatermarkExpired:
        return None
    return reached
