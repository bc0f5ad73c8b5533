"""Connections whose user CRM refuses: their jobs wait until it lets us in again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "breakers_0001"
down_revision = "callers_0001"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "crm_breaker",
        sa.Column("company_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("first_failed_at", TIMESTAMP, nullable=True),
        sa.Column("opened_at", TIMESTAMP, nullable=True),
        sa.Column("reason", postgresql.JSONB(), nullable=True),
        sa.Column("probes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("probe_at", TIMESTAMP, nullable=True),
        sa.PrimaryKeyConstraint("company_id", name="crm_breaker_pkey"),
        sa.ForeignKeyConstraint(
            ["company_id"],
            ["crm_connection.company_id"],
            name="crm_breaker_company_id_fkey",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("crm_breaker")
