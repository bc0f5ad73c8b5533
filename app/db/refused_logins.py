"""Keys and tokens that were refused, counted by the address that they came from."""

from datetime import datetime

from sqlalchemy import case, delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import refused_login


class SqlRefusedLogins:
    """How many came from an address in the present minute, on all processes."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def count(self, address: str, at: datetime) -> int:
        """Counts one more; how many there are in that minute."""
        minute = at.replace(second=0, microsecond=0)
        row = refused_login.c
        counted = insert(refused_login).values(address=address, minute=minute, count=1)
        counted = counted.on_conflict_do_update(
            index_elements=[row.address],
            set_={"count": case((row.minute == minute, row.count + 1), else_=1), "minute": minute},
        )
        found: int = (await self._connection.execute(counted.returning(row.count))).scalar_one()
        return found

    async def forget(self, before: datetime) -> int:
        """Forgets addresses that none came from since then; how many."""
        gone = await self._connection.execute(delete(refused_login).where(refused_login.c.minute < before))
        return gone.rowcount
