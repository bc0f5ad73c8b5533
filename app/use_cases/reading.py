"""What a run of a mapping looks at, in which order: the same whether it is carried out or only previewed."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from math import ceil
from typing import TypeVar
from uuid import UUID

from app.domain.coupling import Coupling, CouplingStatus, SynchResult
from app.domain.errors import IntegrationError, NotCoupled, WatermarkExpired
from app.domain.links import address_of
from app.domain.mapping import DeletionConflictResolution, Direction
from app.domain.records import Side, Snapshot
from app.ports import Context, Page
from app.use_cases import deleted
from app.use_cases.seen import Seen
from app.use_cases.setting import Setting
from app.use_cases.subject import nav_record_not_found

SET = 1000
"""Records that go through the engine together: bounds memory and the length of a transaction."""
SMALL_SET = 250
"""So few that more sets would cost more statements than they save time."""
IDS = 10_000
"""Ids that are compared together."""


class Reading:
    """The records of one mapping, page by page; no transaction stays open meanwhile."""

    def __init__(self, ctx: Context, setting: Setting, job_id: UUID | None = None) -> None:
        self._ctx = ctx
        self._setting = setting
        self._job_id = job_id

    # --- a whole mapping ------------------------------------------------------------------------------

    async def pages(self, run: Direction, *, full: bool, create: bool) -> AsyncIterator[Page]:
        """Everything that changed, after what waited for something and what failed last; or everything there is.

        `create` says that uncoupled records get a partner, so that their waiting ends too.
        Reading everything shows only at the end which coupled records are no longer there, so only its last
        page has a watermark.
        """
        since = await self._watermark(run)
        async for page in self._released(run, uncoupled=create):
            yield page
        tried: set[tuple[UUID, str]] = set()
        if not full:
            async for page in self._failed(run):
                tried.update((record.id, record.version) for record in page.records)
                yield page
        if not full and since is not None:
            try:
                async for page in self._changes(run, since):
                    # What failed and changed since was looked at as it is now: its trouble is told once.
                    yield replace(page, records=[r for r in page.records if (r.id, r.version) not in tried])
                return
            except WatermarkExpired:
                pass  # the side no longer knows what changed since: everything has to be looked at
        async for page in self._everything(run):
            yield page

    async def unfinished(self) -> AsyncIterator[tuple[Direction, list[Snapshot]]]:
        """Records that were getting a new partner when a run was interrupted, by the direction that makes it.

        They come before everything else: the partner may exist already, and would look like a new record.
        """
        mapping = self._setting.mapping
        async with self._ctx.uow(reading=True) as tx:
            begun = await tx.couplings.replacing(self._setting.company.id, mapping.name)
        for run in mapping.runs():
            ids = [c.id_on(run.source) for c in begun if c.intent and c.intent.side is run.destination]
            for chunk in chunks(ids):
                side = self._setting.side(run.source)
                found = await side.get(mapping.table_on(run.source), chunk, self._setting.fields(run.source))
                yield run, list(found.values())

    async def _released(self, run: Direction, *, uncoupled: bool) -> AsyncIterator[Page]:
        """Records that waited for another, which is coupled by now; those that are gone come as released only."""
        company, name, side = self._setting.company.id, self._setting.mapping.name, run.source
        table, after = self._setting.mapping.table_on(side), None
        while True:
            async with self._ctx.uow(reading=True) as tx:
                released = await tx.waiting.released(
                    company, name, side, uncoupled=uncoupled, after=after, limit=SET
                )
            if released:
                found = await self._setting.side(side).get(table, released, self._setting.fields(side))
                yield Page(list(found.values()), released=released)
            if len(released) < SET:
                return
            after = max(released)

    async def _failed(self, run: Direction) -> AsyncIterator[Page]:
        """Records whose last synchronization failed are tried again although they did not change
        (nav-behaviour 9.1). A deletion that was told and not followed comes again, too: while its coupling was skipped,
        or before the mapping had a rule for it."""
        mapping, side = self._setting.mapping, run.source
        follows = mapping.deletion_conflict_resolution is not DeletionConflictResolution.NONE
        async for failed in self.couplings(last_synch_result=SynchResult.FAILURE):
            again = [c for c in failed if self._job_id is None or c.last_job_id != self._job_id]
            known = {c.id_on(side): c for c in again if follows and c.intent is None and deleted.is_known(c)}
            if not again:
                continue
            ids = [c.id_on(side) for c in again]
            found = await self._setting.side(side).get(
                mapping.table_on(side), ids, self._setting.fields(side)
            )
            gone = [key for key in known if key not in found]
            for elsewhere in await self._deleted_there(run, [c for key, c in known.items() if key in found]):
                del found[elsewhere.id_on(side)]
            yield Page(list(found.values()), deleted=gone)

    async def _deleted_there(self, run: Direction, couplings: Sequence[Coupling]) -> list[Coupling]:
        """Those whose other half is gone, where that is to be followed to this one: by the run that reads over there.
        To the run that reads here such a record looks like one that was just changed."""
        mapping, there = self._setting.mapping, run.destination
        propagates = mapping.deletion_conflict_resolution is DeletionConflictResolution.PROPAGATE
        if not couplings or not propagates or not mapping.direction.allows(run.opposite):
            return []
        ids = [c.id_on(there) for c in couplings]
        alive = await self._setting.side(there).get(mapping.table_on(there), ids, ())
        return [c for c in couplings if c.id_on(there) not in alive]

    async def _everything(self, run: Direction) -> AsyncIterator[Page]:
        seen = Seen()
        reached: str | None = None
        async for page in self._changes(run, None):
            seen.add(record.id for record in page.records)
            reached = page.watermark or reached
            yield replace(page, watermark=None)
        yield Page([], await self._unseen(run.source, seen), reached)

    async def _unseen(self, side: Side, seen: Seen) -> list[UUID]:
        """The coupled records of the mapping that a read from the beginning did not show."""
        company, mapping = self._setting.company.id, self._setting.mapping
        unseen: list[UUID] = []
        after: UUID | None = None
        while True:
            async with self._ctx.uow(reading=True) as tx:
                coupled = await tx.couplings.ids(
                    company,
                    mapping.name,
                    mapping.nav_table,
                    mapping.crm_entity,
                    side,
                    after=after,
                    limit=IDS,
                )
            unseen += [each for each in coupled if each not in seen]
            if len(coupled) < IDS:
                return unseen
            after = coupled[-1]

    async def _watermark(self, run: Direction) -> str | None:
        async with self._ctx.uow(reading=True) as tx:
            stored = await tx.mappings.get(self._setting.company.id, self._setting.mapping.name)
        return stored.watermark(run.source)

    async def ahead(self, run: Direction) -> AsyncIterator[Page]:
        """The changes that are not recorded yet."""
        async for page in self._changes(run, await self._watermark(run)):
            yield page

    def _changes(self, run: Direction, since: str | None) -> AsyncIterator[Page]:
        """The changes of the source side, or everything. Raises WatermarkExpired."""
        side = run.source
        table, fields = self._setting.mapping.table_on(side), self._setting.fields(side)
        return self._setting.side(side).changes(table, fields, since)

    async def couplings(self, last_synch_result: str | None = None) -> AsyncIterator[list[Coupling]]:
        """The couplings of the mapping; those that ended so, without skipped ones."""
        after: UUID | None = None
        while True:
            async with self._ctx.uow(reading=True) as tx:
                page = await tx.couplings.page(
                    self._setting.company.id,
                    mapping=self._setting.mapping.name,
                    skipped=False if last_synch_result else None,
                    last_synch_result=last_synch_result,
                    after=after,
                    limit=SET,
                )
            if page:
                yield page
            if len(page) < SET:
                return
            after = page[-1].id

    # --- a selection -----------------------------------------------------------------------------------

    async def named(
        self, run: Direction, keys: Sequence[str]
    ) -> tuple[list[Snapshot], dict[str, IntegrationError]]:
        """The source records of these NAV records' couplings, and by key what keeps others from being one."""
        nav, table = self._setting.nav, self._setting.mapping.nav_table
        records = await nav.by_key(table, keys)
        missing: dict[str, IntegrationError] = {
            key: nav_record_not_found(table, key) for key in keys if key not in records
        }
        ids = {r.integration_id: key for key, r in records.items() if r.integration_id is not None}
        async with self._ctx.uow(reading=True) as tx:
            found = await tx.couplings.of_nav(self._setting.company.id, table, ids)
        coupled = {i: c for i, c in found.items() if c.status is CouplingStatus.COUPLED}
        # By record: one that is named twice, once in capitals, is one record.
        uncoupled = {key for key, record in records.items() if record.integration_id not in coupled}
        missing |= {
            key: NotCoupled(
                f"Record {key} of {table} is not coupled.", fix=f"PUT {address_of(table, key)}/coupling"
            )
            for key in sorted(uncoupled)
        }
        if run is Direction.TO_CRM:
            return [records[ids[i]].snapshot(i) for i in coupled], missing
        rows = await self._setting.crm.get(
            self._setting.mapping.crm_entity,
            [c.crm_id for c in coupled.values()],
            self._setting.fields(Side.CRM),
        )
        gone = [c for c in coupled.values() if c.crm_id not in rows]
        missing |= {c.nav_key: deleted.conflict(self._setting, Direction.FROM_CRM, c) for c in gone}
        return list(rows.values()), missing


Things = TypeVar("Things")


def chunks(things: Sequence[Things], size: int = SET) -> Iterator[Sequence[Things]]:
    """Sets of them, none larger than the engine takes at once."""
    for start in range(0, len(things), size):
        yield things[start : start + size]


def sets_of(page: Page, together: int = 1) -> Sequence[Sequence[Snapshot]]:
    """The records of a page in sets, each record once and as it was shown last: of sets that are under way at the
    same time it is not known which is written last. A small page makes as many as can be under way `together`, unless
    they would be too small to be worth their statements.

    They are taken out of the page: whoever handed it on has it until the next one is read, which would then be held
    beside it.
    """
    records = list({record.id: record for record in page.records}.values())
    page.records.clear()
    parts = min(together, max(1, len(records) // SMALL_SET))
    return list(chunks(records, min(SET, max(1, ceil(len(records) / parts)))))
