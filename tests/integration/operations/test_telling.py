"""What a service tells while it works: a line of the log for everything, spans for a collector, no secret in either."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, create_sandbox
from tests.crm_sandbox import served
from tests.database import TestServer

pytestmark = pytest.mark.anyio
KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
SECRET_KEYS = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-Id": "order-4711"}
COMPANY = "/api/v1/companies/cronus"
PERSONAL = "Ada Lovelace"
RATE = {
    "Currency_Code": "SEK", "Starting_Date": "2020-01-01", "Exchange_Rate_Amount": "100",
    "Relational_Exch_Rate_Amount": "8",
}  # fmt: skip


@dataclass
class Collector:
    """An OpenTelemetry collector that keeps what it is sent."""

    spans: list[Span] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Takes spans over HTTP."""
        return Starlette(routes=[Route("/v1/traces", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        for of_resource in sent.resource_spans:
            self.resource |= {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
            for scope in of_resource.scope_spans:
                self.spans += scope.spans
        return Response(b"", media_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]


@dataclass(frozen=True, slots=True)
class Story:
    """What happened, as the service told it."""

    collector: Collector
    lines: list[dict[str, Any]]
    text: str
    job: str
    answered: httpx.Headers

    def about(self, **values: str) -> list[dict[str, Any]]:
        """The lines of the log that say this."""
        return [line for line in self.lines if values.items() <= line.items()]


@pytest.fixture(scope="module")
async def story(test_server: TestServer, template: str, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A service in a process of its own, with a worker inside, synchronizes one currency."""
    collector, log = Collector(), tmp_path_factory.mktemp("service") / "log"
    async with (
        test_server.clone(template) as database,
        served(collector.app()) as collecting,
        served(create_sandbox()) as crm,
        a_service(database, collecting, log) as client,
    ):
        job, answered = await happened(client, crm)
    written = log.read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    return Story(collector, lines, written, job, answered)


@asynccontextmanager
async def a_service(database: str, collecting: str, log: Path) -> AsyncIterator[httpx.AsyncClient]:
    """`navcrm serve`; it has ended afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NAVCRM_", "OTEL_"))}
    settings = {
        "NAVCRM_DATABASE_URL": database,
        "NAVCRM_SECRET_KEYS": SECRET_KEYS,
        "NAVCRM_BOOTSTRAP_API_KEY": KEY,
        "NAVCRM_LOG_FORMAT": "json",
        "NAVCRM_WORKER_POLL_SECONDS": "0.2",
        "NAVCRM_WORKER_WATCH_SECONDS": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collecting,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    command = [*NAVCRM, "serve", "--port", "0"]
    with log.open("wb") as errors:
        async with await anyio.open_process(command, stderr=errors, env=kept | settings) as process:
            assert process.stdout is not None
            said = ""
            while "/api/v1;" not in said:
                said += (await process.stdout.receive()).decode()
            address = next(word for word in said.split() if word.startswith("http")).removesuffix("/api/v1;")
            headers = {"Authorization": f"Bearer {KEY}"}
            try:
                async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
                    yield client
            finally:
                process.send_signal(signal.SIGTERM)
                with anyio.fail_after(60):
                    await process.wait()


async def happened(client: httpx.AsyncClient, crm: str) -> tuple[str, httpx.Headers]:
    """A company is connected and set up; one currency goes to CRM by a synch job."""
    login = {
        "type": "client_secret", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT,
        "client_secret": DEFAULT_SECRET, "authority": crm,
    }  # fmt: skip
    connection = f"{COMPANY}/crm-connection"
    for method, path, body in (
        ("POST", "/api/v1/companies", {"name": "cronus", "display_name": "CRONUS"}),
        ("PUT", connection, {"server_url": crm, "authentication": login}),
        ("PATCH", connection, {"is_enabled": True}),
        ("POST", f"{connection}/use-default-synchronization-setup", {"mappings": ["CURRENCY"]}),
        ("POST", f"{COMPANY}/nav/currencies", {"no": "SEK", "fields": {"Description": PERSONAL}}),
        ("POST", f"{COMPANY}/nav/currency-exchange-rates", {"fields": RATE}),
    ):
        answer = await client.request(method, path, json=body)
        assert answer.is_success, answer.text
    found = await client.get(
        f"{COMPANY}/nav/currencies", params={"filter": f"Description eq '{PERSONAL}'"}, headers=CALLER
    )
    assert [each["no"] for each in found.json()["items"]] == ["SEK"]
    started = await client.post(
        f"{COMPANY}/integration-table-mappings/CURRENCY/synchronize",
        json={"mode": "full", "create_uncoupled": True},
    )
    assert started.status_code == 202, started.text
    events = await client.get(f"{started.headers['Location']}/events")
    errors = await client.get(f"{started.headers['Location']}/errors")
    assert '"inserted":1' in events.text.replace(" ", ""), errors.text
    assert (await client.get("/healthz")).status_code == 200
    return started.json()["id"], found.headers


async def test_every_line_of_a_request_says_which_request_and_which_company(story: Story) -> None:
    assert story.answered["X-Request-Id"] == "order-4711"
    (line,) = story.about(event="request", request_id="order-4711")
    assert line.items() >= {
        "method": "GET", "status": 200, "company": "cronus", "caller": "bootstrap", "level": "info",
        "route": "/api/v1/companies/{company}/nav/{table}", "trace_id": TRACE,
    }.items()  # fmt: skip
    assert line["ms"] > 0
    assert all("request_id" in each for each in story.about(event="request"))
    assert len({each["request_id"] for each in story.about(event="request")}) == len(
        story.about(event="request")
    )
    assert not story.about(event="request", route="/healthz")


async def test_every_line_of_a_job_says_which_job_and_which_company(story: Story) -> None:
    events = [line["event"] for line in story.about(job=story.job)]
    assert (events[0], events[-1]) == ("synch job started", "synch job left")
    for line in story.about(job=story.job):
        assert line.items() >= {"company": "cronus", "mapping": "CURRENCY", "kind": "synchronize"}.items()
        assert len(line["trace_id"]) == 32


async def test_spans_lead_from_requests_and_jobs_to_crm_and_the_database(story: Story) -> None:
    collector = story.collector
    assert collector.resource.items() >= {
        "service.name": "navcrm", "deployment.environment.name": "test",
    }.items()  # fmt: skip
    (listing,) = collector.named("GET /api/v1/companies/{company}/nav/{table}")
    assert listing.trace_id.hex() == TRACE
    assert listing.parent_span_id.hex() == "b7ad6b7169203331"
    inside = {span.name for span in collector.spans if span.parent_span_id == listing.span_id}
    assert "SQL SELECT" in inside
    (job,) = collector.named("synch job synchronize")
    below = [span for span in collector.spans if span.trace_id == job.trace_id]
    names = {span.name for span in below}
    assert {"CRM read", "SQL UPDATE"} <= names
    assert attributes(job)["navcrm.job"] == story.job
    written = [attributes(span) for span in below if span.name in ("CRM batch", "CRM write")]
    assert [each["http.response.status_code"] for each in written] in (["200"], ["201"]), names


def attributes(span: Span) -> dict[str, str]:
    """What a span says."""
    return {pair.key: pair.value.string_value for pair in span.attributes}


@pytest.mark.parametrize(
    "hidden", [KEY, SECRET_KEYS, DEFAULT_SECRET, PERSONAL, "eq%20", "Description eq", "Bearer"]
)
async def test_neither_logs_nor_spans_hold_a_secret_or_what_a_record_says(story: Story, hidden: str) -> None:
    assert hidden not in story.text
    assert hidden.encode() not in b"".join(span.SerializeToString() for span in story.collector.spans)


async def test_an_error_of_the_database_tells_no_values(engine: AsyncEngine) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT CAST(:given AS integer) / 0"), {"given": 4711})
    assert "division by zero" in str(failed.value)
    assert "4711" not in str(failed.value)
