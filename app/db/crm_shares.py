"""Which processes talk to which organization: the requests that CRM takes at a time are shared among them."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import crm_share


async def register(
    connection: AsyncConnection,
    process_id: UUID,
    organizations: Collection[str],
    now: datetime,
    lifetime: timedelta,
) -> dict[str, int]:
    """Says that this process talks to these organizations, and answers how many processes do, itself included.

    A process that has not said so within `lifetime` no longer counts.
    """
    if not organizations:
        return {}
    rows = [
        {"process_id": process_id, "organization": each, "expires_at": now + lifetime}
        for each in sorted(organizations)
    ]
    statement = insert(crm_share)
    keys = [crm_share.c.process_id, crm_share.c.organization]
    expires = {"expires_at": statement.excluded.expires_at}
    await connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=expires), rows)
    await connection.execute(delete(crm_share).where(crm_share.c.expires_at <= now))
    counted = await connection.execute(
        select(crm_share.c.organization, func.count())
        .where(crm_share.c.organization.in_(list(organizations)))
        .group_by(crm_share.c.organization)
    )
    return {row[0]: row[1] for row in counted}


async def leave(connection: AsyncConnection, process_id: UUID) -> None:
    """The process ends; the others may have its share."""
    await connection.execute(delete(crm_share).where(crm_share.c.process_id == process_id))
