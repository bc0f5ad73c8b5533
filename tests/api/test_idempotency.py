"""The same request twice is carried out once."""

import asyncio
from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from app.api import idempotency
from app.domain.access import Caller, Scope
from app.domain.errors import AnswerLost, Busy
from app.use_cases.api_keys import create_api_key
from tests.api.conftest import client_of
from tests.api.test_who_may_call import a_key

pytestmark = pytest.mark.anyio
KEYS = "/api/v1/api-keys"
COMPANIES = "/api/v1/companies"


async def test_the_same_key_and_body_gives_the_first_answer_again(admin: httpx.AsyncClient) -> None:
    send = {"json": {"name": "once", "scopes": ["read"]}, "headers": {"Idempotency-Key": "order 4711"}}
    first, again = [await admin.post(KEYS, **send) for _ in range(2)]  # type: ignore[arg-type]  # a dict
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert len((await admin.get(KEYS)).json()["items"]) == 1


async def test_the_same_key_with_another_body_is_refused(admin: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    assert (await admin.post(COMPANIES, json={"name": "a"}, headers=headers)).status_code == 201
    answer = await admin.post(COMPANIES, json={"name": "b"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert (await admin.get(f"{COMPANIES}/b")).status_code == 404


async def test_a_refusal_is_an_answer_too(admin: httpx.AsyncClient) -> None:
    assert (await admin.post(COMPANIES, json={"name": "a"})).status_code == 201
    headers = {"Idempotency-Key": "k"}
    first = await admin.post(COMPANIES, json={"name": "a"}, headers=headers)
    await admin.delete(f"{COMPANIES}/a")
    again = await admin.post(COMPANIES, json={"name": "a"}, headers=headers)
    assert first.status_code == again.status_code == 409
    assert first.content == again.content


async def test_of_requests_at_once_one_is_carried_out(admin: httpx.AsyncClient) -> None:
    async def send() -> httpx.Response:
        return await admin.post(
            KEYS, json={"name": "once", "scopes": ["read"]}, headers={"Idempotency-Key": "together"}
        )

    answers = await asyncio.gather(*(send() for _ in range(50)))
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert (answer.status_code, answer.json()["code"]) == (409, "busy")
            assert answer.headers["Retry-After"]
    assert len((await admin.get(KEYS)).json()["items"]) == 1
    late = await send()
    assert (late.status_code, late.content) == (201, made.pop())


async def test_of_two_bodies_at_once_one_is_carried_out_and_the_other_refused(
    admin: httpx.AsyncClient,
) -> None:
    async def send(name: str) -> httpx.Response:
        return await admin.post(COMPANIES, json={"name": name}, headers={"Idempotency-Key": "k"})

    answers = await asyncio.gather(*(send(f"company-{n % 2}") for n in range(20)))
    there = {one["name"] for one in (await admin.get(COMPANIES)).json()["items"]}
    assert len(there) == 1
    for number, answer in enumerate(answers):
        if f"company-{number % 2}" in there:
            assert answer.status_code == 201 or answer.json()["code"] == "busy"
        else:
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


async def until_a_key_is_claimed(engine: AsyncEngine, within: str = "1 day") -> None:
    """Waits until a key is claimed, and was so or renewed that lately."""
    look = f"SELECT count(*) FROM idempotency_key WHERE created_at > now() - interval '{within}'"
    async with asyncio.timeout(60):
        while True:
            async with engine.connect() as connection:
                if (await connection.exec_driver_sql(look)).scalar_one():
                    return
            await asyncio.sleep(0.02)


async def test_a_request_that_takes_long_keeps_its_key(
    app: FastAPI, admin: httpx.AsyncClient, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "RENEWED_EVERY", 0.05)
    send = {"json": {"name": "x"}, "headers": {"Idempotency-Key": "k"}}
    async with engine.begin() as elsewhere:
        await elsewhere.exec_driver_sql("LOCK TABLE company IN EXCLUSIVE MODE")
        waiting = asyncio.create_task(admin.post(COMPANIES, **send))  # type: ignore[arg-type]  # a dict
        await until_a_key_is_claimed(engine)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(
                "UPDATE idempotency_key SET created_at = now() - interval '1 hour'"
            )
        await until_a_key_is_claimed(engine, within="1 minute")
        again = await admin.post(COMPANIES, **send)  # type: ignore[arg-type]  # a dict
        assert (again.status_code, again.json()["code"]) == (409, "busy")
    assert (await waiting).status_code == 201


@pytest.mark.parametrize("wrote", [False, True])
async def test_a_key_of_a_process_that_died_is_free_unless_something_was_written(
    admin: httpx.AsyncClient, engine: AsyncEngine, wrote: bool
) -> None:
    send = {"json": {"name": "x"}, "headers": {"Idempotency-Key": "k"}}
    first = await admin.post(COMPANIES, **send)  # type: ignore[arg-type]  # a dict
    async with engine.begin() as connection:  # as it was before the answer was kept
        await connection.exec_driver_sql(
            "UPDATE idempotency_key SET body = NULL, headers = NULL, status = " + ("0" if wrote else "NULL")
        )
    if not wrote:
        assert (await admin.delete(f"{COMPANIES}/x")).status_code == 204
    again = await admin.post(COMPANIES, **send)  # type: ignore[arg-type]  # a dict
    assert (again.status_code, again.json()["code"]) == (409, "busy")
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE idempotency_key SET created_at = now() - interval '21 seconds'"
        )
    again = await admin.post(COMPANIES, **send)  # type: ignore[arg-type]  # a dict
    if wrote:
        assert (again.status_code, again.json()["code"]) == (409, "answer-lost")
        assert "new key" in again.json()["fix"]
    else:
        assert (again.status_code, again.json()) == (201, first.json())


async def test_what_was_written_is_not_written_again_when_its_answer_was_lost(
    app: FastAPI, engine: AsyncEngine
) -> None:
    """The service stops amid the request, or has an answer that it cannot keep."""
    ctx, caller = app.state.door.context, Caller("key:1", frozenset(Scope))
    written: list[str] = []

    async def write() -> None:
        written.append((await create_api_key(ctx, "x", [Scope.READ]))[1])

    async def cancelled(request: Request) -> Response:
        await write()
        raise asyncio.CancelledError

    async def not_kept(request: Request) -> Response:
        await write()
        return Response(b"\xff", 201)

    async def ask(handle: idempotency.Handler, key: str) -> Response:
        async def body() -> Message:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        headers = [(b"idempotency-key", key.encode())]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        return await idempotency.once(ctx, caller, Request(scope, body), handle)

    for key, handle, lost in (
        ("c", cancelled, asyncio.CancelledError),
        ("n", not_kept, UnicodeDecodeError),
    ):
        with pytest.raises(lost):
            await ask(handle, key)
        with pytest.raises(Busy):
            await ask(handle, key)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE idempotency_key SET created_at = now() - interval '21 seconds'"
        )
    for key, handle in (("c", cancelled), ("n", not_kept)):
        with pytest.raises(AnswerLost):
            await ask(handle, key)
    assert len(written) == 2


async def test_callers_do_not_share_keys(app: FastAPI, admin: httpx.AsyncClient) -> None:
    other = await a_key(admin, scopes=["admin"])
    headers = {"Idempotency-Key": "k"}
    assert (await admin.post(COMPANIES, json={"name": "a"}, headers=headers)).status_code == 201
    async with client_of(app, other["key"]) as client:
        assert (await client.post(COMPANIES, json={"name": "b"}, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_has_1_to_255_characters(admin: httpx.AsyncClient, key: str) -> None:
    answer = await admin.post(COMPANIES, json={"name": "a"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert (await admin.get(f"{COMPANIES}/a")).status_code == 404


async def test_a_fault_of_ours_frees_the_key(app: FastAPI, admin: httpx.AsyncClient) -> None:
    def out_of_ids() -> UUID:
        raise RuntimeError("no more ids")

    sound = app.state.door
    send = {"json": {"name": "x", "scopes": ["read"]}, "headers": {"Idempotency-Key": "k"}}
    app.state.door = replace(sound, context=replace(sound.context, new_id=out_of_ids))
    assert (await admin.post(KEYS, **send)).status_code == 500  # type: ignore[arg-type]  # a dict
    app.state.door = sound
    assert (await admin.post(KEYS, **send)).status_code == 201  # type: ignore[arg-type]  # a dict
