"""Keys by the command line, and the service under signals, on a database of the test's own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
import pytest

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]


def environment(database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAVCRM_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "NAVCRM_DATABASE_URL": database,
        "NAVCRM_SECRET_KEYS": "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso=",
    }


async def navcrm(database: str, *arguments: str) -> str:
    done = await anyio.run_process([*NAVCRM, *arguments], env=environment(database), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


async def test_a_key_from_the_command_line_opens_the_api_until_it_is_revoked(database: str) -> None:
    token = (await navcrm(database, "api-key", "create", "--name", "shop", "--scope", "read")).strip()
    listed = await navcrm(database, "api-key", "list")
    assert "shop" in listed
    assert token not in listed
    with _serving(database) as (url, process):
        async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=_bearer(token)) as client:
            assert (await client.get("/companies")).status_code == 200
            assert (await client.post("/companies", json={"name": "x"})).status_code == 403
            await navcrm(database, "api-key", "revoke", listed.split()[0])
            assert (await client.get("/companies")).status_code == 401
            ready = (await client.get(f"{url}/readyz")).json()
            assert ready["checks"]["database"] == "ok"
        process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(process.wait, 30) == 0


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class _serving:  # noqa: N801 - reads as a verb
    """`navcrm serve` on a free port."""

    def __init__(self, database: str) -> None:
        command = [*NAVCRM, "serve", "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment(database), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> "tuple[str, subprocess.Popen[str]]":
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        return next(word for word in words if word.startswith("http")).removesuffix("/api/v1;"), self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
