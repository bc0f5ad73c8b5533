"""The answers to requests that carried an Idempotency-Key, encrypted: an answer may hold a new API key."""

from datetime import datetime, timedelta

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.secrets import Vault
from app.db.tables import idempotency_key
from app.domain.errors import Busy, IdempotencyKeyReused
from app.ports import StoredAnswer

KEPT = timedelta(days=1)
ABANDONED = timedelta(minutes=10)
"""A claim without an answer this old belongs to a process that died."""


class SqlIdempotencyKeys:
    """Who asked what before, and what the answer was."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def claim(self, caller: str, key: str, fingerprint: bytes, at: datetime) -> StoredAnswer | None:
        """Takes the key for a request that is about to be carried out: None. Used before: the first answer.

        Raises IdempotencyKeyReused when the fingerprint differs, Busy while the first request is at work, and
        SecretsUnreadable when the key that encrypted the answer is gone.
        """
        row = idempotency_key.c
        fresh = {"fingerprint": fingerprint, "created_at": at, "status": None, "headers": None, "body": None}
        taken = (
            insert(idempotency_key)
            .values(caller=caller, key=key, fingerprint=fingerprint, created_at=at)
            .on_conflict_do_update(
                index_elements=[row.caller, row.key],
                set_=fresh,
                where=or_(
                    row.created_at <= at - KEPT, and_(row.status.is_(None), row.created_at <= at - ABANDONED)
                ),
            )
            .returning(row.key)
        )
        if (await self._connection.execute(taken)).one_or_none() is not None:
            return None
        found = (
            await self._connection.execute(
                select(idempotency_key).where(row.caller == caller, row.key == key)
            )
        ).one_or_none()
        if found is not None and bytes(found.fingerprint) != fingerprint:
            raise IdempotencyKeyReused(
                f"The Idempotency-Key {key} was used for another request.",
                fix="Use a new key for a new request; the same key goes with the same body only.",
            )
        if found is None or found.status is None:
            raise Busy(
                f"The first request with the Idempotency-Key {key} is still at work.",
                fix="Repeat the request a little later.",
            )
        body = self._vault.decrypt(found.body)["body"]
        return StoredAnswer(found.status, found.headers or {}, str(body).encode())

    async def answer(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keeps the answer, a text, for those who ask again."""
        body = self._vault.encrypt({"body": answer.body.decode()})
        await self._connection.execute(
            update(idempotency_key)
            .where(idempotency_key.c.caller == caller, idempotency_key.c.key == key)
            .values(status=answer.status, headers=dict(answer.headers), body=body)
        )

    async def release(self, caller: str, key: str) -> None:
        """Gives a claim back: nothing was done, the next request may try."""
        await self._connection.execute(
            delete(idempotency_key).where(
                idempotency_key.c.caller == caller,
                idempotency_key.c.key == key,
                idempotency_key.c.status.is_(None),
            )
        )

    async def forget(self, before: datetime) -> int:
        """Forgets keys used before then; how many."""
        statement = delete(idempotency_key).where(idempotency_key.c.created_at < before)
        return (await self._connection.execute(statement)).rowcount
