"""What happens to a coupling whose other half was deleted (nav-behaviour 6.3)."""

from app.domain.errors import DeletionConflict
from app.domain.mapping import DeletionConflictResolution


def partner_gone(
    resolution: DeletionConflictResolution, named: str
) -> DeletionConflict | DeletionConflictResolution:
    """What to do with a record whose partner turns out to be gone: an error, `restore` or `uncouple`.

    A record that is itself being synchronized was just changed, so `propagate`, which would delete it, only
    uncouples here: deletions are propagated where they are reported, never over a newer edit.
    """
    match resolution:
        case DeletionConflictResolution.NONE:
            return DeletionConflict(
                f"{named} cannot be updated: its partner was deleted.",
                fix="Uncouple it (DELETE …/coupling), or create the partner again (POST …/create-in-crm or "
                "…/create-in-nav), or set deletion_conflict_resolution on the mapping.",
            )
        case DeletionConflictResolution.RESTORE:
            return DeletionConflictResolution.RESTORE
        case DeletionConflictResolution.UNCOUPLE | DeletionConflictResolution.PROPAGATE:
            return DeletionConflictResolution.UNCOUPLE
