"""Whatever goes wrong is told as a problem."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.main import create_app
from app.settings import Settings
from tests.api.conftest import ADDRESS, ADMIN_KEY, COMPANY, client_of

pytestmark = pytest.mark.anyio
KEYS = "/api/v1/api-keys"


async def test_a_body_that_does_not_fit_names_the_fields(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(KEYS, json={"name": "", "scopes": ["rule"], "colour": "red"})
    assert answer.status_code == 422
    found = answer.json()
    assert found["code"] == "invalid-request"
    assert found["type"] == "urn:navcrm:problem:invalid-request"
    assert {error["pointer"] for error in found["errors"]} == {"/name", "/scopes/0", "/colour"}


@pytest.mark.parametrize("body", [b'{"name": ', b"\xff\xfe", b"\x00", b"name=x"])
async def test_a_body_that_is_no_json_is_a_bad_request(admin: httpx.AsyncClient, body: bytes) -> None:
    answer = await admin.post(KEYS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-json")


async def test_where_json_ends_to_be_json_is_told(admin: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    for body, told in ((b'{"name": "a",\n "b"}', "line 2, column 5"), (b'{"name": ' + b"9" * 5000, "digits")):
        answer = await admin.post(KEYS, content=body, headers=headers)
        assert (answer.status_code, told in answer.json()["detail"]) == (400, True), answer.text


async def test_a_caller_who_hangs_up_amid_the_body_is_no_fault_of_ours(app: FastAPI) -> None:
    """Whoever counts 5xx, or looks for errors in the log, shall not be called for it."""
    told: list[Message] = []
    came: list[Message] = [
        {"type": "http.request", "body": b'{"name"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return came.pop(0)

    async def send(message: Message) -> None:
        told.append(message)

    headers = [(b"content-length", b"100"), (b"authorization", f"Bearer {ADMIN_KEY}".encode())]
    scope = {
        "type": "http",
        "scheme": "http",
        "method": "POST",
        "path": KEYS,
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    assert told[0]["status"] == 400


async def test_a_word_is_no_yes(cronus: httpx.AsyncClient) -> None:
    for wrong in ("true", 1, "yes"):
        answer = await cronus.patch(f"{COMPANY}/crm-connection", json={"is_enabled": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/is_enabled")


async def test_a_body_of_another_type_is_not_taken(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(KEYS, content=b"name=x", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


async def test_a_body_that_no_operation_asked_for_is_looked_at_all_the_same(
    cronus: httpx.AsyncClient,
) -> None:
    """That the contract declares these answers is looked at with every answer."""
    for status, content, media_type in ((415, b"x", "text/plain"), (400, b"\xff", "application/json")):
        for method, address in (("POST", f"{COMPANY}/synch-status/reset"), ("DELETE", COMPANY)):
            headers = {"Content-Type": media_type}
            answer = await cronus.request(method, address, content=content, headers=headers)
            assert answer.status_code == status, (method, answer.text)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_long_is_not_read(
    app: FastAPI, admin: httpx.AsyncClient, declared: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1024 * 1024

    content = b" " * 17 * 1024 * 1024 if declared else pieces()
    answer = await admin.post(KEYS, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


async def test_nothing_there_and_nothing_of_that_kind(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    answer = await admin.put(KEYS, json={})
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"
    assert answer.json()["detail"] == "PUT is not possible here, only GET, HEAD, POST."


async def test_a_company_that_does_not_exist_is_named(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/api/v1/companies/nowhere/couplings")
    assert (answer.status_code, answer.json()["code"]) == (404, "company-not-found")
    assert "nowhere" in answer.json()["detail"]


async def test_every_answer_is_careful_and_has_a_name(
    admin: httpx.AsyncClient, anyone: httpx.AsyncClient
) -> None:
    for answer in (await admin.get(KEYS), await anyone.get(KEYS), await anyone.get("/nothing")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert len(answer.headers["X-Request-Id"]) == 32
    answer = await admin.get(KEYS, headers={"X-Request-Id": "order-4711"})
    assert answer.headers["X-Request-Id"] == "order-4711"


async def test_web_pages_of_others_may_not_call(admin: httpx.AsyncClient) -> None:
    answer = await admin.get(KEYS, headers={"Origin": "https://elsewhere.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_fault_of_ours_is_told_without_details(app: FastAPI, admin: httpx.AsyncClient) -> None:
    app.state.door.gate.requests.now = lambda: "no time"
    answer = await admin.get(KEYS)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert "no time" not in answer.text
    assert "Traceback" not in answer.text


async def test_a_fault_outside_of_all_operations_is_told_as_carefully(
    app: FastAPI, anyone: httpx.AsyncClient
) -> None:
    app.state.vitals = "no vitals"
    answer = await anyone.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert answer.headers["X-Request-Id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "vitals" not in answer.text


async def test_what_is_wrong_is_told_in_words_of_the_contract(ready: httpx.AsyncClient) -> None:
    runs = await ready.post(f"{COMPANY}/synchronize", json={"mode": "all"})
    assert runs.json()["errors"] == [{"pointer": "/mode", "message": "This must be 'modified' or 'full'."}]
    restored = await ready.post(f"{COMPANY}/couplings/restore", json={})
    assert restored.json()["errors"] == [{"pointer": "", "message": "Say which: ids, mapping or error_code."}]
    assert restored.json()["detail"] == "the body: Say which: ids, mapping or error_code."
    row = f"{COMPANY}/integration-table-mappings/CUSTOMER/fields/7"
    assert len((await ready.patch(row, json={})).json()["errors"]) == 1


async def test_a_currency_that_is_none_gets_no_guess(admin: httpx.AsyncClient) -> None:
    for given, suggestion in (("pounds", None), ("gbp", "GBP")):
        answer = await admin.post("/api/v1/companies", json={"name": "third", "local_currency": given})
        assert answer.json()["errors"][0].get("suggestion") == suggestion


async def test_a_slash_at_the_end_is_another_address(cronus: httpx.AsyncClient) -> None:
    for path in ("/api/v1/companies/", f"{COMPANY}/nav/customers/", f"{COMPANY}/crm-connection/"):
        answer = await cronus.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), answer.text
        assert "location" not in answer.headers


async def test_only_what_came_over_tls_asks_for_tls(settings: Settings) -> None:
    """HSTS: where a configured proxy says https, or the public address does."""
    behind = create_app(settings.model_copy(update={"trusted_proxies": ("10.0.0.7",)}))
    public = create_app(settings.model_copy(update={"public_url": "https://navcrm.example.com"}))

    async def hsts(app: FastAPI, peer: str, scheme: str) -> str | None:
        transport = httpx.ASGITransport(app, client=(peer, 40000))
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            answer = await client.get("/healthz", headers={"X-Forwarded-Proto": scheme})
        found: str | None = answer.headers.get("Strict-Transport-Security")
        return found

    assert await hsts(behind, "10.0.0.7", "https") == "max-age=31536000"
    assert await hsts(behind, "10.0.0.7", "http") is None
    assert await hsts(behind, "203.0.113.9", "https") is None
    assert await hsts(public, "203.0.113.9", "http") == "max-age=31536000"


async def test_web_pages_of_listed_origins_may_call_and_no_others(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://portal.example.com",)}))
    async with client_of(app, None) as client:
        for origin, allowed in (
            ("https://portal.example.com", True),
            ("https://portal.example.com.evil", False),
        ):
            asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE",
                     "Access-Control-Request-Headers": "authorization, idempotency-key"}  # fmt: skip
            for answer in (
                await client.options(KEYS, headers=asked),
                await client.get("/healthz", headers=asked),
            ):
                assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
                assert "Access-Control-Allow-Credentials" not in answer.headers
            assert "Idempotent-Replayed" in answer.headers["Access-Control-Expose-Headers"]


async def test_every_page_and_every_problem_is_framed_by_nobody_and_kept_by_nobody(
    anyone: httpx.AsyncClient,
) -> None:
    for path in ("/docs", "/open/nav", "/open/crm?company=x", "/openapi.json", "/nothing", KEYS, "/metrics"):
        headers = (await anyone.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        assert headers["Cache-Control"] == "no-store", path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
        assert "unsafe-inline" not in headers["Content-Security-Policy"].partition("style-src")[0], path
        assert "unsafe-eval" not in headers["Content-Security-Policy"], path
