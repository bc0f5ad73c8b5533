"""Which addresses, versions and credentials a connection setup takes."""

from dataclasses import replace

import pytest

from app.domain.company import ConnectionSetup, Credentials
from app.domain.connection import (
    checked_api_version,
    checked_authority,
    checked_server_url,
    missing_credentials,
    require_credentials,
    require_enabled,
)
from app.domain.errors import ConnectionDisabled, Invalid, InvalidServerUrl

SECRET = Credentials("client_secret", "contoso.example", "11111111", client_secret="s3cret")
CONNECTION = ConnectionSetup("https://contoso.crm4.dynamics.com", SECRET)


@pytest.mark.parametrize(
    "given, kept",
    [
        ("https://contoso.crm4.dynamics.com", "https://contoso.crm4.dynamics.com"),
        ("  https://contoso.crm4.dynamics.com/ ", "https://contoso.crm4.dynamics.com"),
        ("HTTPS://Contoso.CRM4.dynamics.com", "https://contoso.crm4.dynamics.com"),
        ("https://crm.contoso.example:5555", "https://crm.contoso.example:5555"),
        ("http://localhost:8081", "http://localhost:8081"),
        ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("http://crm.localhost", "http://crm.localhost"),
    ],
)
def test_an_address_is_kept_as_scheme_host_and_port(given: str, kept: str) -> None:
    assert checked_server_url(given) == kept


@pytest.mark.parametrize(
    "given, suggestion",
    [
        ("contoso.crm4.dynamics.com", "https://contoso.crm4.dynamics.com"),
        ("contoso.crm4.dynamics.com/main.aspx", "https://contoso.crm4.dynamics.com"),
        ("localhost:8081", "https://localhost:8081"),
        ("http://contoso.crm4.dynamics.com", "https://contoso.crm4.dynamics.com"),
        ("http://localhost.contoso.example", "https://localhost.contoso.example"),
        ("ftp://contoso.example", "https://contoso.example"),
        ("https://contoso.crm4.dynamics.com/main.aspx", "https://contoso.crm4.dynamics.com"),
        ("https://server/Organization", "https://server"),
        ("https://contoso.crm4.dynamics.com?x=1", "https://contoso.crm4.dynamics.com"),
        ("https://contoso.crm4.dynamics.com/#top", "https://contoso.crm4.dynamics.com"),
        ("https://contoso.crm4.dynamics.com:444/a/b?c", "https://contoso.crm4.dynamics.com:444"),
        ("http://localhost:8081/api/data/v9.2/", "http://localhost:8081"),
        ("https://admin:pw@contoso.example", "https://contoso.example"),
        ("https://admin@contoso.example/", "https://contoso.example"),
    ],
)
def test_an_address_that_can_be_repaired_is_refused_with_the_repaired_one(
    given: str, suggestion: str
) -> None:
    with pytest.raises(InvalidServerUrl) as refused:
        checked_server_url(given)
    [problem] = refused.value.errors
    assert (problem.pointer, problem.suggestion) == ("/server_url", suggestion)
    assert checked_server_url(suggestion) == suggestion
    assert "pw" not in refused.value.detail


@pytest.mark.parametrize(
    "given",
    [
        "",
        "   ",
        "https://",
        "https:///path",
        "https://a b",
        "https://h:99999",
        "https://h:x",
        "::",
        "https://h\\x",
    ],
)
def test_what_is_no_address_is_refused_without_a_suggestion(given: str) -> None:
    with pytest.raises(InvalidServerUrl) as refused:
        checked_server_url(given)
    assert refused.value.errors[0].suggestion is None


def test_an_authority_follows_the_rule_of_the_server_address() -> None:
    assert checked_authority(None) is None
    assert checked_authority("https://login.example/") == "https://login.example"
    with pytest.raises(InvalidServerUrl) as refused:
        checked_authority("http://login.example/tenant")
    assert refused.value.errors[0].pointer == "/authentication/authority"


@pytest.mark.parametrize("version", ["v8.0", "v8.2", "v9.0", "v9.1", "v9.2", " V9.2 "])
def test_versions_of_the_web_api_from_8_0_to_9_2_are_known(version: str) -> None:
    assert checked_api_version(version) == version.strip().lower()


@pytest.mark.parametrize("version", ["9.2", "v7.1", "v9.3", "v10.0", "", "v9.2/.."])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(Invalid):
        checked_api_version(version)


def test_enabling_takes_complete_credentials() -> None:
    require_credentials(CONNECTION)
    without = replace(CONNECTION, credentials=replace(SECRET, client_secret=None, tenant_id=""))
    with pytest.raises(Invalid) as refused:
        require_credentials(without)
    assert [problem.pointer for problem in refused.value.errors] == [
        "/authentication/tenant_id",
        "/authentication/client_secret",
    ]


def test_a_certificate_needs_its_private_key() -> None:
    certificate = Credentials("client_certificate", "t", "c", certificate="PEM")
    assert [problem.pointer for problem in missing_credentials(certificate)] == [
        "/authentication/private_key"
    ]


def test_an_unknown_way_to_log_in_is_named() -> None:
    assert missing_credentials(Credentials("password", "t", "c"))[0].pointer == "/authentication/type"


def test_operations_need_an_enabled_connection() -> None:
    enabled = replace(CONNECTION, is_enabled=True)
    assert require_enabled(enabled) is enabled
    for connection in (None, CONNECTION, replace(CONNECTION, disabled_reason="The secret expired.")):
        with pytest.raises(ConnectionDisabled) as refused:
            require_enabled(connection)
        assert refused.value.fix
    assert "The secret expired." in refused.value.detail
