"""One PostgreSQL for all test processes, one migrated template in it, one clone of that per test."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import psycopg
from sqlalchemy import URL, make_url

from app.db import migrate
from app.db.embedded import EmbeddedPostgres
from app.db.engine import async_url, connect, libpq_url

CLONE = "navcrm_test_"
TEMPLATE_LOCK = 0x74657374
# The tests' data may be lost in a power cut; their own minutes may not.
# What is kept of the log stays small, as it may be in memory.
CARELESS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
}
NAMED = "NAVCRM_TEST_DATABASE_URL"
IN_MEMORY = Path("/dev/shm")
ROOM = 2**31
"""Bytes that a file system in memory must have free: the tests need a tenth, and containers often give it little."""
LEFT_WITHIN = 60
"""Seconds that those who were connected with a database may take to be gone; the server itself waits for five."""


class TestServer:
    """A server to make databases on: what NAVCRM_TEST_DATABASE_URL names, or an embedded one that all workers share."""

    __test__ = False

    def __init__(self, address: str | URL, embedded: EmbeddedPostgres | None = None) -> None:
        self._address = async_url(address)
        self._embedded = embedded
        # Kept, as a new connection costs half as much as a clone; of a library without event loops, as tests have many.
        self._admin = psycopg.connect(libpq_url(address), autocommit=True)

    @classmethod
    def start(cls) -> "TestServer":
        """Attach to the server, starting it if we are the first."""
        if named := os.environ.get(NAMED):
            return cls(named)
        # Kept between runs: the cluster is made once, and the template stays until a migration changes.
        checkout = hashlib.sha256(str(Path(__file__).resolve()).encode()).hexdigest()[:8]
        embedded = EmbeddedPostgres.start(
            _folder() / f"navcrm-tests-{os.getuid()}-{checkout}", server_settings=CARELESS
        )
        return cls(embedded.url, embedded)

    def stop(self) -> None:
        """Let go of the server."""
        self._admin.close()
        if self._embedded:
            self._embedded.stop()

    async def template(self) -> str:
        """Name of a database with all migrations; made once for each state of the migrations."""
        name = f"navcrm_template_{_migrations()}"
        admin = await connect(self._address)
        try:
            await admin.execute("SELECT pg_advisory_lock($1)", TEMPLATE_LOCK)  # the other workers wait
            if self._embedded:
                await _drop_left_behind(admin)
            if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                unfinished = f"{name}_unfinished"
                await admin.execute(f'DROP DATABASE IF EXISTS "{unfinished}" WITH (FORCE)')
                await admin.execute(f'CREATE DATABASE "{unfinished}" TEMPLATE template0')
                await migrate.upgrade(self._at(unfinished))
                await admin.execute(f'ALTER DATABASE "{unfinished}" RENAME TO "{name}"')
        finally:
            await admin.close()
        return name

    @asynccontextmanager
    async def clone(self, template: str) -> AsyncIterator[str]:
        """Address of a database of the test's own, dropped afterwards whoever is still connected."""
        name = f"{CLONE}{os.getpid()}_{uuid4().hex}"
        await self.administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        try:
            yield self._at(name).render_as_string(hide_password=False)
        finally:
            await self.administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    def _at(self, database: str) -> URL:
        return self._address.set(database=database)

    async def administer(self, statement: str) -> None:
        """Carries out a statement about databases, as soon as whoever was connected with them is gone."""
        async with asyncio.timeout(LEFT_WITHIN):
            while True:
                try:
                    await asyncio.to_thread(self._admin.execute, statement)
                    return
                except psycopg.errors.ObjectInUse:
                    await asyncio.sleep(0.1)


def name_of(address: str) -> str:
    """Name of the database at an address, to make clones of it."""
    return str(make_url(address).database)


def _folder() -> Path:
    """Where the cluster is kept: in memory if there is room. A clone is hundreds of files, which take a disk long."""
    if IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= ROOM:
        return IN_MEMORY
    return Path(tempfile.gettempdir())


async def _drop_left_behind(admin: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Drop the databases of test processes that were killed."""
    for row in await admin.fetch("SELECT datname FROM pg_database WHERE starts_with(datname, $1)", CLONE):
        try:
            os.kill(int(row["datname"].removeprefix(CLONE).split("_")[0]), 0)
        except (ProcessLookupError, PermissionError):  # nobody, or somebody who has the number now
            await admin.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)')


def _migrations() -> str:
    """Changes whenever a migration does."""
    digest = hashlib.sha256()
    for script in sorted(migrate.scripts().rglob("*.py")):
        digest.update(script.name.encode() + b"\0" + script.read_bytes())
    return digest.hexdigest()[:16]
