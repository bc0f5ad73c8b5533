"""Integration table mappings and their field rows: create, change, delete, export and import."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from app.domain.company import Company
from app.domain.errors import FieldProblem, NotFound, PreconditionFailed
from app.domain.mapping import FieldMapping, TableMapping
from app.domain.mapping_document import document_of, mappings_of
from app.domain.mapping_rules import changed_row, dependency_problems, direction_problems
from app.ports import Context, StoredMapping, Transaction
from app.use_cases.default_setup import content
from app.use_cases.mapping_checks import check_mappings, check_row, refuse_if_any
from app.use_cases.repeating import on_what_is_there

CHANGEABLE: Final = (
    "direction", "nav_filter", "crm_filter", "synch_only_coupled_records", "update_conflict_resolution",
    "deletion_conflict_resolution", "depends_on", "nav_template", "crm_template", "is_default", "position",
)  # fmt: skip
ROW_CHANGEABLE: Final = (
    "nav_field", "crm_attribute", "direction", "constant_value", "transformation", "clear_value_on_failed_synch",
    "not_null", "validate", "status",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did to the mappings, or would do: their names."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


async def create_mapping(ctx: Context, company: Company, mapping: TableMapping) -> StoredMapping:
    """A new mapping, with or without rows.

    Raises InvalidMapping and InvalidFilter with a pointer to what is wrong and the nearest name,
    AlreadyExists, ConnectionDisabled (CRM says which entities and attributes there are).
    """
    others = await _others(ctx, company, mapping.name)
    await check_mappings(ctx, company, [mapping], others)
    async with ctx.uow() as tx:
        return await tx.mappings.add(company.id, mapping)


async def change_mapping(
    ctx: Context, company: Company, name: str, changes: Mapping[str, Any], revision: int | None = None
) -> StoredMapping:
    """Changes what `changes` names. A mapping's name, table and entity stay: its couplings depend on them.

    When other records or values take part afterwards, the next run reads everything again.
    Raises as `create_mapping`, and MappingNotFound, PreconditionFailed.
    """
    _require_changeable(changes, CHANGEABLE)
    return await on_what_is_there(revision, lambda: _change_mapping(ctx, company, name, changes, revision))


async def _change_mapping(
    ctx: Context, company: Company, name: str, changes: Mapping[str, Any], revision: int | None
) -> StoredMapping:
    stored, others = await _with_others(ctx, company, name, revision)
    values = dict(changes)
    if "depends_on" in values:
        values["depends_on"] = tuple(values["depends_on"] or ())
    changed = replace(stored.mapping, **values)
    if changed == stored.mapping:
        return stored
    problems = list(direction_problems(changed)) if "direction" in changes else []
    refuse_if_any(problems + list(dependency_problems(changed, others)))
    if _concerns_values(changes):
        await check_mappings(ctx, company, [changed], others)
    return await _save(ctx, company, stored, changed, again=_selects_otherwise(changes))


async def delete_mapping(ctx: Context, company: Company, name: str, revision: int | None = None) -> None:
    """Deletes the mapping with its rows and jobs; couplings stay (nav-behaviour 1.1). Mappings that
    waited for it no longer do."""
    async with ctx.uow() as tx:
        stored = await tx.mappings.get(company.id, name, lock=True)
        _require_revision(stored, revision)
        await _delete(tx, company, [name])
        await _forget_dependency(tx, company, {name})


async def add_field(ctx: Context, company: Company, name: str, row: FieldMapping) -> FieldMapping:
    """A new row at the end of the mapping, with its id. Raises as `create_mapping`."""
    added = replace(row, id=ctx.new_id())
    return await on_what_is_there(None, lambda: _add_field(ctx, company, name, added))


async def _add_field(ctx: Context, company: Company, name: str, added: FieldMapping) -> FieldMapping:
    stored, others = await _with_others(ctx, company, name, None)
    changed = stored.mapping.with_fields((*stored.mapping.fields, added))
    await check_row(ctx, company, changed, added, others)
    await _save(ctx, company, stored, changed, again=True)
    return added


async def change_field(
    ctx: Context,
    company: Company,
    name: str,
    field_id: UUID,
    changes: Mapping[str, Any],
    revision: int | None = None,
) -> FieldMapping:
    """Changes a row. Raises as `create_mapping`, and NotFound when the mapping has no such row."""
    _require_changeable(changes, ROW_CHANGEABLE)
    return await on_what_is_there(
        revision, lambda: _change_field(ctx, company, name, field_id, changes, revision)
    )


async def _change_field(
    ctx: Context,
    company: Company,
    name: str,
    field_id: UUID,
    changes: Mapping[str, Any],
    revision: int | None,
) -> FieldMapping:
    stored, others = await _with_others(ctx, company, name, revision)
    row = row_of(stored.mapping, field_id)
    changed_to = replace(row, **changed_row(changes))
    if changed_to == row:
        return row
    changed = stored.mapping.with_fields(
        changed_to if each.id == field_id else each for each in stored.mapping.fields
    )
    await check_row(ctx, company, changed, changed_to, others)
    await _save(ctx, company, stored, changed, again=True)
    return changed_to


async def delete_field(
    ctx: Context, company: Company, name: str, field_id: UUID, revision: int | None = None
) -> None:
    """Removes a row. Raises MappingNotFound, NotFound, PreconditionFailed."""
    await on_what_is_there(revision, lambda: _delete_field(ctx, company, name, field_id, revision))


async def _delete_field(
    ctx: Context, company: Company, name: str, field_id: UUID, revision: int | None
) -> None:
    stored, _ = await _with_others(ctx, company, name, revision)
    row_of(stored.mapping, field_id)
    rest = stored.mapping.with_fields(row for row in stored.mapping.fields if row.id != field_id)
    await _save(ctx, company, stored, rest, again=False)


async def export_mappings(ctx: Context, company: Company) -> dict[str, Any]:
    """All mappings as one document; the same mappings give the same document."""
    async with ctx.uow() as tx:
        return document_of(stored.mapping for stored in await tx.mappings.all(company.id))


async def import_mappings(
    ctx: Context,
    company: Company,
    document: Mapping[str, Any],
    *,
    present: Mapping[str, Any] | None = None,
    preview: bool = False,
) -> Imported:
    """Makes the company's mappings those of the document; mappings that say the same already stay as they
    are, with their watermarks. Couplings and job queue entries of other mappings stay.

    Args:
        present: the document that the caller read, guards against changes by others.
    Raises as `create_mapping`, and PreconditionFailed; nothing is changed unless everything can be.
    """
    wanted = mappings_of(document)
    await check_mappings(ctx, company, wanted, wanted, within="/mappings")
    async with ctx.uow() as tx:
        stored = {each.mapping.name: each for each in await tx.mappings.all(company.id, lock=True)}
        if present is not None and document_of(each.mapping for each in stored.values()) != present:
            raise PreconditionFailed(
                "The mappings were changed since you read them.",
                fix="GET …/integration-table-mappings/export and repeat the change.",
            )
        plan = _import_plan(stored, wanted)
        if not preview:
            await _carry_out(tx, company, plan, stored, wanted)
    return plan


# --- import ----------------------------------------------------------------------------------------


def _import_plan(present: Mapping[str, StoredMapping], wanted: Sequence[TableMapping]) -> Imported:
    names = [mapping.name for mapping in wanted]
    same = {
        mapping.name
        for mapping in wanted
        if mapping.name in present and content(present[mapping.name].mapping) == mapping
    }
    return Imported(
        added=tuple(name for name in names if name not in present),
        changed=tuple(name for name in names if name in present and name not in same),
        unchanged=tuple(name for name in names if name in same),
        removed=tuple(sorted(set(present) - set(names))),
    )


async def _carry_out(
    tx: Transaction,
    company: Company,
    plan: Imported,
    present: Mapping[str, StoredMapping],
    wanted: Sequence[TableMapping],
) -> None:
    by_name = {mapping.name: mapping for mapping in wanted}
    if plan.removed:
        await _delete(tx, company, plan.removed)
    for name in plan.added:
        await tx.mappings.add(company.id, by_name[name])
    for name in plan.changed:
        kept = _with_row_ids(by_name[name], present[name].mapping)
        await tx.mappings.save(company.id, kept)
        await tx.mappings.read_again(company.id, name)


def _with_row_ids(mapping: TableMapping, before: TableMapping) -> TableMapping:
    """Rows that were there keep their ids."""
    ids: dict[tuple[Any, ...], list[UUID | None]] = {}
    for row in before.fields:
        ids.setdefault((row.nav_field, row.crm_attribute), []).append(row.id)
    rows = []
    for row in mapping.fields:
        known = ids.get((row.nav_field, row.crm_attribute))
        rows.append(replace(row, id=known.pop(0) if known else None))
    return mapping.with_fields(rows)


# --- memory ----------------------------------------------------------------------------------------


async def _others(ctx: Context, company: Company, name: str) -> list[TableMapping]:
    async with ctx.uow() as tx:
        return [s.mapping for s in await tx.mappings.all(company.id) if s.mapping.name != name]


async def _with_others(
    ctx: Context, company: Company, name: str, revision: int | None
) -> tuple[StoredMapping, list[TableMapping]]:
    async with ctx.uow() as tx:
        stored = await tx.mappings.get(company.id, name)
        everything = await tx.mappings.all(company.id)
    _require_revision(stored, revision)
    return stored, [each.mapping for each in everything if each.mapping.name != name]


async def _save(
    ctx: Context, company: Company, stored: StoredMapping, changed: TableMapping, *, again: bool
) -> StoredMapping:
    async with ctx.uow() as tx:
        await tx.mappings.get(company.id, changed.name, lock=True)
        saved = await tx.mappings.save(company.id, changed, stored.revision)
        # Deletions that were told are no change that would wake the entry, and may have got their rule by this.
        await tx.job_queue.wake(company.id, [changed.name], ctx.clock.now())
        if again:
            await tx.mappings.read_again(company.id, changed.name)
            saved = await tx.mappings.get(company.id, changed.name)
        return saved


async def _delete(tx: Transaction, company: Company, names: Collection[str]) -> None:
    """Deletes mappings with their job queue entries."""
    entries = [entry.id for entry in await tx.job_queue.all(company.id) if entry.mapping in names]
    if entries:
        await tx.job_queue.delete(company.id, entries)
    await tx.mappings.delete(company.id, names)


async def _forget_dependency(tx: Transaction, company: Company, gone: Collection[str]) -> None:
    for stored in await tx.mappings.all(company.id):
        rest = tuple(name for name in stored.mapping.depends_on if name not in gone)
        if rest != stored.mapping.depends_on:
            await tx.mappings.save(company.id, replace(stored.mapping, depends_on=rest), stored.revision)


def row_of(mapping: TableMapping, field_id: UUID) -> FieldMapping:
    """The field row with that id. Raises NotFound."""
    for row in mapping.fields:
        if row.id == field_id:
            return row
    raise NotFound(
        f"The mapping {mapping.name} has no field row {field_id}.",
        fix=f"GET …/integration-table-mappings/{quote(mapping.name, safe='')}/fields lists them.",
    )


def _require_revision(stored: StoredMapping, revision: int | None) -> None:
    if revision is not None and stored.revision != revision:
        raise PreconditionFailed(
            f"The mapping {stored.mapping.name} was changed since you read it.",
            fix=f"GET …/integration-table-mappings/{stored.mapping.name} and repeat the change.",
        )


def _require_changeable(changes: Mapping[str, Any], allowed: Collection[str]) -> None:
    problems = [
        FieldProblem(f"/{name}", "This cannot be changed: delete the mapping and create another.")
        for name in changes
        if name not in allowed
    ]
    refuse_if_any(problems)


def _concerns_values(changes: Mapping[str, Any]) -> bool:
    """Whether the tables of the two sides have a say in the change."""
    return bool({"direction", "nav_filter", "crm_filter", "nav_template", "crm_template"} & set(changes))


def _selects_otherwise(changes: Mapping[str, Any]) -> bool:
    return bool({"direction", "nav_filter", "crm_filter", "synch_only_coupled_records"} & set(changes))
