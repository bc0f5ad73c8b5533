"""Who calls: an API key or an Entra ID token to a caller."""

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from fastapi import Request

from app.api.limits import RateLimit
from app.domain.access import Caller, Scope
from app.domain.errors import Forbidden, SideUnavailable, Unauthenticated
from app.ports import Context
from app.use_cases.api_keys import MARK, hashed

ALGORITHMS = ["RS256", "PS256"]
LEEWAY_SECONDS = 300
"""How far our clock and that of Entra ID may be apart; Microsoft's own libraries allow as much."""
METADATA_LIFE = timedelta(hours=6)
REFRESH_PAUSE = timedelta(minutes=5)
"""How long an unknown key id does not make us fetch the keys again."""
USE_NOTED_AFTER = timedelta(minutes=1)
"""How old a key's last use must be before it is written again."""
FAILURES_PER_MINUTE = 300


class IdentityProviderUnavailable(SideUnavailable):
    """The identity provider cannot be reached."""

    code = "identity-provider-unavailable"


class Tokens(Protocol):
    """Knows the callers behind tokens that are no API keys."""

    async def caller(self, token: str) -> Caller:
        """Raises Unauthenticated, IdentityProviderUnavailable."""
        ...


class EntraTokens:
    """Callers by tokens of one Entra ID tenant.

    The roles of the application (`read`, `sync`, `admin`) are the scopes. The issuer and the signing keys come from
    the OpenID configuration and are kept for some hours; a key id not seen before is looked up once more.
    """

    def __init__(self, ctx: Context, http: httpx.AsyncClient, config_url: str, audience: str) -> None:
        self.ctx = ctx
        self.http = http
        self.config_url = config_url
        self.audience = audience
        self.issuer = ""
        self.keys: dict[str, RSAPublicKey] = {}
        self.read_at = ctx.clock.now() - 2 * METADATA_LIFE

    async def caller(self, token: str) -> Caller:
        """Raises Unauthenticated when the token is not for us, IdentityProviderUnavailable."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(f"The token is not accepted: {error}.") from error
        roles = claims.get("roles")
        scopes = (
            frozenset(Scope(role) for role in roles if role in set(Scope))
            if isinstance(roles, list)
            else None
        )
        subject = claims.get("azp") or claims.get("appid") or claims.get("oid") or claims.get("sub")
        if subject is None:
            raise Unauthenticated("The token is not accepted: it does not say whom it stands for.")
        email = claims.get("email") or claims.get("preferred_username") or claims.get("upn")
        return Caller(f"entra:{subject}", scopes or frozenset(), email=None if email is None else str(email))

    async def _key(self, key_id: str) -> RSAPublicKey:
        age = self.ctx.clock.now() - self.read_at
        if age > METADATA_LIFE or (key_id not in self.keys and age > REFRESH_PAUSE):
            await self._read()
        if key_id not in self.keys:
            raise jwt.InvalidTokenError("it is signed with an unknown key")
        return self.keys[key_id]

    async def _read(self) -> None:
        try:
            config = (await self.http.get(self.config_url)).raise_for_status().json()
            found = (await self.http.get(config["jwks_uri"])).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(found).keys
        except (httpx.HTTPError, KeyError, ValueError, jwt.PyJWTError) as error:
            raise IdentityProviderUnavailable("The OpenID configuration cannot be read.") from error
        self.issuer = config["issuer"]
        self.keys = {
            each.key_id: each.key for each in keys if each.key_id and isinstance(each.key, RSAPublicKey)
        }
        self.read_at = self.ctx.clock.now()


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets callers in. `requests` counts what callers send, `failures` refused credentials by address.

    Who guesses too often is told to wait; a good key always opens, so that nobody is locked out by others who
    come from the same address.
    """

    ctx: Context
    bootstrap_key: str | None
    tokens: Tokens | None
    requests: RateLimit
    failures: RateLimit

    async def admit(self, request: Request, needed: Scope) -> Caller:
        """The caller of the request.

        Raises Unauthenticated, Forbidden (a scope is missing, or the key is bound to other companies) and
        TooManyRequests.
        """
        address = request.client.host if request.client else "unknown"
        authorization = request.headers.get("authorization", "")
        try:
            caller = await self._caller(authorization)
        except Unauthenticated:
            if authorization:
                self.failures.take(address)
            raise
        self.requests.take(caller.id)
        if not caller.may(needed):
            raise Forbidden(
                f"This needs the scope {needed.value}.", fix=f"Use a key with the scope {needed.value}."
            )
        company = request.path_params.get("company")
        if company is not None and not caller.may_see(company):
            raise Forbidden(f"The key is not meant for the company {company}.")
        return caller

    async def _caller(self, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated(
                "The request carries no key.", fix="Send the header Authorization: Bearer <key>."
            )
        if self.bootstrap_key and hmac.compare_digest(hashed(token), hashed(self.bootstrap_key)):
            return Caller("bootstrap", frozenset({Scope.ADMIN}))
        if not token.startswith(MARK) and self.tokens is not None:
            return await self.tokens.caller(token)
        return await self._of_api_key(token)

    async def _of_api_key(self, token: str) -> Caller:
        now = self.ctx.clock.now()
        async with self.ctx.uow() as tx:
            key = await tx.api_keys.find(hashed(token))
            if key is None:
                raise Unauthenticated("The key is unknown or was revoked.")
            if key.expired(now):
                raise Unauthenticated("The key has expired.")
            if key.last_used_at is None or now - key.last_used_at > USE_NOTED_AFTER:
                await tx.api_keys.touch(key.id, now)
        return Caller(f"key:{key.id}", key.scopes, key.companies, key.email)
