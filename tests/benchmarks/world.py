"""The world that everything is measured in: one PostgreSQL, one sandbox, the service behind its REST API."""

import asyncio
import re
import secrets
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from cryptography.fernet import Fernet

from app.db.embedded import EmbeddedPostgres
from app.db.engine import connect
from app.demo.service import Company, Service
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT
from app.sandbox.server import self_signed
from tests.benchmarks.processes import Child, Highest, family, forget_peak, free_port, usage

T = TypeVar("T")
CLI = ("-P", "-c", "from app.cli import main; main()")
PACES: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "fast": {"latency": 0.02},
    "real": {"latency": 0.1, "row_latency": 0.01},
    "limits": {
        "latency": 0.1,
        "row_latency": 0.01,
        "limits": {"requests": 100, "seconds": 5, "execution": 20, "concurrent": 52},
    },
}
"""The three settings of the sandbox: `limits` are the service's own, shrunk sixty times."""
WINDOW = 5  # seconds, of the shrunk limits
STATEMENT = re.compile(rb"LOG:  (?:statement|execute [^:]*): (?!BEGIN|COMMIT|ROLLBACK|SHOW|;)")
JOB_PATIENCE = 900  # seconds
MAPPINGS = ("CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT")


class World:
    """What a measure works with."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self.certificate, key = self_signed(folder)
        self.crm_url = f"https://localhost:{free_port()}"
        port = self.crm_url.rsplit(":", 1)[1]
        arguments = ("-P", "-m", "tests.benchmarks.crm", "--port", port)
        files = ("--certificate", str(self.certificate), "--key", str(key))
        self.crm = Child("sandbox", folder, (*arguments, *files), {})
        self.crm.wait_for(f"{self.crm_url}/sandbox/faults", self.certificate)
        self._http = httpx.Client(base_url=self.crm_url, verify=self.trust(), trust_env=False, timeout=600)
        self.key = f"nck_{secrets.token_urlsafe(32)}"
        self._fernet = Fernet.generate_key().decode()
        self._companies = 0

    def close(self) -> None:
        """Ends what was started."""
        self._http.close()
        self.crm.stop()

    # --- CRM --------------------------------------------------------------------------------------

    def trust(self) -> ssl.SSLContext:
        """Whom to trust: the sandbox's certificate is its own authority."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def tell_crm(self, what: str, method: str = "POST", **body: Any) -> dict[str, Any]:
        """One of the sandbox's addresses for benchmarks."""
        answer = self._http.request(method, f"/bench/{what}", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def empty_crm(self) -> None:
        """An organization as new, at full speed."""
        self._http.post("/sandbox/reset").raise_for_status()
        self.pace("none")
        self.meter()

    def pace(self, name: str) -> None:
        """How slow CRM is, and what it takes."""
        self.tell_crm("pace", "PUT", **PACES[name])

    def meter(self) -> dict[str, Any]:
        """What went to CRM since it was last asked."""
        return self.tell_crm("meter", window=WINDOW)

    # --- the service ------------------------------------------------------------------------------

    @contextmanager
    def service(self, *, workers: int = 0, **settings: str) -> Iterator["Running"]:
        """The service in a process of its own; with `workers`, that many processes run the jobs instead of it."""
        port = free_port()
        common = {
            "NAVCRM_DATABASE_URL": self.postgres.url,
            "NAVCRM_SECRET_KEYS": self._fernet,
            "NAVCRM_BOOTSTRAP_API_KEY": self.key,
            "NAVCRM_RATE_LIMIT_PER_MINUTE": "0",
            "NAVCRM_LOG_LEVEL": "warning",
            "NAVCRM_WORKER_WATCH_SECONDS": "0",  # nothing runs but what is measured
            "SSL_CERT_FILE": str(self.certificate),
        } | {f"NAVCRM_{name.upper()}": value for name, value in settings.items()}
        options = ("--no-worker",) if workers else ()
        url = f"http://127.0.0.1:{port}"
        children = [
            Child("service", self.folder, (*CLI, "serve", "--port", str(port), *options), common),
        ]
        try:
            children[0].wait_for(f"{url}/healthz")
            children += [Child(f"worker-{n}", self.folder, (*CLI, "worker"), common) for n in range(workers)]
            yield Running(self, Service(url, self.key), children)
        finally:
            for child in reversed(children):
                child.stop()

    def company_name(self) -> str:
        """One that was not used yet."""
        self._companies += 1
        return f"c{self._companies}"

    # --- the database -----------------------------------------------------------------------------

    def sql(self, work: Callable[["asyncpg.Connection[asyncpg.Record]"], Awaitable[T]]) -> T:
        """What the work answers, given a connection."""

        async def run() -> T:
            connection = await connect(self.postgres.url)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())

    def log_statements(self, which: str) -> None:
        """Lets PostgreSQL write its statements to its log: `all` or `none`."""

        async def set_(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
            await connection.execute(f"ALTER SYSTEM SET log_statement = '{which}'")
            await connection.execute(
                "ALTER SYSTEM SET log_parameter_max_length = 0"
            )  # records stay out of it
            await connection.execute("SELECT pg_reload_conf()")

        self.sql(set_)
        time.sleep(0.2)  # until every connection has heard of it

    def logged_statements(self) -> int:
        """How many statements stand in the log of PostgreSQL."""
        log = self.folder / "postgres/server.log"
        return len(STATEMENT.findall(log.read_bytes())) if log.exists() else 0

    def postgres_pid(self) -> int:
        """Of the server itself."""
        return int((self.folder / "postgres/data/postmaster.pid").read_text().splitlines()[0])


class Running:
    """The service, as long as it runs."""

    def __init__(self, world: World, api: Service, children: list[Child]) -> None:
        self.world = world
        self.api = api
        self.children = children

    def company(self, mappings: tuple[str, ...] = MAPPINGS) -> Company:
        """A new company, connected with the sandbox and set up; no job starts by itself."""
        name = self.world.company_name()
        self.api.call("POST", "/companies", {"name": name, "display_name": name, "local_currency": "GBP"})
        company = Company(self.api, name)
        login = {
            "type": "client_secret",
            "tenant_id": DEFAULT_TENANT,
            "client_id": DEFAULT_CLIENT,
            "client_secret": DEFAULT_SECRET,
            "authority": self.world.crm_url,
        }
        company.put("crm-connection", {"server_url": self.world.crm_url, "authentication": login})
        company.patch("crm-connection", {"is_enabled": True})
        company.post("crm-connection/use-default-synchronization-setup", {"mappings": list(mappings)})
        return company

    def same(self, company: Company) -> Company:
        """A company that another service made, of this one."""
        return Company(self.api, company.name)

    def without_schedule(self, company: Company) -> Company:
        """Takes its job queue entries away, so that only what we start runs."""
        for entry in company.items("job-queue-entries"):
            self.api.call("DELETE", f"{company.path}/job-queue-entries/{entry['id']}")
        return company

    def run(self, company: Company, mapping: str = "CUSTOMER", **how: Any) -> dict[str, Any]:
        """A synch job from its start to its end."""
        return self.wait(company, self.start(company, mapping, **how))

    def start(self, company: Company, mapping: str = "CUSTOMER", **how: Any) -> str:
        """Starts a synch job; its id."""
        job = company.post(f"integration-table-mappings/{mapping}/synchronize", how)
        return str(job["id"])

    def wait(self, company: Company, job_id: str) -> dict[str, Any]:
        """The job when it has ended. Raises RuntimeError unless it succeeded."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < JOB_PATIENCE:
            job: dict[str, Any] = company.get(f"synch-jobs/{job_id}")
            if job["status"] not in ("queued", "running"):
                if job["status"] != "succeeded":
                    raise RuntimeError(f"The job ended as {job['status']}: {job['message']} {job['error']}")
                return job
            time.sleep(0.2 if passed < 2 else 0.5)  # who asks all the time is part of what is measured
        raise RuntimeError(f"The job did not end within {JOB_PATIENCE} s.")

    def pids(self) -> list[int]:
        """Our processes, and those of PostgreSQL."""
        return [*(child.pid for child in self.children), *family(self.world.postgres_pid())]

    def cpu_of(self, child: Child) -> float:
        """Seconds of CPU of one of our processes so far."""
        return usage([child.pid]).cpu

    @contextmanager
    def watched(self, *, statements: bool = False) -> Iterator["Used"]:
        """What the service and PostgreSQL use meanwhile; with `statements`, PostgreSQL logs them to be counted."""
        used, postgres = Used(), Highest(self.world.postgres_pid())
        if statements:
            self.world.log_statements("all")
        for child in self.children:
            forget_peak(child.pid)
        before, logged = usage(self.pids()), self.world.logged_statements()
        postgres.start()
        try:
            yield used
        finally:
            used.cpu = usage(self.pids()).cpu - before.cpu
            used.memory = usage(child.pid for child in self.children).memory
            used.postgres = postgres.stop()
            if statements:
                used.statements = self.world.logged_statements() - logged
                self.world.log_statements("none")


@dataclass(slots=True)
class Used:
    """Seconds of CPU, bytes of memory at their highest (the service's, PostgreSQL's without its cache), statements."""

    cpu: float = 0.0
    memory: int = 0
    postgres: int = 0
    statements: int = 0


@contextmanager
def a_world(folder: Path) -> Iterator[World]:
    """A world in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with EmbeddedPostgres.start(folder) as postgres:
        world = World(folder, postgres)
        try:
            yield world
        finally:
            world.close()
