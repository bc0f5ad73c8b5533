"""Couplings of what comes from CRM are written once: half of the room beside them would stay empty. What was written to
a record is told by side, its old values and its new ones, instead of field by field."""

from alembic import op

revision = "coupling_room_0001"
down_revision = "kept_json_0001"
branch_labels = None
depends_on = None


BY_SIDE = """
    UPDATE synch_outcome SET changes = (
        SELECT json_build_object(
            'side', min(change ->> 0),
            'old', coalesce(
                json_object_agg(change ->> 1, change -> 2 ORDER BY place)
                    FILTER (WHERE json_typeof(change -> 2) <> 'null'), '{}'),
            'new', json_object_agg(change ->> 1, change -> 3 ORDER BY place))
        FROM json_array_elements(changes) WITH ORDINALITY AS each(change, place))
    WHERE changes IS NOT NULL
    """
BY_FIELD = """
    UPDATE synch_outcome SET changes = (
        SELECT json_agg(json_build_array(
            changes ->> 'side', name, changes -> 'old' -> name, value) ORDER BY place)
        FROM json_each(changes -> 'new') WITH ORDINALITY AS each(name, value, place))
    WHERE changes IS NOT NULL
    """


def upgrade() -> None:
    _filled_to(70)
    op.execute(BY_SIDE)


def downgrade() -> None:
    op.execute(BY_FIELD)
    _filled_to(40)


def _filled_to(percent: int) -> None:
    op.execute(f"ALTER TABLE coupling SET (fillfactor = {percent})")
