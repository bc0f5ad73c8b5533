"""What was sent and may not have been answered: the intent of a coupling."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "intents_0001"
down_revision = "watching_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("coupling", sa.Column("intent", postgresql.JSONB(), nullable=True))
    op.add_column(
        "coupling", sa.Column("replacing", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.create_index(
        "coupling_replacing_idx",
        "coupling",
        ["company_id", "mapping"],
        postgresql_where=sa.text("replacing"),
    )


def downgrade() -> None:
    op.drop_index("coupling_replacing_idx", "coupling")
    op.drop_column("coupling", "replacing")
    op.drop_column("coupling", "intent")
