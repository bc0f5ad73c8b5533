"""Whether mappings can work, asked of both sides: what `domain.mapping_rules` needs is read here."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from app import filters
from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.errors import FieldProblem, InvalidFilter, InvalidMapping, TableNotFound
from app.domain.mapping import FieldMapping, TableMapping
from app.domain.mapping_rules import (
    dependency_problems,
    filter_name_problems,
    logical_name,
    name_problems,
    rests,
    rivals,
    row_problems,
    table_problems,
    unknown,
)
from app.domain.records import TEXTS, FieldType, Side, TableDefinition
from app.ports import Context, CrmSide, NavSide


@dataclass(frozen=True, slots=True)
class _Sides:
    """What both sides say about the tables of one mapping."""

    nav: TableDefinition
    crm: TableDefinition


async def check_mappings(
    ctx: Context,
    company: Company,
    mappings: Sequence[TableMapping],
    others: Sequence[TableMapping],
    within: str | None = None,
) -> None:
    """Checks whole mappings against both sides. `within` is where their list stands in the input.

    Raises InvalidMapping and InvalidFilter with pointers, ConnectionDisabled.
    """
    nav, crm = await _open(ctx, company)
    problems: list[FieldProblem] = []
    mapped = _mapped([*others, *mappings])
    for position, mapping in enumerate(mappings):
        prefix = "" if within is None else f"{within}/{position}"
        found = [*name_problems(mapping.name), *dependency_problems(mapping, others)]
        sides = await _definitions(nav, crm, mapping, found)
        if sides is not None:
            found += table_problems(mapping, sides.nav, sides.crm)
            found += _filter_problems(mapping, sides)
            found += _rows_problems(mapping, sides, mapped)
        problems += [replace(problem, pointer=f"{prefix}{problem.pointer}") for problem in found]
    refuse_if_any(problems)


async def check_row(
    ctx: Context, company: Company, mapping: TableMapping, row: FieldMapping, others: Sequence[TableMapping]
) -> None:
    """Checks one row, which is among those of the mapping. Raises InvalidMapping, ConnectionDisabled."""
    nav, crm = await _open(ctx, company)
    problems: list[FieldProblem] = []
    sides = await _definitions(nav, crm, mapping, problems)
    if sides is not None:
        mapped = _mapped([*others, mapping])
        problems += row_problems(mapping, row, sides.nav, sides.crm, mapped)
        problems += [
            problem for position, problem in rivals(mapping.fields) if _is_at(mapping, position, row)
        ]
    refuse_if_any(problems)


def _is_at(mapping: TableMapping, position: int, row: FieldMapping) -> bool:
    """Whether the rival is the row in question, or one after it that it now gets in the way of."""
    ids = [each.id for each in mapping.fields]
    return position >= ids.index(row.id)


async def _open(ctx: Context, company: Company) -> tuple[NavSide, CrmSide]:
    async with ctx.uow() as tx:
        connection = require_enabled(await tx.connections.find(company.id))
    return ctx.sides.nav(company), ctx.sides.crm(company, connection)


def _mapped(mappings: Iterable[TableMapping]) -> set[tuple[str, str]]:
    return {(m.nav_table, m.crm_entity) for m in mappings if m.option_attribute is None}


async def _definitions(
    nav: NavSide, crm: CrmSide, mapping: TableMapping, problems: list[FieldProblem]
) -> _Sides | None:
    ours = theirs = None
    try:
        ours = await nav.definition(mapping.nav_table)
    except TableNotFound:
        known = [definition.name for definition in await nav.definitions()]
        problems.append(unknown("/nav_table", "NAV has no table", mapping.nav_table, known))
    try:
        theirs = await crm.definition(mapping.crm_entity)
    except TableNotFound:
        problems.append(await _unknown_entity(crm, mapping.crm_entity))
    return None if ours is None or theirs is None else _Sides(ours, theirs)


async def _unknown_entity(crm: CrmSide, name: str) -> FieldProblem:
    """An entity set (`accounts`) is a common slip for the entity (`account`)."""
    try:
        meant: str | None = (await crm.definition_of_set(name)).name
    except TableNotFound:
        meant = None
    hint = f" Did you mean {meant}?" if meant else ""
    return FieldProblem("/crm_entity", f"CRM has no entity {name}.{hint}", meant)


def _rows_problems(
    mapping: TableMapping, sides: _Sides, mapped: Collection[tuple[str, str]]
) -> list[FieldProblem]:
    # Whoever makes a mapping go one way need not give up the rows that only go the other.
    may_rest = not all(rests(mapping, row) for row in mapping.fields)
    problems = [
        problem
        for position, row in enumerate(mapping.fields)
        for problem in row_problems(
            mapping, row, sides.nav, sides.crm, mapped, f"/fields/{position}", may_rest=may_rest
        )
    ]
    problems += [
        replace(problem, pointer=f"/fields/{position}") for position, problem in rivals(mapping.fields)
    ]
    return problems


def _filter_problems(mapping: TableMapping, sides: _Sides) -> list[FieldProblem]:
    """Names in the filters that are not there. Raises InvalidFilter for what cannot be read at all, or compares a field
    with what it never holds: it would fail with the first record."""
    problems: list[FieldProblem] = []
    for side, definition in ((Side.NAV, sides.nav), (Side.CRM, sides.crm)):
        text = mapping.filter_on(side)
        if text is None:
            continue
        try:
            node = filters.parse(text)
            filters.predicate(node, literal=_fitting(side, definition))
        except filters.FilterError as error:
            pointer = f"/{side}_filter"
            raise InvalidFilter(
                f"The {side.upper()} filter of {mapping.name} cannot be used: {error.message}",
                errors=[FieldProblem(pointer, error.message)],
            ) from error
        problems += filter_name_problems(side, filters.names(node), definition)
    return problems


def _fitting(side: Side, definition: TableDefinition) -> filters.Literal:
    """Lets a value pass that its field can be compared with; others raise FilterError."""

    def fitting(name: str, value: Any) -> Any:
        field = definition.fields.get(logical_name(name))
        if field is not None and not filters.comparable(_sample(side, field.type), value):
            raise filters.FilterError(f"'{value}' does not fit {name} ({field.type}).")
        return value

    return fitting


def _sample(side: Side, kind: FieldType) -> Any:
    """A value that fields of this kind may have on that side; None where there is nothing to go by."""
    match kind:
        case FieldType.OPTION:
            return "" if side is Side.NAV else 0
        case FieldType.BOOLEAN:
            return False
        case FieldType.GUID | FieldType.LOOKUP:
            return UUID(int=0)
        case FieldType.DATE:
            return date.max
        case FieldType.DATETIME:
            return datetime.max.replace(tzinfo=UTC)
        case FieldType.TIME:
            return None
        case _:
            return "" if kind in TEXTS or kind is FieldType.ENTITY_NAME else 0


def refuse_if_any(problems: Sequence[FieldProblem]) -> None:
    """Raises InvalidMapping when there is a problem."""
    if problems:
        raise InvalidMapping(
            problems[0].message
            if len(problems) == 1
            else f"{len(problems)} things are wrong with the mapping.",
            errors=problems,
        )
