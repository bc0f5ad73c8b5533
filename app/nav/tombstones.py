"""Deletions that are long past are forgotten; a horizon remembers up to where, so that nobody misses one unawares."""

from datetime import datetime

from sqlalchemy import BigInteger, Select, func, select
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nav.tables import nav_horizon

# Oldest first: everything up to the horizon may be gone, everything after it is there.
_FORGET = sql("""
    WITH old AS (
        SELECT company_id, nav_table, integration_id FROM nav_tombstone
        WHERE company_id = :company_id AND deleted_at < :before
        ORDER BY nav_table, row_version LIMIT :limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM nav_tombstone AS tombstone USING old
        WHERE tombstone.company_id = old.company_id AND tombstone.nav_table = old.nav_table
          AND tombstone.integration_id = old.integration_id
        RETURNING tombstone.nav_table, tombstone.row_version
    ), moved AS (
        INSERT INTO nav_horizon (company_id, nav_table, row_version)
        SELECT :company_id, nav_table, max(row_version) FROM gone GROUP BY nav_table
        ON CONFLICT (company_id, nav_table)
        DO UPDATE SET row_version = greatest(nav_horizon.row_version, excluded.row_version)
    )
    SELECT count(*) FROM gone
    """)


async def forget(connection: AsyncConnection, company_id: int, before: datetime, limit: int) -> int:
    """Forgets up to so many deletions from before then; how many. The horizon moves with them."""
    given = {"company_id": company_id, "before": before, "limit": limit}
    return int((await connection.execute(_FORGET, given)).scalar_one())


def horizon(company_id: int, nav_table: str) -> Select[int]:
    """The version up to which deletions of the table may be forgotten; 0 where none was."""
    newest = func.max(nav_horizon.c.row_version, type_=BigInteger)
    return select(func.coalesce(newest, 0)).where(
        nav_horizon.c.company_id == company_id, nav_horizon.c.nav_table == nav_table
    )
