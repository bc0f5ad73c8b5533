"""The endpoint that the API is measured beside: FastAPI, asyncpg, one statement."""

import argparse
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException

from app.db.engine import libpq_url

ONE = """
    SELECT key, integration_id, row_version, fields FROM nav_record
    WHERE company_id = $1 AND nav_table = $2 AND key = $3
    """


def create(database: str) -> FastAPI:
    """The application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(libpq_url(database), min_size=20, max_size=20) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/companies/{company}/nav/{table}/{no}")
    async def record(company: int, table: str, no: str) -> dict[str, Any]:
        row = await app.state.pool.fetchrow(ONE, company, table, no)
        if row is None:
            raise HTTPException(404)
        return {
            "no": row["key"],
            "integration_id": row["integration_id"],
            "version": row["row_version"],
            "fields": json.loads(row["fields"]),
        }

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    given = parser.parse_args()
    uvicorn.run(create(given.database), port=given.port, log_level="warning", access_log=False)
