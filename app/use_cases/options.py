"""Option mappings: NAV records that stand for the options of one CRM attribute (nav-behaviour 10.9)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.conversion import capitals, cut
from app.domain.coupling import Failure, Outcome, SynchAction
from app.domain.errors import IntegrationError
from app.domain.job import Counts, SynchJob, SynchMode
from app.domain.mapping import Direction, TableMapping
from app.domain.records import Option, Side, TableDefinition
from app.ports import Context, CrmSide, NavSide, Report, Transaction

KnownOptions = Mapping[tuple[str, str], Mapping[str, int]]
"""By NAV table and CRM attribute: which key stands for which option value."""


@dataclass(frozen=True, slots=True)
class OptionValues:
    """Which NAV key stands for which option value, the keys that were new, and what NAV refused."""

    mapping: TableMapping
    values: Mapping[str, int]
    created: tuple[str, ...] = ()
    refused: Mapping[str, IntegrationError] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """Options that NAV had already, that are new there, and that it refused."""
        inserted = len(self.created)
        return Counts(inserted=inserted, unmodified=len(self.values) - inserted, failed=len(self.refused))

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of the options that NAV did not have."""
        return [
            Outcome(
                action=SynchAction.FAILED if key in self.refused else SynchAction.INSERTED,
                direction=Direction.FROM_CRM.value,
                nav_table=self.mapping.nav_table,
                nav_key=key,
                crm_entity=self.mapping.crm_entity,
                error=Failure.of(self.refused[key]) if key in self.refused else None,
                extra={"mapping": self.mapping.name},
            )
            for key in (*self.created, *self.refused)
        ]


async def option_mapping(ctx: Context, company: Company, name: str | None) -> TableMapping | None:
    """The mapping of that name if it is an option mapping: it couples no records, and is synchronized in a way of its
    own."""
    if name is None:
        return None
    async with ctx.uow(reading=True) as tx:
        stored = await tx.mappings.all(company.id)
    found = (each.mapping for each in stored if each.mapping.name == name)
    return next((mapping for mapping in found if mapping.option_attribute is not None), None)


async def open_options(
    ctx: Context, company: Company, mapping: TableMapping, *, preview: bool = False
) -> OptionValues:
    """Finds or creates the NAV record of every option that CRM has. Raises ConnectionDisabled, TableNotFound, and what
    the two sides raise."""
    async with ctx.uow(reading=True) as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        known = await tx.option_mappings.all(company.id)
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    return await find_or_create(nav, crm, mapping, known, preview=preview)


async def run_options(
    ctx: Context, company: Company, mapping: TableMapping, job: SynchJob, report: Report
) -> None:
    """A synch job of an option mapping: remembers which NAV record stands for which option. They have no couplings
    that could be removed; NAV records are never deleted. Raises as `open_options`."""
    if job.mode is SynchMode.UNCOUPLE:
        return
    report.go_on()
    found = await open_options(ctx, company, mapping)
    async with ctx.uow() as tx:
        await remember_options(tx, company, found)
        await tx.synch_log.add(company.id, job.id, found.outcomes, ctx.clock.now())
        await report.progress(Direction.FROM_CRM.value, found.counts, tx=tx)


async def remember_options(tx: Transaction, company: Company, found: OptionValues) -> None:
    """Notes which key stands for which option. Records whose code stands for another one now, or for one at last,
    did not change themselves: the mappings that send the attribute look at all of theirs again."""
    mapping, attribute = found.mapping, found.mapping.option_attribute or ""
    before = (await tx.option_mappings.all(company.id)).get((mapping.nav_table, attribute), {})
    await tx.option_mappings.replace(company.id, mapping.nav_table, attribute, found.values)
    if before == found.values:
        return
    for other in [stored.mapping for stored in await tx.mappings.all(company.id)]:
        sent = {row.crm_attribute for row in other.rows(Direction.TO_CRM)}
        if (other.crm_entity, other.option_attribute) == (mapping.crm_entity, None) and attribute in sent:
            await tx.mappings.read_again(company.id, other.name, [Side.NAV])


async def find_or_create(
    nav: NavSide, crm: CrmSide, mapping: TableMapping, known: KnownOptions, *, preview: bool = False
) -> OptionValues:
    """The NAV record of every option that CRM has, created where it is missing; nothing is remembered of it.

    An option keeps the record that is `known` to stand for it, also when the record was renamed, or the option: as long
    as the record is there, and no option is called like it.
    """
    definition = await nav.definition(mapping.nav_table)
    entity = await crm.definition(mapping.crm_entity)
    attribute = entity.fields.get(mapping.option_attribute or "")
    wanted = option_keys(definition, attribute.options if attribute else ())
    before = known.get((mapping.nav_table, mapping.option_attribute or ""), {})
    present = await nav.by_key(mapping.nav_table, [*wanted.keys() | before.keys()], definition.primary_key)
    kept = _kept(wanted, {key: value for key, value in before.items() if key in present})
    wanted = {kept.get(option.value, key): option for key, option in wanted.items()}
    missing = [key for key in wanted if key not in present]
    refused: dict[str, IntegrationError] = {}
    if missing and not preview:
        fields = [(key, _values(definition, wanted[key])) for key in missing]
        answers = await nav.bulk(mapping.nav_table, fields)
        pairs = zip(missing, answers, strict=True)
        refused = {key: answer for key, answer in pairs if isinstance(answer, IntegrationError)}
    values = {key: option.value for key, option in wanted.items() if key not in refused}
    created = tuple(key for key in missing if key not in refused)
    return OptionValues(mapping, values, created, refused)


def option_keys(table: TableDefinition, options: Iterable[Option]) -> dict[str, Option]:
    """The key each option has in NAV: its label in capitals, without blanks and punctuation but the
    percent sign, cut to the length of the key. Blank options have none; of two with one key the first counts.
    """
    length = table.fields[table.primary_key[0]].length
    keys: dict[str, Option] = {}
    for option in options:
        key = cut(capitals(re.sub(r"[^\w%]|_", "", option.label or option.name)), length)
        if key and option.value >= 0:
            keys.setdefault(key, option)
    return keys


def _kept(wanted: Mapping[str, Option], before: Mapping[str, int]) -> dict[int, str]:
    """The keys of the records that go on to stand for these options, by value. One that is called like another option
    does where that one keeps a record of its own: options may pass their names on."""
    kept: dict[int, str] = {}
    while True:
        named = {key for key, option in wanted.items() if option.value not in kept}
        more = {value: key for key, value in before.items() if key not in named}
        if more == kept:
            return kept
        kept = more


def _values(table: TableDefinition, option: Option) -> dict[str, str]:
    description = table.fields.get("Description") or table.fields.get("Name")
    return {} if description is None else {description.name: cut(option.label, description.length)}
