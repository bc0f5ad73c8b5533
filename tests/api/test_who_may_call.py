"""Keys, scopes and bindings to companies."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.main import create_app
from app.settings import Settings
from tests.api.conftest import ADDRESS, ADMIN_KEY, COMPANY, client_of

pytestmark = pytest.mark.anyio
KEYS = "/api/v1/api-keys"


async def a_key(admin: httpx.AsyncClient, **fields: object) -> dict[str, str]:
    answer = await admin.post(KEYS, json={"name": "web shop", "scopes": ["read"], **fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, str] = answer.json()
    return found


async def a_company(admin: httpx.AsyncClient, name: str) -> None:
    answer = await admin.post("/api/v1/companies", json={"name": name})
    assert answer.status_code == 201, answer.text


async def test_a_stranger_is_told_to_send_a_key(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.get("/api/v1/companies")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "header", ["nck_x", "Basic bmNrOng=", "Bearer", "Bearer nck_unknown", "Bearer a.b.c"]
)
async def test_what_is_no_key_of_ours_opens_nothing(anyone: httpx.AsyncClient, header: str) -> None:
    answer = await anyone.get("/api/v1/companies", headers={"Authorization": header})
    assert answer.status_code == 401


async def test_a_stranger_learns_nothing_about_what_a_body_should_hold(anyone: httpx.AsyncClient) -> None:
    answer = await anyone.post(KEYS, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


async def test_a_key_is_shown_once_and_works(app: FastAPI, admin: httpx.AsyncClient) -> None:
    made = await a_key(admin)
    listed = (await admin.get(KEYS)).json()["items"]
    assert [key["id"] for key in listed] == [made["id"]]
    assert "key" not in listed[0]
    assert made["key"].startswith(listed[0]["prefix"])
    async with client_of(app, made["key"]) as client:
        assert (await client.get("/api/v1/companies")).status_code == 200
    assert (await admin.get(KEYS)).json()["items"][0]["last_used_at"] is not None


async def test_a_revoked_key_opens_nothing_any_more(app: FastAPI, admin: httpx.AsyncClient) -> None:
    made = await a_key(admin)
    assert (await admin.delete(f"{KEYS}/{made['id']}")).status_code == 204
    async with client_of(app, made["key"]) as client:
        assert (await client.get("/api/v1/companies")).status_code == 401
    assert (await admin.delete(f"{KEYS}/{made['id']}")).status_code == 404


async def test_what_was_changed_at_one_process_holds_for_the_next_request_at_another(
    settings: Settings, app: FastAPI, ready: httpx.AsyncClient
) -> None:
    """A key that is revoked, a connection that is closed, a mapping that goes: also while many ask, and share what
    they are told."""
    record = f"{COMPANY}/nav/customers/10000"
    assert (await ready.post(f"{COMPANY}/nav/customers", json={"no": "10000"})).status_code == 201
    made, other = await a_key(ready), create_app(settings)
    async with other.router.lifespan_context(other), client_of(other, made["key"]) as client:

        async def reasons() -> set[str | None]:
            """Why the record cannot be created in CRM, as many hear it at the same time."""
            answers = await asyncio.gather(*(client.get(record) for _ in range(5)))
            actions = [action for answer in answers for action in answer.json()["actions"]]
            return {action["reason"] for action in actions if action["name"] == "create_in_crm"}

        assert await reasons() == {None}
        await ready.delete(f"{COMPANY}/integration-table-mappings/CUSTOMER")
        assert await reasons() == {"There is no integration table mapping for customers."}
        await ready.patch(f"{COMPANY}/crm-connection", json={"is_enabled": False})
        assert await reasons() == {"The connection to CRM is not enabled."}
        assert (await ready.delete(f"{KEYS}/{made['id']}")).status_code == 204
        answers = await asyncio.gather(*(client.get(record) for _ in range(5)))
        assert [answer.status_code for answer in answers] == [401] * 5


async def test_a_key_cannot_have_expired_before_it_is_made(admin: httpx.AsyncClient) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    answer = await admin.post(KEYS, json={"name": "old", "scopes": ["read"], "expires_at": yesterday})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/expires_at"


async def test_a_key_cannot_be_bound_to_a_company_that_does_not_exist(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(KEYS, json={"name": "x", "scopes": ["read"], "companies": ["nowhere"]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/companies/0"


async def test_no_key_is_made_for_a_company_that_is_just_being_deleted(
    admin: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    """It would open the next company of that name."""
    await a_company(admin, "cronus")
    async with engine.begin() as elsewhere:
        await elsewhere.exec_driver_sql("DELETE FROM company WHERE name = 'cronus'")
        body = {"name": "late", "scopes": ["read"], "companies": ["cronus"]}
        asked = asyncio.create_task(admin.post(KEYS, json=body))
        await asyncio.sleep(0.5)
    assert (await asked).status_code == 422


async def test_a_bound_key_sees_its_company_alone(app: FastAPI, admin: httpx.AsyncClient) -> None:
    await a_company(admin, "cronus")
    await a_company(admin, "fabrikam")
    made = await a_key(admin, scopes=["admin"], companies=["cronus"])
    async with client_of(app, made["key"]) as client:
        assert [each["name"] for each in (await client.get("/api/v1/companies")).json()["items"]] == [
            "cronus"
        ]
        assert (await client.get("/api/v1/companies/cronus")).status_code == 200
        for path in ("/api/v1/companies/fabrikam", "/api/v1/companies/nowhere", KEYS):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (await client.post("/api/v1/companies", json={"name": "more"})).status_code == 403


async def test_who_guesses_too_often_has_to_wait_and_nobody_else(
    app: FastAPI, anyone: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    app.state.door.gate.failures.per_minute = 5
    wrong = {"Authorization": "Bearer nck_guess"}
    answers = [await anyone.get("/api/v1/companies", headers=wrong) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert answers[-1].json()["code"] == "too-many-requests"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await anyone.get("/api/v1/companies")).status_code == 401
    assert (await admin.get("/api/v1/companies")).status_code == 200


class StandingClock:
    """It is always the same time, so that a minute does not end while its guesses are counted."""

    def now(self) -> datetime:
        """In UTC."""
        return datetime(2026, 11, 22, 12, 30, 45, tzinfo=UTC)


def stand_still(app: FastAPI) -> None:
    """Lets no time pass at the gate."""
    door = app.state.door
    standing = replace(door.gate.ctx, clock=StandingClock())
    app.state.door = replace(door, gate=replace(door.gate, ctx=standing))


async def test_guesses_are_counted_for_all_processes_together(
    settings: Settings, app: FastAPI, admin: httpx.AsyncClient
) -> None:
    few = settings.model_copy(update={"failed_logins_per_minute": 5})
    other, third = create_app(few), create_app(few)
    async with other.router.lifespan_context(other), third.router.lifespan_context(third):
        statuses: list[int] = []
        stand_still(other)
        stand_still(third)
        for each in (other, third) * 4:
            async with client_of(each, "nck_guess") as client:
                answer = await client.get("/api/v1/companies")
            statuses.append(answer.status_code)
        assert statuses == [401] * 5 + [429] * 3
        assert int(answer.headers["Retry-After"]) == 60 - StandingClock().now().second
        async with client_of(third, ADMIN_KEY) as client:
            assert (await client.get("/api/v1/companies")).status_code == 200


async def test_who_calls_is_believed_to_configured_proxies_alone(settings: Settings) -> None:
    """Guesses are counted for the address a proxy names, and nobody else can name one."""
    update = {"failed_logins_per_minute": 1, "trusted_proxies": ("10.0.0.0/24",)}
    app = create_app(settings.model_copy(update=update))

    async def guess(peer: str, said: str) -> int:
        transport = httpx.ASGITransport(app, client=(peer, 40000))
        headers = {"Authorization": "Bearer nck_guess", "X-Forwarded-For": said}
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers) as client:
            return (await client.get("/api/v1/companies")).status_code

    async with app.router.lifespan_context(app):
        assert [await guess("10.0.0.7", f"203.0.113.{n}") for n in range(4)] == [401] * 4
        assert [await guess("10.0.0.7", "198.51.100.1") for _ in range(2)] == [401, 429]
        # A caller can put what it likes before the address that the proxy saw.
        assert await guess("10.0.0.7", "192.0.2.99, 198.51.100.1") == 429
        assert [await guess("192.0.2.1", f"203.0.113.{n}") for n in range(4)] == [401] + [429] * 3
        assert [await guess("2001:db8::1", ""), await guess("2001:db8::2", "")] == [401, 429]  # one network


async def test_an_expired_key_opens_nothing(
    app: FastAPI, admin: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await a_key(admin, expires_at=soon)
    async with client_of(app, made["key"]) as client:
        assert (await client.get("/api/v1/companies")).status_code == 200
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE api_key SET expires_at = now() - interval '1 second'"))
        assert (await client.get("/api/v1/companies")).status_code == 401


async def test_of_a_key_nothing_is_kept_that_would_open_anything(
    admin: httpx.AsyncClient, engine: AsyncEngine
) -> None:
    made = await a_key(admin)
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT * FROM api_key"))).one()
    assert bytes(row.hash) == hashlib.sha256(made["key"].encode()).digest()
    assert made["key"] not in str(row)
    assert len(made["key"].removeprefix(row.prefix)) >= 32  # what the prefix leaves to be guessed


async def test_a_key_of_a_company_that_was_deleted_does_not_open_the_next_of_that_name(
    app: FastAPI, admin: httpx.AsyncClient
) -> None:
    await a_company(admin, "cronus")
    await a_company(admin, "fabrikam")
    alone = await a_key(admin, companies=["cronus"])
    both = await a_key(admin, companies=["cronus", "fabrikam"])
    assert (await admin.delete("/api/v1/companies/cronus")).status_code == 204
    await a_company(admin, "cronus")
    async with client_of(app, alone["key"]) as client:
        assert (await client.get("/api/v1/companies/cronus")).status_code == 401
    async with client_of(app, both["key"]) as client:
        assert (await client.get("/api/v1/companies/cronus")).status_code == 403
        assert (await client.get("/api/v1/companies/fabrikam")).status_code == 200


async def test_every_operation_wants_a_key_and_enough_of_it(
    app: FastAPI, admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    """Over the whole OpenAPI document: without a key 401; with a read key no write."""
    reader = await a_key(admin, scopes=["read"])
    syncer = await a_key(admin, scopes=["sync"])
    async with client_of(app, reader["key"]) as reading, client_of(app, syncer["key"]) as syncing:
        for path, item in app.openapi()["paths"].items():
            for method, operation in item.items():
                if not path.startswith("/api/"):
                    assert "security" not in operation
                    continue
                (needed,) = operation["security"][0]["bearer"]
                address = (
                    path.replace("{id}", "0199aaaa-0000-7000-8000-000000000000")
                    .replace("{", "")
                    .replace("}", "")
                )
                assert (await anyone.request(method, address)).status_code == 401, (method, path)
                if needed != "read":
                    assert (await reading.request(method, address)).status_code == 403, (method, path)
                if needed == "admin":
                    assert (await syncing.request(method, address)).status_code == 403, (method, path)
                assert method == "get" or needed != "read", (method, path)
