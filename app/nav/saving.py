"""Drafts into the database: numbers, keys, relations and ids of a whole set at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.company import Company
from app.domain.errors import AlreadyExists
from app.domain.links import address_of
from app.nav import statements
from app.nav.definitions import KEYLESS, NavTable
from app.nav.drafts import Draft
from app.nav.identities import id_after_change
from app.nav.keys import key_of
from app.nav.numbers import draw, draw_apart, fills_gaps, has_series
from app.nav.renames import carry_key
from app.nav.statements import Change
from app.nav.validation import missing_relation, related_records
from app.nav.values import Unfit

PATHS = frozenset({".", ".."})  # clients resolve them in addresses (RFC 3986, 5.2.4)


@dataclass(frozen=True, slots=True)
class Scope:
    """The records of one company inside one transaction, which a preview takes back.

    `apart` is where numbers are drawn when the transaction is a long one: whoever draws in it keeps others from the
    series until it ends. Numbers of a transaction that fails are lost then.
    """

    connection: AsyncConnection
    company: Company
    tables: Mapping[str, NavTable]
    preview: bool = False
    apart: AsyncEngine | None = None


def fine(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts that nothing is wrong with so far."""
    return [draft for draft in drafts if draft.error is None]


def checkable(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts with nothing but wrong fields, if that: a person hears of all of them at once."""
    return [draft for draft in drafts if draft.checkable]


def merge(table: NavTable, drafts: Sequence[Draft]) -> None:
    """The values as they shall be: those there were, or the defaults of a new record, and the written ones."""
    for draft in checkable(drafts):
        fields = {**(draft.before.fields if draft.before else table.defaults), **draft.given}
        draft.fields = {name: stored for name, stored in fields.items() if stored is not None}


async def check_relations(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """Refuses drafts that refer to records which do not exist, nor come with the same set."""
    relations = table.relations.keys()
    wanted = [
        (draft, name, related, key)
        for draft in checkable(drafts)
        if not relations.isdisjoint(draft.given)
        for name, related, key in related_records(table, draft.given, draft.fields)
        if draft.before is None or draft.changes(name)
    ]
    if not wanted:
        return
    coming = {(table.name, draft.key) for draft in fine(drafts) if draft.is_new}
    asked = {(related, key) for _, _, related, key in wanted} - coming
    found = await statements.existing(scope.connection, scope.company.id, asked)
    for draft, name, related, key in wanted:
        if (related, key) in asked and (related, key) not in found:
            draft.refuse(table, name, missing_relation(table, scope.tables[related], name, key))


async def number(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """Gives every new record its key: the given one, or the next of the number series."""
    unnumbered = [draft for draft in fine(drafts) if draft.is_new and not _has_key(table, draft)]
    if table.name in KEYLESS:
        unnumbered = []
    if unnumbered and has_series(table):
        numbers = await drawn(scope, table, len(unnumbered))
        for draft, next_number in zip(unnumbered, numbers, strict=True):
            draft.fields[table.primary_key[0]], draft.numbered = next_number, True
    elif unnumbered:
        for draft in unnumbered:
            name = table.primary_key[0]
            label = table.fields[name].label
            draft.refuse(table, name, f"'{label}' must be given; this table has no number series.")
    _read_keys(table, drafts)
    renamed = [draft for draft in fine(drafts) if draft.before and draft.key != draft.before.key]
    await _refuse_taken(scope, table, renamed)


async def drawn(scope: Scope, table: NavTable, number: int) -> list[str]:
    """The next numbers of the table's series."""
    if scope.apart is not None and not fills_gaps(table):
        numbers = await draw_apart(scope.apart, scope.company.id, table, number)
        if numbers is not None:
            return numbers
    return await draw(scope.connection, scope.company.id, table, number)


def _has_key(table: NavTable, draft: Draft) -> bool:
    return not draft.fields.keys().isdisjoint(table.primary_key)


def _read_keys(table: NavTable, drafts: Sequence[Draft]) -> None:
    seen: set[str] = set()
    alive = fine(drafts)
    # Records that are there come first: a new one with the same key is the one too many.
    for draft in [*(d for d in alive if not d.is_new), *(d for d in alive if d.is_new)]:
        try:
            draft.key = key_of(table, draft.fields)
        except Unfit as error:
            draft.refuse(table, table.primary_key[0], error.message)
            continue
        if not draft.key and table.name not in KEYLESS:
            draft.refuse(table, table.primary_key[0], "The key cannot be blank.")
        elif draft.key in PATHS:
            message = f"The key cannot be '{draft.key}': in an address that means a folder, not a record."
            draft.refuse(table, table.primary_key[0], message)
        elif draft.key in seen:
            draft.error = AlreadyExists(f"'{table.definition.label}' {draft.key} comes twice in this set.")
        else:
            seen.add(draft.key)


async def _refuse_taken(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """No record gets a key that another has."""
    asked = {(table.name, draft.key or "") for draft in drafts}
    taken = await statements.existing(scope.connection, scope.company.id, asked)
    for draft in drafts:
        if (table.name, draft.key) in taken:
            draft.error = taken_key(table, draft.key)


def taken_key(table: NavTable, key: str | None) -> AlreadyExists:
    """The error of a key that belongs to another record."""
    return AlreadyExists(
        f"'{table.definition.label}' {key} exists already.",
        fix=f"Change it with PATCH {address_of(table.name, key or '')}, or choose another number.",
    )


async def store(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """Writes what changed and takes over what the database says of it."""
    alive = fine(drafts)
    for draft in alive:
        held = draft.before.integration_id if draft.before else draft.id
        draft.id_after = id_after_change(scope.company, table, held, draft.fields)
    await _insert(scope, table, [draft for draft in alive if draft.is_new])
    await _update(scope, table, [draft for draft in alive if not draft.is_new])
    figures = {draft.key or "": draft.figures for draft in fine(alive) if draft.figures}
    await statements.put_figures(scope.connection, scope.company.id, table.name, figures)


async def _insert(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    await _refuse_taken(scope, table, [draft for draft in drafts if not draft.numbered])
    free = fine(drafts)
    changes = [Change(draft.key or "", draft.id_after, draft.fields) for draft in free]
    chosen = any(draft.id is not None for draft in free)
    stamps = await statements.insert(scope.connection, scope.company.id, table, changes, chosen=chosen)
    for draft in free:
        draft.stamp = stamps[draft.key or ""]


async def _update(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    changes = []
    lost = {}
    for draft in drafts:
        before = draft.before
        if before is None or not (draft.changed or draft.id_after != before.integration_id):
            continue
        new_key = draft.key if draft.key != before.key else None
        changes.append(Change(before.key, draft.id_after, draft.fields, new_key))
        if before.integration_id and not draft.id_after:
            lost[before.integration_id] = before.key
    company_id = scope.company.id
    stamps = await statements.update(scope.connection, company_id, table, changes)
    await statements.bury_ids(scope.connection, company_id, table, lost)
    for draft in drafts:
        draft.stamp = stamps.get(draft.key or "")
        if draft.stamp and draft.before and draft.before.key != draft.key:
            await carry_key(scope.connection, scope.company, table, draft.before.key, draft.key or "")
