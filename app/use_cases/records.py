"""The lists a person works from: NAV records with their coupling and what can be done now, CRM rows with theirs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from app.domain import links
from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.errors import CrmRecordNotFound, IntegrationError
from app.domain.records import Snapshot, TableDefinition
from app.ports import Context, CrmSide, NavRecord
from app.use_cases.actions import Surroundings, actions, missing_partners, surroundings
from app.use_cases.results import CrmItem, NavItem
from app.use_cases.subject import linked, nav_record_not_found

READ_AHEAD = 1000
"""Records read at a time while a list is narrowed to coupled or uncoupled ones."""


# --- NAV ----------------------------------------------------------------------------------------------


async def nav_list(
    ctx: Context,
    company: Company,
    table: str,
    *,
    filter: str | None = None,
    search: str | None = None,
    coupled: bool | None = None,
    limit: int = 100,
    cursor: str | None = None,
    mapping: str | None = None,
) -> tuple[list[NavItem], str | None]:
    """A page of NAV records in key order, and the cursor of the next one. Raises TableNotFound, InvalidFilter."""
    nav = ctx.sides.nav(company)
    around = await surroundings(ctx, company, table, mapping)
    found: list[tuple[NavRecord, Coupling | None]] = []
    while True:
        size = limit if coupled is None else max(limit, READ_AHEAD)
        records, following = await nav.records(table, filter=filter, search=search, limit=size, cursor=cursor)
        couplings = await _couplings(ctx, company, table, records)
        for position, record in enumerate(records, start=1):
            coupling = couplings.get(record.integration_id) if record.integration_id else None
            if coupled is None or coupled is (coupling is not None):
                found.append((record, coupling))
            if len(found) == limit:
                if position < len(records):
                    following = nav.after(record)
                return await _nav_items(ctx, around, table, found), following
        if following is None:
            return await _nav_items(ctx, around, table, found), None
        cursor = following


async def nav_get(
    ctx: Context, company: Company, table: str, key: str, *, mapping: str | None = None
) -> NavItem:
    """One NAV record. Raises TableNotFound, NavRecordNotFound."""

    async def cards(keys: Collection[str]) -> dict[str, NavItem]:
        found = await ctx.sides.nav(company).by_key(table, keys)
        items = await _shown(ctx, company, table, list(found.values()), mapping)
        return dict(zip(found, items, strict=True))

    kind = ("nav", company.id, company.revision, company.settings, table, mapping)
    item = await ctx.together.ask(kind, key, cards)
    if item is None:
        raise nav_record_not_found(table, key)
    return item


async def nav_create(
    ctx: Context,
    company: Company,
    table: str,
    key: str | None,
    values: Mapping[str, Any],
    *,
    preview: bool = False,
) -> NavItem:
    """A new NAV record; a preview shows it as it would be. Raises InvalidValues, AlreadyExists."""
    record = await ctx.sides.nav(company).create(table, key, values, preview=preview)
    return (await _shown(ctx, company, table, [record], None))[0]


async def nav_change(
    ctx: Context,
    company: Company,
    table: str,
    key: str,
    values: Mapping[str, Any],
    *,
    preview: bool = False,
) -> NavItem:
    """Changes fields of a NAV record; a new key renames it. Raises InvalidValues, NavRecordNotFound."""
    record = await ctx.sides.nav(company).change(table, key, values, preview=preview)
    if not preview:
        await _show_keys(ctx, company, table, [(key, record)])
    return (await _shown(ctx, company, table, [record], None))[0]


async def nav_delete(ctx: Context, company: Company, table: str, key: str) -> None:
    """Deletes a NAV record; its coupling stays until the mapping's deletion rule deals with it."""
    await ctx.sides.nav(company).remove(table, key)


async def preview_nav_delete(ctx: Context, company: Company, table: str, key: str) -> NavItem:
    """The NAV record that `nav_delete` would delete. Raises what it raises."""
    item = await nav_get(ctx, company, table, key)
    await ctx.sides.nav(company).remove(table, key, preview=True)
    return item


async def nav_bulk(
    ctx: Context,
    company: Company,
    table: str,
    records: Sequence[tuple[str | None, Mapping[str, Any]]],
    *,
    preview: bool = False,
) -> list[NavRecord | IntegrationError]:
    """Creates or changes many NAV records; an answer per record, in order."""
    outcomes = await ctx.sides.nav(company).bulk(table, records, preview=preview)
    if not preview:
        written = [
            (key, one) for (key, _), one in zip(records, outcomes, strict=True) if isinstance(one, NavRecord)
        ]
        await _show_keys(ctx, company, table, written)
    return outcomes


async def _show_keys(
    ctx: Context, company: Company, table: str, written: Sequence[tuple[str | None, NavRecord]]
) -> None:
    """Lets what is remembered of renamed records, which come with the keys they were asked for by, show their new ones:
    their couplings, and the options of CRM they stand for."""
    renamed = {key: record for key, record in written if key is not None and key != record.key}
    if not renamed:
        return
    now = {one.integration_id: one.key for one in renamed.values() if one.integration_id is not None}
    async with ctx.uow() as tx:
        await tx.couplings.rename(company.id, table, now)
        await tx.option_mappings.rename(company.id, table, {key: one.key for key, one in renamed.items()})


async def _shown(
    ctx: Context, company: Company, table: str, records: Sequence[NavRecord], mapping: str | None
) -> list[NavItem]:
    around = await surroundings(ctx, company, table, mapping)
    couplings = await _couplings(ctx, company, table, records)
    pairs = [(each, couplings.get(each.integration_id) if each.integration_id else None) for each in records]
    return await _nav_items(ctx, around, table, pairs)


async def _couplings(
    ctx: Context, company: Company, table: str, records: Sequence[NavRecord]
) -> dict[UUID, Coupling]:
    ids = [record.integration_id for record in records if record.integration_id is not None]
    if not ids:
        return {}
    async with ctx.uow(reading=True) as tx:
        found = await tx.couplings.of_nav(company.id, table, ids)
    return {key: c for key, c in found.items() if c.status is CouplingStatus.COUPLED}


async def _nav_items(
    ctx: Context, around: Surroundings, table: str, pairs: Sequence[tuple[NavRecord, Coupling | None]]
) -> list[NavItem]:
    missing = await missing_partners(ctx, around, table, [record for record, _ in pairs])
    return [_nav_item(around, table, record, coupling, missing) for record, coupling in pairs]


def _nav_item(
    around: Surroundings,
    table: str,
    record: NavRecord,
    coupling: Coupling | None,
    missing: Mapping[str, str],
) -> NavItem:
    shown = None
    if coupling is not None and around.connection is not None:
        shown = linked(around.company, around.connection, replace(coupling, nav_key=record.key))
    return NavItem(
        table=table,
        no=record.key,
        integration_id=record.integration_id,
        version=record.version,
        fields=record.values,
        modified_at=record.modified_at,
        coupling=shown,
        actions=actions(around, table, record, coupling, missing),
    )


# --- CRM ----------------------------------------------------------------------------------------------


async def crm_list(
    ctx: Context,
    company: Company,
    entity_set: str,
    *,
    filter: str | None = None,
    search: str | None = None,
    coupled: bool | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> tuple[list[CrmItem], str | None]:
    """A page of CRM rows in a stable order, and the cursor of the next one. A row with a value that cannot be read
    says so and shows the others."""
    connection, crm = await _crm(ctx, company)
    definition = await crm.definition_of_set(entity_set)
    found: list[CrmItem] = []
    size = limit
    while True:
        page = await crm.listing(
            definition.name, None, filter=filter, search=search, limit=size, cursor=cursor
        )
        items = await _crm_items(ctx, company, connection, definition, page.records)
        places = [place for place, item in enumerate(items) if coupled is None or item.coupled is coupled]
        fitting = places[: limit - len(found)]
        following = page.cursor
        if len(found) + len(fitting) == limit and fitting[-1] + 1 < len(items):
            # Only CRM can say how to go on from the middle of what was read.
            end = await crm.listing(
                definition.name, (), filter=filter, search=search, limit=fitting[-1] + 1, cursor=cursor
            )
            if not end.records or end.records[-1].id != items[fitting[-1]].id:
                size = limit - len(found)  # rows came or went meanwhile; of so few, none is left over
                continue
            following = end.cursor
        found += [items[place] for place in fitting]
        cursor = following
        if cursor is None or len(found) == limit:
            return found, cursor
        size = max(limit, min(READ_AHEAD, size * 4))


async def crm_get(ctx: Context, company: Company, entity_set: str, crm_id: UUID) -> CrmItem:
    """One CRM row. Raises TableNotFound, CrmRecordNotFound, CrmRefused for a value that cannot be read."""
    connection, crm = await _crm(ctx, company)
    definition = await crm.definition_of_set(entity_set)
    found = await crm.get(definition.name, [crm_id], definition.fields.keys())
    if crm_id not in found:
        raise CrmRecordNotFound(
            f"There is no {definition.name} {crm_id} in CRM.",
            fix=f"GET …/crm/{entity_set} lists the records.",
        )
    return (await _crm_items(ctx, company, connection, definition, [found[crm_id].readable()]))[0]


async def _crm(ctx: Context, company: Company) -> tuple[ConnectionSetup, CrmSide]:
    async with ctx.uow(reading=True) as tx:
        connection = require_enabled(await tx.connections.find(company.id))
    return connection, ctx.sides.crm(company, connection)


async def _crm_items(
    ctx: Context,
    company: Company,
    connection: ConnectionSetup,
    definition: TableDefinition,
    rows: Sequence[Snapshot],
) -> list[CrmItem]:
    if not rows:
        return []
    async with ctx.uow(reading=True) as tx:
        couplings = await tx.couplings.of_entity(company.id, definition.name, [row.id for row in rows])
    return [_crm_item(connection, definition, row, couplings.get(row.id, [])) for row in rows]


def _crm_item(
    connection: ConnectionSetup, definition: TableDefinition, row: Snapshot, couplings: Sequence[Coupling]
) -> CrmItem:
    coupled = [c for c in couplings if c.status is CouplingStatus.COUPLED]
    return CrmItem(
        id=row.id,
        name=str(row.values.get(definition.name_field or "") or ""),
        fields=row.values,
        coupled=bool(coupled),
        nav_table=coupled[0].nav_table if coupled else None,
        nav_no=coupled[0].nav_key if coupled else None,
        url=links.crm_url(connection, definition.name, row.id),
        error=row.unreadable,
    )
