"""What happens when the database of the NAV side is out of reach, and whether it is as the code says."""

from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.domain.company import Company
from app.domain.errors import DatabaseUnavailable, TableNotFound
from app.nav.saving import Scope
from app.nav.store import EmbeddedNav
from app.nav.tables import metadata
from app.ports import Delete, NavSide

pytestmark = pytest.mark.anyio


async def test_a_database_that_does_not_answer_is_nav_unavailable() -> None:
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none")
    nav: NavSide = EmbeddedNav(engine, Company(1, "cronus", "CRONUS"))
    with pytest.raises(DatabaseUnavailable):
        await nav.test()
    with pytest.raises(DatabaseUnavailable):
        await nav.write("customers", [Delete(uuid4())])
    with pytest.raises(DatabaseUnavailable):
        async for _ in nav.changes("customers", ["Name"], None):
            pass
    await engine.dispose()


async def test_a_statement_that_is_wrong_is_no_database_out_of_reach(nav: EmbeddedNav) -> None:
    async def ask(scope: Scope) -> None:
        await scope.connection.execute(text("SELECT no_such_column FROM nav_record"))

    with pytest.raises(ProgrammingError, match="no_such_column"):
        await nav._read(ask)
    with pytest.raises(ProgrammingError, match="no_such_column"):
        await nav._change(ask)


async def test_a_table_that_nav_does_not_have_is_named(nav: EmbeddedNav) -> None:
    with pytest.raises(TableNotFound, match="no-such-table"):
        await nav.create("no-such-table", None, {})


async def test_the_migrations_make_the_tables_that_the_code_knows(engine: AsyncEngine) -> None:
    def differences(connection: Connection) -> list[Any]:
        def ours(name: str | None, kind: str, _parents: Any) -> bool:
            return kind != "table" or str(name).startswith("nav_")

        options = {"include_name": ours, "compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
