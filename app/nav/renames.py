"""Renaming: NAV carries a new key into every field that refers to the record."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.company import Company
from app.nav.definitions import NavTable, Reference, nav_tables, references_to
from app.nav.keys import key_of
from app.nav.statements import Change, update
from app.nav.values import StoredValues, from_stored

REFERRING = text(
    """
    SELECT nav_table, key, integration_id, fields FROM nav_record
    WHERE company_id = :company AND EXISTS (
        SELECT FROM unnest(CAST(:tables AS text[]), CAST(:names AS text[])) AS r(nav_table, name)
        WHERE r.nav_table = nav_record.nav_table AND fields ->> r.name = :old
    )
    ORDER BY nav_table, key
    FOR UPDATE
    """
)
FIGURES = text(
    """
    UPDATE nav_figures SET key = :new WHERE company_id = :company AND nav_table = :table AND key = :old
    """
)


async def carry_key(
    connection: AsyncConnection, company: Company, table: NavTable, old: str, new: str
) -> None:
    """Carries the new key of a record into the records that refer to it, and into its figures."""
    await connection.execute(FIGURES, {"company": company.id, "table": table.name, "old": old, "new": new})
    if len(table.primary_key) > 1:
        return  # no field of ours refers to a record by a key of several parts
    generation = company.defaults_generation
    references = references_to(generation, table.name)
    if not references:
        return
    parameters = {
        "company": company.id,
        "tables": [reference.table for reference in references],
        "names": [reference.field for reference in references],
        "old": old,
    }
    changes: dict[str, list[Change]] = {}
    for name, key, integration_id, fields in await connection.execute(REFERRING, parameters):
        referring = nav_tables(generation)[name]
        carried = _carried(referring, references, fields, old, new)
        if carried != fields:
            change = Change(key, integration_id, carried, key_of(referring, carried))
            changes.setdefault(name, []).append(change)
    for name, of_table in changes.items():
        await update(connection, company.id, nav_tables(generation)[name], of_table)


def _carried(
    table: NavTable, references: tuple[Reference, ...], fields: StoredValues, old: str, new: str
) -> StoredValues:
    carried = dict(fields)
    for reference in references:
        relation = reference.relation
        if reference.table != table.name or str(fields.get(reference.field)) != old:
            continue
        if relation.when_field is not None:
            kind = from_stored(table.fields[relation.when_field], fields.get(relation.when_field))
            if kind != relation.when_option:
                continue
        number_kept = isinstance(fields[reference.field], int)
        carried[reference.field] = int(new) if number_kept else new
    return carried
