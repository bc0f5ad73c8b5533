"""Who calls: an API key or an Entra ID token to a caller."""

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from fastapi import Request

from app.api.limits import RateLimit, address_of
from app.domain.access import USE_NOTED_EVERY, ApiKey, Caller, Scope
from app.domain.company import Company
from app.domain.errors import Forbidden, Unauthenticated
from app.ports import Arrival, Context
from app.use_cases.api_keys import MARK, hashed


class Tokens(Protocol):
    """Knows the callers behind tokens that are no API keys."""

    async def caller(self, token: str) -> Caller:
        """Raises Unauthenticated, SideUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. `requests` counts what callers send, `failures` refused credentials by address.

    Who guesses too often is told to wait; a good key always opens, so that nobody is locked out by others who
    come from the same address. All processes count together: each asks the database until it knows for itself
    that an address has to wait, so that guesses cost no more writes than are accepted.
    """

    ctx: Context
    bootstrap_hash: bytes | None
    tokens: Tokens | None
    requests: RateLimit
    failures: RateLimit

    async def admit(self, request: Request, needed: Scope) -> tuple[Caller, Company | None]:
        """The caller of the request, and the company that its path names, if there is one of that name: both as they
        are now, so that a key which was revoked, or a company which was changed, is known by the very next request.

        Raises Unauthenticated, Forbidden (a scope is missing, or the key is bound to other companies) and
        TooManyRequests.
        """
        authorization = request.headers.get("authorization", "")
        company: str | None = request.path_params.get("company")
        try:
            caller, about = await self._arrival(authorization, company)
        except Unauthenticated:
            if authorization:
                await self._count_failure(address_of(request))
            raise
        self.requests.take(caller.id)
        if not caller.may(needed):
            raise Forbidden(
                f"This needs the scope {needed.value}.", fix=f"Use a key with the scope {needed.value}."
            )
        if company is not None and not caller.may_see(company):
            raise Forbidden(f"The key is not meant for the company {company}.")
        return caller, about

    async def _count_failure(self, address: str) -> None:
        """Raises TooManyRequests."""
        self.failures.take(address)
        if not self.failures.per_minute:
            return
        now = self.ctx.clock.now()
        async with self.ctx.uow() as tx:
            failures = await tx.refused_logins.count(address, now)
        if failures > self.failures.per_minute:
            raise self.failures.exceeded(timedelta(seconds=60 - now.second))

    async def _arrival(self, authorization: str, company: str | None) -> tuple[Caller, Company | None]:
        """Who comes with this header, and the company. Raises Unauthenticated."""
        token = _token(authorization)
        hash = hashed(token)
        if self.bootstrap_hash is not None and hmac.compare_digest(hash, self.bootstrap_hash):
            caller = Caller("bootstrap", frozenset({Scope.ADMIN}))
        elif not token.startswith(MARK) and self.tokens is not None:
            caller = await self.tokens.caller(token)
        else:
            arrival = await self._look(hash, company)
            return await self._of_api_key(arrival.key), arrival.company
        return caller, None if company is None else (await self._look(None, company)).company

    async def _look(self, hash: bytes | None, company: str | None) -> Arrival:
        """What our memory says now: one trip, however many come at the same time."""
        found = await self.ctx.together.ask("reception", (hash, company), self._receive)
        return found or Arrival(None, None)

    async def _receive(
        self, asked: Collection[tuple[bytes | None, str | None]]
    ) -> Mapping[tuple[bytes | None, str | None], Arrival]:
        async with self.ctx.uow(reading=True) as tx:
            return await tx.reception.of(asked)

    async def _of_api_key(self, key: ApiKey | None) -> Caller:
        now = self.ctx.clock.now()
        if key is None:
            raise Unauthenticated("The key is unknown or was revoked.")
        if key.expired(now):
            raise Unauthenticated("The key has expired.")
        if key.last_used_at is None or now - key.last_used_at > USE_NOTED_EVERY:
            async with self.ctx.uow() as tx:
                await tx.api_keys.touch(key.id, now)
        return Caller(f"key:{key.id}", key.scopes, key.companies, key.email)


def _token(authorization: str) -> str:
    """The key that the header carries. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "The request carries no key.", fix="Send the header Authorization: Bearer <key>."
        )
    return token
