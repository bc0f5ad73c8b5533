"""A company, its CRM and the people of both sides; the service itself comes and goes as processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.crm.connector import Connector
from app.crm.store import Dataverse
from app.db.engine import create_engine
from app.main import create_app
from app.ports import Insert, Refused, Update, Write
from app.sandbox import Organization, create_sandbox
from app.settings import Settings
from tests.api.conftest import ADMIN_KEY, COMPANY, CONNECTION, FERNET_KEY, Sandbox, client_of
from tests.crm_sandbox import served, setup_for
from tests.integration.crashes.wires import Tripwire, wire_to_crm, wire_to_database

PATIENCE = 90.0
LOOK_EVERY = 0.05
CUSTOMER_TYPE = 3
MAPPING = f"{COMPANY}/integration-table-mappings/CUSTOMER"
FIELDS = {"Name": "name", "Phone_No": "telephone1", "City": "address1_city", "Fax_No": "fax"}
TAG, CRM_TAG = "Fax_No", "fax"
"""Which record it is; nobody changes it."""

_opening = asyncio.Lock()
"""Alembic looks at one database at a time in a process; tests have several sites."""


@dataclass(slots=True)
class Site:
    """What a test works with. `api` is a service beside the one that is under test, on an undisturbed wire."""

    api: httpx.AsyncClient
    organization: Organization
    engine: AsyncEngine
    people: Dataverse
    database: str
    wired_database: str
    tripwire: Tripwire
    folder: Path

    # --- people ----------------------------------------------------------------------------------

    async def nav_writes(self, records: Sequence[dict[str, Any]]) -> None:
        """Somebody enters or changes customers in NAV."""
        answer = await self.api.post(f"{COMPANY}/nav/customers/bulk", json={"records": records})
        assert answer.status_code == 200, answer.text
        assert not [one for one in answer.json()["outcomes"] if one["error"]]

    async def crm_writes(self, writes: Sequence[Write]) -> None:
        """Somebody enters or changes accounts in CRM."""
        for outcome in await self.people.write("account", writes):
            assert not isinstance(outcome, Refused), outcome.error

    async def start(self, **asked: Any) -> str:
        """A synch job of the customers; its address."""
        answer = await self.api.post(f"{MAPPING}/synchronize", json=asked)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    # --- what is there ---------------------------------------------------------------------------

    async def ended(self, address: str) -> dict[str, Any]:
        """The job, when it has ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                job: dict[str, Any] = (await self.api.get(address)).json()
                if job["finished_at"]:
                    return job
                await asyncio.sleep(LOOK_EVERY)

    async def rows(self, statement: str) -> list[Any]:
        """What the database says."""
        async with self.engine.connect() as connection:
            return list(await connection.execute(text(statement)))

    async def logged(self, job_id: str) -> dict[str, int]:
        """How many records a job did what with, as its log says."""
        query = text("SELECT action, count(*) FROM synch_outcome WHERE job_id = :job GROUP BY action")
        async with self.engine.connect() as connection:
            return {row[0]: row[1] for row in await connection.execute(query, {"job": job_id})}

    async def customers(self) -> dict[str, dict[str, str]]:
        """What NAV shows, by tag; nobody is there twice."""
        found: dict[str, dict[str, str]] = {}
        cursor: str | None = None
        while True:
            parameters = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
            page = (await self.api.get(f"{COMPANY}/nav/customers", params=parameters)).json()
            for item in page["items"]:
                shown = {name: item["fields"].get(name) or "" for name in FIELDS}
                assert shown[TAG] not in found, f"{shown[TAG]} is twice in NAV"
                found[shown[TAG]] = shown | {"id": item["integration_id"] or ""}
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def accounts(self) -> dict[str, dict[str, str]]:
        """What CRM shows, by tag; nobody is there twice."""
        rows = self.organization.rows("account")
        tags = Counter(row.get(CRM_TAG) for row in rows.values())
        assert set(tags.values()) <= {1}, f"twice in CRM: {[tag for tag, n in tags.items() if n > 1]}"
        return {
            str(row[CRM_TAG]): {nav: str(row.get(crm) or "") for nav, crm in FIELDS.items()} | {"id": row_id}
            for row_id, row in rows.items()
        }

    async def couplings(self) -> set[tuple[str, str]]:
        """The pairs; nothing is coupled twice."""
        rows = await self.rows("SELECT nav_id, crm_id, status FROM coupling")
        assert {row.status for row in rows} <= {"coupled"}
        pairs = {(str(row.nav_id), str(row.crm_id)) for row in rows}
        assert len({nav for nav, _ in pairs}) == len({crm for _, crm in pairs}) == len(rows)
        return pairs

    async def agreed(self) -> dict[str, dict[str, str]]:
        """What both sides show alike, each record with its one partner; by tag."""
        nav, crm = await self.customers(), self.accounts()
        assert nav.keys() == crm.keys()
        assert await self.couplings() == {(nav[tag]["id"], crm[tag]["id"]) for tag in nav}
        shown = {tag: {name: record[name] for name in FIELDS} for tag, record in nav.items()}
        assert shown == {tag: {name: record[name] for name in FIELDS} for tag, record in crm.items()}
        return shown


@asynccontextmanager
async def a_site(database: str, folder: Path, **sandbox: Any) -> AsyncIterator[Site]:
    """A company with an enabled connection and the mapping of customers; no worker is there."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        tripwire = Tripwire()
        crm = create_sandbox(**sandbox)
        crm_address = await enter(served(crm))
        by_wire = await enter(wire_to_crm(crm_address, tripwire))
        wired_database = await enter(wire_to_database(database, tripwire))
        settings = Settings(
            _env_file=None,
            database_url=database,
            database_pool_size=4,
            bootstrap_api_key=ADMIN_KEY,
            secret_keys=FERNET_KEY,
        )
        app = create_app(settings)
        async with _opening:
            await enter(app.router.lifespan_context(app))
        api = await enter(client_of(app, ADMIN_KEY))
        for method, path, body in _set_up(Sandbox(by_wire, crm.state.organization)):
            answer = await api.request(method, path, json=body)
            assert answer.is_success, answer.text
        connector = Connector(lanes=2)
        stack.push_async_callback(connector.aclose)
        people = connector.open(1, setup_for(crm_address))
        engine = create_engine(database, pool_size=2)
        stack.push_async_callback(engine.dispose)
        yield Site(api, crm.state.organization, engine, people, database, wired_database, tripwire, folder)


def _set_up(crm: Sandbox) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("POST", "/api/v1/companies", {"name": "cronus"}),
        ("PUT", CONNECTION, crm.setup()),
        ("PATCH", CONNECTION, {"is_enabled": True}),
        (
            "POST",
            f"{CONNECTION}/use-default-synchronization-setup",
            {"mappings": ["CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT"]},
        ),
        ("PATCH", MAPPING, {"update_conflict_resolution": "merge"}),
    ]


def customer(tag: str, **fields: str) -> dict[str, Any]:
    """A NAV customer as it is sent."""
    return {"no": f"C{tag.upper()}", "fields": {TAG: tag} | fields}


def account(tag: str, **fields: str) -> Insert:
    """A new CRM account."""
    return Insert(uuid4(), {CRM_TAG: tag, "customertypecode": CUSTOMER_TYPE, **fields})


def change(site: Site, tag: str, **fields: str) -> Update:
    """What changes in a CRM account."""
    return Update(UUID(site.accounts()[tag]["id"]), fields)
