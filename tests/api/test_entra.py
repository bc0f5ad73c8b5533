"""Callers known by Entra ID, with an identity provider on this machine."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.main import create_app
from app.settings import Settings
from tests.api.conftest import ADMIN_KEY, FERNET_KEY, client_of
from tests.crm_sandbox import served

pytestmark = pytest.mark.anyio
AUDIENCE = "api://navcrm"
KEYS = {
    name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("old", "new", "other")
}


class Provider:
    """An identity provider: what it publishes, and the tokens it gives."""

    def __init__(self) -> None:
        self.published = ["old"]
        self.url = ""
        self.asked = 0

    async def config(self, request: Request) -> JSONResponse:
        self.asked += 1
        return JSONResponse({"issuer": f"{self.url}/v2.0", "jwks_uri": f"{self.url}/keys"})

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
        secret = "x" * 64 if algorithm == "HS256" else KEYS[signer or key]
        return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": key})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    app = Starlette(routes=[Route("/config", found.config), Route("/keys", found.keys)])
    async with served(app) as url:
        found.url = url
        yield found


@pytest.fixture
async def app(database: str, provider: Provider) -> AsyncIterator[FastAPI]:
    """The application, with that provider."""
    settings = Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        entra_openid_config_url=f"{provider.url}/config",
        entra_audience=AUDIENCE,
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


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
        provider.token(algorithm="HS256"),
        provider.token(azp=None),
        "a.b.c",
    ):
        assert await status(app, token) == 401


async def test_keys_are_read_once_and_again_when_they_change(app: FastAPI, provider: Provider) -> None:
    for _ in range(3):
        assert await status(app, provider.token()) == 200
    assert provider.asked == 1
    provider.published = ["old", "new"]
    assert await status(app, provider.token("new")) == 401  # looked up just now; not for every unknown key
    assert provider.asked == 1
    app.state.door.gate.tokens.read_at -= timedelta(minutes=6)
    assert await status(app, provider.token("new")) == 200
    assert provider.asked == 2


async def test_a_provider_that_does_not_answer_is_no_fault_of_the_caller(
    app: FastAPI, provider: Provider
) -> None:
    app.state.door.gate.tokens.config_url = "http://127.0.0.1:9/config"
    async with client_of(app, provider.token()) as client:
        answer = await client.get("/api/v1/companies")
    assert (answer.status_code, answer.json()["code"]) == (503, "identity-provider-unavailable")
