"""Our memory, and the tables of the job queue.

Revision ID: memory_0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from sqlalchemy.dialects import postgresql

revision = "memory_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of app.db.tables and those of pgqueuer."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("companies", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("api_key_pkey")),
        sa.UniqueConstraint("hash", name=op.f("api_key_hash_key")),
    )
    op.create_table(
        "company",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("nav", postgresql.JSONB(), nullable=False),
        sa.Column("nav_secrets", sa.LargeBinary(), nullable=True),
        sa.Column("nav_web_client_url", sa.Text(), nullable=True),
        sa.Column("defaults_generation", sa.Text(), nullable=False),
        sa.Column("local_currency", sa.Text(), nullable=False),
        sa.Column("failed_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("company_pkey")),
        sa.UniqueConstraint("name", name=op.f("company_name_key")),
    )
    op.create_table(
        "crm_share",
        sa.Column("process_id", sa.Uuid(), nullable=False),
        sa.Column("organization", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("process_id", "organization", name=op.f("crm_share_pkey")),
    )
    op.create_index("crm_share_organization_idx", "crm_share", ["organization"], unique=False)
    op.create_table(
        "idempotency_key",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", postgresql.JSONB(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("idempotency_key_pkey")),
    )
    op.create_index("idempotency_key_created_idx", "idempotency_key", ["created_at"], unique=False)
    op.create_table(
        "worker",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("worker_pkey")),
    )
    op.create_table(
        "coupling",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("mapping", sa.Text(), nullable=False),
        sa.Column("nav_table", sa.Text(), nullable=False),
        sa.Column("nav_id", sa.Uuid(), nullable=False),
        sa.Column("nav_key", sa.Text(), nullable=False),
        sa.Column("crm_entity", sa.Text(), nullable=False),
        sa.Column("crm_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("base", postgresql.JSONB(), nullable=True),
        sa.Column("nav_version", sa.Text(), nullable=True),
        sa.Column("crm_version", sa.Text(), nullable=True),
        sa.Column("last_synch_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_synch_action", sa.Text(), nullable=True),
        sa.Column("last_synch_result", sa.Text(), nullable=True),
        sa.Column("last_error", postgresql.JSONB(), nullable=True),
        sa.Column("last_job_id", sa.Uuid(), nullable=True),
        sa.Column("skipped", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("coupling_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("coupling_pkey")),
        sa.UniqueConstraint(
            "company_id", "nav_table", "crm_id", name=op.f("coupling_company_id_nav_table_crm_id_key")
        ),
        sa.UniqueConstraint(
            "company_id", "nav_table", "nav_id", name=op.f("coupling_company_id_nav_table_nav_id_key")
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("coupling_crm_id_idx", "coupling", ["company_id", "crm_id"], unique=False)
    op.create_index(
        "coupling_failed_idx",
        "coupling",
        ["company_id", "mapping"],
        unique=False,
        postgresql_where=sa.text("last_synch_result = 'failure' and not skipped"),
    )
    op.create_index("coupling_nav_key_idx", "coupling", ["company_id", "nav_table", "nav_key"], unique=False)
    op.create_index("coupling_mapping_idx", "coupling", ["company_id", "mapping", "id"], unique=False)
    op.create_index(
        "coupling_skipped_idx",
        "coupling",
        ["company_id", "mapping"],
        unique=False,
        postgresql_where=sa.text("skipped"),
    )
    op.create_table(
        "crm_connection",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("server_url", sa.Text(), nullable=False),
        sa.Column("api_version", sa.Text(), nullable=False),
        sa.Column("authentication", postgresql.JSONB(), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("app_id", sa.Uuid(), nullable=True),
        sa.Column("crm_version", sa.Text(), nullable=True),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("integration_solution_installed", sa.Boolean(), nullable=True),
        sa.Column("base_currency", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("last_checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("crm_connection_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("company_id", name=op.f("crm_connection_pkey")),
    )
    op.create_table(
        "integration_table_mapping",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("nav_table", sa.Text(), nullable=False),
        sa.Column("crm_entity", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("nav_filter", sa.Text(), nullable=True),
        sa.Column("crm_filter", sa.Text(), nullable=True),
        sa.Column("synch_only_coupled_records", sa.Boolean(), nullable=False),
        sa.Column("update_conflict_resolution", sa.Text(), nullable=False),
        sa.Column("deletion_conflict_resolution", sa.Text(), nullable=False),
        sa.Column("depends_on", postgresql.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("nav_template", sa.Text(), nullable=True),
        sa.Column("crm_template", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("option_attribute", sa.Text(), nullable=True),
        sa.Column("position", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nav_watermark", sa.Text(), nullable=True),
        sa.Column("crm_watermark", sa.Text(), nullable=True),
        sa.Column("nav_synched_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("crm_synched_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["company.id"],
            name=op.f("integration_table_mapping_company_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("company_id", "name", name=op.f("integration_table_mapping_pkey")),
    )
    op.create_table(
        "job_queue_entry",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("minutes_between_runs", sa.Integer(), nullable=False),
        sa.Column("inactivity_timeout_minutes", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("earliest_start_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_job_id", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("maximum_attempts", sa.Integer(), nullable=False),
        sa.Column("rerun_delay_seconds", sa.Integer(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("is_default", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("job_queue_entry_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("job_queue_entry_pkey")),
    )
    op.create_index("job_queue_entry_company_idx", "job_queue_entry", ["company_id"], unique=False)
    op.create_index(
        "job_queue_entry_due_idx",
        "job_queue_entry",
        ["earliest_start_at"],
        unique=False,
        postgresql_where=sa.text("status in ('ready', 'on_hold_inactivity')"),
    )
    op.create_table(
        "option_mapping",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text(), nullable=False),
        sa.Column("crm_attribute", sa.Text(), nullable=False),
        sa.Column("nav_key", sa.Text(), nullable=False),
        sa.Column("option_value", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("option_mapping_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "company_id", "nav_table", "crm_attribute", "nav_key", name=op.f("option_mapping_pkey")
        ),
    )
    op.create_table(
        "synch_job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("maximum_attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("entry_id", sa.Uuid(), nullable=True),
        sa.Column("request", postgresql.JSONB(), server_default="{}", nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("synch_job_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["synch_job.id"], name=op.f("synch_job_parent_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("synch_job_pkey")),
    )
    op.create_index(
        "synch_job_finished_idx",
        "synch_job",
        ["finished_at"],
        unique=False,
        postgresql_where=sa.text("finished_at is not null"),
    )
    op.create_index(
        "synch_job_heartbeat_idx",
        "synch_job",
        ["heartbeat_at"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "synch_job_newest_idx",
        "synch_job",
        ["company_id", sa.literal_column("created_at desc"), sa.literal_column("id desc")],
        unique=False,
    )
    op.create_index(
        "synch_job_one_running_idx",
        "synch_job",
        ["company_id", "mapping"],
        unique=True,
        postgresql_where=sa.text("status = 'running' and mapping is not null"),
    )
    op.create_index(op.f("synch_job_parent_id_idx"), "synch_job", ["parent_id"], unique=False)
    op.create_index(
        "synch_job_waiting_idx",
        "synch_job",
        ["company_id", "mapping"],
        unique=False,
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_table(
        "synch_outcome",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("coupling_id", sa.Uuid(), nullable=True),
        sa.Column("nav_table", sa.Text(), nullable=True),
        sa.Column("nav_key", sa.Text(), nullable=True),
        sa.Column("nav_id", sa.Uuid(), nullable=True),
        sa.Column("crm_entity", sa.Text(), nullable=True),
        sa.Column("crm_id", sa.Uuid(), nullable=True),
        sa.Column("direction", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.Column("extra", postgresql.JSONB(), nullable=True),
        sa.Column("changes", postgresql.JSONB(), nullable=True),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("synch_outcome_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("synch_outcome_pkey")),
    )
    op.create_index("synch_outcome_at_idx", "synch_outcome", ["at"], unique=False, postgresql_using="brin")
    op.create_index(
        "synch_outcome_error_idx",
        "synch_outcome",
        ["company_id", "id"],
        unique=False,
        postgresql_where=sa.text("error_code is not null"),
    )
    op.create_index(
        "synch_outcome_history_idx",
        "synch_outcome",
        ["coupling_id", "id"],
        unique=False,
        postgresql_where=sa.text("changes is not null"),
    )
    op.create_index("synch_outcome_job_idx", "synch_outcome", ["job_id", "id"], unique=False)
    op.create_table(
        "integration_field_mapping",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("company_id", sa.Integer(), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("nav_field", sa.Text(), nullable=True),
        sa.Column("crm_attribute", sa.Text(), nullable=True),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("constant_value", sa.Text(), nullable=True),
        sa.Column("transformation", sa.Text(), nullable=True),
        sa.Column("clear_value_on_failed_synch", sa.Boolean(), nullable=False),
        sa.Column("not_null", sa.Boolean(), nullable=False),
        sa.Column("validate", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "nav_field is not null or crm_attribute is not null",
            name=op.f("integration_field_mapping_names_a_field_check"),
        ),
        sa.ForeignKeyConstraint(
            ["company_id", "mapping"],
            ["integration_table_mapping.company_id", "integration_table_mapping.name"],
            name=op.f("integration_field_mapping_company_id_mapping_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("integration_field_mapping_pkey")),
    )
    op.create_index(
        op.f("integration_field_mapping_company_id_mapping_idx"),
        "integration_field_mapping",
        ["company_id", "mapping"],
        unique=False,
    )
    op.create_table(
        "waiting_record",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("mapping", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Uuid(), nullable=False),
        sa.Column("needs_table", sa.Text(), nullable=False),
        sa.Column("needs_key", sa.Text(), nullable=True),
        sa.Column("needs_crm_id", sa.Uuid(), nullable=True),
        sa.Column("despite_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "(needs_key is null) <> (needs_crm_id is null)", name=op.f("waiting_record_needs_one_check")
        ),
        sa.ForeignKeyConstraint(
            ["company_id"], ["company.id"], name=op.f("waiting_record_company_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["company_id", "mapping"],
            ["integration_table_mapping.company_id", "integration_table_mapping.name"],
            name=op.f("waiting_record_company_id_mapping_fkey"),
            onupdate="CASCADE",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "company_id", "mapping", "side", "record_id", name=op.f("waiting_record_pkey")
        ),
    )
    _execute_script(QueryBuilderEnvironment().build_install_query())


def downgrade() -> None:
    """Drop them, with everything in them."""
    _execute_script(QueryBuilderEnvironment().build_uninstall_query())
    op.drop_table("waiting_record")
    op.drop_table("integration_field_mapping")
    op.drop_table("synch_outcome")
    op.drop_table("synch_job")
    op.drop_table("option_mapping")
    op.drop_table("job_queue_entry")
    op.drop_table("integration_table_mapping")
    op.drop_table("crm_connection")
    op.drop_table("coupling")
    op.drop_table("worker")
    op.drop_table("idempotency_key")
    op.drop_table("crm_share")
    op.drop_table("company")
    op.drop_table("api_key")


def _execute_script(script: str) -> None:
    """Run many statements in the migration's transaction; the driver prepares no more than one at a time."""
    connection = op.get_bind()
    connection.execute(sa.text("SELECT 1"))  # before the first statement the driver has begun no transaction
    pooled = connection.connection.dbapi_connection
    if pooled is None:
        raise RuntimeError("The connection of the migration is closed.")
    pooled.run_async(lambda driver: driver.execute(script))
