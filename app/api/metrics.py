"""How the synch jobs fare, in the terms of Prometheus. No company is named: whoever scrapes needs no key."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from app.domain.job import JobStatus
from app.ports import JobFigures


class SynchJobCollector(Collector):
    """Figures that were read once, as metrics."""

    def __init__(self, figures: JobFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The metrics."""
        now = GaugeMetricFamily("navcrm_synch_jobs", "Synch jobs that wait or run.", labels=["status"])
        ended = GaugeMetricFamily(
            "navcrm_synch_jobs_ended_last_hour", "Synch jobs that ended in the last hour.", labels=["status"]
        )
        for status in JobStatus:
            (ended if status.ended else now).add_metric([status.value], self._figures.jobs.get(status, 0))
        lag = GaugeMetricFamily(
            "navcrm_mapping_lag_seconds",
            "Time since a run last read a mapping, in the company that is furthest behind. Mappings whose job sleeps "
            "because nothing changed are not behind.",
            labels=["mapping"],
        )
        for mapping, behind in self._figures.lag.items():
            lag.add_metric([mapping], behind.total_seconds())
        return (now, ended, lag)


def registry_of(figures: JobFigures) -> CollectorRegistry:
    """A registry of these figures alone."""
    registry = CollectorRegistry()
    registry.register(SynchJobCollector(figures))
    return registry
