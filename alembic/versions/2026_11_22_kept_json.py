"""What is only kept is a text of JSON, and a coupling is written back beside itself."""

from alembic import op

revision = "kept_json_0001"
down_revision = "coupling_key_0001"
branch_labels = None
depends_on = None

KEPT = {"coupling": ("base", "intent"), "synch_outcome": ("error", "extra", "changes")}
IDS = ["company_id", "nav_table", "crm_id"]


def upgrade() -> None:
    # Before the rows are written anew: these leave the room, and no key is built that goes.
    _filled_to(40)
    op.drop_constraint("coupling_company_id_nav_table_crm_id_key", "coupling", type_="unique")
    op.drop_index("coupling_crm_id_idx", table_name="coupling")
    _keep_as("json")
    op.create_unique_constraint(
        "coupling_company_id_crm_id_nav_table_key", "coupling", ["company_id", "crm_id", "nav_table"]
    )
    _failed("last_error is not null and not skipped")


def downgrade() -> None:
    _filled_to(70)
    _failed("last_synch_result = 'failure' and not skipped")
    op.create_index("coupling_crm_id_idx", "coupling", ["company_id", "crm_id"])
    op.drop_constraint("coupling_company_id_crm_id_nav_table_key", "coupling", type_="unique")
    op.create_unique_constraint("coupling_company_id_nav_table_crm_id_key", "coupling", IDS)
    _keep_as("jsonb")


def _keep_as(kind: str) -> None:
    for table, columns in KEPT.items():
        changes = ", ".join(f"ALTER COLUMN {name} TYPE {kind} USING {name}::{kind}" for name in columns)
        op.execute(f"ALTER TABLE {table} {changes}")


def _failed(which: str) -> None:
    op.drop_index("coupling_failed_idx", table_name="coupling")
    op.execute(f"CREATE INDEX coupling_failed_idx ON coupling (company_id, mapping) WHERE {which}")


def _filled_to(percent: int) -> None:
    op.execute(f"ALTER TABLE coupling SET (fillfactor = {percent})")
