"""How the connection to CRM looks over HTTP. Secrets go in and never come out."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from app.api.breaker_models import BreakerOut, breaker_out
from app.api.models import Flag, Input
from app.api.previews import Previewable
from app.domain.breaker import CLOSED, Breaker
from app.domain.company import Company, ConnectionSetup, ConnectionStatus
from app.ports import ConnectionReport
from app.use_cases.resync import Resync

Secret = Annotated[str | None, Field(repr=False, json_schema_extra={"writeOnly": True})]
KEPT = (
    "Left out: as it was, while type, tenant, client and authority stay. When one of them changes the stored secret is "
    "dropped, so that it never goes to another login; `has_secret` says so."
)
MAPPED = "Callers must be users of CRM: one with their e-mail address, that of the API key or of the token."
IGNORED = (
    "NAV's rule: what the user of this connection changes in CRM is never got. By default only our own writes are no "
    "change, by their content."
)
CRM_EXAMPLE = "https://cronus.crm4.dynamics.com"
TENANT = "11111111-2222-4333-8444-555555555555"


class _Login(Input):
    tenant_id: str = Field(description="The Entra ID tenant: its GUID or a domain of it.", examples=[TENANT])
    client_id: str = Field(description="The application (client) id of the application user.")
    authority: str | None = Field(default=None, description="Another login server than the one of CRM.")


class ClientSecretIn(_Login):
    """Log in with a client secret."""

    type: Literal["client_secret"]
    client_secret: Secret = Field(default=None, description=KEPT)


class ClientCertificateIn(_Login):
    """Log in with a certificate."""

    type: Literal["client_certificate"]
    certificate: Secret = Field(default=None, description=f"PEM. {KEPT}")
    private_key: Secret = Field(default=None, description=f"PEM. {KEPT}")
    private_key_password: Secret = Field(default=None, description=KEPT)


class AuthenticationPatch(Input):
    """What is to change about the login."""

    type: Literal["client_secret", "client_certificate"] | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    authority: str | None = None
    client_secret: Secret = Field(default=None, description=KEPT)
    certificate: Secret = Field(default=None, description=f"PEM. {KEPT}")
    private_key: Secret = Field(default=None, description=f"PEM. {KEPT}")
    private_key_password: Secret = Field(default=None, description=KEPT)


class _Writable(Previewable):
    def changes(self) -> dict[str, Any]:
        """What the body names, besides `is_enabled`."""
        return self.model_dump(exclude_unset=True, exclude={"is_enabled"})


class ConnectionIn(_Writable):
    """The whole setup."""

    server_url: str = Field(
        description="https; http for this machine alone.", examples=[CRM_EXAMPLE], max_length=2000
    )
    api_version: str = Field(default="v9.2", description="Of the Dataverse Web API, v8.0 to v9.2.")
    authentication: Annotated[ClientSecretIn | ClientCertificateIn, Field(discriminator="type")]
    app_id: UUID | None = Field(default=None, description="The model-driven app that links open.")
    nav_web_client_url: str | None = Field(
        default=None, description="The NAV client that links open; kept with the company."
    )
    user_mapping_required: Flag = Field(default=False, description=MAPPED)
    ignore_changes_by_user: Flag = Field(default=False, description=IGNORED)
    is_enabled: Literal[False] | None = Field(
        default=None, description="Saving never enables: PATCH `is_enabled: true` does."
    )


class ConnectionPatch(_Writable):
    """What is to change."""

    server_url: str = Field(default="", examples=[CRM_EXAMPLE], max_length=2000)
    api_version: str = "v9.2"
    authentication: AuthenticationPatch = Field(default_factory=AuthenticationPatch)
    app_id: UUID | None = None
    nav_web_client_url: str | None = None
    user_mapping_required: Flag = Field(default=False, description=MAPPED)
    ignore_changes_by_user: Flag = Field(default=False, description=IGNORED)
    sales_order_integration_enabled: Flag | None = Field(
        default=None,
        description="Switches it in CRM itself, which takes the privilege to change the organization. Not off while "
        "submitted sales orders wait.",
    )
    is_enabled: Flag | None = Field(default=None, description="true tests the connection and enables it.")
    disabled_reason: str | None = Field(
        default=None,
        max_length=250,
        description="With `is_enabled: false`: why. Jobs that wait, and refusals of what needs CRM, pass it on.",
    )
    resync: Resync = Field(
        default=Resync.CHANGED,
        description="With `is_enabled: true`: which records count as changed then. `changed`: those that were changed "
        "while the connection was off; `none`: none of them; `all`: every record, as NAV marks them.",
    )

    def changes(self) -> dict[str, Any]:
        """What the body names of the setup itself."""
        others = {"is_enabled", "disabled_reason", "resync", "sales_order_integration_enabled"}
        return self.model_dump(exclude_unset=True, exclude=others)

    @model_validator(mode="after")
    def _disables_for_a_reason(self) -> Self:
        if self.disabled_reason is not None and self.is_enabled is not False:
            raise ValueError("A reason is given with is_enabled false.")
        return self


class AuthenticationOut(BaseModel):
    """How we log in, without the secrets."""

    type: Literal["client_secret", "client_certificate"]
    tenant_id: str
    client_id: str
    authority: str | None
    has_secret: bool = Field(description="Whether the secret or the private key is stored.")


class ConnectionOut(BaseModel):
    """The connection and what the last contact with CRM showed."""

    server_url: str
    api_version: str
    authentication: AuthenticationOut
    app_id: UUID | None
    is_enabled: bool
    crm_version: str | None
    organization_id: UUID | None
    user_id: UUID | None = Field(description="The CRM user that we work as.")
    user_is_integration_user: bool | None = Field(
        description="An application or integration user, no person's."
    )
    user_is_administrator: bool | None = Field(description="It may do more than the integration needs.")
    integration_solution_installed: bool | None
    sales_order_integration_enabled: bool | None = Field(description="The switch of the CRM organization.")
    user_mapping_required: bool
    ignore_changes_by_user: bool
    base_currency: str | None
    status: ConnectionStatus
    disabled_reason: str | None = Field(description="Why somebody disabled it, if that was said.")
    last_error: str | None = Field(description="Why the last contact with CRM failed.")
    last_checked_at: datetime | None
    breaker: BreakerOut
    nav_web_client_url: str | None


class EnabledConnectionOut(ConnectionOut):
    """The connection after a change; what is still to be done after it was enabled."""

    default_setup_needed: bool = Field(default=False, description="There are no mappings yet.")
    records_without_integration_id: int | None = Field(
        default=None, description="Records of the mapped tables without one; null: NAV could not be asked."
    )
    records_without_integration_id_by_table: dict[str, int] | None = None
    next_steps: list[str] = Field(
        default_factory=list, description="The calls that do what is still to be done."
    )


class TestStepOut(BaseModel):
    """One step of a connection test."""

    name: str
    ok: bool
    detail: str
    fix: str | None
    ms: int


class ConnectionTestOut(BaseModel):
    """What a connection test found out."""

    ok: bool
    steps: list[TestStepOut]
    user_id: UUID | None
    organization_id: UUID | None
    crm_version: str | None
    base_currency: str | None
    integration_solution_installed: bool | None
    user_is_integration_user: bool | None
    user_is_administrator: bool | None
    sales_order_integration_enabled: bool | None


class DefaultSetupIn(Input):
    """How the default setup is applied."""

    replace_existing: Flag = Field(default=False, description="The confirmation that what is there may go.")
    mappings: list[str] | None = Field(default=None, min_length=1, description="Only these default mappings.")
    preview: Flag = Field(default=False, description="Say what would be made, and make nothing.")


class RemovedOut(BaseModel):
    """What the setup replaced."""

    integration_table_mappings: int
    integration_field_mappings: int
    job_queue_entries: int


class DefaultSetupOut(BaseModel):
    """What the default setup made, or would make."""

    integration_table_mappings: int
    integration_field_mappings: int
    job_queue_entries: int
    integration_ids_generated: dict[str, int] = Field(description="By NAV table.")
    removed: RemovedOut
    mappings: list[str]
    left_out: list[str] = Field(description="Default mappings whose table or entity one side does not have.")
    disabled_rows: list[str] = Field(
        description="Field rows whose field one side does not have: switched off."
    )
    option_records_created: dict[str, list[str]] | None = Field(
        description="NAV records made for options of CRM, by table."
    )
    preview: bool


def connection_out(company: Company, setup: ConnectionSetup, breaker: Breaker = CLOSED) -> dict[str, Any]:
    """A connection for `ConnectionOut`. One whose breaker is open has failed, whatever CRM still answers."""
    stopped = breaker.reason if breaker.is_open and setup.is_enabled else None
    login = setup.credentials
    return {
        "server_url": setup.server_url,
        "api_version": setup.api_version,
        "authentication": {
            "type": login.type,
            "tenant_id": login.tenant_id,
            "client_id": login.client_id,
            "authority": login.authority,
            "has_secret": bool(login.client_secret or login.private_key),
        },
        "app_id": setup.app_id,
        "is_enabled": setup.is_enabled,
        "crm_version": setup.crm_version,
        "organization_id": setup.organization_id,
        "user_id": setup.user_id,
        "user_is_integration_user": setup.user_is_integration_user,
        "user_is_administrator": setup.user_is_administrator,
        "integration_solution_installed": setup.integration_solution_installed,
        "sales_order_integration_enabled": setup.sales_order_integration_enabled,
        "user_mapping_required": setup.user_mapping_required,
        "ignore_changes_by_user": setup.ignore_changes_by_user,
        "base_currency": setup.base_currency,
        "status": setup.status if stopped is None else ConnectionStatus.FAILED,
        "disabled_reason": setup.disabled_reason,
        "last_error": setup.last_error if stopped is None else stopped.message,
        "breaker": breaker_out(breaker),
        "last_checked_at": setup.last_checked_at,
        "nav_web_client_url": company.nav_web_client_url,
    }


def report_out(report: ConnectionReport) -> dict[str, Any]:
    """A test report for `ConnectionTestOut`."""
    return asdict(report) | {"ok": report.ok}
