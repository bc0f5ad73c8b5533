"""What the settings must not say, told before anything is opened; and what they may say, but better would not."""

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from sqlalchemy.exc import ArgumentError

from app.db.engine import async_url
from app.domain.connection import is_loopback
from app.settings import Settings, SettingsRefused
from app.use_cases.api_keys import MARK

SHORTEST_KEY = 32
FEWEST_CHARACTERS = 10
"""Different ones in a bootstrap key: a random one of 32 characters has more."""
PLACEHOLDERS = re.compile(
    r"change.?me|example|placeholder|replace|your.?key|secret|password|\.\.\.|…|<", re.I
)
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


class UnsafeSettings(SettingsRefused):
    """The settings would leave a door open, or lack a half of what they begin."""


def require_safe(settings: Settings) -> None:
    """Raises UnsafeSettings, which names every setting that cannot stay as it is and never its value."""
    if problems := list(_problems(settings)):
        raise UnsafeSettings(" ".join(problems))


def doubts(settings: Settings) -> list[str]:
    """What a service that others can reach should not leave as it is, one sentence for each."""
    return list(_doubts(settings))


def _problems(settings: Settings) -> Iterator[str]:
    if settings.bootstrap_api_key is not None:
        yield from _bootstrap_key(settings.bootstrap_api_key)
    if settings.public_url is not None:
        yield from _address("NAVCRM_PUBLIC_URL", settings.public_url)
    yield from _entra(settings)
    for origin in settings.cors_origins:
        yield from _origin(origin)
    for proxy in settings.trusted_proxies:
        yield from _proxy(proxy)
    for host in settings.allowed_outbound_hosts:
        if not re.fullmatch(r"(\*\.)?[\w.:-]+", host) or "://" in host:
            yield f"NAVCRM_ALLOWED_OUTBOUND_HOSTS names hosts such as *.crm4.dynamics.com; {host!r} is none."


def _bootstrap_key(secret: SecretStr) -> Iterator[str]:
    key = secret.get_secret_value()
    if not key.startswith(MARK) or len(key) < len(MARK) + SHORTEST_KEY:
        yield (
            f"NAVCRM_BOOTSTRAP_API_KEY must be {MARK} and at least {SHORTEST_KEY} random characters: "
            f"echo {MARK}$(head -c 32 /dev/urandom | base64 | tr -d +/=)"
        )
    elif PLACEHOLDERS.search(key) or len(set(key.removeprefix(MARK))) < FEWEST_CHARACTERS:
        yield "NAVCRM_BOOTSTRAP_API_KEY is an example, not a random key: everybody could guess it."


def _address(name: str, url: str) -> Iterator[str]:
    given = _split(url)
    if given is None or given.scheme not in ("http", "https") or not given.hostname:
        yield f"{name} must be an address that begins with https://."
    elif given.username is not None or given.password is not None:
        yield f"{name} must not hold a user name or a password."
    elif given.scheme == "http" and not is_loopback(given.hostname):
        yield f"{name} must begin with https://: keys would pass the network in the clear. http is for this machine."


def _split(url: str) -> SplitResult | None:
    try:
        given = urlsplit(url)
        _ = given.port  # refuses ports that are none
    except ValueError:
        return None
    return given


def _entra(settings: Settings) -> Iterator[str]:
    url, audience = settings.entra_openid_config_url, settings.entra_audience
    if url is not None:
        yield from _address("NAVCRM_ENTRA_OPENID_CONFIG_URL", url)
    if (url is None) != (audience is None):
        given, missing = "NAVCRM_ENTRA_OPENID_CONFIG_URL", "NAVCRM_ENTRA_AUDIENCE"
        if url is None:
            given, missing = missing, given
        yield f"{given} is set but {missing} is not: tokens of Entra ID are accepted only with both."


def _origin(origin: str) -> Iterator[str]:
    given = _split(origin)
    well_formed = given is not None and given.hostname and origin == f"{given.scheme}://{given.netloc}"
    if not well_formed or given is None or given.scheme not in ("http", "https") or "*" in origin:
        yield f"NAVCRM_CORS_ORIGINS names origins such as https://portal.example.com; {origin!r} is none."
    elif given.scheme == "http" and not is_loopback(given.hostname or ""):
        yield f"NAVCRM_CORS_ORIGINS: {origin} must begin with https://; http is for this machine."


def _proxy(proxy: str) -> Iterator[str]:
    try:
        network = ipaddress.ip_network(proxy, strict=False)
    except ValueError:
        yield f"NAVCRM_TRUSTED_PROXIES names addresses or networks such as 10.0.0.0/24; {proxy!r} is none."
        return
    if not network.prefixlen:
        yield "NAVCRM_TRUSTED_PROXIES must not name every address: callers could say they are anybody."


def _doubts(settings: Settings) -> Iterator[str]:
    proxied = settings.trusted_proxies or (settings.public_url or "").startswith("https://")
    if not is_loopback(settings.host) and not proxied:
        yield (
            f"The service listens on {settings.host} and speaks http. Put a proxy with TLS before it, and name it in "
            "NAVCRM_TRUSTED_PROXIES and NAVCRM_PUBLIC_URL."
        )
    if settings.bootstrap_api_key is not None:
        yield "NAVCRM_BOOTSTRAP_API_KEY opens everything. Take it out once there are other keys."
    if not settings.allowed_outbound_hosts:
        yield "NAVCRM_ALLOWED_OUTBOUND_HOSTS is not set: whoever holds an admin key may name any host as CRM."
    if _is_plain(settings.database_url):
        yield (
            "NAVCRM_DATABASE_URL leads to another machine and does not insist on TLS. Add ?sslmode=verify-full, or "
            "require, unless the network between is yours alone."
        )


def _is_plain(address: SecretStr | None) -> bool:
    """Whether the database is on another machine and may be spoken to without TLS."""
    if address is None:
        return False
    try:
        url = async_url(address.get_secret_value())
    except (ArgumentError, ValueError):
        return False  # whoever connects says what is wrong with it
    mode = str(url.query.get("sslmode") or url.query.get("ssl") or "prefer")
    return bool(url.host) and not is_loopback(str(url.host)) and mode not in ENCRYPTED
