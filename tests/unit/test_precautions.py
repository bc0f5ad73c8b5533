"""What the service refuses to start with, and what it says it should better not be left as it is."""

import secrets
from typing import Any

import pytest

from app.precautions import UnsafeSettings, doubts, require_safe
from app.settings import Settings

RANDOM_KEY = f"nck_{secrets.token_urlsafe(32)}"
PROVIDER = "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration"


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bootstrap_api_key": "admin"}, "NAVCRM_BOOTSTRAP_API_KEY must be nck_"),
        ({"bootstrap_api_key": secrets.token_urlsafe(48)}, "NAVCRM_BOOTSTRAP_API_KEY must be nck_"),
        ({"bootstrap_api_key": "nck_" + "a" * 40}, "is an example"),
        ({"bootstrap_api_key": "nck_change-me-0123456789-0123456789-0123456789"}, "is an example"),
        ({"public_url": "http://navcrm.example.com"}, "NAVCRM_PUBLIC_URL must begin with https://"),
        ({"public_url": "navcrm.example.com"}, "NAVCRM_PUBLIC_URL must be an address"),
        ({"public_url": "https://u:hunter2@navcrm.example.com"}, "user name or a password"),
        (
            {"entra_openid_config_url": PROVIDER.replace("https", "http"), "entra_audience": "a"},
            "NAVCRM_ENTRA_OPENID_CONFIG_URL must begin with https://",
        ),
        ({"entra_openid_config_url": PROVIDER}, "NAVCRM_ENTRA_AUDIENCE is not"),
        ({"entra_audience": "api://navcrm"}, "NAVCRM_ENTRA_OPENID_CONFIG_URL is not"),
        ({"cors_origins": "*"}, "NAVCRM_CORS_ORIGINS names origins"),
        ({"cors_origins": "null"}, "NAVCRM_CORS_ORIGINS names origins"),
        ({"cors_origins": "https://portal.example.com/"}, "NAVCRM_CORS_ORIGINS names origins"),
        ({"cors_origins": "https://*.example.com"}, "NAVCRM_CORS_ORIGINS names origins"),
        ({"cors_origins": "http://portal.example.com"}, "must begin with https://"),
        ({"trusted_proxies": "*"}, "NAVCRM_TRUSTED_PROXIES names addresses"),
        ({"trusted_proxies": "0.0.0.0/0"}, "must not name every address"),
        (
            {"allowed_outbound_hosts": "https://contoso.crm.dynamics.com"},
            "NAVCRM_ALLOWED_OUTBOUND_HOSTS names",
        ),
    ],
)
def test_a_setting_that_leaves_a_door_open_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UnsafeSettings) as refusal:
        require_safe(settings(**given))
    assert told in str(refusal.value)
    for value in given.values():
        assert "nck_" not in value or value not in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UnsafeSettings) as refusal:
        require_safe(
            settings(bootstrap_api_key="admin", public_url="http://navcrm.example.com", cors_origins="*")
        )
    for name in ("NAVCRM_BOOTSTRAP_API_KEY", "NAVCRM_PUBLIC_URL", "NAVCRM_CORS_ORIGINS"):
        assert name in str(refusal.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"bootstrap_api_key": RANDOM_KEY, "public_url": "https://navcrm.example.com/sync"},
        {
            "public_url": "http://localhost:8000",
            "cors_origins": "http://localhost:3000,https://portal.example.com:8443",
        },
        {"entra_openid_config_url": PROVIDER, "entra_audience": "api://navcrm"},
        {"trusted_proxies": "10.0.0.7, 10.1.0.0/16, fd00::/8"},
        {"allowed_outbound_hosts": "*.crm4.dynamics.com,login.microsoftonline.com,localhost"},
    ],
)
def test_what_is_safe_is_accepted(given: dict[str, Any]) -> None:
    require_safe(settings(**given))


def test_a_service_on_a_laptop_has_little_to_doubt() -> None:
    assert [doubt.split()[0] for doubt in doubts(settings())] == ["NAVCRM_ALLOWED_OUTBOUND_HOSTS"]


def test_what_others_can_reach_is_told_what_is_missing() -> None:
    told = " ".join(
        doubts(
            settings(
                host="0.0.0.0",
                bootstrap_api_key=RANDOM_KEY,
                database_url="postgresql://navcrm:hunter2@db.example.com/navcrm",
            )
        )
    )
    for part in ("0.0.0.0 and speaks http", "NAVCRM_BOOTSTRAP_API_KEY", "sslmode=verify-full"):
        assert part in told
    assert "hunter2" not in told
    assert RANDOM_KEY not in told


def test_a_service_behind_its_proxy_has_nothing_to_doubt() -> None:
    found = settings(
        host="0.0.0.0",
        public_url="https://navcrm.example.com",
        trusted_proxies="10.0.0.7",
        allowed_outbound_hosts="*.crm4.dynamics.com,login.microsoftonline.com",
        database_url="postgresql://navcrm:hunter2@db.example.com/navcrm?sslmode=verify-full",
    )
    assert doubts(found) == []
