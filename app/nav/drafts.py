"""A record on its way into the database."""

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from app.domain.errors import FieldProblem, IntegrationError, InvalidValues
from app.nav.definitions import NavTable
from app.nav.rows import Row
from app.nav.statements import Stamp
from app.nav.validation import invalid
from app.nav.values import Stored, StoredValues


@dataclass(slots=True)
class Draft:
    """What a caller wants of one record, and how far it has come.

    `given` are the written values, None for blank. `before` is the record as it was, missing for a new one;
    `fields` are its values as they shall be; a `numbered` one has its key from the number series. A draft with an error
    is left out of the rest.
    """

    given: dict[str, Stored | None]
    key: str | None = None
    id: UUID | None = None
    before: Row | None = None
    figures: dict[str, Stored | None] = field(default_factory=dict)
    fields: StoredValues = field(default_factory=dict)
    numbered: bool = False
    id_after: UUID | None = None
    stamp: Stamp | None = None
    error: IntegrationError | None = None

    @property
    def is_new(self) -> bool:
        """Whether the record is to be created."""
        return self.before is None

    @property
    def problems(self) -> tuple[FieldProblem, ...]:
        """What is wrong with its fields, as far as that is known."""
        return self.error.errors if self.error is not None else ()

    @property
    def checkable(self) -> bool:
        """Whether nothing but its fields is wrong, so that the rest of them is worth a look."""
        return self.error is None or isinstance(self.error, InvalidValues)

    @property
    def changed(self) -> bool:
        """Whether any value of the record changes."""
        return self.before is None or self.fields != self.before.fields

    def changes(self, *names: str) -> bool:
        """Whether one of these fields gets another value."""
        fields = self.fields
        before: StoredValues = self.before.fields if self.before else {}
        return any(fields.get(name) != before.get(name) for name in names)

    def changed_among(self, names: Container[str]) -> dict[str, Stored | None]:
        """Those of these fields that get another value, each with it; None for blank."""
        fields = self.fields
        before: StoredValues = self.before.fields if self.before else {}
        emptied = {name: None for name in before if name in names and name not in fields}
        return emptied | {
            name: stored for name, stored in fields.items() if name in names and before.get(name) != stored
        }

    def set(self, name: str, stored: Stored | None) -> None:
        """Gives a field a value, or makes it blank."""
        if stored is None or stored == "":
            self.fields.pop(name, None)
        else:
            self.fields[name] = stored

    def text(self, name: str) -> str:
        """The text in a field."""
        return str(self.fields.get(name, ""))

    def refuse(self, table: NavTable, name: str, message: str, suggestion: Any = None) -> None:
        """Refuses the record because of one field; other fields may be wrong, too."""
        problem = FieldProblem(f"/fields/{name}", message, suggestion)
        if self.checkable and all(problem.pointer != known.pointer for known in self.problems):
            # A number that was drawn for it is another one at the next try: the same trouble is told in the same words.
            self.error = invalid(table, None if self.numbered else self.key, [*self.problems, problem])

    def row(self) -> Row:
        """The record as it is after it was saved."""
        if self.stamp is not None:
            return Row(self.key or "", self.id_after, *self.stamp, self.fields)
        if self.before is None:
            raise ValueError("The record was not saved.")
        return self.before
