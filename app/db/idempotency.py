"""The answers to requests that carried an Idempotency-Key, encrypted: an answer may hold a new API key.

A claim says who is at work. It is renewed as long as its process lives, so a claim that grew old belongs to a process
that died. Whether that one had done anything is known, too: each transaction that writes for a request marks its claim,
in the same commit. What was not begun is carried out by whoever asks next; what was, is never carried out twice.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, event, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.secrets import Vault
from app.db.tables import idempotency_key
from app.domain.errors import AnswerLost, Busy, IdempotencyKeyReused
from app.ports import StoredAnswer

KEPT = timedelta(days=1)
ABANDONED = timedelta(seconds=20)
"""A claim that was not renewed for so long belongs to a process that died."""
BEGUN = 0
"""In place of the status of an answer: something was written, and there is no answer yet."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The request that this task carries out."""

    caller: str
    key: str
    made_on: Connection | None


_claim: ContextVar[Claim | None] = ContextVar("claim", default=None)


def mark_begun(engine: AsyncEngine) -> None:
    """Lets every transaction of the engine that writes for a claimed request mark the claim as it commits."""

    @event.listens_for(engine.sync_engine, "commit")
    def mark(connection: Connection) -> None:
        claim = _claim.get()
        if claim is None or connection is claim.made_on:
            return
        row = idempotency_key.c
        wrote = func.pg_current_xact_id_if_assigned().is_not(None)
        connection.execute(
            update(idempotency_key)
            .where(_is(claim.caller, claim.key), row.status.is_(None), wrote)
            .values(status=BEGUN)
        )


class SqlIdempotencyKeys:
    """Who asked what before, and what the answer was."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def claim(self, caller: str, key: str, fingerprint: bytes, at: datetime) -> StoredAnswer | None:
        """Takes the key for a request that is about to be carried out: None. Used before: the first answer.

        Raises IdempotencyKeyReused when the fingerprint differs, Busy while the first request is at work,
        AnswerLost when its process died after it had written something, and SecretsUnreadable when the key that
        encrypted the answer is gone.
        """
        row = idempotency_key.c
        fresh = {"fingerprint": fingerprint, "created_at": at, "status": None, "headers": None, "body": None}
        left = and_(row.status.is_(None), row.created_at <= at - ABANDONED)
        taken = (
            insert(idempotency_key)
            .values(caller=caller, key=key, fingerprint=fingerprint, created_at=at)
            .on_conflict_do_update(
                index_elements=[row.caller, row.key],
                set_=fresh,
                where=or_(row.created_at <= at - KEPT, left),
            )
            .returning(row.key)
        )
        if (await self._connection.execute(taken)).one_or_none() is not None:
            _claim.set(Claim(caller, key, self._connection.sync_connection))
            return None
        query = select(idempotency_key).where(_is(caller, key))
        found = (await self._connection.execute(query)).one_or_none()
        if found is not None and bytes(found.fingerprint) != fingerprint:
            raise IdempotencyKeyReused(
                f"The Idempotency-Key {key} was used for another request.",
                fix="Use a new key for a new request; the same key goes with the same body only.",
            )
        if found is not None and found.status == BEGUN and found.created_at <= at - ABANDONED:
            raise AnswerLost(
                f"The first request with the Idempotency-Key {key} was interrupted after it had written something, "
                "and its answer is lost. It is not carried out again.",
                fix="Read what it was to change. If something is missing, ask again with a new key.",
            )
        if found is None or found.status in (None, BEGUN):
            raise Busy(
                f"The first request with the Idempotency-Key {key} is still at work.",
                fix="Repeat the request a little later.",
            )
        body = self._vault.decrypt(found.body)["body"]
        return StoredAnswer(found.status, found.headers or {}, str(body).encode())

    async def renew(self, caller: str, key: str, at: datetime) -> None:
        """Says that the process which carries out the request lives. To be called in a task of its own."""
        _claim.set(None)
        renewed = update(idempotency_key).where(_unanswered(caller, key)).values(created_at=at)
        await self._connection.execute(renewed)

    async def answer(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keeps the answer, a text, for those who ask again."""
        _claim.set(None)
        body = self._vault.encrypt({"body": answer.body.decode()})
        await self._connection.execute(
            update(idempotency_key)
            .where(_unanswered(caller, key))
            .values(status=answer.status, headers=dict(answer.headers), body=body)
        )

    async def release(self, caller: str, key: str, *, begun: bool = True) -> None:
        """Gives a claim back, so that the next request may try; with `begun` False only one for which nothing
        was written."""
        _claim.set(None)
        which = (
            _unanswered(caller, key) if begun else and_(_is(caller, key), idempotency_key.c.status.is_(None))
        )
        await self._connection.execute(delete(idempotency_key).where(which))

    async def forget(self, before: datetime, limit: int) -> int:
        """Forgets up to so many keys used before then; how many."""
        old = (
            select(idempotency_key.c.caller, idempotency_key.c.key)
            .where(idempotency_key.c.created_at < before)
            .order_by(idempotency_key.c.created_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        statement = delete(idempotency_key).where(
            tuple_(idempotency_key.c.caller, idempotency_key.c.key).in_(old)
        )
        return (await self._connection.execute(statement)).rowcount


def _is(caller: str, key: str) -> ColumnElement[bool]:
    return and_(idempotency_key.c.caller == caller, idempotency_key.c.key == key)


def _unanswered(caller: str, key: str) -> ColumnElement[bool]:
    """The claim of a request that is at work, whether it has written anything or not."""
    status = idempotency_key.c.status
    return and_(_is(caller, key), or_(status.is_(None), status == BEGUN))
