"""Use Default Synchronization Setup (nav-behaviour 4; seed-checklist, decisions)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.defaults import default_entries, default_mappings
from app.domain.errors import FieldProblem, InvalidMapping, SetupExists, TableNotFound
from app.domain.job import JobQueueEntry
from app.domain.mapping import FieldMapping, FieldStatus, TableMapping
from app.domain.naming import near
from app.domain.pairing import unwritable
from app.domain.records import Side, TableDefinition
from app.domain.timeline import POST
from app.ports import Context, CrmSide, NavSide, RecordStore, Transaction
from app.use_cases.customer_template import with_nav_template
from app.use_cases.integration_ids import tracked
from app.use_cases.options import OptionValues, find_or_create, remember_options


@dataclass(frozen=True, slots=True)
class Removed:
    """What the setup replaced, or would replace."""

    integration_table_mappings: int = 0
    integration_field_mappings: int = 0
    job_queue_entries: int = 0


@dataclass(frozen=True, slots=True)
class SetupResult:
    """What Use Default Synchronization Setup made, or would make.

    `left_out` names default mappings whose table or entity one of the two sides does not have, `disabled_rows`
    the rows (`MAPPING.attribute`) whose field it does not have or does not let be written: they are there,
    but switched off.
    """

    integration_table_mappings: int
    integration_field_mappings: int
    job_queue_entries: int
    integration_ids_generated: Mapping[str, int]
    removed: Removed
    mappings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    disabled_rows: tuple[str, ...] = ()
    option_records_created: Mapping[str, Sequence[str]] | None = None
    preview: bool = False


@dataclass(frozen=True, slots=True)
class _Present:
    """The setup there is, as far as it would be replaced, and the names of the mappings that stay."""

    mappings: tuple[TableMapping, ...]
    entries: tuple[JobQueueEntry, ...]
    kept: frozenset[str]

    @property
    def removed(self) -> Removed:
        rows = sum(len(mapping.fields) for mapping in self.mappings)
        return Removed(len(self.mappings), rows, len(self.entries))


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The default mappings as the two sides can take them."""

    mappings: tuple[TableMapping, ...]
    left_out: tuple[str, ...]
    disabled_rows: tuple[str, ...]


async def use_default_setup(
    ctx: Context,
    company: Company,
    *,
    replace_existing: bool = False,
    mappings: Collection[str] | None = None,
    preview: bool = False,
) -> SetupResult:
    """Replaces mappings, field rows and job queue entries by the default ones, in one transaction, and
    gives the records of the mapped tables their integration ids.

    Args:
        mappings: only these default mappings; others stay as they are.
        replace_existing: the confirmation that what is there may go; custom mappings too, unless `mappings`
            names which to reset.
        preview: tells the outcome and changes nothing.

    Couplings, integration ids and logs stay. Doing it twice has the same outcome.

    Raises:
        ConnectionDisabled: the connection must be enabled first.
        SetupExists: listing what would be lost.
        InvalidMapping: there is no default mapping of that name.
    """
    async with ctx.uow() as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        company = await tx.companies.by_id(company.id)
        present = await _present(tx, company, mappings)
        known = await tx.option_mappings.all(company.id)
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    wanted = await with_nav_template(nav, _wanted(company, mappings))
    fitted = await _fitted(wanted, present.kept, nav, crm)
    _require_consent(company, present, fitted, replace_existing)
    options = [
        await find_or_create(nav, crm, mapping, known, preview=preview)
        for mapping in fitted.mappings
        if mapping.option_attribute is not None
    ]
    has_posts = mappings is None and await _definition(crm, POST) is not None
    entries = _entries(ctx, company, connection, fitted, everything=mappings is None, timelines=has_posts)
    if not preview:
        async with ctx.uow() as tx:
            present = await _present(tx, company, mappings, lock=True)
            _require_consent(company, present, fitted, replace_existing)
            await _replace(tx, company, present, fitted.mappings, entries, options)
    tables = await tracked(nav, {mapping.nav_table for mapping in fitted.mappings})
    generated = await (nav.without_ids(tables) if preview else nav.generate_ids(tables))
    return SetupResult(
        integration_table_mappings=len(fitted.mappings),
        integration_field_mappings=sum(len(mapping.fields) for mapping in fitted.mappings),
        job_queue_entries=len(entries),
        integration_ids_generated=generated,
        removed=present.removed,
        mappings=tuple(mapping.name for mapping in fitted.mappings),
        left_out=fitted.left_out,
        disabled_rows=fitted.disabled_rows,
        option_records_created={made.mapping.nav_table: made.created for made in options},
        preview=preview,
    )


def _wanted(company: Company, names: Collection[str] | None) -> tuple[TableMapping, ...]:
    defaults = default_mappings(company.defaults_generation)
    if names is None:
        return defaults
    known = [mapping.name for mapping in defaults]
    problems = [
        FieldProblem(
            f"/mappings/{position}",
            f"The generation {company.defaults_generation} has no default mapping {name}.",
            near(name, known),
        )
        for position, name in enumerate(names)
        if name not in known
    ]
    if problems:
        raise InvalidMapping("There is no default mapping of that name.", errors=problems)
    return tuple(mapping for mapping in defaults if mapping.name in names)


async def _present(
    tx: Transaction, company: Company, names: Collection[str] | None, *, lock: bool = False
) -> _Present:
    stored = [found.mapping for found in await tx.mappings.all(company.id, lock=lock)]
    entries = await tx.job_queue.all(company.id)
    return _Present(
        tuple(mapping for mapping in stored if names is None or mapping.name in names),
        tuple(entry for entry in entries if names is None or entry.mapping in names),
        frozenset(mapping.name for mapping in stored if names is not None and mapping.name not in names),
    )


def _require_consent(company: Company, present: _Present, fitted: _Fitted, replace_existing: bool) -> None:
    if replace_existing or not (present.mappings or present.entries):
        return
    raise SetupExists(
        f"The company {company.name} has a synchronization setup already; it would be replaced.",
        fix="Repeat the call with replace_existing true to lose what is listed here.",
        extra={"would_be_lost": _losses(present, fitted)},
    )


def _losses(present: _Present, fitted: _Fitted) -> dict[str, Any]:
    """What the caller would lose: everything that is there, and what of it is not as it comes by default."""
    defaults = {mapping.name: mapping for mapping in fitted.mappings}
    return {
        "integration_table_mappings": [mapping.name for mapping in present.mappings],
        "customized": [
            mapping.name
            for mapping in present.mappings
            if mapping.name not in defaults or content(mapping) != content(defaults[mapping.name])
        ],
        "integration_field_mappings": sum(len(mapping.fields) for mapping in present.mappings),
        "job_queue_entries": [entry.description for entry in present.entries],
    }


def content(mapping: TableMapping) -> TableMapping:
    """What a mapping says, without the ids of its rows: two that say the same are equal."""
    return mapping.with_fields(replace(row, id=None) for row in mapping.fields)


async def _fitted(
    wanted: Sequence[TableMapping], kept: Collection[str], nav: NavSide, crm: CrmSide
) -> _Fitted:
    fitted: list[TableMapping] = []
    left_out: list[str] = []
    disabled: list[str] = []
    for mapping in wanted:
        ours = await _definition(nav, mapping.nav_table)
        theirs = await _definition(crm, mapping.crm_entity)
        if ours is None or theirs is None:
            left_out.append(mapping.name)
            continue
        rows = tuple(_row(row, ours, theirs) for row in mapping.fields)
        off = [new for old, new in zip(mapping.fields, rows, strict=True) if new.status is not old.status]
        disabled += [f"{mapping.name}.{row.crm_attribute or row.nav_field}" for row in off]
        fitted.append(mapping.with_fields(rows))
    names = {mapping.name for mapping in fitted} | set(kept)
    whole = [replace(m, depends_on=tuple(n for n in m.depends_on if n in names)) for m in fitted]
    return _Fitted(tuple(whole), tuple(left_out), tuple(disabled))


async def _definition(side: RecordStore, table: str) -> TableDefinition | None:
    try:
        return await side.definition(table)
    except TableNotFound:
        return None


def _row(row: FieldMapping, nav: TableDefinition, crm: TableDefinition) -> FieldMapping:
    """The row as it can be used: a field that a side does not have, or that nothing can be written to,
    must not make every run fail."""
    definitions = {Side.NAV: nav, Side.CRM: crm}
    missing = any(
        (name := row.name_on(side)) is not None and name not in definition.fields
        for side, definition in definitions.items()
    )
    usable = not missing and any(
        (name := row.name_on(run.destination)) is not None
        and unwritable(definitions[run.destination].fields[name]) is None
        for run in row.direction.runs
    )
    return row if usable else replace(row, status=FieldStatus.DISABLED)


def _entries(
    ctx: Context,
    company: Company,
    connection: ConnectionSetup,
    fitted: _Fitted,
    *,
    everything: bool,
    timelines: bool,
) -> tuple[JobQueueEntry, ...]:
    return default_entries(
        company.defaults_generation,
        {mapping.name for mapping in fitted.mappings},
        new_id=ctx.new_id,
        now=ctx.clock.now(),
        solution_installed=everything and bool(connection.integration_solution_installed),
        timelines=timelines,
    )


async def _replace(
    tx: Transaction,
    company: Company,
    present: _Present,
    mappings: Sequence[TableMapping],
    entries: Sequence[JobQueueEntry],
    options: Sequence[OptionValues],
) -> None:
    if present.entries:
        await tx.job_queue.delete(company.id, [entry.id for entry in present.entries])
    if present.mappings:
        await tx.mappings.delete(company.id, [mapping.name for mapping in present.mappings])
    for mapping in mappings:
        await tx.mappings.add(company.id, mapping)
    for entry in entries:
        await tx.job_queue.add(company.id, entry)
    for option in options:
        await remember_options(tx, company, option)
