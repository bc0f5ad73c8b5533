"""How the service fares, in the terms of Prometheus. No company is named: whoever scrapes needs no key."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.domain.job import EntryStatus, JobStatus
from app.ports import ProcessFigures, ServiceFigures

KEPT_SECONDS = 5.0
"""So long one reading of the database serves every scrape of this process."""
PATIENCE_SECONDS = 5.0
MOST_MAPPINGS = 100
"""So many names of mappings are told, those with the largest numbers; the others together as `other`."""
OTHER = "other"

log = structlog.get_logger(__name__)


class Scrape:
    """Answers scrapes: the counters of this process, what it holds, and what all processes share."""

    def __init__(
        self, shared: Callable[[], Awaitable[ServiceFigures]], process: Callable[[], ProcessFigures]
    ) -> None:
        self._shared = shared
        self._process = process
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._kept: ServiceFigures | None = None

    async def __call__(self) -> bytes:
        """The text for Prometheus. While the database does not answer, without what is shared."""
        shared = await self._figures()
        families = [*_of_process(self._process()), *_of_database(shared is not None)]
        if shared is not None:
            families += _of_service(shared)
        registry = CollectorRegistry()
        registry.register(_Families(families))
        return generate_latest(REGISTRY) + generate_latest(registry)

    async def _figures(self) -> ServiceFigures | None:
        async with self._reading:  # who comes meanwhile waits for the same reading
            if time.monotonic() - self._read_at >= KEPT_SECONDS:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        self._kept = await self._shared()
                except Exception as error:
                    log.warning("the figures could not be read", error=type(error).__name__)
                    self._kept = None
                self._read_at = time.monotonic()
            return self._kept


class _Families(Collector):
    def __init__(self, families: Iterable[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    """A gauge with a value for each tuple of label values, or for the only label."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in (key if isinstance(key, tuple) else (key,))], value)
    return family


def _of_process(figures: ProcessFigures) -> list[GaugeMetricFamily]:
    return [
        _gauge(
            "navcrm_crm_lanes",
            "Requests to CRM at a time from this process: in use, open at the moment, all.",
            ("state",),
            figures.lanes,
        ),
        _gauge(
            "navcrm_database_connections",
            "Connections of this process to the database: in use, idle, the most there may be.",
            ("state",),
            figures.database,
        ),
    ]


def _of_database(answers: bool) -> list[GaugeMetricFamily]:
    return [
        GaugeMetricFamily("navcrm_database_up", "Whether the database answered.", value=1 if answers else 0)
    ]


def _of_service(figures: ServiceFigures) -> list[GaugeMetricFamily]:
    jobs = {status: figures.jobs.get(status, 0) for status in JobStatus}
    lag = {key: behind.total_seconds() for key, behind in figures.lag.items()}
    return [
        _gauge(
            "navcrm_synch_jobs",
            "Synch jobs that wait or run.",
            ("status",),
            {status.value: number for status, number in jobs.items() if not status.ended},
        ),
        _gauge(
            "navcrm_synch_jobs_ended_last_hour",
            "Synch jobs that ended in the last hour.",
            ("status",),
            {status.value: number for status, number in jobs.items() if status.ended},
        ),
        _single(
            "navcrm_synch_job_oldest_waiting_seconds",
            "For how long the oldest synch job that could run has been waiting.",
            figures.oldest_waiting.total_seconds(),
        ),
        _single("navcrm_queue_tickets", "Tickets that the queue carries.", figures.tickets),
        _gauge(
            "navcrm_mapping_lag_seconds",
            "Time since a run last read the source side of a mapping, in the company that is furthest behind; "
            "0 where nothing changed since.",
            ("mapping", "direction"),
            _folded(lag, max),
        ),
        _gauge(
            "navcrm_couplings_in_trouble",
            "Couplings that are skipped, in conflict, or whose last synchronization failed.",
            ("mapping", "state"),
            _folded(figures.couplings, sum),
        ),
        _gauge(
            "navcrm_records_waiting",
            "Records that wait for one they refer to.",
            ("mapping",),
            _folded(figures.waiting, sum),
        ),
        _gauge(
            "navcrm_job_queue_entries",
            "Job queue entries of enabled connections; those in error run no more until a person sets them ready.",
            ("status",),
            {status.value: figures.entries.get(status, 0) for status in EntryStatus},
        ),
        _single("navcrm_workers", "Workers seen in the last minute.", figures.workers),
        _gauge("navcrm_crm_connections", "CRM connections.", ("status",), figures.connections),
        _single(
            "navcrm_crm_breakers_open",
            "CRM connections whose jobs wait because CRM refuses our user.",
            figures.open_breakers,
        ),
    ]


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _folded(values: Mapping[Any, float], together: Callable[[Iterable[float]], float]) -> dict[Any, float]:
    """The values by mapping (and one more label), those of the least mappings taken together as `other`."""
    largest: dict[str, float] = {}
    for key, value in values.items():
        name = key[0] if isinstance(key, tuple) else key
        largest[name] = max(value, largest.get(name, value))
    if len(largest) <= MOST_MAPPINGS:
        return dict(values)
    told = set(sorted(largest, key=lambda name: -largest[name])[:MOST_MAPPINGS])
    found: dict[Any, float] = {}
    for key, value in values.items():
        name, *rest = key if isinstance(key, tuple) else (key,)
        shown = key if name in told else ((OTHER, *rest) if rest else OTHER)
        found[shown] = value if shown not in found else together((found[shown], value))
    return found
