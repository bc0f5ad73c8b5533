"""The disk of PostgreSQL is full: callers are told so, jobs wait for room, and all goes on once there is some."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.api.conftest import ADMIN_KEY, COMPANY
from tests.integration.crashes.processes import running
from tests.integration.crashes.site import MAPPING, Site, a_site, customer
from tests.integration.jobs.workers import until

pytestmark = pytest.mark.anyio
TABLES = ("nav_record", "coupling", "synch_outcome", "company", "idempotency_key")


FULL = """RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';"""


async def room(engine: AsyncEngine, then: str = "RETURN NEW;") -> None:
    """From now on this becomes of new rows; no lock is needed for that, so it waits for nobody."""
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {then} END $$"
        )


@pytest.fixture
async def site(database: str, tmp_path: Path, engine: AsyncEngine) -> AsyncIterator[Site]:
    """A site whose database asks before every new row whether there is room."""
    await room(engine)
    async with engine.begin() as connection:
        for table in TABLES:
            await connection.exec_driver_sql(
                f"CREATE TRIGGER room BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION room()"
            )
    async with a_site(database, tmp_path) as site:
        yield site


@asynccontextmanager
async def no_room(engine: AsyncEngine) -> AsyncIterator[None]:
    """The server refuses every new row as it does when a file cannot grow (disk_full, 53100)."""
    await room(engine, FULL)
    yield
    await room(engine)


async def refused(site: Site, path: str, body: dict[str, object], **headers: str) -> None:
    """The answer says what is the matter, what mends it and when to come back."""
    answer = await site.api.post(path, json=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "database-full"), problem
    assert "no space left" in problem["detail"]
    assert "Free space" in problem["fix"]
    assert int(answer.headers["Retry-After"]) >= 10


async def test_a_full_disk_is_told_and_everything_goes_on_once_there_is_room(
    site: Site, database: str, tmp_path: Path
) -> None:
    await site.nav_writes([customer(f"N{n}", Name=f"Customer {n}") for n in range(20)])
    # A job that fails is tried again after half a minute, which is too long for a test.
    settings = {"NAVCRM_WORKER_RETRY_SECONDS": "0.5"}
    async with running(tmp_path, database, "worker", settings=settings) as worker:
        async with no_room(site.engine):
            await refused(site, f"{COMPANY}/nav/customers", {"fields": {"Name": "One more"}})
            await refused(site, "/api/v1/companies", {"name": "other"})
            await refused(site, "/api/v1/companies", {"name": "other"}, **{"Idempotency-Key": "k"})
            assert (await site.api.get(f"{COMPANY}/nav/customers")).status_code == 200
            job = await site.start(mode="full", create_uncoupled=True)

            async def waits_for_room() -> bool:
                shown = (await site.api.get(job)).json()
                return shown["status"] == "queued" and "no space left" in (shown["message"] or "")

            await until(waits_for_room)
        ended = await site.ended(job)
        assert (ended["status"], ended["inserted"]) == ("succeeded", 20), ended
        assert len(await site.agreed()) == 20
        assert worker.alive
        assert "disk" in worker.said or "database-full" in worker.said
    keyed = {"Idempotency-Key": "k"}
    again = await site.api.post("/api/v1/companies", json={"name": "other"}, headers=keyed)
    assert again.status_code == 201
    assert ADMIN_KEY not in worker.said
    assert (await site.api.get(MAPPING)).status_code == 200
