"""Create and revoke API keys."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from app.domain.access import ApiKey, Scope
from app.domain.errors import CompanyNotFound, FieldProblem, Invalid
from app.ports import Context

MARK = "nck_"
PREFIX_LENGTH = len(MARK) + 6


def hashed(token: str) -> bytes:
    """What is kept of a key. A random key of 256 bits needs no salt and no slow hash."""
    return hashlib.sha256(token.encode()).digest()


async def create_api_key(
    ctx: Context,
    name: str,
    scopes: Collection[Scope],
    companies: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    email: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its token, which is shown this once and never kept.

    Args:
        companies: names of the companies the key is bound to; None: every company.
        expires_at: aware; None: never.
        email: by which CRM knows who uses the key, for companies whose callers must be CRM users.
    Raises:
        Invalid: no scope, an expiry in the past, or a company that does not exist.
    """
    now = ctx.clock.now()
    if not scopes:
        raise _invalid("/scopes", "A key needs at least one scope.")
    if expires_at is not None and expires_at <= now:
        raise _invalid("/expires_at", "The key would have expired already.")
    token = MARK + secrets.token_urlsafe(32)
    key = ApiKey(
        id=ctx.new_id(),
        name=name,
        prefix=token[:PREFIX_LENGTH],
        scopes=frozenset(scopes),
        companies=None if companies is None else tuple(companies),
        created_at=now,
        expires_at=expires_at,
        email=email,
    )
    async with ctx.uow() as tx:
        for position, company in enumerate(key.companies or ()):
            try:
                await tx.companies.get(company, lock=True)  # one that is being deleted unbinds its keys
            except CompanyNotFound as error:
                raise _invalid(f"/companies/{position}", error.detail) from error
        await tx.api_keys.add(key, hashed(token))
    return key, token


def _invalid(pointer: str, message: str) -> Invalid:
    return Invalid(message, errors=[FieldProblem(pointer, message)])


async def revoke_api_key(ctx: Context, key_id: UUID) -> None:
    """The key stops working at once. Raises NotFound."""
    async with ctx.uow() as tx:
        await tx.api_keys.revoke(key_id, ctx.clock.now())
