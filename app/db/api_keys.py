"""API keys, known by the hash of the key alone."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import api_key
from app.db.violations import translated
from app.domain.access import USE_NOTED_EVERY, ApiKey, Scope
from app.domain.errors import NotFound


class SqlApiKeys:
    """The API keys of the service."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, key: ApiKey, hash: bytes) -> None:
        """Keeps a new key by its hash. Raises AlreadyExists."""
        values = {
            "id": key.id,
            "name": key.name,
            "hash": hash,
            "prefix": key.prefix,
            "scopes": sorted(key.scopes),
            "companies": None if key.companies is None else list(key.companies),
            "created_at": func.coalesce(key.created_at, func.now()),
            "expires_at": key.expires_at,
            "last_used_at": key.last_used_at,
            "email": key.email,
        }
        with translated(f"an API key {key.prefix}"):
            await self._connection.execute(insert(api_key).values(values))

    async def page(self, after: UUID | None, limit: int) -> list[ApiKey]:
        """The keys that were not revoked, in the order of their ids."""
        query = select(api_key).where(api_key.c.revoked_at.is_(None)).order_by(api_key.c.id).limit(limit)
        if after is not None:
            query = query.where(api_key.c.id > after)
        return [key_of(row) for row in await self._connection.execute(query)]

    async def revoke(self, key_id: UUID, at: datetime) -> None:
        """Raises NotFound, also for a key that was revoked before."""
        statement = update(api_key).where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        if not (await self._connection.execute(statement.values(revoked_at=at))).rowcount:
            raise NotFound(
                f"There is no API key {key_id}.", fix="GET /api/v1/api-keys lists those there are."
            )

    async def forget(self, before: datetime) -> int:
        """Forgets keys that were revoked or have expired before then; how many."""
        dead = or_(api_key.c.revoked_at < before, api_key.c.expires_at < before)
        return (await self._connection.execute(delete(api_key).where(dead))).rowcount

    async def unbind(self, company: str, at: datetime) -> None:
        """Takes a company from the keys that are bound to it, and revokes those that are bound to no other."""
        rest = func.array_remove(api_key.c.companies, company)
        bound = update(api_key).where(api_key.c.companies.any_() == company)
        nothing_left = func.cardinality(rest) == 0
        await self._connection.execute(
            bound.where(nothing_left).values(revoked_at=func.coalesce(api_key.c.revoked_at, at))
        )
        await self._connection.execute(bound.where(not_(nothing_left)).values(companies=rest))

    async def touch(self, key_id: UUID, at: datetime) -> None:
        """Notes when the key was last used, to the minute."""
        statement = update(api_key).where(
            api_key.c.id == key_id,
            or_(api_key.c.last_used_at.is_(None), api_key.c.last_used_at <= at - USE_NOTED_EVERY),
        )
        await self._connection.execute(statement.values(last_used_at=at))


def key_of(row: Row[Any]) -> ApiKey:
    """The key out of a row of its table."""
    return ApiKey(
        id=row.id,
        name=row.name,
        prefix=row.prefix,
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        companies=None if row.companies is None else tuple(row.companies),
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        email=row.email,
    )
