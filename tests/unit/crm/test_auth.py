"""Tokens: got once, renewed early, renewed once after a 401."""

import asyncio
import base64
import datetime as dt
import json
from collections.abc import Callable
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from app.crm.auth import EntraAuth
from app.domain.company import Credentials
from app.domain.errors import CrmUnavailable, LoginRefused, Throttled

pytestmark = pytest.mark.anyio

CRM = "https://contoso.crm4.dynamics.com"
SECRET = Credentials("client_secret", "tenant", "client", client_secret="s3cret")


class Entra:
    """A login service and the CRM that trusts it, in one function."""

    def __init__(self) -> None:
        self.tokens = 0
        self.forms: list[dict[str, list[str]]] = []
        self.urls: list[str] = []
        self.valid = ""
        self.refusal: httpx.Response | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            await asyncio.sleep(0.01)
            self.urls.append(str(request.url))
            self.forms.append(parse_qs(request.content.decode()))
            self.tokens += 1
            if self.refusal is not None:
                return self.refusal
            self.valid = f"token-{self.tokens}"
            return httpx.Response(200, json={"access_token": self.valid, "expires_in": 3599})
        ok = request.headers["Authorization"] == f"Bearer {self.valid}"
        return httpx.Response(200 if ok else 401, json={})


def client(
    entra: Entra, credentials: Credentials = SECRET, clock: Callable[[], float] = lambda: 0.0
) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.MockTransport(entra), auth=EntraAuth(credentials, CRM, clock), base_url=CRM
    )


async def test_many_requests_share_one_login() -> None:
    entra = Entra()
    async with client(entra) as http:
        answers = await asyncio.gather(*(http.get("/x") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert entra.tokens == 1
    assert entra.urls == ["https://login.microsoftonline.com/tenant/oauth2/v2.0/token"]
    assert entra.forms[0]["scope"] == [f"{CRM}/.default"]


async def test_a_token_is_renewed_five_minutes_early() -> None:
    entra, now = Entra(), 0.0
    async with client(entra, clock=lambda: now) as http:
        await http.get("/x")
        now = 3598 - 300
        await http.get("/x")
        assert entra.tokens == 1
        now = 3599 - 300
        await http.get("/x")
    assert entra.tokens == 2


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    entra = Entra()
    async with client(entra) as http:
        await http.get("/x")
        entra.valid = "another"
        answers = await asyncio.gather(*(http.get("/x") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        assert entra.tokens == 2


async def test_a_401_that_stays_is_handed_on() -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "x"})
        return httpx.Response(401)

    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), auth=EntraAuth(SECRET, CRM)) as http:
        assert (await http.get(f"{CRM}/x")).status_code == 401


async def test_a_refusal_says_what_entra_said_and_no_secret() -> None:
    entra = Entra()
    text = "AADSTS7000215: Invalid client secret provided: s3cret.\r\nTrace ID: 1 Correlation ID: 2"
    entra.refusal = httpx.Response(401, json={"error": "invalid_client", "error_description": text})
    async with client(entra) as http:
        for _ in range(3):
            with pytest.raises(LoginRefused, match="AADSTS7000215: Invalid client secret") as refused:
                await http.get("/x")
            assert "s3cret" not in refused.value.detail
            assert "Trace ID" not in refused.value.detail
    assert entra.tokens == 1  # whoever asks right after shares the refusal


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(503, text="<html>"), CrmUnavailable),
        (httpx.Response(200, text="<html>"), CrmUnavailable),
        (httpx.Response(200, text="[" * 200_000), CrmUnavailable),
        (httpx.Response(429, headers={"Retry-After": "7"}), Throttled),
        (httpx.Response(400, text="no json"), LoginRefused),
    ],
)
async def test_other_answers_of_the_login_service(answer: httpx.Response, kind: type[Exception]) -> None:
    entra = Entra()
    entra.refusal = answer
    async with client(entra) as http:
        with pytest.raises(kind):
            await http.get("/x")


def certificate(password: bytes | None) -> tuple[Credentials, rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "navcrm")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    credentials = Credentials(
        "client_certificate",
        "tenant",
        "client",
        authority="https://login.example/",
        certificate=made.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=pem.decode(),
        private_key_password=password.decode() if password else None,
    )
    return credentials, key, made


@pytest.mark.parametrize("password", [None, b"opens it"])
async def test_a_certificate_signs_an_assertion(password: bytes | None) -> None:
    credentials, key, made = certificate(password)
    entra = Entra()
    async with client(entra, credentials) as http:
        assert (await http.get("/x")).status_code == 200
    assert entra.urls == ["https://login.example/tenant/oauth2/v2.0/token"]
    form = entra.forms[0]
    assert "client_secret" not in form
    [assertion] = form["client_assertion"]
    claims = jwt.decode(assertion, key.public_key(), algorithms=["PS256"], audience=entra.urls[0])
    assert claims["iss"] == claims["sub"] == "client"
    header = jwt.get_unverified_header(assertion)
    thumbprint = base64.urlsafe_b64encode(made.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    assert (header["alg"], header["x5t#S256"]) == ("PS256", thumbprint)


async def test_an_assertion_that_comes_back_is_not_told() -> None:
    """Whoever has it can log in with it for some minutes."""
    sent: list[str] = []

    async def repeats(request: httpx.Request) -> httpx.Response:
        sent.extend(parse_qs(request.content.decode())["client_assertion"])
        return httpx.Response(400, json={"error_description": f"Not read: {request.content.decode()}"})

    credentials, _, _ = certificate(None)
    async with httpx.AsyncClient(transport=httpx.MockTransport(repeats)) as http:
        with pytest.raises(LoginRefused) as refused:
            await http.get(CRM, auth=EntraAuth(credentials, CRM))
    assert len(sent) == 1
    assert "Not read: client_id=client" in refused.value.detail
    assert sent[0] not in refused.value.detail


async def test_a_key_that_cannot_be_read_is_no_secret_spilled() -> None:
    credentials = Credentials(
        "client_certificate", "tenant", "client", certificate="nonsense", private_key="-----s3cret-----"
    )
    async with client(Entra(), credentials) as http:
        with pytest.raises(LoginRefused) as refused:
            await http.get("/x")
    assert "s3cret" not in json.dumps([refused.value.detail, str(refused.value.extra)])
