"""`navcrm serve` and `navcrm worker` as processes of their own that a test may kill, stop, or give a wrong clock."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from tests.api.conftest import ADMIN_KEY, FERNET_KEY

STARTS_WITHIN = 60.0  # seconds on a busy machine
ENDS_WITHIN = 60.0
SETTINGS = {
    "NAVCRM_BOOTSTRAP_API_KEY": ADMIN_KEY,
    "NAVCRM_SECRET_KEYS": FERNET_KEY,
    "NAVCRM_DATABASE_POOL_SIZE": "5",
    "NAVCRM_WORKER_POLL_SECONDS": "0.5",
    "NAVCRM_WORKER_WATCH_SECONDS": "0",
}

# Processes are forked from one that has loaded the service: Python needs a second or two for that, they do not.
_starter = multiprocessing.get_context("forkserver")
_starter.set_forkserver_preload(["app.cli", "app.main", "app.wiring", "app.worker", "app.serving"])


@dataclass(slots=True)
class Process:
    """A process of the service."""

    process: BaseProcess
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid or 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.is_alive()

    @property
    def said(self) -> str:
        """What it wrote to its log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """What a power cut is to a process. May be called twice."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Tells it to stop."""
        os.kill(self.pid, signal.SIGTERM)

    async def ended(self) -> int:
        """Waits for its end; the exit code."""
        await asyncio.to_thread(self.process.join, ENDS_WITHIN)
        assert self.process.exitcode is not None, f"It did not end:\n{self.said[-3000:]}"
        return self.process.exitcode

    async def address(self) -> str:
        """Where a serving one answers, as soon as it does."""
        async with asyncio.timeout(STARTS_WITHIN):
            while "navcrm answers at " not in self.said:
                assert self.alive, self.said[-3000:]
                await asyncio.sleep(0.01)
        return self.said.split("navcrm answers at ")[1].split("/api/v1")[0]


@asynccontextmanager
async def running(
    folder: Path, database: str, *arguments: str, clock: float = 0, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A command of navcrm; killed at the end of the block unless it has ended.

    `clock` is by how many seconds its clock is wrong.
    """
    log = _new_log(folder, arguments[0])
    environment = SETTINGS | {"NAVCRM_DATABASE_URL": database} | dict(settings or {})
    process = _starter.Process(target=_run, args=(arguments, environment, log, clock), daemon=True)
    process.start()
    try:
        yield Process(process, log)
    finally:
        if process.is_alive():
            process.kill()
        await asyncio.to_thread(process.join, ENDS_WITHIN)
        process.close()


async def is_ready(client: httpx.AsyncClient) -> bool:
    """Whether the service says that it is. On a busy machine it may find out too late to say so."""
    return (await client.get("/readyz")).status_code == 200


def _new_log(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    log = folder / f"{name}-{len(list(folder.iterdir()))}.log"
    log.touch()
    return log


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], log: Path, clock: float) -> None:
    """What the process does."""
    from app.cli import main

    for name in [name for name in os.environ if name.startswith("NAVCRM_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(log.parent)  # no .env but that of the test
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    if clock:
        import datetime as dt

        import time_machine

        time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=clock), tick=True).start()
    sys.argv = ["navcrm", *arguments]
    main()
