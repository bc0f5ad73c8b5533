"""A page of a company's couplings is found without walking through those of other companies."""

from alembic import op

revision = "coupling_key_0001"
down_revision = "nav_stamp_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _key("company_id, id")


def downgrade() -> None:
    _key("id")


def _key(columns: str) -> None:
    op.execute(f"ALTER TABLE coupling DROP CONSTRAINT coupling_pkey, ADD PRIMARY KEY ({columns})")
