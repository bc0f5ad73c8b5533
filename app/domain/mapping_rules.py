"""Whether a mapping can work: names that exist, values that fit, directions that make sense.

Source of the rules: nav-behaviour 1.1 and 1.2, and the mappings part of the REST contract. Every function
answers the problems it found; none is an exception, so that a caller hears of all at once.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.domain import conversion, pairing
from app.domain.defaults import dependency_circle
from app.domain.errors import FieldProblem, InvalidMapping, InvalidValues
from app.domain.mapping import Direction, FieldMapping, FieldStatus, TableMapping
from app.domain.naming import near
from app.domain.records import FieldDefinition, FieldType, Side, TableDefinition
from app.domain.templates import template_values

RESERVED = ("export", ".", "..")  # a word of our own addresses; clients resolve dots (RFC 3986, 5.2.4)
_NAME = re.compile(r"[^\x00-\x1f/\\?#%]{1,50}")


def unknown(pointer: str, what: str, name: str, known: Iterable[str]) -> FieldProblem:
    """The problem that there is no such name, with the nearest one as suggestion."""
    suggestion = near(name, known)
    hint = f" Did you mean {suggestion}?" if suggestion else ""
    return FieldProblem(pointer, f"{what} {name}.{hint}", suggestion)


def name_problems(name: str) -> Iterator[FieldProblem]:
    """What is wrong with the name of a mapping."""
    if not _NAME.fullmatch(name) or name != name.strip() or name.lower() in RESERVED:
        message = "A mapping's name has 1 to 50 characters, none of / \\ ? # %, and is not 'export', . or .."
        yield FieldProblem("/name", message)


def table_problems(
    mapping: TableMapping, nav: TableDefinition, crm: TableDefinition
) -> Iterator[FieldProblem]:
    """What is wrong with the mapping itself, its rows apart."""
    yield from _option_problems(mapping, crm)
    for side, definition, template in (
        (Side.NAV, nav, mapping.nav_template),
        (Side.CRM, crm, mapping.crm_template),
    ):
        yield from _template_problems(f"/{side}_template", template, side, definition)


def _option_problems(mapping: TableMapping, crm: TableDefinition) -> Iterator[FieldProblem]:
    name = mapping.option_attribute
    if name is None:
        return
    attribute = crm.fields.get(name)
    if attribute is None:
        yield unknown("/option_attribute", f"{crm.name} has no attribute", name, crm.fields)
    elif attribute.type is not FieldType.OPTION:
        yield FieldProblem("/option_attribute", f"{name} has no options.")
    if mapping.direction is Direction.BIDIRECTIONAL:
        yield FieldProblem("/direction", "An option mapping goes one way.", Direction.FROM_CRM)


def _template_problems(
    pointer: str, template: str | None, side: Side, definition: TableDefinition
) -> Iterator[FieldProblem]:
    try:
        values = template_values(template, side)
    except InvalidMapping as error:
        yield FieldProblem(pointer, error.detail)
        return
    for name in values:
        if name not in definition.fields:
            yield unknown(pointer, f"{definition.name} has no field", name, definition.fields)


def dependency_problems(mapping: TableMapping, others: Collection[TableMapping]) -> Iterator[FieldProblem]:
    """Mappings it depends on that are not there, and circles it would close."""
    names = {other.name for other in others}
    for position, name in enumerate(mapping.depends_on):
        if name not in names and name != mapping.name:
            yield unknown(f"/depends_on/{position}", "There is no mapping", name, names)
    circle = dependency_circle([*(other for other in others if other.name != mapping.name), mapping])
    if circle:
        yield FieldProblem("/depends_on", f"These would wait for each other: {' -> '.join(circle)}.")


def direction_problems(mapping: TableMapping) -> Iterator[FieldProblem]:
    """Directions of the mapping in which no row takes part; a mapping without rows waits for some."""
    if not mapping.fields:
        return
    for run in mapping.runs():
        if not mapping.rows(run):
            yield FieldProblem("/direction", f"No enabled field row is used in the direction {run}.")


def require_rows(mapping: TableMapping, run: Direction) -> None:
    """Raises InvalidMapping where no field row says what a new record of that direction holds: it would be blank."""
    if not any(row.rule is None for row in mapping.rows(run)):
        raise InvalidMapping(
            f"No enabled field row of mapping {mapping.name} is used in the direction {run}, so its records would be "
            "created blank.",
            fix=f"POST …/integration-table-mappings/{mapping.name}/fields adds a row; PATCH …/integration-table-"
            f"mappings/{mapping.name} with direction leaves {run} out.",
        )


# --- rows ------------------------------------------------------------------------------------------


def rests(mapping: TableMapping, row: FieldMapping) -> bool:
    """Whether the row only goes the other way than the mapping."""
    return mapping.direction is not Direction.BIDIRECTIONAL and not row.direction.allows(mapping.direction)


def row_problems(
    mapping: TableMapping,
    row: FieldMapping,
    nav: TableDefinition,
    crm: TableDefinition,
    mapped: Collection[tuple[str, str]],
    pointer: str = "",
    *,
    may_rest: bool = False,
) -> Iterator[FieldProblem]:
    """What is wrong with one row of the mapping; `pointer` is where the row stands in the input.

    A row that only goes the other way than its mapping takes no part; with `may_rest` that is no mistake.
    """
    ours = _known(nav, row.nav_field, f"{pointer}/nav_field")
    theirs = _known(crm, row.crm_attribute, f"{pointer}/crm_attribute")
    yield from (found for found in (ours, theirs) if isinstance(found, FieldProblem))
    yield from _shape_problems(row, pointer)
    if not may_rest and rests(mapping, row):
        message = f"The mapping {mapping.name} goes {mapping.direction} only."
        yield FieldProblem(f"{pointer}/direction", message, mapping.direction)
    if isinstance(ours, FieldProblem) or isinstance(theirs, FieldProblem):
        return
    if row.status is FieldStatus.DISABLED:
        return  # takes no part in transfers; whether its values fit is asked when it is enabled
    if ours is not None and theirs is not None:
        if not _is_option_row(mapping, row) and (
            problem := pairing.convertible(ours, theirs, row.direction, mapped)
        ):
            yield FieldProblem(pointer, problem)
    elif (alone := ours or theirs) is not None:
        yield from _constant_problems(row, alone, Side.CRM if ours is None else Side.NAV, pointer)


def _known(
    definition: TableDefinition, name: str | None, pointer: str
) -> FieldDefinition | FieldProblem | None:
    if name is None:
        return None
    found = definition.fields.get(name)
    return found or unknown(pointer, f"{definition.name} has no field", name, definition.fields)


def _is_option_row(mapping: TableMapping, row: FieldMapping) -> bool:
    """The key of an option mapping stands for the option itself."""
    return mapping.option_attribute is not None and row.crm_attribute == mapping.option_attribute


def _shape_problems(row: FieldMapping, pointer: str) -> Iterator[FieldProblem]:
    both = row.nav_field is not None and row.crm_attribute is not None
    if row.nav_field is None and row.crm_attribute is None:
        yield FieldProblem(pointer, "A row names a NAV field, a CRM attribute, or both.")
    elif both and row.constant_value is not None:
        message = "A constant takes the place of the field on the side it comes from: leave that one out."
        yield FieldProblem(f"{pointer}/constant_value", message)
    elif not both and row.constant_value is None:
        yield FieldProblem(f"{pointer}/constant_value", "A row with one field writes a constant: say which.")
    elif not both:
        only = Direction.TO_CRM if row.nav_field is None else Direction.FROM_CRM
        if row.direction is not only:
            yield FieldProblem(f"{pointer}/direction", f"This constant can be written {only} only.", only)
    if row.not_null and row.clear_value_on_failed_synch:
        message = "not_null keeps a value, clear_value_on_failed_synch clears it: choose one."
        yield FieldProblem(f"{pointer}/not_null", message)
    if row.transformation is not None and row.transformation not in conversion.TRANSFORMATIONS:
        known = conversion.TRANSFORMATIONS
        yield unknown(f"{pointer}/transformation", "There is no text rule", row.transformation, known)


def _constant_problems(
    row: FieldMapping, target: FieldDefinition, side: Side, pointer: str
) -> Iterator[FieldProblem]:
    if row.constant_value is None:
        return
    if problem := pairing.unwritable(target):
        yield FieldProblem(pointer, problem)
    try:
        conversion.constant(row.constant_value, target, side)
    except InvalidValues as error:
        known = [option.name for option in target.options]
        suggestion = near(row.constant_value, known)
        yield FieldProblem(f"{pointer}/constant_value", error.detail, suggestion)


def rivals(rows: Sequence[FieldMapping]) -> Iterator[tuple[int, FieldProblem]]:
    """Rows that would write the same field in the same run: the values would take turns."""
    taken: dict[tuple[Direction, str], int] = {}
    for position, row in enumerate(rows):
        if row.status is not FieldStatus.ENABLED:
            continue
        for run in row.direction.runs:
            name = row.name_on(run.destination)
            if name is None:
                continue
            if (run, name) in taken:
                other = taken[run, name] + 1
                message = f"{name} is written by row {other} of the mapping already ({run})."
                yield position, FieldProblem("", message)
                break
            taken[run, name] = position


def filter_name_problems(
    side: Side, names: Collection[str], definition: TableDefinition
) -> Iterator[FieldProblem]:
    """Names in a filter that the table does not have. CRM lookups go by their Web API names too."""
    for name in sorted(names):
        head = name.partition("/")[0]
        if side is Side.CRM:
            head = logical_name(head)
        # A path goes through a navigation property, whose name need not be the attribute's.
        if head not in definition.fields and "/" not in name:
            yield unknown(f"/{side}_filter", f"{definition.name} has no field", name, definition.fields)


def logical_name(name: str) -> str:
    """The attribute behind the name a Web API filter uses: `_parentcustomerid_value` -> `parentcustomerid`."""
    if name.startswith("_") and name.endswith("_value"):
        return name[1 : -len("_value")]
    return name


def changed_row(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a row, completed: not_null and clear_value_on_failed_synch exclude each other, so
    setting one clears the other unless both are said."""
    values = dict(changes)
    pair = ("not_null", "clear_value_on_failed_synch")
    for name, other in (pair, pair[::-1]):
        if values.get(name) and other not in values:
            values[other] = False
    return values
