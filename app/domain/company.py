"""A company: a NAV company and the tenant of everything below it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class Generation(StrEnum):
    """Which generation of NAV the defaults follow."""

    NAV2017 = "nav2017"
    NAV2018 = "nav2018"
    BC = "bc"


class NavKind(StrEnum):
    """Where the NAV records of a company live."""

    EMBEDDED = "embedded"
    NAV_ODATA = "nav_odata"
    BUSINESS_CENTRAL = "business_central"


@dataclass(frozen=True, slots=True)
class Company:
    """A NAV company. `name` is the word in our URLs, `tracking` says whether the CRM connection is
    enabled, which is when NAV gives new records their integration id (nav-behaviour 2.1);
    `user_mapping_required`, whether callers must be users of CRM (3.7). `settings` changes whenever the setup of its
    connection or one of its mappings does; None: not asked for."""

    id: int
    name: str
    display_name: str
    nav: Mapping[str, Any] = field(default_factory=lambda: {"kind": NavKind.EMBEDDED})
    nav_web_client_url: str | None = None
    defaults_generation: Generation = Generation.NAV2018
    local_currency: str = "GBP"
    tracking: bool = False
    user_mapping_required: bool = False
    revision: int = 0
    settings: str | None = field(default=None, compare=False)


class ConnectionStatus(StrEnum):
    """What the last contact with CRM showed."""

    CONNECTED = "connected"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How we log in to CRM. Secrets are here in the clear: never log or show this value.

    `certificate` and `private_key` are PEM texts.
    """

    type: str  # "client_secret" | "client_certificate"
    tenant_id: str
    client_id: str
    authority: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    private_key: str | None = field(default=None, repr=False)
    private_key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionSetup:
    """The connection of one company to CRM."""

    server_url: str
    credentials: Credentials
    api_version: str = "v9.2"
    is_enabled: bool = False
    app_id: UUID | None = None  # the model-driven app that links open
    crm_version: str | None = None
    organization_id: UUID | None = None
    user_id: UUID | None = None
    user_is_integration_user: bool | None = None
    user_is_administrator: bool | None = None
    integration_solution_installed: bool | None = None
    sales_order_integration_enabled: bool | None = None
    user_mapping_required: bool = False  # callers must be CRM users, by e-mail
    ignore_changes_by_user: bool = False  # NAV's rule about changes that the user of the connection makes
    base_currency: str | None = None
    status: ConnectionStatus = ConnectionStatus.DISABLED
    disabled_reason: str | None = None
    last_error: str | None = None  # why the last contact failed
    last_checked_at: datetime | None = None
    revision: int = 0
