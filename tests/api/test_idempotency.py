"""The same request twice is carried out once."""

import asyncio
from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

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

    answers = await asyncio.gather(*(send() for _ in range(8)))
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert (answer.status_code, answer.json()["code"]) == (409, "busy")
            assert answer.headers["Retry-After"]
    assert len((await admin.get(KEYS)).json()["items"]) == 1


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
