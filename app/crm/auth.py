"""Tokens of Microsoft Entra ID for an application, as an httpx auth flow.

Client credentials by secret or by certificate (`private_key_jwt`). The token request travels through the same
client as the request that needs it, so proxies, certificate authorities and test transports hold for both.
"""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import httpx
import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.crm.failures import retry_after
from app.crm.wire import read_json
from app.domain.company import Credentials
from app.domain.errors import CrmUnavailable, LoginRefused, Throttled

PUBLIC_CLOUD = "https://login.microsoftonline.com"
RENEW_EARLY = 300.0  # seconds before a token ends, so that none ends on its way
LOGIN_WAIT = timedelta(seconds=30)  # when the login service does not say how long
REFUSAL_HOLDS = 5.0  # seconds; many requests that wait for one login share its refusal
ASSERTION_LIFETIME = 600  # seconds
CLOCKS_APART = 300  # seconds that our clock and that of Entra ID may differ
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
FIX = (
    "Check tenant_id, client_id and the secret or certificate with "
    "PATCH …/crm-connection, then POST …/crm-connection/test."
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the moment (of our monotonic clock) from which it is renewed."""

    text: str
    renew_at: float


class EntraAuth(httpx.Auth):
    """Adds a bearer token to every request; renews it early, and once after a 401.

    Args:
        credentials: of the application registered in Entra ID.
        resource: the address of the organization, without a path; its tokens are for `{resource}/.default`.
    """

    def __init__(
        self, credentials: Credentials, resource: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials = credentials
        self._scope = resource.rstrip("/") + "/.default"
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: Token | None = None
        self._asserted: str | None = None  # logs in for minutes, as often as it is sent
        self._refusal: tuple[float, str] | None = None

    @property
    def token_url(self) -> str:
        """Where tokens are asked for."""
        authority = (self._credentials.authority or PUBLIC_CLOUD).rstrip("/")
        return f"{authority}/{self._credentials.tenant_id}/oauth2/v2.0/token"

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Sends the token request where one is needed, then the request, and both again after a 401."""
        for last_try in (False, True):
            async with self._lock:
                token = self._valid_token()
                if token is None:
                    response = yield self._token_request(request)
                    await response.aread()
                    token = self._token = self._granted(response)
            request.headers["Authorization"] = f"Bearer {token.text}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED or last_try:
                return
            if self._token is token:
                self._token = None

    def _valid_token(self) -> Token | None:
        now = self._clock()
        if self._refusal is not None and now < self._refusal[0]:
            raise LoginRefused(self._refusal[1], fix=FIX)
        return self._token if self._token is not None and now < self._token.renew_at else None

    def _token_request(self, request: httpx.Request) -> httpx.Request:
        form = {"client_id": self._credentials.client_id, "grant_type": "client_credentials"}
        form["scope"] = self._scope
        if self._credentials.type == "client_certificate":
            form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": self._assertion()}
        else:
            form["client_secret"] = self._credentials.client_secret or ""
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        headers["User-Agent"] = request.headers.get("User-Agent", "")
        # A request made by hand has no timeouts: it takes those of the request that it is made for.
        extensions = {"timeout": request.extensions.get("timeout", {})}
        return httpx.Request("POST", self.token_url, data=form, headers=headers, extensions=extensions)

    def _assertion(self) -> str:
        """The certificate's stand-in for a secret (RFC 7523; PS256 and x5t#S256 as Entra ID documents it)."""
        key, thumbprint = self._certificate
        now = int(time.time())
        client_id = self._credentials.client_id
        claims = {"aud": self.token_url, "iss": client_id, "sub": client_id, "jti": str(uuid4())}
        moments = {"iat": now, "nbf": now - CLOCKS_APART, "exp": now + ASSERTION_LIFETIME}
        self._asserted = jwt.encode(
            claims | moments, key, algorithm="PS256", headers={"x5t#S256": thumbprint}
        )
        return self._asserted

    @cached_property
    def _certificate(self) -> tuple[RSAPrivateKey, str]:
        """The private key and the certificate's thumbprint, read once: reading checks the key, which takes time."""
        password = self._credentials.private_key_password
        try:
            certificate = x509.load_pem_x509_certificate((self._credentials.certificate or "").encode())
            key = load_pem_private_key(
                (self._credentials.private_key or "").encode(), password.encode() if password else None
            )
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The parser's own text may quote the input, which is secret.
            raise LoginRefused(
                "The certificate or the private key of the connection cannot be read as PEM "
                "(or its password is wrong).",
                fix=FIX,
            ) from error
        if not isinstance(key, RSAPrivateKey):
            raise LoginRefused("The private key of the connection must be an RSA key.", fix=FIX)
        digest = certificate.fingerprint(hashes.SHA256())
        return key, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _granted(self, response: httpx.Response) -> Token:
        answer = _json(response)
        host = response.request.url.host
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            delay = retry_after(response.headers) or LOGIN_WAIT
            raise Throttled(f"The login service at {host} asks to wait.", retry_after=delay)
        if response.is_server_error or (response.is_success and "access_token" not in answer):
            raise CrmUnavailable(
                f"The login service at {host} gave no usable answer (HTTP {response.status_code}).",
                fix="Try again later; if it stays so, check the authority of the connection.",
            )
        if not response.is_success:
            text = self.without_secrets(_refusal_text(answer, response.status_code).encode()).decode()
            self._refusal = (self._clock() + REFUSAL_HOLDS, text)
            raise LoginRefused(text, fix=FIX)
        self._refusal = None
        lifetime = float(answer.get("expires_in", 3600))
        # A short token (a test, a strict tenant) still serves half of its life.
        return Token(str(answer["access_token"]), self._clock() + max(lifetime - RENEW_EARLY, lifetime / 2))

    def without_secrets(self, text: bytes) -> bytes:
        """What the other end said, should it repeat what we sent it."""
        login = self._credentials
        token = self._token.text if self._token else None
        known = [login.client_secret, login.private_key_password, self._asserted, token]
        for secret in known:
            for form in dict.fromkeys((secret, quote_plus(secret))) if secret else ():
                text = text.replace(form.encode(), b"***")
        return text


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = read_json(response.content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal_text(answer: dict[str, Any], status: int) -> str:
    """Entra's own words (`AADSTS7000215: Invalid client secret provided.`), without its trace lines."""
    description = str(answer.get("error_description") or answer.get("error") or f"HTTP {status}")
    return f"Microsoft Entra ID refused the login: {description.split('Trace ID', maxsplit=1)[0].strip()}"
