"""A change of a mapping that concerns records which did not change is told by a number, instead of forgetting what is
known of each of them."""

import sqlalchemy as sa
from alembic import op

revision = "mapping_edition_0001"
down_revision = "coupling_room_0001"
branch_labels = None
depends_on = None

TABLES = ("coupling", "integration_table_mapping")
FORGET = """
    UPDATE coupling AS held SET nav_version = NULL, crm_version = NULL
    WHERE (nav_version IS NOT NULL OR crm_version IS NOT NULL) AND NOT EXISTS (
        SELECT FROM integration_table_mapping AS mapping
        WHERE mapping.company_id = held.company_id AND mapping.name = held.mapping
          AND mapping.edition = held.edition)
    """


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("edition", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    op.execute(FORGET)
    for table in TABLES:
        op.drop_column(table, "edition")
