"""Match-based coupling: records that are the same thing by their data (nav-behaviour 12.2)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from app.domain.company import Company
from app.domain.conversion import as_text
from app.domain.coupling import SynchAction
from app.domain.eligibility import obstacle
from app.domain.errors import FieldProblem, InvalidMapping
from app.domain.job import SynchMode
from app.domain.mapping import Direction, FieldMapping
from app.domain.pairing import reference_problem
from app.domain.records import FieldType, Side, Snapshot
from app.domain.transfer import needs, translate
from app.ports import Context
from app.use_cases import batch, deleted
from app.use_cases.lookups import Resolver
from app.use_cases.reading import chunks
from app.use_cases.rehearsal import rehearsal
from app.use_cases.results import MatchedPair, MatchReport
from app.use_cases.setting import Setting, open_setting, passes


@dataclass(frozen=True, slots=True)
class Criterion:
    """Two fields that must agree. All criteria of one priority must; lower numbers are tried first."""

    nav_field: str
    crm_attribute: str
    ignore_case: bool = True
    ignore_spaces: bool = True
    priority: int = 1

    def key(self, side: Side, values: Snapshot) -> str:
        """What is compared; empty values never match."""
        name = self.nav_field if side is Side.NAV else self.crm_attribute
        text = as_text(values.values.get(name))
        if self.ignore_spaces:
            text = "".join(text.split())
        return text.casefold() if self.ignore_case else text


@dataclass(slots=True)
class _Candidates:
    """The uncoupled records of both sides, reduced to what is compared."""

    nav: dict[UUID, Snapshot] = field(default_factory=dict)
    crm: dict[UUID, Snapshot] = field(default_factory=dict)


async def match(
    ctx: Context,
    company: Company,
    mapping: str,
    criteria: Sequence[Criterion],
    *,
    create_unmatched: bool = False,
    preview: bool = False,
) -> MatchReport:
    """Couples records whose criteria agree one to one. Several candidates are reported and left alone.

    Args:
        create_unmatched: afterwards a full synchronization creates what found no partner; its job is reported.
            Those with several candidates, and the candidates, are left alone.
        preview: reports what would be coupled, and couples nothing.
    Raises:
        InvalidMapping: no criteria, or one names a field that does not exist.
    """
    setting = await open_setting(ctx, company, mapping=mapping)
    _check(setting, criteria)
    candidates = _Candidates(
        nav=await _uncoupled(ctx, setting, Side.NAV, criteria),
        crm=await _uncoupled(ctx, setting, Side.CRM, criteria),
    )
    candidates.crm = await _in_navs_terms(rehearsal(ctx, preview), setting, criteria, candidates.crm)
    pairs: list[tuple[Snapshot, Snapshot]] = []
    ambiguous: dict[UUID, list[UUID]] = {}
    for group in _by_priority(criteria):
        found, several = _matches(candidates, group)
        ambiguous |= several
        for nav, crm in found:
            ambiguous.pop(nav.id, None)
            candidates.nav.pop(nav.id)
            candidates.crm.pop(crm.id)
        pairs += found
    coupled = pairs if preview else await _couple(ctx, setting, pairs)
    left = {key: ids for key, ids in ambiguous.items() if key in candidates.nav}
    job = None
    if create_unmatched and not preview:
        # What may be the same thing as another would be there twice.
        alone = {*left, *(crm_id for ids in left.values() for crm_id in ids)}
        job = await batch.start(
            ctx, company, mapping, mode=SynchMode.FULL, create_uncoupled=True, leave_alone=alone
        )
    return MatchReport(
        coupled=[MatchedPair(nav.key, (crm.id,)) for nav, crm in coupled],
        ambiguous=[MatchedPair(candidates.nav[key].key, tuple(ids)) for key, ids in left.items()],
        unmatched=len(candidates.nav) - len(left),
        synch_job_id=job.id if job else None,
    )


def _check(setting: Setting, criteria: Sequence[Criterion]) -> None:
    if not criteria:
        problem = FieldProblem("/criteria", "Name at least one pair of fields.")
        raise InvalidMapping("Matching needs criteria.", errors=[problem])
    problems = [
        FieldProblem(f"/criteria/{position}/{word}", f"{table.label} has no {name}.")
        for position, criterion in enumerate(criteria)
        for word, name, table in (
            ("nav_field", criterion.nav_field, setting.shape.nav),
            ("crm_attribute", criterion.crm_attribute, setting.shape.crm),
        )
        if name not in table.fields
    ]
    if problems:
        raise InvalidMapping("Some criteria name fields that do not exist.", errors=problems)
    mapped, shape = setting.entities.items(), setting.shape
    unlike = [
        FieldProblem(f"/criteria/{position}", said)
        for position, row in _lookups(setting, criteria)
        if (said := reference_problem(shape.required(row, Side.NAV), shape.required(row, Side.CRM), mapped))
    ]
    if unlike:
        raise InvalidMapping("Some criteria name fields that cannot be compared.", errors=unlike)


def _lookups(setting: Setting, criteria: Sequence[Criterion]) -> Iterator[tuple[int, FieldMapping]]:
    """The criteria whose attribute is a lookup, by position, each as a row that is read from CRM."""
    for position, criterion in enumerate(criteria):
        if setting.shape.crm.fields[criterion.crm_attribute].type is FieldType.LOOKUP:
            yield (
                position,
                FieldMapping(
                    criterion.nav_field,
                    criterion.crm_attribute,
                    Direction.FROM_CRM,
                    clear_value_on_failed_synch=True,
                ),
            )


async def _in_navs_terms(
    ctx: Context, setting: Setting, criteria: Sequence[Criterion], rows: dict[UUID, Snapshot]
) -> dict[UUID, Snapshot]:
    """The CRM rows with the NAV key of what their lookups point to; what is not coupled is blank and never matches."""
    compared = tuple(row for _, row in _lookups(setting, criteria))
    if not compared:
        return rows
    shape = replace(setting.shape, mapping=setting.mapping.with_fields(compared))
    resolver, read = Resolver(ctx, setting), dict[UUID, Snapshot]()
    for chunk in chunks(list(rows.values())):
        wanted = [need for record in chunk for need in needs(shape, Direction.FROM_CRM, record.values)]
        lookups = await resolver.resolve(wanted)
        for record in chunk:
            keys = translate(shape, Direction.FROM_CRM, record.values, None, lookups).wanted
            named = {row.crm_attribute or "": keys.get(row.nav_field or "", "") for row in compared}
            read[record.id] = replace(record, values={**record.values, **named})
    return read


def _by_priority(criteria: Sequence[Criterion]) -> Iterator[list[Criterion]]:
    for priority in sorted({criterion.priority for criterion in criteria}):
        yield [criterion for criterion in criteria if criterion.priority == priority]


async def _uncoupled(
    ctx: Context, setting: Setting, side: Side, criteria: Sequence[Criterion]
) -> dict[UUID, Snapshot]:
    """The records inside the mapping's filter that have no coupling and may have one."""
    mapping = setting.mapping
    named = {c.nav_field if side is Side.NAV else c.crm_attribute for c in criteria}
    found: dict[UUID, Snapshot] = {}
    async for page in setting.side(side).changes(mapping.table_on(side), setting.fields(side) | named, None):
        fitting = [record for record in page.records if _fits(setting, side, record)]
        for chunk in chunks(fitting):
            coupled = await _coupled(ctx, setting, side, chunk)
            found |= {each.id: _reduced(each, named) for each in chunk if each.id not in coupled}
        for gone in page.deleted:
            found.pop(gone, None)
    return found


def _reduced(record: Snapshot, named: Collection[str]) -> Snapshot:
    """Without what is not compared: these are kept until both sides are read."""
    return replace(record, values={name: record.values.get(name) for name in named})


def _fits(setting: Setting, side: Side, record: Snapshot) -> bool:
    if side is Side.NAV and obstacle(setting.mapping.nav_table, record.key, record.values) is not None:
        return False
    return passes(setting.mapping.filter_on(side), record.values)


async def _coupled(ctx: Context, setting: Setting, side: Side, records: Iterable[Snapshot]) -> set[UUID]:
    company, table, ids = setting.company.id, setting.mapping.nav_table, [record.id for record in records]
    async with ctx.uow() as tx:
        if side is Side.NAV:
            return set(await tx.couplings.of_nav(company, table, ids))
        return set(await tx.couplings.of_crm(company, table, ids))


def _matches(
    candidates: _Candidates, criteria: Sequence[Criterion]
) -> tuple[list[tuple[Snapshot, Snapshot]], dict[UUID, list[UUID]]]:
    """The pairs that agree one to one, and the NAV records that several CRM rows agree with, or that share
    their one CRM row with another NAV record."""
    nav_by_key: dict[tuple[str, ...], list[Snapshot]] = defaultdict(list)
    crm_by_key: dict[tuple[str, ...], list[Snapshot]] = defaultdict(list)
    for record in candidates.nav.values():
        nav_by_key[_key(criteria, Side.NAV, record)].append(record)
    for record in candidates.crm.values():
        crm_by_key[_key(criteria, Side.CRM, record)].append(record)
    pairs: list[tuple[Snapshot, Snapshot]] = []
    several: dict[UUID, list[UUID]] = {}
    for key, ours in nav_by_key.items():
        theirs = crm_by_key.get(key, [])
        if not all(key) or not theirs:
            continue
        if len(ours) == len(theirs) == 1:
            pairs.append((ours[0], theirs[0]))
        else:
            several |= {record.id: [other.id for other in theirs] for record in ours}
    return pairs, several


def _key(criteria: Sequence[Criterion], side: Side, record: Snapshot) -> tuple[str, ...]:
    return tuple(criterion.key(side, record) for criterion in criteria)


async def _couple(
    ctx: Context, setting: Setting, pairs: Sequence[tuple[Snapshot, Snapshot]]
) -> list[tuple[Snapshot, Snapshot]]:
    """Couples the pairs; a record that was coupled otherwise meanwhile keeps what it has."""
    company = setting.company.id
    coupled: list[tuple[Snapshot, Snapshot]] = []
    for chunk in chunks(pairs):
        wanted = [setting.coupling(ctx.new_id(), nav, crm.id) for nav, crm in chunk]
        async with ctx.uow() as tx:
            held = await tx.couplings.reserve(company, wanted)
            new = [c for c, ours in zip(held, wanted, strict=True) if c.id == ours.id]
            outcomes = [deleted.outcome(None, c, SynchAction.COUPLED) for c in new]
            await tx.synch_log.add(company, None, outcomes, ctx.clock.now())
        ids = {c.id for c in new}
        coupled += [pair for pair, ours in zip(chunk, wanted, strict=True) if ours.id in ids]
    return coupled
