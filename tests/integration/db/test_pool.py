"""Connections that broke while nobody used them."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import ASK_AFTER, connect

pytestmark = pytest.mark.anyio


async def used(engine: AsyncEngine) -> int:
    """The server process behind a connection of the pool, which is given back."""
    async with engine.connect() as connection:
        return int(await connection.scalar(text("SELECT pg_backend_pid()")) or 0)


@pytest.mark.parametrize("unused_for", [0.0, ASK_AFTER + 0.1])
async def test_a_connection_that_the_server_ended_is_replaced(
    engine: AsyncEngine, database: str, unused_for: float
) -> None:
    first = await used(engine)
    assert await used(engine) == first
    admin = await connect(database)
    try:
        await admin.execute("SELECT pg_terminate_backend($1)", first)
    finally:
        await admin.close()
    await asyncio.sleep(unused_for)
    assert await used(engine) != first
