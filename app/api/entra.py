"""Callers by tokens of Entra ID."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.domain.access import Caller, Scope
from app.domain.errors import SideUnavailable, Unauthenticated
from app.ports import Context

ALGORITHMS = ["RS256", "PS256"]
"""Asymmetric ones alone: with others a public key could be taken for a secret."""
SHORTEST_KEY = 2048  # bits
LEEWAY_SECONDS = 300
"""How far our clock and that of Entra ID may be apart; Microsoft's own libraries allow as much."""
METADATA_LIFE = timedelta(hours=6)
METADATA_LIFE_UNREACHED = timedelta(hours=24)
"""How long keys serve while newer ones cannot be read."""
REFRESH_PAUSE = timedelta(minutes=5)
"""How long an unknown key id does not make us fetch the keys again."""
FAILURE_PAUSE = timedelta(seconds=30)
"""How long nobody is asked again after an attempt that failed, whatever tokens come in."""


class IdentityProviderUnavailable(SideUnavailable):
    """The identity provider cannot be reached."""

    code = "identity-provider-unavailable"


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
        self.read_at = self.asked_at = ctx.clock.now() - 2 * METADATA_LIFE_UNREACHED
        self._lock = asyncio.Lock()

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
        email = claims.get("email") or claims.get("preferred_username") or claims.get("upn")
        return Caller(_id_of(claims), _scopes_of(claims), email=None if email is None else str(email))

    async def _key(self, key_id: str) -> RSAPublicKey:
        async with self._lock:  # one reads for all who wait
            now = self.ctx.clock.now()
            age, asked = now - self.read_at, now - self.asked_at
            if (age > METADATA_LIFE and asked > FAILURE_PAUSE) or (
                key_id not in self.keys and asked > REFRESH_PAUSE
            ):
                await self._read()
            elif age > METADATA_LIFE_UNREACHED:
                raise IdentityProviderUnavailable("The OpenID configuration could not be read a moment ago.")
        if key_id not in self.keys:
            raise jwt.InvalidTokenError("it is signed with an unknown key")
        return self.keys[key_id]

    async def _read(self) -> None:
        self.asked_at = self.ctx.clock.now()
        try:
            config = await self._document(self.config_url)
            keys = jwt.PyJWKSet.from_dict(await self._document(self._keys_url(config))).keys
            issuer = str(config["issuer"])
        except (httpx.HTTPError, KeyError, ValueError, TypeError, jwt.PyJWTError) as error:
            if self.asked_at - self.read_at < METADATA_LIFE_UNREACHED:
                return  # what was read before still holds
            raise IdentityProviderUnavailable("The OpenID configuration cannot be read.") from error
        self.issuer = issuer
        self.keys = {each.key_id: each.key for each in keys if each.key_id and _is_usable(each)}
        self.read_at = self.asked_at

    async def _document(self, url: str) -> dict[str, Any]:
        found = (await self.http.get(url, follow_redirects=False)).raise_for_status().json()
        if not isinstance(found, dict):
            raise TypeError("The document is no object.")
        return found

    def _keys_url(self, config: dict[str, Any]) -> str:
        """Where the keys are. Raises ValueError for a place that nobody configured."""
        url = str(config["jwks_uri"])
        if urlsplit(url)[:2] != urlsplit(self.config_url)[:2]:
            raise ValueError("The keys are said to be at another host.")
        return url


def _is_usable(found: jwt.PyJWK) -> bool:
    key = found.key
    return (
        isinstance(key, RSAPublicKey)
        and key.key_size >= SHORTEST_KEY
        and found.public_key_use in (None, "sig")
    )


def _id_of(claims: dict[str, Any]) -> str:
    """The application, and who uses it: two people who use one application are two callers."""
    application, user = claims.get("azp") or claims.get("appid"), claims.get("oid") or claims.get("sub")
    if application is None and user is None:
        raise Unauthenticated("The token is not accepted: it does not say whom it stands for.")
    return "entra:" + "/".join(str(part) for part in (application, user) if part is not None)


def _scopes_of(claims: dict[str, Any]) -> frozenset[Scope]:
    roles = claims.get("roles")
    known = {scope.value: scope for scope in Scope}
    found = roles if isinstance(roles, list) else []
    return frozenset(known[role] for role in found if isinstance(role, str) and role in known)
