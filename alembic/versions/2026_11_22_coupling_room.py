"""Couplings of what comes from CRM are written once: half of the room beside them would stay empty."""

from alembic import op

revision = "coupling_room_0001"
down_revision = "kept_json_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _filled_to(70)


def downgrade() -> None:
    _filled_to(40)


def _filled_to(percent: int) -> None:
    op.execute(f"ALTER TABLE coupling SET (fillfactor = {percent})")
