"""How long is kept what nobody needs for the work itself."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Retention:
    """After so long things are deleted, some time later. What something present refers to stays."""

    jobs: timedelta = timedelta(days=30)
    """Synch jobs that ended, and the log of their records (nav-behaviour 14)."""
    history: timedelta = timedelta(days=90)
    """What was written to the records of a coupling, field by field; longer than the job that wrote it."""
    deletions: timedelta = timedelta(days=30)
    """That a NAV record was deleted. A mapping that reads its changes after a longer pause reads the table from
    the beginning, and finds out so."""
    keys: timedelta = timedelta(days=365)
    """API keys that were revoked or have expired."""
    answers: timedelta = timedelta(days=1)
    """Answers to requests with an Idempotency-Key."""
    signs_of_life: timedelta = timedelta(days=1)
    """Workers that vanished, and the queue's own log."""
