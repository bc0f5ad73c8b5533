"""Who may call: tokens, certificates, users, impersonation (sections 2 and 22)."""

import base64
import datetime as dt
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.sandbox.conftest import ORG, Clock, Connect, Crm, code

pytestmark = pytest.mark.anyio


def form(crm: Crm, **changes: str) -> dict[str, str]:
    settings = crm.organization.settings
    return {
        "grant_type": "client_credentials",
        "client_id": settings.client_id,
        "client_secret": settings.client_secret,
        "scope": f"{ORG}/.default",
    } | changes


async def token(crm: Crm, endpoint: str = "tenant/oauth2/v2.0/token", **changes: str) -> Any:
    data = {name: value for name, value in form(crm, **changes).items() if value}
    return await crm.http.post(f"{ORG}/{endpoint}", data=data)


async def test_a_call_without_token_names_the_authority(crm: Crm) -> None:
    answer = await crm.get("WhoAmI", Authorization="Bearer")
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer authorization_uri=")
    assert f"resource_id={ORG}/" in challenge


async def test_an_expired_token_is_refused(crm: Crm, clock: Clock) -> None:
    assert (await crm.get("WhoAmI")).status_code == 200
    clock.advance(seconds=3600)
    assert (await crm.get("WhoAmI")).status_code == 401


@pytest.mark.parametrize(
    "endpoint, changes",
    [
        ("tenant/oauth2/v2.0/token", {}),
        ("tenant/oauth2/token", {"scope": "", "resource": f"{ORG}/"}),
        ("adfs/oauth2/token", {"scope": "", "resource": ORG}),
    ],
)
async def test_each_token_endpoint_gives_a_token_that_works(
    crm: Crm, endpoint: str, changes: dict[str, str]
) -> None:
    content = (await token(crm, endpoint, **changes)).json()
    assert content["token_type"] == "Bearer"
    assert content["expires_in"] == 3599
    answer = await crm.get("WhoAmI", Authorization=f"Bearer {content['access_token']}")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "changes, status, error",
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "0a1b2c3d-0000-4000-8000-00000000ffff"}, 400, "unauthorized_client"),
        ({"scope": ORG}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_token_request_is_refused(
    crm: Crm, changes: dict[str, str], status: int, error: str
) -> None:
    answer = await token(crm, **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_a_token_for_another_organization_is_refused(crm: Crm) -> None:
    content = (await token(crm, scope="https://fabrikam.crm4.dynamics.com/.default")).json()
    answer = await crm.get("WhoAmI", Authorization=f"Bearer {content['access_token']}")
    assert answer.status_code == 401


def certificate() -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "navcrm")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    return key, builder.not_valid_after(dt.datetime(2027, 1, 1, tzinfo=dt.UTC)).sign(key, hashes.SHA256())


@pytest.mark.parametrize("algorithm, header", [("PS256", "x5t#S256"), ("RS256", "x5t")])
async def test_a_certificate_replaces_the_secret(
    connect: Connect, clock: Clock, algorithm: str, header: str
) -> None:
    key, cert = certificate()
    crm: Crm = await connect(certificates=[cert.public_bytes(serialization.Encoding.PEM)])
    digest = cert.fingerprint(hashes.SHA256() if header.endswith("256") else hashes.SHA1())
    thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    client_id = crm.organization.settings.client_id
    endpoint = f"{ORG}/tenant/oauth2/v2.0/token"

    async def ask(audience: str, signing_key: rsa.RSAPrivateKey) -> Any:
        claims = {
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "exp": int(clock().timestamp()) + 300,
        }
        assertion = jwt.encode(claims, signing_key, algorithm, headers={header: thumbprint})
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        return await token(crm, client_secret="", client_assertion=assertion, client_assertion_type=kind)

    assert (await ask(endpoint, key)).status_code == 200
    assert (await ask("https://elsewhere.example", key)).status_code == 401
    assert (await ask(endpoint, certificate()[0])).status_code == 401


async def test_an_application_without_user_is_no_member(crm: Crm) -> None:
    user = crm.organization.rows("systemuser")[crm.organization.user]
    crm.organization.storage.put("systemuser", crm.organization.user, user | {"applicationid": "other"})
    answer = await crm.get("WhoAmI")
    assert (answer.status_code, code(answer)) == (403, "0x80072560")


async def test_a_disabled_user_is_stopped(crm: Crm) -> None:
    await crm.patch(f"systemusers({crm.organization.user})", {"isdisabled": True})
    answer = await crm.get("accounts")
    assert (answer.status_code, code(answer)) == (403, "0x80040225")


async def test_a_missing_privilege_is_named_but_who_am_i_goes_on(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    crm.organization.revoke("prvWriteAccount")
    answer = await crm.patch(f"accounts({account})", {"name": "x"})
    assert (answer.status_code, code(answer)) == (403, "0x80040220")
    assert "prvWriteAccount" in answer.json()["error"]["message"]
    assert (await crm.get("WhoAmI")).status_code == 200
    crm.organization.grant("prvWriteAccount")
    assert (await crm.patch(f"accounts({account})", {"name": "x"})).status_code == 204


async def test_an_impersonated_user_writes_in_its_own_name(crm: Crm) -> None:
    user = await crm.create("systemusers", firstname="Peter", lastname="Saddow", domainname="peter@x.example")
    answer = await crm.post("accounts", {"name": "Cannon"}, MSCRMCallerID=user)
    row = crm.organization.rows("account")[answer.headers["OData-EntityId"][-37:-1]]
    assert (row["createdby"], row["createdonbehalfby"]) == (user, crm.organization.user)
    both = await crm.get("WhoAmI", MSCRMCallerID=user, CallerObjectId=user)
    assert both.status_code == 400
    crm.organization.revoke("prvActOnBehalfOfAnotherUser")
    assert (await crm.get("WhoAmI", MSCRMCallerID=user)).status_code == 403
