"""Connections: opened once, tried step by step, closed."""

import datetime as dt
import ssl
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from app.crm.connector import Connector
from app.domain.company import ConnectionSetup
from app.domain.errors import CrmUnavailable, InvalidServerUrl
from app.ports import ConnectionReport
from app.sandbox import DEFAULT_SECRET, Fault, Organization, create_sandbox
from app.sandbox.server import self_signed
from app.solution import build
from tests.crm_sandbox import QUICK, Wire, served, setup_for

pytestmark = pytest.mark.anyio


async def tried(
    setup: ConnectionSetup | None = None, local_currency: str | None = "GBP", **options: Any
) -> ConnectionReport:
    """The report on a sandbox with these options."""
    sandbox = create_sandbox(**options)
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    try:
        return await connector.test(setup or setup_for(), local_currency)
    finally:
        await connector.aclose()


def failed(report: ConnectionReport) -> tuple[str, str, str]:
    """The name, the detail and the fix of the last step, which must be the one that failed."""
    *before, last = report.steps
    assert all(step.ok for step in before)
    assert not last.ok
    assert last.fix
    return last.name, last.detail, last.fix


async def test_a_good_connection_says_who_we_are_and_what_is_there() -> None:
    report = await tried()
    assert report.ok, [step for step in report.steps if not step.ok]
    assert report.user_id is not None
    assert report.organization_id is not None
    assert report.crm_version == "9.2.24073.198"
    assert report.base_currency == "GBP"
    assert report.integration_solution_installed is True
    assert [step.name for step in report.steps] == [
        "address",
        "login",
        "user",
        "roles",
        "version",
        "tables",
        "read",
        "organization",
        "change_tracking",
        "solution",
    ]


async def test_a_wrong_secret_fails_at_the_login_and_is_not_shown() -> None:
    name, detail, _ = failed(await tried(setup_for(client_secret="wr0ng")))
    assert name == "login"
    assert "AADSTS7000215" in detail
    assert "wr0ng" not in detail
    assert DEFAULT_SECRET not in detail


async def test_an_application_without_user_fails_with_the_way_to_add_one() -> None:
    fault = Fault(r"GET .*/WhoAmI", "403", code="0x80072560", message="The user is not a member.")
    name, _, fix = failed(await tried(faults=[fault]))
    assert name == "user"
    assert "application user" in fix


async def test_a_user_without_role_fails_at_the_first_real_read() -> None:
    sandbox = create_sandbox()
    organization: Organization = sandbox.state.organization
    organization.revoke("prvReadAccount")
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    name, detail, fix = failed(await connector.test(setup_for(), "GBP"))
    assert name == "read"
    assert "account" in detail
    assert "security role" in fix


async def test_an_address_that_is_not_there_fails_first() -> None:
    connector = Connector(patience=QUICK)
    name, detail, _ = failed(await connector.test(setup_for("http://127.0.0.1:1"), "GBP"))
    assert (name, "127.0.0.1" in detail) == ("address", True)


async def test_another_base_currency_will_do_if_there_is_a_rate() -> None:
    sandbox = create_sandbox(base_currency="EUR")
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    report = await connector.test(setup_for(), "GBP")
    [step] = [step for step in report.steps if not step.ok]
    assert step.name == "organization"
    assert "exchange rate for GBP" in step.detail
    organization: Organization = sandbox.state.organization
    organization._insert(
        "transactioncurrency",
        "6a1c2b30-0000-4000-8000-000000000001",
        isocurrencycode="GBP",
        currencyname="Pound",
        exchangerate=Decimal("0.85"),
        statecode=0,
    )
    assert (await connector.test(setup_for(), "GBP")).ok


async def test_without_solution_or_change_tracking_it_works_and_says_what_is_missing() -> None:
    report = await tried(solution_installed=False, tracked=("contact",))
    assert report.ok
    assert report.integration_solution_installed is False
    steps = {step.name: step for step in report.steps}
    assert "account" in steps["change_tracking"].detail
    assert steps["change_tracking"].fix
    assert steps["solution"].fix


async def test_our_solution_is_found_as_well_as_microsofts() -> None:
    ours = await tried(solution_installed=False, solutions=[build("1.0")])
    for report, table in ((ours, "navcrm_accountstatistics"), (await tried(), "nav_accountstatistics")):
        assert report.integration_solution_installed is True
        step = next(step for step in report.steps if step.name == "solution")
        assert (step.ok, table in step.detail) == (True, True)


async def test_what_is_no_crm_is_told_apart() -> None:
    sandbox = create_sandbox(faults=[Fault(r"GET .*/WhoAmI", "not_json")])
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    assert failed(await connector.test(setup_for(), "GBP"))[0] == "user"


async def test_a_company_has_one_client_until_its_setup_changes() -> None:
    sandbox = create_sandbox()
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    store = connector.open(1, setup_for())
    assert connector.open(1, setup_for()) is store
    await store.definition("account")
    changed = ConnectionSetup(setup_for().server_url, setup_for().credentials, revision=1)
    other = connector.open(1, changed)
    assert other is not store
    assert other.client.lanes is store.client.lanes  # one user, one organization, one set of limits
    assert connector.open(2, changed).client.lanes is store.client.lanes
    await connector.forget(1)
    with pytest.raises(CrmUnavailable):
        await other.definition("contact")
    await connector.aclose()


async def test_hosts_that_are_not_allowed_are_not_called() -> None:
    connector = Connector(allowed_hosts=("*.dynamics.com", "login.microsoftonline.com"))
    with pytest.raises(InvalidServerUrl, match=r"127\.0\.0\.1"):
        connector.open(1, setup_for())
    connector.open(1, setup_for("https://contoso.crm4.dynamics.com", authority=None))
    await connector.aclose()


async def test_a_certificate_authority_of_ones_own_is_trusted_when_given(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    async with served(create_sandbox(), certificate, key) as url:
        trusting = Connector(tls=ssl.create_default_context(cafile=str(certificate)), patience=QUICK)
        assert (await trusting.test(setup_for(url), "GBP")).ok
        strict = Connector(patience=QUICK)
        name, detail, _ = failed(await strict.test(setup_for(url), "GBP"))
        assert name == "address"
        assert "certificate" in detail.lower()


async def test_a_certificate_logs_in_and_another_does_not() -> None:
    key, certificate = rsa_certificate()
    sandbox = create_sandbox(certificates=[certificate.encode()])
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    kind = "client_certificate"
    setup = setup_for(type=kind, client_secret=None, certificate=certificate, private_key=key)
    assert (await connector.test(setup, "GBP")).ok
    key, certificate = rsa_certificate()
    setup = setup_for(type=kind, client_secret=None, certificate=certificate, private_key=key)
    report = await connector.test(setup, "GBP")
    assert failed(report)[0] == "login"


def rsa_certificate() -> tuple[str, str]:
    """A private key and its certificate, both PEM."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "navcrm")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    signed = builder.sign(key, hashes.SHA256())
    return pem.decode(), signed.public_bytes(serialization.Encoding.PEM).decode()


async def test_tokens_that_expire_are_renewed_on_the_way() -> None:
    now = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    sandbox = create_sandbox(token_lifetime=60, clock=lambda: now)
    connector = Connector(transport=lambda: Wire(sandbox), patience=QUICK)
    store = connector.open(1, setup_for())
    await store.definition("account")
    now += dt.timedelta(hours=2)
    await store.definition("contact")
    statuses = [each.status for each in sandbox.state.organization.log if each.path.startswith("/api")]
    assert statuses.count(httpx.codes.UNAUTHORIZED) <= 1
    await connector.aclose()
