"""What we remember of connections whose user CRM refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.domain.breaker import Breaker


@dataclass(frozen=True, slots=True)
class CompanyBreaker:
    """The breaker of a company's connection."""

    company_id: int
    breaker: Breaker


class Breakers(Protocol):
    """The circuit breakers of all connections. While one is open no job of its company is claimed, no entry
    started and no change looked for."""

    async def find(self, company_id: int) -> Breaker:
        """How it stands; closed where nothing is known."""
        ...

    async def locked(self, company_id: int) -> Breaker | None:
        """How it stands, locked until this transaction ends; None when there is no connection."""
        ...

    async def save(self, company_id: int, breaker: Breaker) -> None:
        """Keeps a breaker that was locked."""
        ...

    async def due(self, now: datetime, limit: int) -> Sequence[CompanyBreaker]:
        """Open breakers of enabled connections whose probe has come due, locked; those that another worker has
        locked are left out."""
        ...

    async def close(self, company_id: int, now: datetime) -> bool:
        """Lets the jobs of the company go on; False when it was not open. What was counted is forgotten."""
        ...
