"""Coupling several pairs of records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.coupling import Coupling
from app.domain.errors import IntegrationError
from app.domain.mapping import Direction
from app.domain.records import Side, Snapshot
from app.ports import Context
from app.use_cases import synchronize
from app.use_cases.couplings import (
    RUN_OF,
    Made,
    foreseen_result,
    make_coupling,
    not_synchronized,
    require_way,
)
from app.use_cases.results import CoupleResult, PairOutcome, RecordResult
from app.use_cases.subject import Subject, linked, readable_row, subject, subjects


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records that shall be coupled."""

    nav_table: str
    nav_no: str
    crm_id: UUID


async def couple_many(
    ctx: Context,
    company: Company,
    pairs: Sequence[Pair],
    *,
    then: str | None = None,
    replace_existing: bool = False,
    outside_filter: bool = False,
    preview: bool = False,
) -> list[PairOutcome]:
    """Couples several pairs; an outcome per pair, one bad pair harms no other. What is to be synchronized afterwards
    goes through the engine together, a synch job for each mapping. Raises ConnectionDisabled."""
    async with ctx.uow(reading=True) as tx:
        require_enabled(await tx.connections.find(company.id))
    run = RUN_OF[then or "no"]
    found: list[Made | IntegrationError] = []
    results: list[CoupleResult | IntegrationError] = []
    foreseen: list[Coupling] = []
    records = _Records(ctx, company, run, make_id=not preview)
    await records.read(pairs)
    for pair in pairs:
        try:
            about, target = await records.of(pair)
            made = await make_coupling(ctx, about, target, replace_existing, outside_filter, preview)
            if preview:
                results.append(await foreseen_result(ctx, made, run))
                foreseen = _with(foreseen, made.coupling, replace_existing)
            found.append(made)
        except IntegrationError as problem:
            found.append(problem)
            results[len(found) - 1 :] = [problem]
    if not preview:
        results = await _synchronize_together(ctx, company, run, found)
    return [_outcome(pair, each, result) for pair, each, result in zip(pairs, found, results, strict=True)]


class _Records:
    """The records of both sides that pairs name, read in sets: a table and its entity at a time."""

    def __init__(self, ctx: Context, company: Company, run: Direction | None, *, make_id: bool) -> None:
        self._ctx = ctx
        self._company = company
        self._run = run
        self._make_id = make_id
        self._subjects: dict[tuple[str, str], Subject | IntegrationError] = {}
        self._rows: dict[str, Mapping[UUID, Snapshot]] = {}

    async def read(self, pairs: Sequence[Pair]) -> None:
        """Reads what the pairs name. What is wrong with a table or its mapping is wrong with its pairs."""
        for table in dict.fromkeys(pair.nav_table for pair in pairs):
            named = [pair for pair in pairs if pair.nav_table == table]
            keys = {pair.nav_no for pair in named}
            try:
                found = await subjects(self._ctx, self._company, table, keys, make_id=self._make_id)
                settings = [each.setting for each in found.values() if isinstance(each, Subject)]
                for setting in settings[:1]:
                    require_way(setting, self._run)
                    ids, entity = {pair.crm_id for pair in named}, setting.mapping.crm_entity
                    self._rows[table] = await setting.crm.get(entity, ids, setting.fields(Side.CRM))
            except IntegrationError as problem:
                found = dict.fromkeys(keys, problem)
            self._subjects |= {(table, key): about for key, about in found.items()}

    async def of(self, pair: Pair) -> tuple[Subject, Snapshot]:
        """The two records of a pair. Raises what is wrong with them."""
        place = (pair.nav_table, pair.nav_no)
        about = self._subjects.pop(place, None)
        if about is None:  # the record was named before: what became of it then counts
            about = await subject(self._ctx, self._company, *place, make_id=self._make_id)
        if isinstance(about, IntegrationError):
            raise about
        return about, readable_row(about.setting, pair.crm_id, self._rows.get(pair.nav_table, {}))


def _outcome(
    pair: Pair, made: Made | IntegrationError, result: CoupleResult | IntegrationError
) -> PairOutcome:
    entity = None if isinstance(made, IntegrationError) else made.coupling.crm_entity
    if isinstance(result, IntegrationError):
        return PairOutcome(pair.nav_table, pair.nav_no, entity, pair.crm_id, error=result)
    return PairOutcome(
        pair.nav_table, pair.nav_no, entity, pair.crm_id, result.coupling, result.synchronization
    )


async def _synchronize_together(
    ctx: Context, company: Company, run: Direction | None, found: Sequence[Made | IntegrationError]
) -> list[CoupleResult | IntegrationError]:
    """The couplings as they are after the synchronization that was asked for; what failed instead."""
    made = [each for each in found if isinstance(each, Made)]
    ended: dict[tuple[str, UUID], RecordResult | IntegrationError] = {}
    if run is not None:
        for name in dict.fromkeys(each.about.setting.mapping.name for each in made):
            ended |= await _ended(ctx, run, name, [e for e in made if e.about.setting.mapping.name == name])
    async with ctx.uow(reading=True) as tx:
        current: dict[UUID, Coupling] = {}
        for table in {each.coupling.nav_table for each in made}:
            ids = [each.coupling.nav_id for each in made if each.coupling.nav_table == table]
            current |= {c.id: c for c in (await tx.couplings.of_nav(company.id, table, ids)).values()}
    results: list[CoupleResult | IntegrationError] = []
    for each in found:
        if isinstance(each, IntegrationError):
            results.append(each)
            continue
        name = each.about.setting.mapping.name
        end = ended.get((name, each.about.snapshot.id))
        if isinstance(end, IntegrationError):
            results.append(not_synchronized(end, each.coupling if each.news else None))
            continue
        coupling = current.get(each.coupling.id, each.coupling)
        results.append(CoupleResult(linked(company, each.about.setting.connection, coupling), end))
    return results


async def _ended(
    ctx: Context, run: Direction, name: str, made: Sequence[Made]
) -> dict[tuple[str, UUID], RecordResult | IntegrationError]:
    """By mapping and NAV record, how its synchronization ended."""
    sources = {
        (each.about.snapshot if run is Direction.TO_CRM else each.target).id: each.about.snapshot.id
        for each in made
    }
    snapshots = [each.about.snapshot if run is Direction.TO_CRM else each.target for each in made]
    try:
        ended = await synchronize.synchronize_pairs(ctx, made[0].about.setting, run, snapshots)
    except IntegrationError as error:
        return {(name, nav_id): error for nav_id in sources.values()}
    return {(name, sources[source_id]): end for source_id, end in ended.items()}


def _with(foreseen: Sequence[Coupling], new: Coupling, replace_existing: bool) -> list[Coupling]:
    """The couplings that a preview of several pairs would make, one after the other. Raises AlreadyCoupled for a
    pair that an earlier one would be in the way of."""

    def clashes(other: Coupling) -> bool:
        same_nav, same_crm = other.nav_key == new.nav_key, other.crm_id == new.crm_id
        return other.nav_table == new.nav_table and (same_nav or same_crm)

    for other in filter(clashes, foreseen):
        if (other.nav_key, other.crm_id) == (new.nav_key, new.crm_id):
            return list(foreseen)
        if not replace_existing:
            side = Side.NAV if other.nav_key == new.nav_key else Side.CRM
            named = f"{new.nav_table} {new.nav_key}" if side is Side.NAV else f"{new.crm_entity} {new.crm_id}"
            raise synchronize.already_coupled(named, other, side)
    return [*(other for other in foreseen if not clashes(other)), new]
