"""What a person or another program enters: by key, with every problem told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.domain.errors import FieldProblem, IntegrationError, Invalid, NavRecordNotFound, StaleRecord
from app.nav import lookups, rules, statements
from app.nav.definitions import KEYLESS, NavTable
from app.nav.drafts import Draft
from app.nav.keys import by_canonical, parse_key
from app.nav.rows import Row, stored_values
from app.nav.saving import Scope, taken_key
from app.nav.validation import checked, invalid
from app.nav.values import Unfit
from app.ports import NavRecord

BULK_LIMIT = 5000


async def create(scope: Scope, table: NavTable, key: str | None, values: Mapping[str, Any]) -> NavRecord:
    """A new record; without a key the number series gives one. Raises InvalidValues, AlreadyExists."""
    draft = _draft(table, key, values, None)
    await rules.save(scope, table, [draft])
    return (await _saved(scope, table, [draft]))[0]


async def change(
    scope: Scope, table: NavTable, key: str, values: Mapping[str, Any], version: str | None
) -> NavRecord:
    """Changes a record. Raises NavRecordNotFound, StaleRecord, InvalidValues, AlreadyExists."""
    row = await _existing(scope, table, key)
    if version is not None and version != str(row.row_version):
        raise StaleRecord(f"'{table.definition.label}' {row.key} was changed since it was read.")
    draft = _draft(table, None, values, row)
    await rules.save(scope, table, [draft])
    return (await _saved(scope, table, [draft]))[0]


async def remove(scope: Scope, table: NavTable, key: str) -> None:
    """Deletes a record. Raises NavRecordNotFound."""
    row = await _existing(scope, table, key)
    await rules.delete(scope, table, {row.key: row})


async def bulk(
    scope: Scope, table: NavTable, records: Sequence[tuple[str | None, Mapping[str, Any]]]
) -> list[NavRecord | IntegrationError]:
    """Creates records whose key is new or missing, changes the others. Raises Invalid for too many.

    Answers the records as they were written; what NAV works out of other tables is left to those who read them.
    """
    if len(records) > BULK_LIMIT:
        raise Invalid(
            f"{len(records)} records are too many at once; send at most {BULK_LIMIT}.",
            errors=[FieldProblem("/records", f"At most {BULK_LIMIT} records.")],
        )
    written = by_canonical(table, {key for key, _ in records if key})
    rows = await statements.locked_by_key(scope.connection, scope.company.id, table, written.keys())
    found = {key: row for stored, row in rows.items() for key in written[stored]}
    drafts = []
    for key, values in records:
        row = found.get(key) if key else None
        drafts.append(_draft(table, None if row else key, values, row))
    await rules.save(scope, table, drafts)
    saved = {draft.key or "": _written(table, draft.row()) for draft in drafts if draft.error is None}
    return _outcomes(scope, table, drafts, saved)


def _draft(table: NavTable, key: str | None, values: Mapping[str, Any], before: Row | None) -> Draft:
    outcome = checked(table, values, new=before is None, figures=True)
    draft = Draft(outcome.given, key=before.key if before else key, before=before, figures=outcome.figures)
    if key is not None and not key.strip() and table.name not in KEYLESS:
        message = "The key cannot be blank; leave it out for the next number of the series."
        outcome.problems.append(FieldProblem("/no", message))
    elif key is not None:
        try:
            parts = parse_key(table, key)
        except Unfit as error:
            outcome.problems.append(FieldProblem("/no", error.message, error.suggestion))
            parts = {}
        for name, part in parts.items():
            if draft.given.setdefault(name, part) != part:
                message = f"The key says '{part}', the field '{draft.given[name]}'."
                outcome.problems.append(FieldProblem(f"/fields/{name}", message, part))
    if outcome.problems:
        draft.error = invalid(table, draft.key, outcome.problems)
    return draft


async def _existing(scope: Scope, table: NavTable, key: str) -> Row:
    keys = by_canonical(table, [key])
    rows = await statements.locked_by_key(scope.connection, scope.company.id, table, keys)
    if not rows:
        raise _not_found(table, key)
    return next(iter(rows.values()))


def _not_found(table: NavTable, key: str) -> NavRecordNotFound:
    return NavRecordNotFound(
        f"There is no '{table.definition.label}' {key}.", fix=f"GET …/nav/{table.name} lists the records."
    )


async def _saved(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> list[NavRecord]:
    """The saved records, computed fields and all. Raises what went wrong, which undoes the transaction."""
    keys = [draft.key for draft in drafts if draft.error is None and draft.key is not None]
    records = await lookups.by_key(scope, table, None, keys) if keys else {}
    outcomes = _outcomes(scope, table, drafts, records)
    for outcome in outcomes:
        if isinstance(outcome, IntegrationError):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, IntegrationError)]


def _written(table: NavTable, row: Row) -> NavRecord:
    values = {**table.blanks, **stored_values(table, row.fields)}
    return NavRecord(row.key, row.integration_id, str(row.row_version), values, row.modified_at)


def _outcomes(
    scope: Scope, table: NavTable, drafts: Sequence[Draft], records: Mapping[str, NavRecord]
) -> list[NavRecord | IntegrationError]:
    """What became of each draft: its record among these, or its error."""
    if scope.preview:
        records = _with_lasting_ids(records, drafts)
    return [draft.error or records.get(draft.key or "") or taken_key(table, draft.key) for draft in drafts]


def _with_lasting_ids(records: Mapping[str, NavRecord], drafts: Sequence[Draft]) -> dict[str, NavRecord]:
    """The records without the integration ids that they got just now: the next attempt makes others."""
    lasting = {draft.before.integration_id for draft in drafts if draft.before is not None}
    return {
        key: record if record.integration_id in lasting else replace(record, integration_id=None)
        for key, record in records.items()
    }
