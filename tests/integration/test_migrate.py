"""Migrations: run by whoever starts first, once."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import migrate
from app.db.engine import create_engine
from tests.database import TestServer
from tests.integration.crashes.processes import running

pytestmark = pytest.mark.anyio


async def test_services_that_start_at_once_migrate_an_empty_database_together(
    test_server: TestServer,
) -> None:
    async with test_server.clone("template0") as empty:
        await asyncio.gather(*(migrate.upgrade(empty) for _ in range(4)))
        engine = create_engine(empty)
        assert await migrate.at_head(engine)
        await engine.dispose()


async def test_processes_that_start_at_once_migrate_an_empty_database_together(
    test_server: TestServer, tmp_path: Path
) -> None:
    async with test_server.clone("template0") as empty, AsyncExitStack() as stack:
        commands = [("migrate",), ("migrate",), ("serve", "--port", "0")]
        started = [await stack.enter_async_context(running(tmp_path, empty, *each)) for each in commands]
        *migrating, serving = started
        assert [await each.ended() for each in migrating] == [0, 0]
        await serving.address()
        engine = create_engine(empty)
        assert await migrate.at_head(engine)
        await engine.dispose()


async def test_an_empty_database_is_not_at_head(test_server: TestServer) -> None:
    async with test_server.clone("template0") as empty:
        engine = create_engine(empty)
        assert not await migrate.at_head(engine)
        await engine.dispose()


async def test_the_migrations_make_the_tables_that_the_code_expects(engine: AsyncEngine) -> None:
    def check(connection: Connection) -> None:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.check(config)  # raises, naming every difference

    async with engine.connect() as connection:
        await connection.run_sync(check)


async def test_each_test_gets_a_migrated_database_of_its_own(engine: AsyncEngine, database: str) -> None:
    assert await migrate.at_head(engine)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_database()")) in database
        assert await connection.scalar(text("SHOW server_encoding")) == "UTF8"
