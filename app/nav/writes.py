"""Writes of the synchronization: by integration id, guarded by versions, one bad row alone refused."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, any_, literal

from app.domain.errors import AlreadyExists, FieldProblem, IntegrationError, NavRecordNotFound, StaleRecord
from app.domain.records import Snapshot
from app.nav import rules, statements
from app.nav.definitions import NavTable
from app.nav.drafts import Draft
from app.nav.expressions import is_stored
from app.nav.keys import parse_key
from app.nav.rows import Projection, Row, stored_values
from app.nav.saving import Scope
from app.nav.tables import nav_record
from app.nav.validation import checked, invalid
from app.nav.values import Unfit
from app.ports import Delete, Insert, Refused, Update, Write, Written

Outcome = Written | Refused


async def write(scope: Scope, table: NavTable, writes: Sequence[Write]) -> list[Outcome]:
    """Applies what can be applied; the answers come in the order of the writes."""
    outcomes: dict[int, Outcome] = {}
    for part in _without_repetition(writes):
        outcomes |= await _write_once(scope, table, part)
    return [outcomes[index] for index in range(len(writes))]


def _without_repetition(writes: Sequence[Write]) -> list[dict[int, Write]]:
    """The writes in parts in which no record comes twice; nearly always one."""
    if len({write.id for write in writes}) == len(writes):
        return [dict(enumerate(writes))]
    parts: list[dict[int, Write]] = []
    times: dict[UUID, int] = {}
    for index, write in enumerate(writes):
        time = times.get(write.id, 0)
        times[write.id] = time + 1
        if time == len(parts):
            parts.append({})
        parts[time][index] = write
    return parts


async def _write_once(scope: Scope, table: NavTable, writes: dict[int, Write]) -> dict[int, Outcome]:
    company_id = scope.company.id
    found = await statements.locked_by_id(
        scope.connection, company_id, table, [w.id for w in writes.values()]
    )
    outcomes: dict[int, Outcome] = {}
    drafts: dict[int, Draft] = {}
    saving: dict[int, Insert | Update] = {}
    doomed: dict[str, Row] = {}
    for index, write in writes.items():
        row = found.get(write.id)
        match write:
            case Insert() if row is not None:
                outcomes[index] = Written(write.id, _present(table, write, row))
            case Insert():
                drafts[index], saving[index] = _draft(table, write, None), write
            case Delete() if row is None:
                outcomes[index] = Written(write.id, None)
            case Update() if row is None:
                outcomes[index] = Refused(write.id, _not_found(table, write.id))
            case Update() | Delete() if row is not None:
                if write.version is not None and write.version != str(row.row_version):
                    outcomes[index] = Refused(write.id, _stale(table, row))
                elif isinstance(write, Update):
                    drafts[index], saving[index] = _draft(table, write, row), write
                else:
                    doomed[row.key] = row
                    outcomes[index] = Written(write.id, None)
    if drafts:
        await rules.save(scope, table, list(drafts.values()))
        await _find_raced(scope, table, list(drafts.values()))
    if doomed:
        await rules.delete(scope, table, doomed)
    for index, draft in drafts.items():
        outcomes[index] = _outcome(table, saving[index], draft)
    return await _with_computed(scope, table, list(writes.values()), outcomes)


def _draft(table: NavTable, write: Insert | Update, row: Row | None) -> Draft:
    """What to save. The values of the other side are checked like those of a person."""
    outcome = checked(table, write.values, new=row is None, figures=False)
    draft = Draft(outcome.given, key=row.key if row else None, id=write.id, before=row)
    if isinstance(write, Insert) and write.key is not None:
        try:
            draft.key = write.key
            draft.given |= parse_key(table, write.key)
        except Unfit as error:
            outcome.problems.append(FieldProblem("/no", error.message, error.suggestion))
    if outcome.problems:
        draft.error = invalid(table, draft.key, outcome.problems)
    return draft


async def _find_raced(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """Somebody may have inserted the same id a moment before us: then the present state is the answer."""
    raced = [draft for draft in drafts if isinstance(draft.error, AlreadyExists) and draft.is_new]
    ids = [draft.id for draft in raced if draft.id]
    found = await statements.locked_by_id(scope.connection, scope.company.id, table, ids)
    for draft in raced:
        if draft.id in found:
            draft.before, draft.error = found[draft.id], None


def _outcome(table: NavTable, write: Insert | Update, draft: Draft) -> Outcome:
    if draft.error is not None:
        return Refused(write.id, draft.error)
    created = draft.stamp is not None and draft.is_new
    return Written(write.id, _present(table, write, draft.row(), draft.before), created=created)


def _present(table: NavTable, write: Insert | Update, row: Row, before: Row | None = None) -> Snapshot:
    """The record as it is now: every stored field that was written, is not blank or was not."""
    values, blanks = stored_values(table, row.fields), table.blanks
    for there in (write.values, before.fields if before else {}):
        if there.keys() <= values.keys():
            continue
        for name in there:
            if name not in values and name in blanks:
                values[name] = blanks[name]
    return Snapshot(write.id, row.key, str(row.row_version), values, row.modified_at)


async def _with_computed(
    scope: Scope, table: NavTable, writes: Sequence[Write], outcomes: dict[int, Outcome]
) -> dict[int, Outcome]:
    """A written field that NAV works out (a contact's customer) comes back as NAV now sees it."""
    names = {name for write in writes if not isinstance(write, Delete) for name in write.values}
    worked_out = [name for name in names if name in table.fields and not is_stored(table, name)]
    if not worked_out:
        return outcomes
    projection = Projection(table, worked_out)
    ids = [outcome.id for outcome in outcomes.values() if isinstance(outcome, Written)]
    query = projection.select(scope.company.id).where(
        nav_record.c.integration_id == any_(literal(ids, ARRAY(Uuid)))
    )
    rows = [projection.row(found) for found in await scope.connection.execute(query)]
    found = {row.integration_id: row.computed for row in rows}
    return {
        index: replace(outcome, snapshot=replace(shot, values={**shot.values, **found.get(outcome.id, {})}))
        if isinstance(outcome, Written) and (shot := outcome.snapshot)
        else outcome
        for index, outcome in outcomes.items()
    }


def _stale(table: NavTable, row: Row) -> IntegrationError:
    return StaleRecord(
        f"'{table.definition.label}' {row.key} was changed in NAV since it was read.",
        fix="Read the record again and repeat the change.",
    )


def _not_found(table: NavTable, record_id: UUID) -> IntegrationError:
    return NavRecordNotFound(f"There is no '{table.definition.label}' with the integration id {record_id}.")
