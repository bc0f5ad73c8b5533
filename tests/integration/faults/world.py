"""A company of two thousand records, half of them coupled, with edits on both sides that are still to be carried
over; behind it the whole service: its API, a worker, PostgreSQL, and a CRM over HTTP.

It is made once. Every test gets a copy of the database and of the rows in CRM, and one address of CRM.
"""

import asyncio
import copy
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette

from app.db.engine import connect
from app.main import create_app
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Fault, Organization, create_sandbox
from app.sandbox.metadata import Metadata
from app.sandbox.server import server
from app.sandbox.storage import Storage
from app.settings import Settings

KEY = "nck_the-key-that-is-there-from-the-start-0123456789"
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
COMPANY = "/api/v1/companies/cronus"
CONNECTION = f"{COMPANY}/crm-connection"
MAPPING = f"{COMPANY}/integration-table-mappings/CUSTOMER"
MAPPINGS = ("CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT")
MAPPED = ("name", "telephone1", "fax", "customertypecode", "statecode", "statuscode")
"""The attributes that the mapping carries over here: fewer, because many tests take their time."""
PAIRS, NEW = 1000, 500
RECORDS = PAIRS + 2 * NEW
EDITED = range(300)  # in NAV, by a person
EDITED_THERE = range(200, 500)  # in CRM; a hundred of them on both sides, other fields
STARTS_WITHIN = 60.0
PATIENCE = 90.0


class Line:
    """CRM's server, which can be taken away from its address and put back."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._port = 0
        self._thread: threading.Thread | None = None
        self._server: Any = None

    @property
    def url(self) -> str:
        """Its address, which stays."""
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        """It answers."""
        self._server = server(self._app, port=self._port)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError("CRM did not start.")
            time.sleep(0.01)
        self._port = self._server.servers[0].sockets[0].getsockname()[1]

    def down(self) -> None:
        """Nobody listens any more."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STARTS_WITHIN)


@dataclass(slots=True)
class Crm:
    """CRM, and what it held when the world was made."""

    organization: Organization
    line: Line
    kept: tuple[Metadata, Storage] | None = None

    def keep(self) -> None:
        """This is how every test finds it."""
        self.kept = copy.deepcopy((self.organization.metadata, self.organization.storage))

    def restore(self) -> None:
        """Nothing has happened."""
        organization = self.organization
        assert self.kept is not None
        organization.metadata, organization.storage = copy.deepcopy(self.kept)
        organization.faults.clear()
        organization.revoked.clear()
        organization.limits = None
        organization.settings.token_lifetime = 3599
        organization.tokens_valid_from = 0
        organization.log.clear()

    @property
    def accounts(self) -> dict[str, dict[str, Any]]:
        """The accounts by their id."""
        return self.organization.rows("account")

    def setup(self) -> dict[str, Any]:
        """A connection setup for it, as it is sent."""
        login = {
            "type": "client_secret",
            "tenant_id": DEFAULT_TENANT,
            "client_id": DEFAULT_CLIENT,
            "client_secret": DEFAULT_SECRET,
            "authority": self.line.url,
        }
        return {"server_url": self.line.url, "authentication": login}


@contextmanager
def a_crm() -> Iterator[Crm]:
    """A CRM over HTTP, in a thread of its own."""
    app = create_sandbox()
    line = Line(app)
    line.up()
    try:
        yield Crm(app.state.organization, line)
    finally:
        line.down()


def a_service(database: str, **changes: Any) -> FastAPI:
    """The API and a worker, both of them quick to try again."""
    settings: dict[str, Any] = {
        "database_url": database,
        "bootstrap_api_key": KEY,
        "secret_keys": FERNET_KEY,
        "worker_poll_seconds": 0.2,
        "log_level": "warning",
        "worker_watch_seconds": 0,  # the tests say when what runs
        "worker_retry_seconds": 0.1,
        "crm_retry_seconds": 0.02,
        "crm_probe_seconds": 0.1,
        "crm_timeout_seconds": 10,
        "crm_concurrency": 4,
    }
    return create_app(Settings(_env_file=None, **settings | changes), worker=True)


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """The service at work, and a client with an admin key."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://navcrm.test", headers=headers, timeout=PATIENCE
        ) as client:
            yield client


class World:
    """The company, as those who call the service see it."""

    def __init__(self, client: httpx.AsyncClient, crm: Crm, database: str) -> None:
        self.client = client
        self.crm = crm
        self.database = database

    # --- its making --------------------------------------------------------------------------------------

    async def make(self) -> None:
        """Two thousand records: coupled ones, edited ones, new ones."""
        await self.call("POST", "/api/v1/companies", {"name": "cronus"})
        await self.call("PUT", CONNECTION, self.crm.setup())
        await self.call("PATCH", CONNECTION, {"is_enabled": True})
        setup = f"{CONNECTION}/use-default-synchronization-setup"
        await self.call("POST", setup, {"mappings": [*MAPPINGS]})
        for row in (await self.call("GET", f"{MAPPING}/fields"))["items"]:
            if row["crm_attribute"] not in MAPPED:
                await self.call("DELETE", f"{MAPPING}/fields/{row['id']}")
        for entry in (await self.call("GET", f"{COMPANY}/job-queue-entries"))["items"]:
            await self.call("POST", f"{COMPANY}/job-queue-entries/{entry['id']}/hold")
        await self.customers({number: {"Name": f"Pair {number}"} for number in range(PAIRS)})
        job = await self.synchronize()
        assert job["inserted"] == PAIRS, (job, await self.call("GET", f"{COMPANY}/synch-errors?limit=2"))
        await self.customers(
            {number: {"Name": f"Of NAV {number}"} for number in EDITED}
            | {number: {"Name": f"New in NAV {number}"} for number in range(PAIRS, PAIRS + NEW)}
        )
        partners = {row["name"]: key for key, row in self.crm.accounts.items()}
        for number in EDITED_THERE:
            self.crm_changes(partners[f"Pair {number}"], telephone1=f"{number}")
        for number in range(NEW):
            self.crm_has(f"New in CRM {number}")

    async def customers(self, records: dict[int, dict[str, Any]]) -> None:
        """A person enters or changes customers."""
        items = [{"no": f"C{number:05}", "fields": fields} for number, fields in records.items()]
        await self.call("POST", f"{COMPANY}/nav/customers/bulk", {"records": items})

    def crm_changes(self, account: str, **values: Any) -> None:
        """A person changes an account in CRM."""
        row = self.crm.accounts[account]
        self.crm.organization.storage.put(
            "account", account, {**row, **values, "modifiedon": self.crm.organization.now()}
        )

    def crm_has(self, name: str) -> None:
        """A person creates an account in CRM."""
        organization = self.crm.organization
        organization._insert(
            "account",
            organization.new_id(),
            name=name,
            customertypecode=3,
            statecode=0,
            statuscode=1,
            transactioncurrencyid=organization.base_currency,
            ownerid=organization.user,
        )

    # --- what is asked of the service ----------------------------------------------------------------------

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A call that succeeds."""
        answer = await self.client.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def start(self, mode: str = "full", mapping: str = "CUSTOMER") -> dict[str, Any]:
        """Asks for a synchronization of everything, both ways, new records included."""
        asked = {"mode": mode, "create_uncoupled": True}
        path = f"{COMPANY}/integration-table-mappings/{mapping}/synchronize"
        job: dict[str, Any] = await self.call("POST", path, asked)
        return job

    async def job(self, job_id: str) -> dict[str, Any]:
        """How it stands."""
        found: dict[str, Any] = await self.call("GET", f"{COMPANY}/synch-jobs/{job_id}")
        return found

    async def until(
        self, job: dict[str, Any], reached: Callable[[dict[str, Any]], bool], patience: float = PATIENCE
    ) -> dict[str, Any]:
        """The job once it is so."""
        async with asyncio.timeout(patience):
            while not reached(found := await self.job(job["id"])):  # noqa: ASYNC110 - it happens behind the door
                await asyncio.sleep(0.05)
        return found

    async def synchronize(self, mode: str = "full") -> dict[str, Any]:
        """A synchronization, run to its end."""
        return await self.until(await self.start(mode), has_ended)

    def faults(self, *faults: Fault) -> None:
        """What goes wrong in CRM from now on."""
        self.crm.organization.faults[:] = faults

    # --- what must be true in the end ---------------------------------------------------------------------

    async def converged(self, edits: dict[int, str] | None = None) -> None:
        """Both sides tell the same story, nobody is there twice and no edit is lost; `edits` are phone numbers that
        somebody changed since, by customer."""
        database = await connect(self.database)
        try:
            customers = await database.fetch(
                "SELECT key, integration_id, fields FROM nav_record WHERE nav_table = 'customers'"
            )
            couplings = await database.fetch("SELECT * FROM coupling WHERE mapping = 'CUSTOMER'")
        finally:
            await database.close()
        accounts = self.crm.accounts
        assert (len(customers), len(accounts), len(couplings)) == (RECORDS, RECORDS, RECORDS)
        assert {each["status"] for each in couplings} == {"coupled"}
        assert not [each["last_error"] for each in couplings if each["last_error"] or each["skipped"]]
        partner = {each["nav_id"]: accounts[str(each["crm_id"])] for each in couplings}
        assert len({each["crm_id"] for each in couplings}) == RECORDS
        phones = {number: str(number) for number in EDITED_THERE} | (edits or {})
        names: Counter[str] = Counter()
        for record in customers:
            fields, account = json.loads(record["fields"]), partner[record["integration_id"]]
            shown = {
                "name": fields["Name"],
                "phone": fields.get("Phone_No", ""),
                "fax": fields.get("Fax_No", ""),
            }
            theirs = {
                "name": account["name"],
                "phone": str(account.get("telephone1", "")),
                "fax": account.get("fax", ""),
            }
            assert shown == theirs, record["key"]
            names[shown["name"]] += 1
            number = record["key"][1:] if record["key"].startswith("C") else ""
            assert shown["phone"] == (phones.get(int(number), "") if number.isdigit() else ""), record["key"]
        assert names == Counter(
            [
                *(f"Of NAV {n}" if n in EDITED else f"Pair {n}" for n in range(PAIRS)),
                *(f"New in NAV {n}" for n in range(PAIRS, PAIRS + NEW)),
                *(f"New in CRM {n}" for n in range(NEW)),
            ]
        )

    async def partner(self, number: int) -> str:
        """The account of a customer."""
        coupling = await self.call("GET", f"{COMPANY}/nav/customers/C{number:05}/coupling")
        return str(coupling["crm_id"])

    async def is_quiet(self) -> None:
        """Nothing is left to do: a run writes nothing."""
        job = await self.synchronize("modified")
        assert job["status"] == "succeeded", job
        assert (job["inserted"], job["modified"], job["deleted"], job["failed"]) == (0, 0, 0, 0), job


async def happened(look: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it has."""
    async with asyncio.timeout(PATIENCE):
        while not await look():  # noqa: ASYNC110 - it happens behind the door
            await asyncio.sleep(0.05)


def has_ended(job: dict[str, Any]) -> bool:
    """Nothing more will happen to the job."""
    return job["status"] not in ("queued", "running")
