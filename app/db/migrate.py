"""Brings a database to the schema of this version."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine

MIGRATION_LOCK = 0x6E617663726D  # "navcrm"
_PACKAGE = Path(__file__).parent.parent


SCHEMA_NEWER = (
    "the schema is that of a newer version of navcrm: run that one, or put a backup from before back"
)


class SchemaNewer(Exception):
    """The database was migrated by a newer version than this one."""

    def __init__(self) -> None:
        super().__init__(f"The database cannot be used: {SCHEMA_NEWER}.")


def scripts() -> Path:
    """The migrations: inside the package when it was built into a wheel, beside it in the source tree."""
    built = _PACKAGE / "_alembic"
    return built if built.is_dir() else _PACKAGE.parent / "alembic"


async def upgrade(address: str | URL) -> None:
    """Run the missing migrations, all or none.

    Several may call it at once: one works, the others wait and find it done.
    """
    await alone(address, _upgrade)


async def alone(address: str | URL, work: Callable[[Connection], None]) -> None:
    """Do work on the schema in one transaction, which nobody else who asks for it here enters meanwhile."""
    engine = create_engine(address, pool_size=2, statement_timeout=None)  # a migration takes what it takes
    try:
        async with engine.begin() as connection:
            # Before Alembic begins: it reads what is missing only once, and its context is one per process.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            await connection.run_sync(work)
    finally:
        await engine.dispose()


async def at_head(engine: AsyncEngine) -> bool:
    """Whether the database has exactly the schema of this version."""
    async with engine.connect() as connection:
        return await connection.run_sync(_current_heads) == heads()


@cache
def heads() -> frozenset[str]:
    """The newest migrations that this version knows."""
    return frozenset(ScriptDirectory.from_config(config()).get_heads())


def config() -> Config:
    """Alembic's own settings; `connection` among its attributes is where it works."""
    made = Config()
    made.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return made


def is_newer(found: frozenset[str]) -> bool:
    """Whether a database at these migrations was migrated by a version after this one, which knows them."""
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    return not found <= known


async def is_newer_than_this(engine: AsyncEngine) -> bool:
    """Whether a newer version than this one migrated the database."""
    async with engine.connect() as connection:
        return is_newer(await connection.run_sync(_current_heads))


def _upgrade(connection: Connection) -> None:
    if is_newer(_current_heads(connection)):
        raise SchemaNewer
    here = config()
    here.attributes["connection"] = connection
    command.upgrade(here, "head")


def _current_heads(connection: Connection) -> frozenset[str]:
    return frozenset(MigrationContext.configure(connection).get_current_heads())
