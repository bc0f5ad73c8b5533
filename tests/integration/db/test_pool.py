"""Connections that broke while nobody used them."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
import pytest
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import ASK_AFTER, USED, connect, create_engine
from app.domain.company import Company
from app.domain.errors import DatabaseUnavailable
from app.nav.store import EmbeddedNav
from tests.integration.crashes.wires import NearEnds, Tripwire, wire_to_database
from tests.integration.db.memory import a_memory

pytestmark = pytest.mark.anyio
PATIENCE = 60.0  # seconds
FATAL, NOTICE = b"E", b"N"
Driven: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def used(engine: AsyncEngine) -> int:
    """The server process behind a connection of the pool, which is given back."""
    async with engine.connect() as connection:
        return int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)


async def driver_connection(engine: AsyncEngine) -> Driven:
    """What is behind a connection of the pool, which is given back."""
    async with engine.connect() as connection:
        driven = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driven, asyncpg.Connection)
    return driven


async def test_a_connection_that_the_server_ended_is_replaced(engine: AsyncEngine, database: str) -> None:
    first, driven = await used(engine), await driver_connection(engine)
    assert await used(engine) == first
    ended = asyncio.Event()
    driven.add_termination_listener(lambda _: ended.set())
    admin = await connect(database)
    try:
        await admin.execute("SELECT pg_terminate_backend($1)", first)
    finally:
        await admin.close()
    await asyncio.wait_for(ended.wait(), PATIENCE)
    assert await used(engine) != first


async def look_at_companies(
    engine: AsyncEngine, meanwhile: Callable[[], Awaitable[None]] | None = None
) -> None:
    """A transaction of two statements, or of one when nothing happens meanwhile."""
    async with a_memory(engine)() as tx:
        if meanwhile is not None:
            await tx.companies.page(1, None, None)
            await meanwhile()
        await tx.companies.page(1, None, None)


@pytest.fixture
async def near_ends() -> NearEnds:
    """The service's ends of its connections."""
    return NearEnds()


@pytest.fixture
async def wired(database: str, near_ends: NearEnds) -> AsyncIterator[AsyncEngine]:
    """A pool whose connections lead through a wire."""
    async with wire_to_database(database, Tripwire(), near_ends) as address:
        engine = create_engine(address, pool_size=1)
        yield engine
        await engine.dispose()


@pytest.fixture
async def busy(wired: AsyncEngine) -> AsyncEngine:
    """The same; every connection was used a moment ago, however long the test takes for a moment."""
    event.listen(wired.sync_engine, "checkin", lambda _, record: record.info.update({USED: math.inf}))
    return wired


def said(kind: bytes, **fields: str) -> bytes:
    """An ErrorResponse or a NoticeResponse, as the server writes it."""
    content = b"".join(f"{name}{value}\0".encode() for name, value in fields.items()) + b"\0"
    return kind + (len(content) + 4).to_bytes(4, "big") + content


async def hear_the_last_words(driven: Driven, near_ends: NearEnds) -> None:
    """The server says that it ends the connection; the end of the socket is still on its way."""
    heard = asyncio.Event()
    driven.add_log_listener(lambda *_: heard.set())
    last = said(
        FATAL, S="FATAL", V="FATAL", C="57P01", M="terminating connection due to administrator command"
    )
    # The driver tells nobody about the first message, but about the second.
    await near_ends.hear(last + said(NOTICE, S="NOTICE", V="NOTICE", C="00000", M="that was it"))
    await asyncio.wait_for(heard.wait(), PATIENCE)
    assert not driven.is_closed()


async def test_a_connection_that_is_about_to_end_is_no_fault_of_ours(
    busy: AsyncEngine, near_ends: NearEnds
) -> None:
    first = await used(busy)
    await hear_the_last_words(await driver_connection(busy), near_ends)
    with pytest.raises(DatabaseUnavailable, match="The connection to the database broke"):
        await look_at_companies(busy)
    assert await used(busy) != first


async def test_a_connection_that_is_about_to_end_ends_the_transaction(
    wired: AsyncEngine, near_ends: NearEnds
) -> None:
    first, driven = await used(wired), await driver_connection(wired)
    with pytest.raises(DatabaseUnavailable, match="The connection to the database broke"):
        await look_at_companies(wired, meanwhile=lambda: hear_the_last_words(driven, near_ends))
    assert await used(wired) != first


async def test_nav_says_so_of_a_connection_that_is_about_to_end(
    busy: AsyncEngine, near_ends: NearEnds
) -> None:
    nav = EmbeddedNav(busy, Company(1, "cronus", "CRONUS"))
    first = await used(busy)
    await hear_the_last_words(await driver_connection(busy), near_ends)
    with pytest.raises(DatabaseUnavailable):
        await nav.test()
    assert await used(busy) != first


async def test_a_connection_that_ended_unnoticed_is_replaced_after_a_while_without_use(
    wired: AsyncEngine, near_ends: NearEnds
) -> None:
    first = await used(wired)
    await hear_the_last_words(await driver_connection(wired), near_ends)
    await asyncio.sleep(ASK_AFTER + 0.1)
    assert await used(wired) != first


async def test_a_pool_leaves_connections_that_were_made_while_nothing_could_be_written(
    engine: AsyncEngine, database: str
) -> None:
    name = make_url(database).database
    admin = await connect(database)
    try:
        await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        first = await used(engine)
        await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    finally:
        await admin.close()
    with pytest.raises(DatabaseUnavailable):
        await forget_workers(engine)
    await forget_workers(engine)
    assert await used(engine) != first


async def forget_workers(engine: AsyncEngine) -> None:
    """A transaction that writes."""
    async with a_memory(engine)() as tx:
        await tx.workers.forget(datetime.now(UTC))
