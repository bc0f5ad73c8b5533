"""Integration ids: which records have one, and since when (nav-behaviour 2)."""

import os
import time
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Text, any_, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.company import Company, Generation
from app.nav.definitions import NavTable
from app.nav.expressions import text_of
from app.nav.filters import Condition
from app.nav.statements import Change, update
from app.nav.tables import nav_record
from app.nav.values import StoredValues

CHUNK = 5000
# Version 7, variant 2 (RFC 9562), and the bits that are left to chance.
VERSION = 7 << 76 | 0b10 << 62
RANDOM = (1 << 76) - 1 & ~(0b11 << 62)


def new_id() -> UUID:
    """A new integration id: version 7, so that ids given together lie together in the index."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | VERSION | int.from_bytes(os.urandom(10)) & RANDOM)


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
    return new_id() if company.tracking and may_have_id(company, table, fields) else None


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
    changes = [Change(key, new_id(), fields) for key, fields in found]
    stamps = await update(connection, company.id, table, changes)
    return {key: given for key, given, *_ in changes if key in stamps and given is not None}
