"""What is old is found where it lies, oldest first; up to where deletions of NAV records may be forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "retention_0001"
down_revision = "breakers_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("synch_outcome_at_idx", table_name="synch_outcome")
    for name, which in (("log", "changes is null"), ("history", "changes is not null")):
        op.create_index(
            f"synch_outcome_{name}_at_idx", "synch_outcome", ["at"], postgresql_where=sa.text(which)
        )
    op.create_index("nav_tombstone_deleted_at_idx", "nav_tombstone", ["company_id", "deleted_at"])
    op.create_table(
        "nav_horizon",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("nav_table", sa.Text(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("company_id", "nav_table", name="nav_horizon_pkey"),
    )


def downgrade() -> None:
    op.drop_table("nav_horizon")
    op.drop_index("nav_tombstone_deleted_at_idx", table_name="nav_tombstone")
    for name in ("log", "history"):
        op.drop_index(f"synch_outcome_{name}_at_idx", table_name="synch_outcome")
    op.create_index("synch_outcome_at_idx", "synch_outcome", ["at"], postgresql_using="brin")
