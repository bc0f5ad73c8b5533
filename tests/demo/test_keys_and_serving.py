"""Keys by the command line, and the service under signals, on a database of the test's own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import SocketStream
from cryptography.fernet import Fernet
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company
from app.serving import LONGEST_HEAD

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]


KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="


def environment(database: str, secret_keys: str = KEY) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAVCRM_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "NAVCRM_DATABASE_URL": database,
        "NAVCRM_SECRET_KEYS": secret_keys,
    }


async def navcrm(database: str, *arguments: str, secret_keys: str = KEY) -> str:
    done = await anyio.run_process([*NAVCRM, *arguments], env=environment(database, secret_keys), check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


async def test_a_key_from_the_command_line_opens_the_api_until_it_is_revoked(database: str) -> None:
    token = (await navcrm(database, "api-key", "create", "--name", "shop", "--scope", "read")).strip()
    listed = await navcrm(database, "api-key", "list")
    assert "shop" in listed
    assert token not in listed
    with _serving(database) as (url, process):
        async with _client(url, token) as client:
            assert (await client.get("/companies")).status_code == 200
            assert (await key_behind_the_body(url, token)).startswith(b"HTTP/1.1 401")
            assert (await client.post("/companies", json={"name": "x"})).status_code == 403
            await told_by_its_head(client, f"{url}/healthz")
            await told_by_its_head(client, f"{url}/readyz")
            await told_by_its_head(client, "/companies")
            await navcrm(database, "api-key", "revoke", listed.split()[0])
            assert (await client.get("/companies")).status_code == 401
            ready = (await client.get(f"{url}/readyz")).json()
            assert ready["checks"]["database"] == "ok"
            long = {"X-Long": "x" * LONGEST_HEAD}
            assert (await client.get(f"{url}/healthz", headers=long)).status_code == 400
        assert all([await comes_in_one(url) for _ in range(10)])
        assert await endless(url, b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-Endless: ")
        assert (await answers(url, b"GET /healthz HTTP/1.1\r\n\r\n"))[0].startswith("400")  # of no host
        offer = b"POST /healthz HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        asked = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
        told = await answers(url, offer + b"Content-Length: %d\r\n\r\n" % len(asked), asked)
        assert [status[:3] for status in told] == ["405", "200"]
        chunked = b"POST /healthz HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert await endless(url, chunked + b"1\r\nx\r\n0\r\nX-Endless: ")
        process.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(process.wait, 60) == 0


async def key_behind_the_body(url: str, token: str) -> bytes:
    """What is answered to a request whose key comes as a trailer."""
    async with await _connected(url) as caller:
        await caller.send(
            b"GET /api/v1/companies HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
        )
        return await caller.receive()


async def told_by_its_head(client: httpx.AsyncClient, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body."""
    whole, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert {*head.headers} == {*whole.headers}
    assert head.headers["content-length"] == whole.headers["content-length"]


async def comes_in_one(url: str) -> bool:
    """Whether a caller who hears of an answer has its body together with its head."""
    async with await _connected(url) as caller:
        await caller.send(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        head, _, body = (await caller.receive()).partition(b"\r\n\r\n")
        return b"content-length: %d" % len(body) in head.split(b"\r\n") and len(body) > 0


async def endless(url: str, beginning: bytes) -> bool:
    """Whether a header without an end is cut off, and not kept for ever."""
    async with await _connected(url) as caller:
        await caller.send(beginning)
        try:
            for _ in range(100):
                await caller.send(b"x" * LONGEST_HEAD)
            return (await caller.receive()).startswith(b"HTTP/1.1 400")
        except (anyio.BrokenResourceError, anyio.EndOfStream):
            return True


async def answers(url: str, *pieces: bytes) -> list[str]:
    """What is answered to these pieces, and to a last request after them."""
    last = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    told = b""
    async with await _connected(url) as caller:
        with suppress(anyio.BrokenResourceError):  # what was answered before it hung up is there all the same
            for piece in (*pieces, last):
                await caller.send(piece)
                await anyio.sleep(0.05)
        with suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            while True:
                told += await caller.receive()
    return told.decode().split("HTTP/1.1 ")[1:]


async def _connected(url: str) -> SocketStream:
    host, port = url.removeprefix("http://").split(":")
    return await anyio.connect_tcp(host, int(port))


def _client(url: str, token: str) -> httpx.AsyncClient:
    """A client with that key, and a new connection for each request: the service hangs up while a command runs."""
    return httpx.AsyncClient(
        base_url=f"{url}/api/v1",
        headers={"Authorization": f"Bearer {token}"},
        limits=httpx.Limits(max_keepalive_connections=0),
        timeout=60,
    )


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


async def test_stored_secrets_get_the_new_key_by_the_command_line(database: str, engine: AsyncEngine) -> None:
    new = Fernet.generate_key().decode()
    old_memory, new_memory = (SqlUnitOfWork(engine, Vault([key])) for key in (KEY, new))
    company = Company(0, "cronus", "CRONUS", nav={"kind": "nav_odata", "password": "sesame"})
    async with old_memory() as tx:
        await tx.companies.add(company)
    told = await navcrm(database, "rotate-secrets", secret_keys=f"{new},{KEY}")
    assert told.startswith("1 secrets were encrypted with the first key.")
    async with new_memory() as tx:
        assert (await tx.companies.get("cronus")).nav == company.nav
    done = await anyio.run_process([*NAVCRM, "rotate-secrets"], env=environment(database, KEY), check=False)
    assert done.returncode == 1
    assert b"the NAV settings of cronus" in done.stderr
