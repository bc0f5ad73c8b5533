"""What we remember of callers: their keys, and the answers they were given."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.domain.access import ApiKey
from app.domain.company import Company


class ApiKeys(Protocol):
    async def add(self, key: ApiKey, hash: bytes) -> None:
        """Keeps a new key by its hash."""
        ...

    async def page(self, after: UUID | None, limit: int) -> list[ApiKey]:
        """The keys that were not revoked, in the order of their ids."""
        ...

    async def revoke(self, key_id: UUID, at: datetime) -> None:
        """Raises NotFound, also for a key that was revoked before."""
        ...

    async def forget(self, before: datetime) -> int:
        """Forgets keys that were revoked or have expired before then; how many."""
        ...

    async def unbind(self, company: str, at: datetime) -> None:
        """Takes a company from the keys that are bound to it, and revokes those that are bound to no other."""
        ...

    async def touch(self, key_id: UUID, at: datetime) -> None:
        """Notes when the key was last used."""
        ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who comes, as far as a key says, and which company it is about; frozen as the request arrived."""

    key: ApiKey | None
    company: Company | None


class Reception(Protocol):
    async def of(
        self, asked: Collection[tuple[bytes | None, str | None]]
    ) -> Mapping[tuple[bytes | None, str | None], Arrival]:
        """For the hash of each key and the name of each company what stands behind them, in one trip: the key unless it
        was revoked, also an expired one; the company, which knows the version of its settings."""
        ...


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to a request that carried an Idempotency-Key."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class IdempotencyKeys(Protocol):
    async def claim(self, caller: str, key: str, fingerprint: bytes, at: datetime) -> StoredAnswer | None:
        """Takes the key for a request that is about to be carried out: None. Used before: the first answer.

        A key is forgotten a day after its use. A claim that was not renewed for twenty seconds is given up: if
        nothing was written for it, the key is free again. Raises IdempotencyKeyReused when the fingerprint differs,
        Busy while the first request is at work, AnswerLost when it died after it had written something.
        """
        ...

    async def renew(self, caller: str, key: str, at: datetime) -> None:
        """Says that the process which carries out the request lives. To be called in a task of its own."""
        ...

    async def answer(self, caller: str, key: str, answer: StoredAnswer) -> None:
        """Keeps the answer for those who ask again."""
        ...

    async def forget(self, before: datetime, limit: int) -> int:
        """Forgets up to so many keys used before then; how many."""
        ...

    async def release(self, caller: str, key: str, *, begun: bool = True) -> None:
        """Gives a claim back, so that the next request may try; with `begun` False only one for which nothing
        was written."""
        ...


class RefusedLogins(Protocol):
    async def count(self, address: str, at: datetime) -> int:
        """Counts a refused key or token from an address; how many it has in that minute, on all processes."""
        ...

    async def forget(self, before: datetime) -> int:
        """Forgets addresses that none came from since then; how many."""
        ...
