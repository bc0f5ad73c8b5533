"""Our memory as PostgreSQL tables.

Everything below a company carries its id. Uniqueness and references are promised here, by the
database; a broken promise comes back as a domain error from the repositories.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
    types,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

TIMESTAMP = DateTime(timezone=True)
JSON = JSONB(none_as_null=True)  # None is nothing here, never the word null
TEXT_OF_JSON = types.JSON(none_as_null=True)
"""JSON that the database only keeps: as a text it is written in half the time, and read without being put together."""


def _company(*, primary_key: bool = False) -> Column[int]:
    return Column(
        "company_id",
        Integer,
        ForeignKey("company.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
        autoincrement=False,
    )


company = Table(
    "company",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("nav", JSON, nullable=False),
    Column("nav_secrets", LargeBinary),  # encrypted JSON: the secrets of a NAV connector
    Column("nav_web_client_url", Text),
    Column("defaults_generation", Text, nullable=False),
    Column("local_currency", Text, nullable=False),
    Column("failed_since", TIMESTAMP),  # when the count of failed synch jobs was last reset
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
)

crm_connection = Table(
    "crm_connection",
    metadata,
    _company(primary_key=True),
    Column("server_url", Text, nullable=False),
    Column("api_version", Text, nullable=False),
    Column("authentication", JSON, nullable=False),  # everything but the secrets
    Column("secrets", LargeBinary, nullable=False),  # encrypted JSON
    Column("is_enabled", Boolean, nullable=False, server_default="false"),
    Column("app_id", Uuid),
    Column("crm_version", Text),
    Column("organization_id", Uuid),
    Column("user_id", Uuid),
    Column("integration_solution_installed", Boolean),
    Column("base_currency", Text),
    Column("status", Text, nullable=False),
    Column("disabled_reason", Text),
    Column("last_error", Text),  # why the last contact failed
    Column("last_checked_at", TIMESTAMP),
    Column("watched_at", TIMESTAMP),  # when a worker last began to look for changes
    Column("user_is_integration_user", Boolean),
    Column("user_is_administrator", Boolean),
    Column("sales_order_integration_enabled", Boolean),
    Column("user_mapping_required", Boolean, nullable=False, server_default="false"),
    Column("ignore_changes_by_user", Boolean, nullable=False, server_default="false"),
    Column("posts_watermark", Text),  # up to where posted sales orders were told to CRM
    Column("revision", Integer, nullable=False, server_default="0"),
)

crm_breaker = Table(
    "crm_breaker",
    metadata,
    # Refusals of our user by CRM; a row whose opened_at is set keeps the jobs of its company waiting.
    Column(
        "company_id",
        Integer,
        ForeignKey("crm_connection.company_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("first_failed_at", TIMESTAMP),
    Column("opened_at", TIMESTAMP),
    Column("reason", JSON),  # what CRM said last: code, message, fix
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("probe_at", TIMESTAMP),
)

integration_table_mapping = Table(
    "integration_table_mapping",
    metadata,
    _company(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("nav_table", Text, nullable=False),
    Column("crm_entity", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("nav_filter", Text),
    Column("crm_filter", Text),
    Column("synch_only_coupled_records", Boolean, nullable=False),
    Column("update_conflict_resolution", Text, nullable=False),
    Column("deletion_conflict_resolution", Text, nullable=False),
    Column("depends_on", ARRAY(Text), nullable=False, server_default="{}"),
    Column("nav_template", Text),
    Column("crm_template", Text),
    Column("is_default", Boolean, nullable=False, server_default="false"),
    Column("option_attribute", Text),
    Column("position", Integer, nullable=False, server_default="0"),
    Column("nav_watermark", Text),
    Column("crm_watermark", Text),
    Column("nav_synched_until", TIMESTAMP),
    Column("crm_synched_until", TIMESTAMP),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("edition", Integer, nullable=False, server_default="0"),
)

integration_field_mapping = Table(
    "integration_field_mapping",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("company_id", Integer, nullable=False),
    Column("mapping", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("nav_field", Text),
    Column("crm_attribute", Text),
    Column("direction", Text, nullable=False),
    Column("constant_value", Text),
    Column("transformation", Text),
    Column("clear_value_on_failed_synch", Boolean, nullable=False),
    Column("not_null", Boolean, nullable=False),
    Column("validate", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    ForeignKeyConstraint(
        ["company_id", "mapping"],
        ["integration_table_mapping.company_id", "integration_table_mapping.name"],
        ondelete="CASCADE",
        onupdate="CASCADE",
    ),
    CheckConstraint("nav_field is not null or crm_attribute is not null", name="names_a_field"),
    Index(None, "company_id", "mapping"),
)

option_mapping = Table(
    "option_mapping",
    metadata,
    _company(primary_key=True),
    Column("nav_table", Text, primary_key=True),
    Column("crm_attribute", Text, primary_key=True),
    Column("nav_key", Text, primary_key=True),
    Column("option_value", Integer, nullable=False),
)

coupling = Table(
    "coupling",
    metadata,
    _company(primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("mapping", Text, nullable=False),  # no reference: couplings survive every reset of mappings
    Column("nav_table", Text, nullable=False),
    Column("nav_id", Uuid, nullable=False),
    Column("nav_key", Text, nullable=False),  # as last seen; the NAV side knows the present one
    Column("crm_entity", Text, nullable=False),
    Column("crm_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("base", TEXT_OF_JSON),
    Column("edition", Integer, nullable=False, server_default="0"),  # of the mapping, when it was agreed on
    Column("nav_version", Text),
    Column("crm_version", Text),
    Column("last_synch_at", TIMESTAMP),
    Column("last_synch_action", Text),
    Column("last_synch_result", Text),
    Column("last_error", JSON),
    Column("last_job_id", Uuid),
    Column("skipped", Boolean, nullable=False, server_default="false"),
    Column("intent", TEXT_OF_JSON),  # what was sent and not yet answered
    Column("replacing", Boolean, nullable=False, server_default="false"),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    # One NAV record, one CRM row; a CRM row may stand for records of two NAV tables (nav-behaviour 1.3).
    UniqueConstraint("company_id", "nav_table", "nav_id"),
    UniqueConstraint("company_id", "crm_id", "nav_table"),
    Index("coupling_nav_key_idx", "company_id", "nav_table", "nav_key"),
    Index("coupling_mapping_idx", "company_id", "mapping", "id"),
    Index("coupling_skipped_idx", "company_id", "mapping", postgresql_where=text("skipped")),
    Index("coupling_replacing_idx", "company_id", "mapping", postgresql_where=text("replacing")),
    Index(
        "coupling_failed_idx",
        "company_id",
        "mapping",
        postgresql_where=text("last_error is not null and not skipped"),
    ),
    # A coupling is written back after every change of its records, and where it was reserved first. Where there is
    # room beside it and no index is about what changed, that costs a third of writing it elsewhere.
    postgresql_with={"fillfactor": "70"},
)

waiting_record = Table(
    "waiting_record",
    metadata,
    _company(primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("side", Text, primary_key=True),
    Column("record_id", Uuid, primary_key=True),
    Column("needs_table", Text, nullable=False),
    Column("needs_key", Text),
    Column("needs_crm_id", Uuid),
    Column("despite_id", Uuid),  # a coupling that did not help; it may be gone
    ForeignKeyConstraint(
        ["company_id", "mapping"],
        ["integration_table_mapping.company_id", "integration_table_mapping.name"],
        ondelete="CASCADE",
        onupdate="CASCADE",
    ),
    CheckConstraint("(needs_key is null) <> (needs_crm_id is null)", name="needs_one"),
)

synch_job = Table(
    "synch_job",
    metadata,
    Column("id", Uuid, primary_key=True),
    _company(),
    Column("kind", Text, nullable=False),
    Column("mapping", Text),
    Column("mode", Text, nullable=False),
    Column("direction", Text),
    Column("status", Text, nullable=False),
    Column("counts", JSON, nullable=False, server_default="{}"),  # by one-way direction
    Column("expected", BigInteger),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("maximum_attempts", Integer, nullable=False, server_default="1"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("parent_id", Uuid, ForeignKey("synch_job.id", ondelete="CASCADE"), index=True),
    Column("entry_id", Uuid),
    Column("request", JSON, nullable=False, server_default="{}"),
    Column("message", Text),
    Column("error", JSON),  # why the job as a whole failed
    Column("worker_id", Uuid),  # who claimed it last
    Column("cancel_requested", Boolean, nullable=False, server_default="false"),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("started_at", TIMESTAMP),
    Column("finished_at", TIMESTAMP),
    Column("heartbeat_at", TIMESTAMP),
    Column("not_before", TIMESTAMP),
    # Two runs of one mapping never overlap, on however many workers.
    Index(
        "synch_job_one_running_idx",
        "company_id",
        "mapping",
        unique=True,
        postgresql_where=text("status = 'running' and mapping is not null"),
    ),
    Index("synch_job_heartbeat_idx", "heartbeat_at", postgresql_where=text("status = 'running'")),
    Index("synch_job_finished_idx", "finished_at", postgresql_where=text("finished_at is not null")),
    Index("synch_job_newest_idx", "company_id", text("created_at desc"), text("id desc")),
    Index("synch_job_waiting_idx", "company_id", "mapping", postgresql_where=text("status = 'queued'")),
)

synch_outcome = Table(
    "synch_outcome",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _company(),
    Column("job_id", Uuid),  # missing for what a person did to one record
    Column("at", TIMESTAMP, nullable=False),
    Column("mapping", Text),
    Column("coupling_id", Uuid),
    Column("nav_table", Text),
    Column("nav_key", Text),
    Column("nav_id", Uuid),
    Column("crm_entity", Text),
    Column("crm_id", Uuid),
    Column("direction", Text),
    Column("action", Text, nullable=False),
    Column("reason", Text),
    Column("message", Text),
    Column("error_code", Text),
    Column("error", TEXT_OF_JSON),
    Column("extra", TEXT_OF_JSON),
    Column("changes", TEXT_OF_JSON),  # {side, old: {field: value}, new}: the history of a coupling
    Index("synch_outcome_job_idx", "job_id", "id"),
    Index("synch_outcome_error_idx", "company_id", "id", postgresql_where=text("error_code is not null")),
    Index("synch_outcome_history_idx", "coupling_id", "id", postgresql_where=text("changes is not null")),
    # The oldest first, those that are forgotten sooner apart from those that are kept longer.
    Index("synch_outcome_log_at_idx", "at", postgresql_where=text("changes is null")),
    Index("synch_outcome_history_at_idx", "at", postgresql_where=text("changes is not null")),
)

job_queue_entry = Table(
    "job_queue_entry",
    metadata,
    Column("id", Uuid, primary_key=True),
    _company(),
    Column("description", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("mapping", Text),
    Column("minutes_between_runs", Integer, nullable=False),
    Column("inactivity_timeout_minutes", Integer),
    Column("status", Text, nullable=False),
    Column("earliest_start_at", TIMESTAMP),
    Column("last_run_at", TIMESTAMP),
    Column("last_job_id", Uuid),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("maximum_attempts", Integer, nullable=False),
    Column("rerun_delay_seconds", Integer, nullable=False),
    Column("error_message", Text),
    Column("is_default", Boolean, nullable=False, server_default="false"),
    Column("revision", Integer, nullable=False, server_default="0"),
    Index("job_queue_entry_company_idx", "company_id"),
    Index(
        "job_queue_entry_due_idx",
        "earliest_start_at",
        postgresql_where=text("status in ('ready', 'on_hold_inactivity')"),
    ),
)

worker = Table(
    "worker",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("seen_at", TIMESTAMP, nullable=False, server_default=func.now()),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),  # SHA-256 of a random token
    Column("prefix", Text, nullable=False),  # its first characters, to recognize it by
    Column("scopes", ARRAY(Text), nullable=False),
    Column("companies", ARRAY(Text)),  # missing: every company
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Column("expires_at", TIMESTAMP),
    Column("revoked_at", TIMESTAMP),
    Column("last_used_at", TIMESTAMP),
    Column("email", Text),  # by which CRM knows who uses the key
)

refused_login = Table(
    "refused_login",
    metadata,
    Column("address", Text, primary_key=True),
    Column("minute", TIMESTAMP, nullable=False),
    Column("count", Integer, nullable=False),
    Index("refused_login_minute_idx", "minute"),
    prefixes=["UNLOGGED"],  # a server that crashed may forget them
)

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # of method, path and body
    Column("status", Integer),  # missing while the first request is still at work
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    Index("idempotency_key_created_idx", "created_at"),
)

crm_share = Table(
    "crm_share",
    metadata,
    # Processes that talk to an organization: they share the requests it takes at a time.
    Column("process_id", Uuid, primary_key=True),
    Column("organization", Text, primary_key=True),
    Column("expires_at", TIMESTAMP, nullable=False),
    Index("crm_share_organization_idx", "organization"),
)
