"""Backups as docs/operating.md describes them, made with the programs that come with the embedded server."""

from pathlib import Path

import anyio

from app.db.engine import libpq_url
from app.db.postgres_binaries import packaged


async def back_up(address: str, file: Path) -> None:
    """Writes the database into a file."""
    await _run("pg_dump", "--format=custom", f"--file={file}", f"--dbname={libpq_url(address)}")


async def put_back(address: str, file: Path) -> None:
    """Makes the database what it was, whatever is in it."""
    options = ("--clean", "--if-exists", "--no-owner", "--single-transaction", "--exit-on-error")
    await _run("pg_restore", *options, f"--dbname={libpq_url(address)}", str(file))


async def _run(program: str, *arguments: str) -> None:
    done = await anyio.run_process([str(packaged(None) / program), *arguments], check=False)
    assert done.returncode == 0, done.stderr.decode()
