"""Whether the database and the workers are there."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.migrate import SCHEMA_NEWER, at_head, is_newer_than_this
from app.db.tables import worker

SEEN_WITHIN = timedelta(minutes=1)
PATIENCE = 3.0
"""Seconds; who asks whether we are ready does not wait long for the answer."""


async def readiness(engine: AsyncEngine) -> Mapping[str, str | None]:
    """By check (`database`, `migrations`, `worker`) what is in the way; None where all is well."""
    unknown = "unknown while the database does not answer"
    try:
        async with asyncio.timeout(PATIENCE):
            return await _looked(engine)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        return {
            "database": f"it does not answer ({type(error).__name__})",
            "migrations": unknown,
            "worker": unknown,
        }


async def _looked(engine: AsyncEngine) -> Mapping[str, str | None]:
    if not await at_head(engine):
        older = "the schema is not that of this version: run `navcrm migrate`"
        return {
            "database": None,
            "migrations": SCHEMA_NEWER if await is_newer_than_this(engine) else older,
            "worker": "unknown before the database is migrated",
        }
    async with engine.connect() as connection:
        recent = select(func.count()).where(worker.c.seen_at > func.now() - SEEN_WITHIN)
        seen = (await connection.execute(recent)).scalar()
    return {
        "database": None,
        "migrations": None,
        "worker": None if seen else "no worker was seen in the last minute: run `navcrm worker`",
    }
