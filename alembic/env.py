"""Runs migrations: on a connection that `app.db.migrate` hands over, or for the alembic command."""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import Connection

from app.db.embedded import embedded_unless_named
from app.db.migrate import alone
from app.db.tables import metadata as memory
from app.nav.tables import metadata as nav
from app.settings import Settings


def ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Leaves the tables of the job queue out of comparisons: its library makes them."""
    return not (kind == "table" and name is not None and name.startswith("pgqueuer"))


def migrate(connection: Connection) -> None:
    """Run on a connection whose transaction belongs to the caller."""
    context.configure(
        connection=connection,
        target_metadata=[memory, nav],
        include_name=ours,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_named_database() -> None:
    """For the alembic command: the database that the settings name, or the embedded one."""
    settings = Settings()
    embedded = embedded_unless_named(settings)
    try:
        named = settings.database_url
        address = named.get_secret_value() if named else embedded.url if embedded else ""
        await alone(address, migrate)
    finally:
        if embedded:
            embedded.stop()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif connection := context.config.attributes.get("connection"):
    migrate(connection)
else:
    asyncio.run(migrate_named_database())
