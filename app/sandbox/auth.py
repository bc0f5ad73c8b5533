"""Who calls: the token endpoints, and the tokens of the API."""

import base64
import secrets
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.sandbox.errors import DataverseError
from app.sandbox.organization import Organization

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHM = "HS256"


class Refused(Exception):
    """The token endpoint says no."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class Authority:
    """Issues tokens and checks them; its key lives as long as they do."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.expire_tokens()

    def expire_tokens(self) -> None:
        """Every token given out so far is refused from now on."""
        self._key = secrets.token_bytes(32)

    async def answer(self, request: Request) -> Response:
        """`POST /<tenant>/oauth2/v2.0/token` and its older relatives."""
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        try:
            return JSONResponse(self.issue(form, str(request.url.replace(query=""))))
        except Refused as refused:
            content = {"error": refused.error, "error_description": refused.description}
            return JSONResponse(content, refused.status)

    def issue(self, form: dict[str, str], endpoint: str) -> dict[str, Any]:
        """The token answer to a form.

        Raises:
            Refused: wrong grant, application, secret, assertion or scope.
        """
        if form.get("grant_type") != "client_credentials":
            raise Refused(
                "unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type."
            )
        settings = self.organization.settings
        if form.get("client_id") != settings.client_id:
            raise Refused(
                "unauthorized_client",
                f"AADSTS700016: Application with identifier '{form.get('client_id')}' was not found in the "
                "directory.",
            )
        if "client_assertion" in form:
            self._check_assertion(form, endpoint)
        elif not secrets.compare_digest(form.get("client_secret", ""), settings.client_secret):
            raise Refused("invalid_client", "AADSTS7000215: Invalid client secret provided.", 401)
        token = self.token(_audience(form), settings.client_id)
        lifetime = settings.token_lifetime
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }

    def token(self, audience: str, client_id: str) -> str:
        """A token of an application for a resource."""
        settings = self.organization.settings
        now = int(settings.clock().timestamp())
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{settings.tenant_id}/",
            "iat": now,
            "nbf": now,
            "exp": now + settings.token_lifetime,
            "appid": client_id,
            "tid": settings.tenant_id,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._key, ALGORITHM)

    def _check_assertion(self, form: dict[str, str], endpoint: str) -> None:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("invalid_request", "AADSTS90023: Unsupported client_assertion_type.")
        assertion = form["client_assertion"]
        try:
            header = jwt.get_unverified_header(assertion)
            claims = self._claims(assertion, header)
        except jwt.PyJWTError as error:
            raise Refused(
                "invalid_client", f"AADSTS700027: Client assertion is refused: {error}.", 401
            ) from error
        now = self.organization.settings.clock().timestamp()
        if claims.get("exp", 0) < now:
            raise Refused(
                "invalid_client", "AADSTS700024: Client assertion is not within its valid time range.", 401
            )
        if claims.get("aud") != endpoint or claims.get("iss") != claims.get("sub") != form["client_id"]:
            text = "AADSTS700021: Client assertion application identifier or audience doesn't match."
            raise Refused("invalid_client", text, 401)

    def _claims(self, assertion: str, header: dict[str, Any]) -> dict[str, Any]:
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        if header.get("alg") not in ("RS256", "PS256"):
            raise jwt.InvalidAlgorithmError("the algorithm must be RS256 or PS256")
        for pem in self.organization.settings.certificates:
            certificate = x509.load_pem_x509_certificate(pem)
            if thumbprints(certificate) & {header.get("x5t"), header.get("x5t#S256")}:
                key = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                return jwt.decode(assertion, key, ["RS256", "PS256"], options)
        raise jwt.InvalidKeyError("the certificate with the thumbprint is not registered for the application")

    def caller(self, authorization: str | None, organization_url: str) -> str:
        """The systemuser behind an Authorization header.

        Raises:
            DataverseError: 401 with a challenge; 403 when the application has no user here.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise self._challenge(organization_url, "")
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        try:
            claims = jwt.decode(token.strip(), self._key, [ALGORITHM], options)
        except jwt.PyJWTError as error:
            raise self._challenge(organization_url, "invalid_token") from error
        expired = claims["exp"] <= self.organization.settings.clock().timestamp()
        if expired or claims["aud"].rstrip("/") != organization_url.rstrip("/"):
            raise self._challenge(organization_url, "invalid_token")
        return self.organization.user_of_application(claims["appid"])

    def _challenge(self, organization_url: str, error: str) -> DataverseError:
        tenant = self.organization.settings.tenant_id
        challenge = (
            f"Bearer authorization_uri={organization_url}/{tenant}/oauth2/authorize, "
            f"resource_id={organization_url}/"
        )
        if error:
            challenge += f', error="{error}"'
        return DataverseError(
            401, "", "Authorization has been denied for this request.", {"WWW-Authenticate": challenge}
        )


def thumbprints(certificate: x509.Certificate) -> set[str]:
    """`x5t` and `x5t#S256` of a certificate."""
    prints = certificate.fingerprint(SHA1()), certificate.fingerprint(SHA256())  # noqa: S303  # x5t is SHA-1
    return {base64.urlsafe_b64encode(item).rstrip(b"=").decode() for item in prints}


def _audience(form: dict[str, str]) -> str:
    scope, resource = form.get("scope", ""), form.get("resource", "")
    if resource:
        return resource.rstrip("/")
    if not scope.endswith("/.default"):
        raise Refused("invalid_scope", f"AADSTS1002012: The provided value for scope {scope} is not valid.")
    return scope.removesuffix("/.default").rstrip("/")
