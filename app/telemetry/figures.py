"""Figures of this process, for Prometheus. Every label has a bounded set of values; no company is named in any."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from app.telemetry import tracing

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ANSWER = "none"
"""The status of a request that nothing came back to."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_JOB_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)

_requests = Counter("navcrm_http_requests", "Requests answered.", ["method", "route", "status"])
_request_seconds = Histogram(
    "navcrm_http_request_seconds", "Time to the end of an answer.", ["method", "route"], buckets=_SECONDS
)
_crm_requests = Counter(
    "navcrm_crm_requests", "Requests sent to CRM and its login service.", ["operation", "status"]
)
_crm_seconds = Histogram(
    "navcrm_crm_request_seconds", "Time to CRM's answer.", ["operation"], buckets=_SECONDS
)
_crm_throttled = Counter("navcrm_crm_throttled", "Times CRM asked to wait (429), also inside a batch.")
_crm_repeated = Counter("navcrm_crm_repeated", "Requests to CRM that were sent again.")
_job_runs = Counter("navcrm_synch_job_runs", "Runs of synch jobs on this process.", ["kind", "end"])
_job_seconds = Histogram(
    "navcrm_synch_job_seconds", "Time of a synch job's run.", ["kind"], buckets=_JOB_SECONDS
)
_jobs_running = Gauge("navcrm_synch_jobs_running_here", "Synch jobs that this process runs.")


def request_answered(method: str, route: str | None, status: int, seconds: float) -> None:
    """A request came to its end. `route` is the template of its path; None where there is nothing."""
    count, time_of = _of_request(method if method in METHODS else "other", route or "other", status)
    count.inc()
    time_of.observe(seconds)


@cache  # as many as there are sets of labels, which the figures themselves keep
def _of_request(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return _requests.labels(method, route, str(status)), _request_seconds.labels(method, route)


class CrmCall:
    """One request to CRM from now on; `status` is that of the answer once there is one."""

    def __init__(self, operation: str, method: str, host: str) -> None:
        """`operation` is the kind of request, one of few words; `host` stands in the span alone."""
        self.operation = operation
        self.status: int | None = None
        self._began = time.perf_counter()
        self._span = tracing.beginning(
            f"CRM {operation}", {"http.request.method": method, "server.address": host}
        )

    def end(self) -> None:
        """It is over: counts it, and ends its span."""
        status = NO_ANSWER if self.status is None else str(self.status)
        _crm_seconds.labels(self.operation).observe(time.perf_counter() - self._began)
        _crm_requests.labels(self.operation, status).inc()
        self._span.set_attribute("http.response.status_code", status)
        self._span.end()


def crm_throttled() -> None:
    """CRM asked to wait."""
    _crm_throttled.inc()


def crm_repeated() -> None:
    """A request to CRM is sent again."""
    _crm_repeated.inc()


@dataclass(slots=True)
class JobRun:
    """One run of a synch job; `end` is how it ended, one of few words."""

    end: str = "broken"


@contextmanager
def job_run(kind: str) -> Iterator[JobRun]:
    """Measures one run of a synch job of this kind."""
    run, began = JobRun(), time.perf_counter()
    with _jobs_running.track_inprogress():
        try:
            yield run
        finally:
            _job_seconds.labels(kind).observe(time.perf_counter() - began)
            _job_runs.labels(kind, run.end).inc()
