"""Integration ids: which records have one, and since when (nav-behaviour 2)."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.company import Company, Generation
from app.domain.ids import time_ordered_id
from app.nav.definitions import NavTable
from app.nav.expressions import text_of
from app.nav.filters import Condition
from app.nav.statements import Change, update
from app.nav.tables import nav_record
from app.nav.values import StoredValues

CHUNK = 5000


def may_have_id(company: Company, table: NavTable, fields: StoredValues) -> bool:
    """Whether a record like this is integrated. In the generation of NAV 2017, of contacts only persons are."""
    if not table.integrated:
        return False
    return not _persons_only(company, table) or fields.get("Type") == "Person"


def id_after_change(
    company: Company, table: NavTable, held: UUID | None, fields: StoredValues
) -> UUID | None:
    """The id a record has once it was inserted or changed.

    An id stays as it is. A record without one gets its id while changes are tracked, which is while the
    connection is enabled. A person that becomes a company loses it where companies never have one.
    """
    if held is not None:
        loses_it = _persons_only(company, table) and fields.get("Type") != "Person"
        return None if loses_it else held
    return time_ordered_id() if company.tracking and may_have_id(company, table, fields) else None


def _persons_only(company: Company, table: NavTable) -> bool:
    return company.defaults_generation is Generation.NAV2017 and table.name == "contacts"


def without_id(company: Company, table: NavTable) -> Condition:
    """The records of an integrated table that have no id and may get one."""
    person = text_of(nav_record.c.fields, "Type") == "Person" if _persons_only(company, table) else true()
    return (
        (nav_record.c.company_id == company.id)
        & (nav_record.c.nav_table == table.name)
        & nav_record.c.integration_id.is_(None)
        & person
    )


async def count_without(
    connection: AsyncConnection, company: Company, tables: Collection[NavTable]
) -> dict[str, int]:
    """How many records have no id and may get one, by table."""
    integrated = [table for table in tables if table.integrated]
    counts = {table.name: 0 for table in tables}
    if integrated:
        query = (
            select(nav_record.c.nav_table, func.count())
            .where(or_(*(without_id(company, table) for table in integrated)))
            .group_by(nav_record.c.nav_table)
        )
        counts |= {row[0]: row[1] for row in await connection.execute(query)}
    return counts


async def give_ids(
    connection: AsyncConnection, company: Company, table: NavTable, keys: Collection[str] | None
) -> dict[str, UUID]:
    """Gives ids to a chunk of records that have none: among these keys, or of the whole table."""
    query = (
        select(nav_record.c.key, nav_record.c.fields)
        .where(without_id(company, table))
        .order_by(nav_record.c.key)
        .limit(CHUNK)
        .with_for_update(key_share=True)
    )
    if keys is not None:
        query = query.where(nav_record.c.key == any_(literal(sorted(keys), ARRAY(Text))))
    found = (await connection.execute(query)).all()
    changes = [Change(key, time_ordered_id(), fields) for key, fields in found]
    stamps = await update(connection, company.id, table, changes)
    return {key: given for key, given, *_ in changes if key in stamps and given is not None}
