"""What the environment says, read once, at the doors. `.env.example` shows every setting."""

import os
import tempfile
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Annotated, Literal

from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SYSTEM_DATA_DIR = Path("/var/lib/navcrm")
KEY_FILE = "secret-keys"
OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NEW_KEY = "A new key: head -c 32 /dev/urandom | base64 | tr +/ -_"
FEWEST_BYTES = 16
"""Different ones among the 32 of a key; a random one never has fewer, one that somebody typed nearly always."""


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/navcrm` or `~/.local/share/navcrm`; `/var/lib/navcrm` for root.

    A home that is missing or cannot be written leaves a folder of this account under the temporary directory, which
    the next start finds again.
    """
    if os.name == "posix" and os.geteuid() == 0:
        return SYSTEM_DATA_DIR
    home = os.environ.get("HOME")
    base = os.environ.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else None)
    if base and _may_write(Path(base) / "navcrm"):
        return Path(base) / "navcrm"
    if _may_write(SYSTEM_DATA_DIR):
        return SYSTEM_DATA_DIR
    return Path(tempfile.gettempdir()) / f"navcrm-{os.getuid()}"


def _may_write(path: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, takes new entries of ours."""
    nearest = next(p for p in (path, *path.parents) if p.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


class Settings(BaseSettings):
    """Every setting is a variable NAVCRM_<NAME>; a file `.env` in the working directory is read too."""

    model_config = SettingsConfigDict(
        env_prefix="NAVCRM_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    # The database
    database_url: SecretStr | None = None
    """Address of a PostgreSQL; unset: an embedded one under `data_dir`."""
    database_pool_size: int = Field(default=20, ge=2, le=500)
    """Connections a process may hold at once."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Where the embedded PostgreSQL and the key file live."""
    pg_bin: Path | None = None
    """A folder with `postgres` and `initdb` to use instead of those that come with the installation."""

    # Secrets
    secret_keys: SecretStr | None = None
    """Fernet keys, separated by commas: the first encrypts, all decrypt. See `encryption_keys`."""
    bootstrap_api_key: SecretStr | None = None
    """An admin key accepted from the start, to create the others with."""

    # The API
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str | None = None
    """Where callers reach the service, for links to it; unset: what the request says."""
    stop_notice_seconds: float = Field(default=0.0, ge=0, le=60)
    """How long the API still takes requests after SIGTERM while /readyz says that it stops; for a load balancer."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    rate_limit_per_minute: int = Field(default=6000, ge=0)
    """Requests a minute for one key on one process; 0: no limit."""
    failed_logins_per_minute: int = Field(default=60, ge=0)
    """Bad keys and tokens a minute from one address, on all processes together; 0: no limit. Good keys still work."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks of proxies that are believed who calls (X-Forwarded-For) and how (X-Forwarded-Proto)."""
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)

    # Callers known by Entra ID
    entra_openid_config_url: str | None = None
    """The OpenID configuration whose tokens are accepted; unset: API keys only."""
    entra_audience: str | None = None
    """The application ID URI or client id that a token must be meant for."""

    # Logs
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    # What is told while it works
    otlp_endpoint: str | None = Field(default_factory=lambda: os.environ.get(OTLP_ENDPOINT) or None)
    """The OpenTelemetry collector that spans are sent to, `http://collector:4318`; unset: the one that
    OTEL_EXPORTER_OTLP_ENDPOINT names, and without that no spans."""

    # What is kept
    keep_jobs_days: int = Field(default=30, ge=1)
    """Synch jobs that ended, with the log of their records."""
    keep_history_days: int = Field(default=90, ge=1)
    """What was written to the records of a coupling; never shorter than `keep_jobs_days`."""
    keep_deletions_days: int = Field(default=30, ge=1)
    """That a NAV record was deleted. A mapping that did not run for longer reads its whole table."""

    # The way out
    crm_concurrency: int = Field(default=8, ge=1, le=52)
    """Requests at once to one CRM; Dataverse allows 52 to one user."""
    crm_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long CRM may take for one answer."""
    crm_retry_seconds: float = Field(default=0.5, gt=0)
    """How long to wait before a request that got no usable answer is sent again; the wait doubles with every try."""
    crm_probe_seconds: float = Field(default=30.0, gt=0)
    """How soon CRM is asked again whether it lets us in, after it refused us; the wait doubles, up to 15 minutes."""
    allowed_outbound_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts that connections may name, `*.crm4.dynamics.com` covering its subdomains; empty: any."""

    # The worker
    worker_concurrency: int = Field(default=4, ge=1, le=64)
    """Synch jobs that one worker runs at once."""
    worker_heartbeat_timeout_seconds: float = Field(default=30.0, ge=2)
    """After so long without a sign of life a job is given to another worker."""
    worker_retry_seconds: float = Field(default=30.0, gt=0)
    """How soon a synch job that failed is tried again; the wait doubles with every attempt. A job queue entry has its
    own."""
    worker_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which a worker answers /healthz, /readyz and /metrics; unset: none."""
    worker_poll_seconds: float = Field(default=5.0, gt=0)
    """How often a worker looks for due work that nobody announced."""
    worker_watch_seconds: float = Field(default=5.0, ge=0)
    """How often the workers look at both sides of a company for changes; 0: this worker does not. If none does,
    entries that sleep for inactivity wait for their timeout."""

    @field_validator("cors_origins", "allowed_outbound_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("data_dir", "pg_bin")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(os.path.abspath(value.expanduser()))


class SettingsRefused(RuntimeError):
    """The service does not start with these settings."""


class SecretKeysError(SettingsRefused):
    """The keys that encrypt stored secrets are missing or cannot be used."""


def encryption_keys(settings: Settings) -> tuple[str, ...]:
    """The Fernet keys, the one that encrypts first.

    Without NAVCRM_SECRET_KEYS a service with an embedded database makes one key on its first start and keeps it in
    `<data_dir>/secret-keys`, readable by its account alone. A named database may have several services, which must
    share their keys, so there a missing key raises SecretKeysError. Who loses the keys loses the stored secrets.
    """
    if settings.secret_keys is not None:
        keys = _keys_in(settings.secret_keys.get_secret_value(), "NAVCRM_SECRET_KEYS")
    elif settings.database_url is None:
        keys = _keys_in(_key_file(settings.data_dir), str(settings.data_dir / KEY_FILE))
    else:
        raise SecretKeysError(
            "NAVCRM_DATABASE_URL is set but NAVCRM_SECRET_KEYS is not. Set it to the same keys for every service on "
            f"this database. {NEW_KEY}"
        )
    return keys


def _keys_in(text: str, source: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.replace("\n", ",").split(",") if key.strip())
    if not keys:
        raise SecretKeysError(f"{source} holds no key.")
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError as error:
            raise SecretKeysError(
                f"Key {number} in {source} is not a Fernet key: {error} {NEW_KEY}"
            ) from None
        if len(set(urlsafe_b64decode(key))) < FEWEST_BYTES:
            raise SecretKeysError(f"Key {number} in {source} is an example, not a random key. {NEW_KEY}")
    return keys


def _key_file(data_dir: Path) -> str:
    """What the key file says, after making it if there is none; two starts at once end with the same key."""
    path = data_dir / KEY_FILE
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=data_dir, prefix=".secret-keys-")  # mode 0600
        with os.fdopen(handle, "w") as file:
            file.write(Fernet.generate_key().decode() + "\n")
        try:
            os.link(made, path)  # whole, and only if nobody was faster
        except FileExistsError:
            pass
        finally:
            os.unlink(made)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise SecretKeysError(f"{path} can be read by other accounts than ours: chmod 600 {path}")
    return path.read_text()
