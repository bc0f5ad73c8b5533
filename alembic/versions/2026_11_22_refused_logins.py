"""Refused keys and tokens, counted by address for all processes together."""

import sqlalchemy as sa
from alembic import op

revision = "refused_logins_0001"
down_revision = "retention_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "refused_login",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("address", name="refused_login_pkey"),
        prefixes=["UNLOGGED"],
    )
    op.create_index("refused_login_minute_idx", "refused_login", ["minute"])


def downgrade() -> None:
    op.drop_table("refused_login")
