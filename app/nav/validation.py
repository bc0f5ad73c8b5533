"""Values from outside, checked against the definition of the table: every problem at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import FieldProblem, InvalidValues
from app.nav.definitions import NavTable
from app.nav.rows import unknown_field
from app.nav.values import Stored, StoredValues, Unfit, from_stored

POINTER = "/fields/"


@dataclass(slots=True)
class Checked:
    """What a caller wrote, in stored form (None is blank), and what is wrong with it."""

    given: dict[str, Stored | None] = field(default_factory=dict)
    figures: dict[str, Stored | None] = field(default_factory=dict)
    problems: list[FieldProblem] = field(default_factory=list)


def checked(table: NavTable, values: Mapping[str, Any], *, new: bool, figures: bool) -> Checked:
    """Checks the names, types and lengths of values, whether or not the record exists already.

    Args:
        values: by field name, as JSON or Python values.
        new: the record is to be created.
        figures: sums over ledgers are accepted, because the caller stands for the ledgers.
    """
    writers = table.insertable if new else table.updatable
    try:
        return Checked({name: writers[name](value) for name, value in values.items()})
    except (KeyError, Unfit):
        return _looked_into(table, values, new, figures)


def _looked_into(table: NavTable, values: Mapping[str, Any], new: bool, figures: bool) -> Checked:
    """The same, value by value: where one does not fit, a person hears of all of them."""
    outcome = Checked()
    for name, value in values.items():
        definition = table.fields.get(name)
        if definition is None:
            outcome.problems.append(unknown_field(table, name, POINTER + _escaped(name)))
            continue
        is_figure = name in table.figures
        writable = definition.insertable if new else definition.updatable
        if not (figures if is_figure else writable):
            outcome.problems.append(
                _problem(name, f"'{definition.label}' is set by NAV and cannot be written.")
            )
            continue
        try:
            stored = table.writers[name](value)
        except Unfit as error:
            outcome.problems.append(_problem(name, error.message, error.suggestion))
            continue
        (outcome.figures if is_figure else outcome.given)[name] = stored
    return outcome


def invalid(table: NavTable, key: str | None, problems: Iterable[FieldProblem]) -> InvalidValues:
    """The error of a record whose values do not fit."""
    found = tuple(problems)
    record = f"'{table.definition.label}' {key}" if key else f"The new '{table.definition.label}'"
    told = " ".join(f"{problem.pointer.rsplit('/', 1)[-1]}: {problem.message}" for problem in found[:3])
    return InvalidValues(
        f"{record} cannot be saved. {told}",
        errors=found,
        fix=f"Correct these fields; GET …/nav-tables/{table.name} lists what they can hold.",
    )


def related_records(
    table: NavTable, given: Mapping[str, Stored | None], fields: StoredValues
) -> Iterator[tuple[str, str, str]]:
    """What the written values refer to: the field, the table and the key that must exist there."""
    if given.keys().isdisjoint(table.relations):
        return
    for name, relations in table.relations.items():
        stored = given.get(name)
        if stored is None:
            continue
        for relation in relations:
            if relation.when_field is None or relation.when_option == from_stored(
                table.fields[relation.when_field], fields.get(relation.when_field)
            ):
                yield name, relation.table, str(stored)


def missing_relation(table: NavTable, related: NavTable, name: str, key: str) -> str:
    """What to say of a value that refers to nothing."""
    label = table.fields[name].label
    return f"'{label}' refers to '{related.definition.label}' '{key}', which does not exist."


def _problem(name: str, message: str, suggestion: Any = None) -> FieldProblem:
    return FieldProblem(POINTER + name, message, suggestion)


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
