"""Migrations: run by whoever starts first, once."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db import migrate
from app.db.engine import create_engine
from app.db.readiness import readiness
from app.domain.coupling import Base, Changes, Outcome, SynchAction
from app.domain.mapping import Direction, TableMapping
from app.domain.records import Side, Values
from tests.database import TestServer
from tests.integration.crashes.processes import running
from tests.integration.db.memory import NOON, a_company, a_coupling, a_memory

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


async def test_what_was_written_to_records_is_told_the_same_after_the_log_took_its_new_form(
    engine: AsyncEngine,
) -> None:
    memory, coupling = a_memory(engine), UUID(int=9)
    company = await a_company(memory)
    new: Values = {"name": "Adatum", "creditlimit": Decimal("10.50"), "fax": None}
    written = Outcome(
        SynchAction.MODIFIED, coupling_id=coupling, changes=Changes(Side.CRM, new, {"name": "Ad", "fax": "1"})
    )
    async with memory() as tx:
        await tx.synch_log.add(company.id, None, [written, Outcome(SynchAction.SKIPPED)], datetime.now(UTC))
        before = await tx.synch_log.history(company.id, coupling, None, 10)

    def there_and_back(connection: Connection) -> Any:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.downgrade(config, "kept_json_0001")
        field_by_field = (
            connection.execute(text("SELECT changes FROM synch_outcome ORDER BY id")).scalars().all()
        )
        command.upgrade(config, "head")
        return field_by_field

    async with engine.connect() as connection:
        assert await connection.run_sync(there_and_back) == [
            [
                ["crm", "name", "Ad", "Adatum"],
                ["crm", "creditlimit", None, ["n", "10.50"]],
                ["crm", "fax", "1", None],
            ],
            None,
        ]
        await connection.commit()
    async with memory() as tx:
        assert await tx.synch_log.history(company.id, coupling, None, 10) == before
    assert [(write["field"], write["old"], write["new"]) for write in before] == [
        ("name", "Ad", "Adatum"),
        ("creditlimit", None, Decimal("10.50")),
        ("fax", "1", None),
    ]


async def test_an_older_version_looks_at_what_was_agreed_on_under_another_edition(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        mapping = TableMapping("CUSTOMER", "customers", "account", Direction.BIDIRECTIONAL)
        stored = await tx.mappings.add(company.id, mapping)
        for number, edition in enumerate((stored.edition, stored.edition - 1)):
            held = await tx.couplings.reserve(company.id, [a_coupling(number)])
            base = Base({}, {}, "17", 'W/"18"')
            agreed = held[0].agreed(base, SynchAction.INSERTED, NOON, edition=edition)
            assert await tx.couplings.save(company.id, [agreed])

    def there_and_back(connection: Connection) -> Any:
        config = migrate.config()
        config.attributes["connection"] = connection
        command.downgrade(config, "coupling_room_0001")
        held = connection.execute(text("SELECT nav_version, crm_version FROM coupling ORDER BY nav_key"))
        versions = [tuple(row) for row in held]
        command.upgrade(config, "head")
        return versions

    async with engine.connect() as connection:
        assert await connection.run_sync(there_and_back) == [("17", 'W/"18"'), (None, None)]


async def test_each_test_gets_a_migrated_database_of_its_own(engine: AsyncEngine, database: str) -> None:
    assert await migrate.at_head(engine)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_database()")) in database
        assert await connection.scalar(text("SHOW server_encoding")) == "UTF8"


async def test_a_database_of_a_newer_version_is_refused_with_what_to_do(
    engine: AsyncEngine, database: str
) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'of_tomorrow'"))
    with pytest.raises(migrate.SchemaNewer, match="newer version"):
        await migrate.upgrade(database)
    assert "newer version" in ((await readiness(engine))["migrations"] or "")
