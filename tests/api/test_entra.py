"""Callers known by Entra ID, with an identity provider on this machine."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.main import opened
from app.settings import Settings
from tests.api.conftest import ADMIN_KEY, FERNET_KEY, client_of
from tests.crm_sandbox import served

pytestmark = pytest.mark.anyio
AUDIENCE = "api://navcrm"
KEYS = {
    name: rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "weak" else 2048)
    for name in ("old", "new", "other", "weak")
}


class Provider:
    """An identity provider: what it publishes, and the tokens it gives."""

    def __init__(self) -> None:
        self.published = ["old", "weak"]
        self.url = ""
        self.asked = 0
        self.fails = False
        self.keys_at = ""

    async def config(self, request: Request) -> JSONResponse:
        self.asked += 1
        status = 503 if self.fails else 200
        return JSONResponse(
            {"issuer": f"{self.url}/v2.0", "jwks_uri": self.keys_at or f"{self.url}/keys"}, status
        )

    async def keys(self, request: Request) -> JSONResponse:
        found = []
        for name in self.published:
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEYS[name].public_key()))
            found.append(key | {"kid": name, "use": "sig"})
        return JSONResponse({"keys": found})

    def token(
        self, key: str = "old", algorithm: str = "RS256", signer: str | None = None, **changes: Any
    ) -> str:
        claims = {
            "iss": f"{self.url}/v2.0",
            "aud": AUDIENCE,
            "azp": "5f0c1f7e-0000-4000-8000-000000000001",
            "exp": datetime.now(UTC) + timedelta(minutes=5),
            "roles": ["read"],
        } | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        secret = "" if algorithm == "none" else KEYS[signer or key]
        return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": key})

    def token_by_public_key(self) -> str:
        """A token that whoever knows the published key can make, if it were taken for a shared secret."""
        head, claims, _ = self.token().split(".")
        public = KEYS["old"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head = _encoded(json.dumps({"alg": "HS256", "kid": "old", "typ": "JWT"}).encode())
        signed = f"{head}.{claims}"
        return f"{signed}.{_encoded(hmac.digest(public, signed.encode(), 'sha256'))}"


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = Starlette(routes=[Route("/config", found.config), Route("/keys", found.keys)])
    async with served(app) as url:
        found.url = url
        yield found


@pytest.fixture
async def app(one_app: FastAPI, database: str, provider: Provider) -> AsyncIterator[FastAPI]:
    """The application, with that provider."""
    settings = Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        entra_openid_config_url=f"{provider.url}/config",
        entra_audience=AUDIENCE,
    )
    async with opened(one_app, settings):
        yield one_app


async def status(app: FastAPI, token: str, method: str = "GET") -> int:
    async with client_of(app, token) as client:
        answer = await client.request(
            method, "/api/v1/companies", json={"name": "a"} if method == "POST" else None
        )
        return answer.status_code


async def test_the_roles_of_a_token_are_its_scopes(app: FastAPI, provider: Provider) -> None:
    assert await status(app, provider.token()) == 200
    assert await status(app, provider.token(), "POST") == 403
    assert await status(app, provider.token(algorithm="PS256", roles=["admin", "Unknown"]), "POST") == 201
    assert await status(app, provider.token(roles=[])) == 403
    assert await status(app, provider.token(roles=None)) == 403
    assert await status(app, ADMIN_KEY) == 200


async def test_a_token_that_is_not_for_us_opens_nothing(app: FastAPI, provider: Provider) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for token in (
        provider.token(aud="api://other"),
        provider.token(iss="https://elsewhere.example"),
        provider.token(exp=hour_ago),
        provider.token(exp=None),
        provider.token(signer="other"),
        provider.token(algorithm="none"),
        provider.token_by_public_key(),
        provider.token(nbf=datetime.now(UTC) + timedelta(hours=1)),
        provider.token(azp=None),
        "a.b.c",
    ):
        assert await status(app, token) == 401


async def test_clocks_may_be_almost_five_minutes_apart(app: FastAPI, provider: Provider) -> None:
    now, apart = datetime.now(UTC), timedelta(minutes=4, seconds=45)
    assert await status(app, provider.token(nbf=now + apart, iat=now + apart)) == 200
    assert await status(app, provider.token(exp=now - apart)) == 200
    assert await status(app, provider.token(exp=now - timedelta(minutes=6))) == 401


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")  # that is the point
async def test_a_short_key_is_not_trusted(app: FastAPI, provider: Provider) -> None:
    assert await status(app, provider.token(key="weak")) == 401


async def test_keys_are_read_once_and_again_when_they_change(app: FastAPI, provider: Provider) -> None:
    for _ in range(3):
        assert await status(app, provider.token()) == 200
    assert provider.asked == 1
    provider.published = ["old", "new"]
    assert await status(app, provider.token("new")) == 401  # looked up just now; not for every unknown key
    assert provider.asked == 1
    app.state.door.gate.tokens.asked_at -= timedelta(minutes=6)
    assert await status(app, provider.token("new")) == 200
    assert provider.asked == 2


async def test_a_provider_that_does_not_answer_is_no_fault_of_the_caller(
    app: FastAPI, provider: Provider
) -> None:
    app.state.door.gate.tokens.config_url = "http://127.0.0.1:9/config"
    async with client_of(app, provider.token()) as client:
        answer = await client.get("/api/v1/companies")
    assert (answer.status_code, answer.json()["code"]) == (503, "identity-provider-unavailable")

    asked = provider.asked
    assert await status(app, provider.token()) == 503  # answered at once: nobody is asked again so soon
    assert provider.asked == asked


async def test_known_keys_serve_while_the_provider_is_away(app: FastAPI, provider: Provider) -> None:
    assert await status(app, provider.token()) == 200
    provider.fails = True
    tokens = app.state.door.gate.tokens
    tokens.read_at -= timedelta(hours=7)
    tokens.asked_at -= timedelta(hours=7)
    for _ in range(3):
        assert await status(app, provider.token()) == 200
    assert provider.asked == 2
    tokens.read_at -= timedelta(hours=24)
    assert await status(app, provider.token()) == 503


async def test_tokens_with_made_up_keys_do_not_make_us_ask_the_provider_each_time(
    app: FastAPI, provider: Provider
) -> None:
    answers = await asyncio.gather(*(status(app, provider.token(f"{n}", signer="other")) for n in range(8)))
    assert answers == [401] * 8
    assert provider.asked == 1


async def test_keys_are_taken_from_the_configured_host_alone(app: FastAPI, provider: Provider) -> None:
    provider.keys_at = provider.url.replace("127.0.0.1", "localhost") + "/keys"
    assert await status(app, provider.token()) == 503


async def test_clocks_may_differ_by_a_few_minutes(app: FastAPI, provider: Provider) -> None:
    now = datetime.now(UTC)
    assert await status(app, provider.token(exp=now - timedelta(minutes=4))) == 200
    assert await status(app, provider.token(nbf=now + timedelta(minutes=4))) == 200
    assert await status(app, provider.token(exp=now - timedelta(minutes=6))) == 401


async def test_roles_that_make_no_sense_allow_nothing(app: FastAPI, provider: Provider) -> None:
    for roles in ("admin", [{"admin": 1}], [["admin"]], {"admin": True}, [None]):
        assert await status(app, provider.token(roles=roles)) == 403


async def test_two_people_with_one_application_are_two_callers(app: FastAPI, provider: Provider) -> None:
    """What one was answered is not given to the other, whatever Idempotency-Key they send."""
    found = []
    for person in ("anna", "bert"):
        async with client_of(app, provider.token(roles=["admin"], oid=person)) as client:
            made = await client.post(
                "/api/v1/api-keys",
                json={"name": "mine", "scopes": ["read"]},
                headers={"Idempotency-Key": "the same"},
            )
            found.append(made.json()["key"])
    assert found[0] != found[1]


async def test_a_token_without_a_role_opens_no_operation(app: FastAPI, provider: Provider) -> None:
    async with client_of(app, provider.token(roles=["Unknown"])) as client:
        for path, item in app.openapi()["paths"].items():
            for method in item if path.startswith("/api/") else ():
                answer = await client.request(method, path.replace("{", "").replace("}", ""))
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
