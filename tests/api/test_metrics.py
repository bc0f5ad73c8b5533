"""What Prometheus is told: requests, calls of CRM, jobs, and how far behind everything is."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api import metrics
from app.api.metrics import MOST_MAPPINGS, Scrape
from app.db.figures import service_figures
from app.domain.job import EntryStatus, JobStatus
from app.ports import ProcessFigures, ServiceFigures
from app.sandbox import Fault
from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio
OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
PROCESS = ProcessFigures({}, {})
NOTHING = ServiceFigures({}, timedelta(), 0, {})


class Told:
    """The samples of one scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """That of one sample; zero where there is none yet."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def labels(self, name: str, label: str) -> set[str]:
        """All values of a label."""
        return {dict(found)[label] for each, found in self.samples if each == name}


@pytest.fixture(autouse=True)
def a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given up, or read anew, because the machine is busy with something else."""
    assert 0 < metrics.KEPT_SECONDS < 60
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 600)
    monkeypatch.setattr(metrics, "PATIENCE_SECONDS", 60)


async def told(client: httpx.AsyncClient) -> Told:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return Told(answer.text)


async def test_requests_are_counted_by_the_template_of_their_path(
    cronus: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    before = await told(anyone)
    for no in ("10000", "K%26M%2F01"):
        await cronus.get(f"{COMPANY}/nav/customers/{no}")
    await anyone.get("/api/v1/companies")
    await anyone.get("/no/such/place")
    await anyone.request("BREW", "/healthz")
    after = await told(anyone)

    def more(**labels: str) -> float:
        name = "navcrm_http_requests_total"
        return after.value(name, **labels) - before.value(name, **labels)

    record = "/api/v1/companies/{company}/nav/{table}/{no}"
    assert more(method="GET", route=record, status="404") == 2
    assert more(method="GET", route="/api/v1/companies", status="401") == 1
    assert more(method="GET", route="other", status="404") == 1
    assert more(method="other", route="/healthz", status="405") == 1
    seconds = ("navcrm_http_request_seconds_count", {"method": "GET", "route": record})
    assert after.value(seconds[0], **seconds[1]) - before.value(seconds[0], **seconds[1]) == 2


async def test_calls_of_crm_are_counted_with_their_logins_and_refusals(
    connected: httpx.AsyncClient, crm: Sandbox, anyone: httpx.AsyncClient
) -> None:
    before = await told(anyone)
    crm.organization.faults[:] = [Fault("GET .*", "429", after=1, times=1, retry_after=0.1)]
    answer = await connected.post(f"{CONNECTION}/test")
    assert answer.json()["ok"] is True, answer.text
    after = await told(anyone)

    def more(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert more("navcrm_crm_requests_total", operation="login", status="200") == 1
    assert more("navcrm_crm_requests_total", operation="read", status="200") >= 1
    assert sum(
        more("navcrm_crm_requests_total", operation=operation, status="429")
        for operation in ("read", "metadata")
    ) == more("navcrm_crm_throttled_total")
    assert more("navcrm_crm_throttled_total") == 1
    assert more("navcrm_crm_repeated_total") == 1
    assert after.labels("navcrm_crm_requests_total", "operation") <= {
        "login", "read", "metadata", "batch", "write", "action", "delete", "other",
    }  # fmt: skip


async def test_whoever_asks_learns_no_company_and_needs_no_key(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient, app: FastAPI
) -> None:
    assert (await ready.get(f"{COMPANY}/crm/accounts")).status_code == 200  # lanes to CRM are opened
    text = (await anyone.get("/metrics")).text
    assert "cronus" not in text
    found = Told(text)
    assert found.value("navcrm_database_up") == 1
    assert found.value("navcrm_crm_connections", status="connected") == 1
    assert found.value("navcrm_database_connections", state="most") == 20
    assert found.value("navcrm_crm_lanes", state="all") == 8
    assert found.value("navcrm_crm_lanes", state="in_use") == 0
    assert found.value("navcrm_synch_jobs", status="queued") == 0


async def in_trouble(engine: AsyncEngine, company_id: int, now: datetime) -> None:
    """A company that is behind, with couplings that are not in order."""
    reading = {
        "c": company_id,
        "now": now,
        "ago": now - timedelta(minutes=10),
        "long": now - timedelta(hours=2),
    }
    coupling = """
        INSERT INTO coupling (id, company_id, mapping, nav_table, nav_id, nav_key, crm_entity, crm_id, status,
                              last_synch_result, last_error, skipped)
        SELECT gen_random_uuid(), :c, 'CUSTOMER', 'customers', gen_random_uuid(), n::text, 'account',
               gen_random_uuid(), 'coupled', 'failure', CAST(:error AS jsonb), :skipped
        FROM generate_series(1, :many) AS n
        """
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE job_queue_entry SET status = 'ready'"))
        await connection.execute(
            text(
                "UPDATE integration_table_mapping SET nav_synched_until = :ago, crm_synched_until = :long "
                "WHERE company_id = :c AND name IN ('CUSTOMER', 'CURRENCY')"
            ),
            reading,
        )
        await connection.execute(
            text("UPDATE job_queue_entry SET status = 'on_hold_inactivity' WHERE mapping = 'CURRENCY'")
        )
        await connection.execute(
            text("UPDATE job_queue_entry SET status = 'error' WHERE mapping = 'SALESPEOPLE'")
        )
        for code, skipped, many in (
            ("crm-refused", False, 3),
            ("update-conflict", False, 2),
            ("crm-refused", True, 4),
        ):
            error = f'{{"code": "{code}"}}'
            given = {"c": company_id, "error": error, "skipped": skipped, "many": many}
            await connection.execute(text(coupling), given)
        await connection.execute(
            text(
                "INSERT INTO waiting_record (company_id, mapping, side, record_id, needs_table, needs_key) "
                "SELECT :c, 'CONTACT', 'nav', gen_random_uuid(), 'customers', n::text "
                "FROM generate_series(1, 5) AS n"
            ),
            reading,
        )
        await connection.execute(
            text(
                "INSERT INTO synch_job (id, company_id, kind, mapping, mode, status, created_at) "
                "VALUES (gen_random_uuid(), :c, 'synchronize', 'CUSTOMER', 'modified', 'queued', :ago)"
            ),
            reading,
        )


async def test_what_is_behind_or_in_trouble_is_told_by_mapping_and_direction(
    ready: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    now = datetime.now(UTC)
    async with engine.connect() as connection:
        company_id = int(await connection.scalar(text("SELECT id FROM company")) or 0)
    await in_trouble(engine, company_id, now)
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    figures = await service_figures(engine, now)
    assert len(statements) <= 8
    assert figures.jobs == {JobStatus.QUEUED: 1}
    assert figures.oldest_waiting == timedelta(minutes=10)
    assert figures.lag[("CUSTOMER", "to_crm")] == timedelta(minutes=10)
    assert figures.lag[("CUSTOMER", "from_crm")] == timedelta(hours=2)
    currency = {way: behind for (name, way), behind in figures.lag.items() if name == "CURRENCY"}
    assert set(currency.values()) == {timedelta()}
    assert figures.entries[EntryStatus.ERROR] == 1
    assert figures.couplings == {
        ("CUSTOMER", "failed"): 3,
        ("CUSTOMER", "conflict"): 2,
        ("CUSTOMER", "skipped"): 4,
    }
    assert figures.waiting == {"CONTACT": 5}
    shown = Told((await Scrape(lambda: told_once(figures), lambda: PROCESS)()).decode())
    assert shown.value("navcrm_mapping_lag_seconds", mapping="CUSTOMER", direction="from_crm") == 7200
    assert shown.value("navcrm_couplings_in_trouble", mapping="CUSTOMER", state="skipped") == 4
    assert shown.value("navcrm_records_waiting", mapping="CONTACT") == 5
    assert shown.value("navcrm_synch_job_oldest_waiting_seconds") == 600


async def told_once(figures: ServiceFigures) -> ServiceFigures:
    return figures


async def test_the_database_is_read_once_for_scrapes_that_come_together() -> None:
    read = 0

    async def reading() -> ServiceFigures:
        nonlocal read
        read += 1
        return NOTHING

    scrape = Scrape(reading, lambda: PROCESS)
    for _ in range(5):
        await scrape()
    assert read == 1


async def test_while_the_database_is_away_the_process_still_tells_its_own_figures() -> None:
    async def reading() -> ServiceFigures:
        raise ConnectionRefusedError

    shown = Told((await Scrape(reading, lambda: ProcessFigures({"in_use": 3}, {}))()).decode())
    assert shown.value("navcrm_database_up") == 0
    assert shown.value("navcrm_crm_lanes", state="in_use") == 3
    assert not [name for name, _ in shown.samples if name.startswith("navcrm_synch_jobs{")]


async def test_a_thousand_mappings_do_not_make_a_thousand_series() -> None:
    names: Mapping[tuple[str, str], timedelta] = {
        (f"M{number}", "to_crm"): timedelta(seconds=number) for number in range(1000)
    }
    figures = ServiceFigures({}, timedelta(), 0, names, waiting={name: 1 for name, _ in names})
    shown = Told((await Scrape(lambda: told_once(figures), lambda: PROCESS)()).decode())
    for name in ("navcrm_mapping_lag_seconds", "navcrm_records_waiting"):
        assert len(shown.labels(name, "mapping")) == MOST_MAPPINGS + 1
    assert shown.value("navcrm_mapping_lag_seconds", mapping="M999", direction="to_crm") == 999
    assert shown.value("navcrm_mapping_lag_seconds", mapping="other", direction="to_crm") == 899
    assert shown.value("navcrm_records_waiting", mapping="other") == 900


async def test_every_figure_that_the_documents_name_is_told(
    ready: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    named = set(re.findall(r"`(navcrm_[a-z_]+)`", OPERATING.read_text()))
    text = (await anyone.get("/metrics")).text
    described = set(re.findall(r"^# TYPE (navcrm_[a-z_]+) ", text, re.MULTILINE))
    assert named <= described
    assert len(named) > 10
