"""How the service as a whole fares, all processes together, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from app.domain.job import EntryStatus, JobStatus


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """What our memory knows at one moment. No company is named; a mapping stands for all that have one of its name."""

    jobs: Mapping[JobStatus, int]
    """Synch jobs that wait or run, and those that ended in the last hour."""
    oldest_waiting: timedelta
    """For how long the oldest synch job that could run has been waiting; zero when none does."""
    tickets: int
    """What the queue carries."""
    lag: Mapping[tuple[str, str], timedelta]
    """By mapping and direction, the time since a run last read its source side, in the company that is furthest
    behind. Where nothing changed since, it is zero."""
    couplings: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By mapping and state (`skipped`, `conflict`, `failed`) how many couplings are not in order."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """By mapping the records that wait for one they refer to."""
    workers: int = 0
    """Workers seen in the last minute."""
    connections: Mapping[str, int] = field(default_factory=dict)
    """CRM connections by status."""
    entries: Mapping[EntryStatus, int] = field(default_factory=dict)
    """Job queue entries of enabled connections by status."""
    open_breakers: int = 0
    """Connections whose jobs wait because CRM refuses our user."""


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """What one process holds at the moment."""

    lanes: Mapping[str, int]
    """Requests to CRM at a time, over all organizations: `in_use` now, `open` while CRM asks for fewer, `all`."""
    database: Mapping[str, int]
    """Connections to the database: `in_use`, `idle`, and how many there may be: `most`."""
