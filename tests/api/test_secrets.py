"""No secret comes out: not in an answer, a log, a figure or a row, whatever succeeds and whatever goes wrong.

The service is a process of its own that logs all it can, and CRM repeats in its errors whatever it was sent.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sandbox import DEFAULT_CLIENT, DEFAULT_TENANT, create_sandbox
from tests.api.conftest import ADMIN_KEY, COMPANY, CONNECTION, FERNET_KEY
from tests.crm_sandbox import served

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
SECRET = "marked+secret/that~nobody=may.see"
WRONG = "wrong+marked/secret~0815"
PRIVATE = "-----BEGIN PRIVATE KEY-----\nmarkedPrivateKey4711\n-----END PRIVATE KEY-----"
GUESS = "nck_marked-guess-at-a-key-0123456789"
MARKS = (SECRET, WRONG, "markedPrivateKey4711", GUESS, ADMIN_KEY, FERNET_KEY)


class Echo:
    """A CRM that works, until it is told to fail: then its errors hold whatever it was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.fails_with = 0
        self.tokens: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        authorization = dict(scope["headers"]).get(b"authorization", b"").decode()
        self.tokens |= {authorization.removeprefix("Bearer ")} - {""}
        if self.fails_with:
            said = f"You sent {authorization} and {body.decode(errors='replace')} {SECRET}"
            error = {"error": {"code": "0x80040265", "message": said}, "error_description": said}
            await JSONResponse(error, self.fails_with)(scope, receive, send)
            return

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


@contextmanager
def service(database: str, log: Path) -> Iterator[str]:
    """`navcrm serve` with a worker; its address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAVCRM_")}
    given = {
        "PYTHONPATH": str(ROOT), "NAVCRM_DATABASE_URL": database, "NAVCRM_SECRET_KEYS": FERNET_KEY,
        "NAVCRM_BOOTSTRAP_API_KEY": ADMIN_KEY, "NAVCRM_LOG_LEVEL": "debug", "NAVCRM_LOG_FORMAT": "json",
        "NAVCRM_WORKER_POLL_SECONDS": "0.2", "NAVCRM_CRM_RETRY_SECONDS": "0.05", "NAVCRM_STOP_NOTICE_SECONDS": "0",
    }  # fmt: skip
    command = [sys.executable, "-c", "from app.cli import main; main()", "serve", "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, env={**kept, **given}, cwd=log.parent, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            yield next(word for word in words if word.startswith("http")).removesuffix("/api/v1;")
        finally:
            process.kill()
            process.communicate()


class Told:
    """A client that keeps whatever it was answered."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.texts: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        answer = await self.http.request(method, path, json=body, **more)
        self.texts.append(f"{answer.headers} {answer.text}")
        return answer


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, str]]:
    found = Echo(create_sandbox(client_secret=SECRET))
    async with served(found) as url:  # type: ignore[arg-type]  # any ASGI application will do
        yield found, url


async def test_no_secret_comes_out_whatever_goes_wrong(
    database: str, echo: tuple[Echo, str], tmp_path: Path
) -> None:
    crm, url = echo
    log = tmp_path / "log"
    with service(database, log) as address:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as http:
            told = Told(http)
            await saved_and_refused(told, url)
            await synchronized_and_failed(told, crm)
            made = await keys_and_guesses(told)
            await told.ask("GET", "/metrics")
    rows = await everything_stored(database)
    places = {"answers": "\n".join(told.texts), "log": log.read_text(), "rows": rows}
    assert len(places["log"].splitlines()) > 20
    assert crm.tokens
    for where, text in places.items():
        for mark in (*MARKS, *crm.tokens, made):
            for form in (
                mark,
                mark.encode().hex(),
                json.dumps(mark)[1:-1],
                httpx.QueryParams({"x": mark}).__str__()[2:],
            ):
                assert form not in text, (
                    where,
                    mark,
                    re.findall(f".{{0,200}}{re.escape(form)}.{{0,50}}", text)[:2],
                )


async def saved_and_refused(told: Told, url: str) -> None:
    """A connection is saved, with a good secret and a wrong one, and with what is no connection."""
    login = {
        "type": "client_secret",
        "tenant_id": DEFAULT_TENANT,
        "client_id": DEFAULT_CLIENT,
        "authority": url,
    }
    good = {"server_url": url, "authentication": login | {"client_secret": SECRET}}
    assert (await told.ask("POST", "/api/v1/companies", {"name": "cronus"})).status_code == 201
    wrong = {"server_url": url, "authentication": login | {"client_secret": WRONG}}
    assert (await told.ask("PUT", CONNECTION, wrong)).status_code == 200
    assert (await told.ask("POST", f"{CONNECTION}/test")).json()["ok"] is False
    assert (await told.ask("PATCH", CONNECTION, {"is_enabled": True})).status_code == 422
    for refused in (
        good | {"authentication": login | {"client_secret": SECRET, "password": WRONG}},
        good | {"authentication": login | {"client_secret": [SECRET]}},
        good | {"server_url": f"https://navcrm:{SECRET}@crm.example.com"},
        good | {"client_secret": SECRET},
        {
            "server_url": url,
            "authentication": {"type": "client_certificate", "private_key": PRIVATE, "x": PRIVATE},
        },
    ):
        assert (await told.ask("PUT", CONNECTION, refused)).status_code == 422
    broken = json.dumps(good).encode()[:-3]
    content_type = {"Content-Type": "application/json"}
    told.texts.append((await told.http.put(CONNECTION, content=broken, headers=content_type)).text)
    certificate = {
        "type": "client_certificate", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT, "authority": url,
        "certificate": PRIVATE, "private_key": PRIVATE, "private_key_password": WRONG,
    }  # fmt: skip
    assert (await told.ask("PUT", CONNECTION, {"server_url": url, "authentication": certificate})).is_success
    assert (await told.ask("POST", f"{CONNECTION}/test")).json()["ok"] is False
    assert (await told.ask("PUT", CONNECTION, good)).is_success
    enabled = await told.ask("PATCH", CONNECTION, {"is_enabled": True})
    assert enabled.status_code == 200, enabled.text
    assert (await told.ask("GET", CONNECTION)).json()["authentication"]["has_secret"] is True


async def synchronized_and_failed(told: Told, crm: Echo) -> None:
    """Jobs and single calls, with a CRM that works and one that fails in every way."""
    assert (await told.ask("POST", f"{CONNECTION}/use-default-synchronization-setup")).is_success
    record = f"{COMPANY}/nav/customers/10000"
    assert (
        await told.ask("POST", f"{COMPANY}/nav/customers", {"no": "10000", "fields": {"Name": "A"}})
    ).is_success
    assert (await told.ask("POST", f"{record}/create-in-crm")).status_code == 201
    for number, status in enumerate((400, 500, 403, 401)):
        await told.ask("PATCH", record, {"fields": {"Name": f"A{number}"}})
        crm.fails_with = status
        assert (await told.ask("POST", f"{record}/synchronize", {"direction": "to_crm"})).status_code >= 400
        await told.ask("GET", f"{COMPANY}/crm/accounts")
        await told.ask("POST", f"{CONNECTION}/test")
        if status == 400:
            await job_ended(told)
        crm.fails_with = 0
    for path in (
        "synch-jobs",
        "synch-errors",
        "couplings",
        "synch-status",
        "crm-connection",
        "job-queue-entries",
    ):
        assert (await told.ask("GET", f"{COMPANY}/{path}")).is_success
    for job in (await told.ask("GET", f"{COMPANY}/synch-jobs")).json()["items"]:
        for part in ("", "/errors", "/outcomes"):
            await told.ask("GET", f"{COMPANY}/synch-jobs/{job['id']}{part}")


async def job_ended(told: Told) -> None:
    mapping = f"{COMPANY}/integration-table-mappings/CUSTOMER"
    started = await told.ask("POST", f"{mapping}/synchronize", {"mode": "full"})
    assert started.status_code == 202, started.text
    with anyio.fail_after(60):
        while (job := (await told.ask("GET", started.headers["Location"])).json())["message"] is None:
            assert job["status"] in ("queued", "running"), job
            await anyio.sleep(0.1)


async def keys_and_guesses(told: Told) -> str:
    """A key is made, which is told once, and others are guessed; the key."""
    same = {"Idempotency-Key": "once"}
    made = await told.http.post("/api/v1/api-keys", json={"name": "k", "scopes": ["read"]}, headers=same)
    await told.ask("GET", "/api/v1/api-keys")
    for guess in (GUESS, f"eyJ.{GUESS}.x"):
        bad = {"Authorization": f"Bearer {guess}"}
        assert (await told.ask("GET", "/api/v1/companies", headers=bad)).status_code == 401
    return str(made.json()["key"])


async def everything_stored(database: str) -> str:
    """All rows of all tables, as text."""
    connection = await asyncpg.connect(database.replace("postgresql+asyncpg", "postgresql"))
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = [await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t") for table in tables]
    finally:
        await connection.close()
    return "\n".join(row["row"] for rows in found for row in rows)
