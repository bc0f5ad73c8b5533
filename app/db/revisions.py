"""Where the count of a resource's changes begins."""

import secrets

BEGINNINGS = 2**30
"""So many; from each of them a resource can be changed as often again before the column is full."""


def first_revision() -> int:
    """The revision of a new resource: another one each time, so that what was read of a deleted resource is not taken
    for its successor of the same name."""
    return secrets.randbelow(BEGINNINGS)
