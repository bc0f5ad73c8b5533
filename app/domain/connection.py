"""The connection setup: which addresses it takes, and what enabling it takes.

Source of the rules: nav-behaviour 3.1 to 3.5 and the CRM connection part of the REST contract.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from app.domain.company import ConnectionSetup, Credentials
from app.domain.errors import ConnectionDisabled, FieldProblem, Invalid, InvalidServerUrl

DEFAULT_API_VERSION = "v9.2"
_API_VERSION = re.compile(r"v(8\.[0-2]|9\.[0-2])")
_TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
CREDENTIAL_TYPES = ("client_secret", "client_certificate")


def checked_server_url(url: str, pointer: str = "/server_url") -> str:
    """The address of CRM: scheme, host and port, without a slash at the end.

    Only https is taken, and http for hosts on this machine.

    Raises:
        InvalidServerUrl: its `errors` hold the repaired address as suggestion, where there is one.
    """
    text = url.strip()
    if not text:
        raise _refused(pointer, "Say the address of CRM, such as https://contoso.crm4.dynamics.com.", None)
    given = _split(text if "://" in text else f"https://{text}")
    if given is None or not given.hostname:
        shown = "The address" if "@" in text else f"'{text}'"  # before an @ there may be a password
        raise _refused(pointer, f"{shown} is not a valid URL.", None)
    repaired = _repaired(given)
    problem = _problem(text, given)
    if problem:
        raise _refused(pointer, problem, repaired)
    return repaired


def _split(text: str) -> SplitResult | None:
    if re.search(r"[\s\\\x00-\x1f]", text):
        return None
    try:
        given = urlsplit(text)
        port = given.port  # refuses ports that are none
        host = given.hostname or ""
    except ValueError:
        return None
    if port == 0 or not re.fullmatch(r"[^/?#@%<>\"'`|^{}]+", host):
        return None
    return given


def _repaired(given: SplitResult) -> str:
    host = given.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    port = f":{given.port}" if given.port is not None else ""
    scheme = "http" if given.scheme == "http" and is_loopback(host) else "https"
    return f"{scheme}://{shown}{port}"


def _problem(text: str, given: SplitResult) -> str | None:
    if "://" not in text:
        return f"'{text}' has no scheme: the address begins with https://."
    if given.scheme not in ("http", "https"):
        return f"The scheme {given.scheme} cannot be used: the address begins with https://."
    if given.scheme == "http" and not is_loopback(given.hostname or ""):
        return "The address must begin with https://; http is accepted for this machine only."
    if given.username is not None or given.password is not None:
        return "The address must not hold a user name or a password."
    if given.path not in ("", "/") or given.query or given.fragment:
        return "The address must end with the host: what follows it has to go."
    return None


def _refused(pointer: str, message: str, suggestion: str | None) -> InvalidServerUrl:
    return InvalidServerUrl(
        message,
        fix=f"Use {suggestion} instead." if suggestion else None,
        errors=[FieldProblem(pointer, message, suggestion)],
    )


def is_loopback(host: str) -> bool:
    """Whether the name or address stands for this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def checked_authority(url: str | None) -> str | None:
    """The address of the login server, by the same rule; none: the one that belongs to CRM."""
    return None if url is None else checked_server_url(url, "/authentication/authority")


def checked_tenant(tenant: str) -> str:
    """The Entra ID tenant: a GUID, or a domain of it. It becomes a part of the login address. Raises Invalid."""
    text = tenant.strip()
    if text and not _TENANT.fullmatch(text):
        message = f"'{tenant}' is neither the GUID of a tenant nor one of its domains."
        raise Invalid(message, errors=[FieldProblem("/authentication/tenant_id", message)])
    return text


def checked_api_version(version: str) -> str:
    """A version of the Dataverse Web API, v8.0 to v9.2. Raises Invalid."""
    text = version.strip().lower()
    if not _API_VERSION.fullmatch(text):
        problem = FieldProblem(
            "/api_version", f"'{version}' is not a version from v8.0 to v9.2.", DEFAULT_API_VERSION
        )
        raise Invalid("The version of the Web API is not one we know.", errors=[problem])
    return text


def missing_credentials(credentials: Credentials) -> tuple[FieldProblem, ...]:
    """What is still needed to log in."""
    needed = ["tenant_id", "client_id"]
    if credentials.type == "client_secret":
        needed.append("client_secret")
    elif credentials.type == "client_certificate":
        needed += ["certificate", "private_key"]
    else:
        known = " or ".join(CREDENTIAL_TYPES)
        message = f"'{credentials.type}' is no way to log in: it is {known}."
        return (FieldProblem("/authentication/type", message, CREDENTIAL_TYPES[0]),)
    return tuple(
        FieldProblem(f"/authentication/{name}", "This is needed to log in to CRM.")
        for name in needed
        if not getattr(credentials, name)
    )


def require_credentials(connection: ConnectionSetup) -> None:
    """Raises Invalid unless the setup says everything that a login takes."""
    if missing := missing_credentials(connection.credentials):
        raise Invalid(
            "The connection cannot be enabled: the credentials are not complete.",
            fix="PATCH …/crm-connection with the missing values.",
            errors=missing,
        )


def require_enabled(connection: ConnectionSetup | None) -> ConnectionSetup:
    """The connection, if operations may use it. Raises ConnectionDisabled."""
    if connection is None:
        raise ConnectionDisabled(
            "The company has no connection to CRM.",
            fix="PUT …/crm-connection saves one; PATCH …/crm-connection with is_enabled true enables it.",
        )
    if not connection.is_enabled:
        reason = f": {connection.disabled_reason}" if connection.disabled_reason else "."
        raise ConnectionDisabled(
            f"The connection to CRM is not enabled{reason}",
            fix="PATCH …/crm-connection with is_enabled true enables it.",
        )
    return connection
