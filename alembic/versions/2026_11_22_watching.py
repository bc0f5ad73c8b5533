"""Who looks for changes, and when: a company is looked at by one worker at a time. And what the last contact
with its CRM showed."""

import sqlalchemy as sa
from alembic import op

revision = "watching_0001"
down_revision = "nav_0001"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("crm_connection", sa.Column("watched_at", TIMESTAMP, nullable=True))
    op.add_column("crm_connection", sa.Column("last_error", sa.Text(), nullable=True))
    # One run without anything to do puts an entry to sleep: nobody asks any more when it last had some.
    op.drop_column("job_queue_entry", "active_at")


def downgrade() -> None:
    op.add_column("job_queue_entry", sa.Column("active_at", TIMESTAMP, nullable=True))
    op.drop_column("crm_connection", "last_error")
    op.drop_column("crm_connection", "watched_at")
