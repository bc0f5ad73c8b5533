"""Reading: which columns a question needs, and what a row becomes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select

from app.domain.errors import FieldProblem, InvalidValues
from app.domain.naming import near
from app.domain.records import Snapshot, Value
from app.nav.definitions import NavTable
from app.nav.expressions import expression, figures_of
from app.nav.tables import nav_record
from app.nav.values import StoredValues, from_stored
from app.ports import NavRecord

FIXED = ("key", "integration_id", "row_version", "modified_at", "fields")


@dataclass(slots=True)
class Row:
    """A record as it lies in the table; `computed` holds the asked-for fields that do not lie there."""

    key: str
    integration_id: UUID | None
    row_version: int
    modified_at: datetime
    fields: StoredValues
    computed: Mapping[str, Value] = field(default_factory=dict)


class Projection:
    """The fields a question asks for; None stands for all."""

    def __init__(self, table: NavTable, names: Collection[str] | None) -> None:
        if names is not None:
            _require_known(table, names)
        wanted = table.fields if names is None else {name: table.fields[name] for name in names}
        self.table = table
        self.figures = tuple(name for name in wanted if name in table.figures)
        self.computed = tuple(
            name for name in wanted if name not in table.blanks and name not in table.figures
        )
        self._no_figures = {name: table.no_figures[name] for name in self.figures}
        self._blanks = [(name, table.blanks[name]) for name in wanted if name in table.blanks]
        self._readers = [(name, table.readers[name]) for name in wanted if name in table.readers]

    def columns(self) -> list[Any]:
        """What to select; the computed fields follow the fixed ones, all figures together as one document."""
        fixed = [nav_record.c[name] for name in FIXED]
        computed = [expression(self.table, name).label(f"computed_{name}") for name in self.computed]
        return [*fixed, *computed, *([figures_of().label("figures")] if self.figures else [])]

    def select(self, company_id: int) -> Select[Any]:
        """The records of the table in one company."""
        return select(*self.columns()).where(
            nav_record.c.company_id == company_id, nav_record.c.nav_table == self.table.name
        )

    def row(self, found: Sequence[Any]) -> Row:
        """A selected row."""
        computed: dict[str, Value] = dict(zip(self.computed, found[len(FIXED) :], strict=False))
        if self.figures:
            computed |= self._no_figures
            if sums := found[-1]:
                fields = self.table.fields
                computed |= {name: from_stored(fields[name], sums.get(name)) for name in self.figures}
        return Row(found[0], found[1], found[2], found[3], found[4], computed)

    def values(self, row: Row) -> dict[str, Value]:
        """The values of the asked-for fields."""
        fields = row.fields
        values: dict[str, Value] = {name: fields.get(name, empty) for name, empty in self._blanks}
        for name, read in self._readers:
            if name in fields:
                values[name] = read(fields[name])
        if row.computed:
            values.update(row.computed)
        return values

    def snapshot(self, row: Row) -> Snapshot:
        """The row as both sides speak of records. It must have an integration id."""
        if row.integration_id is None:
            raise ValueError(f"{self.table.name} {row.key} has no integration id.")
        return Snapshot(row.integration_id, row.key, str(row.row_version), self.values(row), row.modified_at)

    def record(self, row: Row) -> NavRecord:
        """The row as a person sees it."""
        return NavRecord(row.key, row.integration_id, str(row.row_version), self.values(row), row.modified_at)


def stored_values(table: NavTable, fields: StoredValues) -> dict[str, Value]:
    """The values of what lies in a record, as far as the table has such fields."""
    known = table.blanks.keys()
    values: dict[str, Value] = dict(fields)
    if not values.keys() <= known:
        values = {name: stored for name, stored in fields.items() if name in known}
    for name, read in table.readers.items():
        if name in fields:
            values[name] = read(fields[name])
    return values


def unknown_field(table: NavTable, name: str, pointer: str) -> FieldProblem:
    """The problem of a field that the table does not have, with the nearest name."""
    labels = {field.label: field.name for field in table.fields.values()}
    meant = labels.get(name) or near(name, table.fields)
    hint = f" Did you mean '{meant}'?" if meant else ""
    return FieldProblem(pointer, f"'{table.definition.label}' has no field '{name}'.{hint}", meant)


def _require_known(table: NavTable, names: Collection[str]) -> None:
    unknown = [name for name in names if name not in table.fields]
    if unknown:
        raise InvalidValues(
            f"'{table.definition.label}' has no field {', '.join(map(repr, unknown))}.",
            errors=[unknown_field(table, name, name) for name in unknown],
        )
