"""Who may do what: scopes, API keys and callers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID


class Scope(StrEnum):
    """What a key allows; each includes the ones before it."""

    READ = "read"
    SYNC = "sync"  # couple, synchronize, run
    ADMIN = "admin"  # companies, connections, mappings, keys

    def covers(self, needed: "Scope") -> bool:
        """Whether this scope is enough for an operation that needs `needed`."""
        return needed in _COVERED[self]


_COVERED = {scope: frozenset(list(Scope)[: place + 1]) for place, scope in enumerate(Scope)}


USE_NOTED_EVERY: Final = timedelta(minutes=1)
"""A key's last use is noted this often at most: a write for every request would cost more than it tells."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without the key itself, of which only a hash is kept.

    `prefix` are the first characters of the key, to recognize it by. `companies` are the names it is
    bound to; None: every company. `email` is by which CRM knows who uses the key.
    """

    id: UUID
    name: str
    prefix: str
    scopes: frozenset[Scope]
    companies: tuple[str, ...] | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    email: str | None = None

    def expired(self, now: datetime) -> bool:
        """Whether it can no longer be used."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sends a request: `id` is stable and names the key or the application, `email` the person."""

    id: str
    scopes: frozenset[Scope]
    companies: tuple[str, ...] | None = None
    email: str | None = None

    def may(self, needed: Scope) -> bool:
        """Whether one of the caller's scopes is enough."""
        return any(scope.covers(needed) for scope in self.scopes)

    def may_see(self, company: str) -> bool:
        """Whether the caller is not bound to other companies."""
        return self.companies is None or company in self.companies
