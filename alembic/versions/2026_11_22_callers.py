"""Who works in CRM: the user of the connection, callers by e-mail; how far sales orders were told to CRM."""

import sqlalchemy as sa
from alembic import op

revision = "callers_0001"
down_revision = "intents_0001"
branch_labels = None
depends_on = None

FACTS = ("user_is_integration_user", "user_is_administrator", "sales_order_integration_enabled")
CHOICES = ("user_mapping_required", "ignore_changes_by_user")


def upgrade() -> None:
    for name in FACTS:
        op.add_column("crm_connection", sa.Column(name, sa.Boolean(), nullable=True))
    for name in CHOICES:
        column = sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.text("false"))
        op.add_column("crm_connection", column)
    op.add_column("crm_connection", sa.Column("posts_watermark", sa.Text(), nullable=True))
    op.add_column("api_key", sa.Column("email", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("api_key", "email")
    for name in ("posts_watermark", *CHOICES, *FACTS):
        op.drop_column("crm_connection", name)
