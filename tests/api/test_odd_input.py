"""Input that nobody means well with: refused in order, whatever it holds, and never a fault of ours."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api.examples import BODIES
from tests.api.conftest import COMPANY

pytestmark = pytest.mark.anyio
API = "/api/v1"
CUSTOMERS = f"{COMPANY}/nav/customers"
JSON = {"Content-Type": "application/json"}
DEEP = 2000

ODD = """'; DROP TABLE company; --' or 1 eq 1 %_[a-z]*?<b>\r\nSet-Cookie: a=b\r\n\r\n\u202e{0.__class__}${7*7}%s\\"""
BODY_TEXTS = ("a\x00b", "a\ud800b", ODD)
ADDRESS_TEXTS = (b"a\x00b", ODD.encode() + b"\xff\xed\xa0\x80")


def raw(value: object) -> bytes:
    """JSON with whatever a text holds, as escapes."""
    return json.dumps(value).encode()


def asked(answer: httpx.Response) -> str:
    return (
        f"{answer.request.method} {str(answer.request.url)[:200]}: {answer.status_code} {answer.text[:300]}"
    )


KNOWN = {"company": "cronus", "table": "customers", "no": "10000", "mapping": "CUSTOMER", "kind": "quotes",
         "entity_set": "accounts", "id": "0199aaaa-0000-7000-8000-000000000000"}  # fmt: skip


def addresses(app: FastAPI, text: bytes) -> Iterator[tuple[str, str]]:
    """Every operation with the text in its path, and in each of its parameters."""
    encoded = "".join(f"%{byte:02X}" for byte in text)
    odd = {name: value if name in ("company", "table") else encoded for name, value in KNOWN.items()}
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            if method != "delete":
                yield method, path.format(**odd)
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    yield method, f"{path.format(**KNOWN)}?{parameter['name']}={encoded}"
    for place in ("company", "table"):
        yield "get", f"{API}/companies/{{company}}/nav/{{table}}".format(**KNOWN | {place: encoded})


async def test_any_text_in_any_place_of_an_address(ready: httpx.AsyncClient, app: FastAPI) -> None:
    faults = []
    for text in ADDRESS_TEXTS:
        for method, address in addresses(app, text):
            answer = await ready.request(
                method, address, json={} if method in ("post", "put", "patch") else None
            )
            if answer.status_code >= 500 and not address.startswith("/readyz"):
                faults.append(asked(answer))
    assert not faults


async def test_any_text_in_any_place_of_a_body(ready: httpx.AsyncClient, app: FastAPI) -> None:
    faults = []
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            body = BODIES.get(operation.get("operationId", ""))
            for changed in (each for text in BODY_TEXTS for each in with_text(body, text)):
                answer = await ready.request(method, path.format(**KNOWN), content=raw(changed), headers=JSON)
                if answer.status_code >= 500:
                    faults.append(f"{raw(changed)!r} {asked(answer)}")
    assert not faults


def with_text(body: Any, text: str) -> Iterator[Any]:
    """The body with the text in place of each text in it."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from ({**body, name: changed} for changed in with_text(value, text))
    elif isinstance(body, list):
        for position, value in enumerate(body):
            yield from (
                [*body[:position], changed, *body[position + 1 :]] for changed in with_text(value, text)
            )
    elif isinstance(body, str):
        yield text


BODY_BYTES = {
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a number of many digits": b'{"no": "1", "fields": {"Credit_Limit_LCY": ' + b"9" * 5000 + b"}}",
    "a number too large": b'{"no": "1", "fields": {"Credit_Limit_LCY": 1e400}}',
    "no number": b'{"no": "1", "fields": {"Credit_Limit_LCY": NaN}}',
    "infinity": b'{"no": "1", "fields": {"Credit_Limit_LCY": -Infinity}}',
    "no utf-8": b'{"no": "\xff\xfe"}',
    "utf-16": '{"no": "1"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"no": "1"}',
    "the same name twice": b'{"no": "1", "no": "2", "fields": {}}',
    "a deep value": b'{"no": "1", "fields": {"Name": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "a huge exponent": b'{"no": "1", "fields": {"Credit_Limit_LCY": 1e-999999999}}',
}


async def test_a_body_that_is_hard_to_read(ready: httpx.AsyncClient) -> None:
    faults = []
    for name, content in BODY_BYTES.items():
        for method, path in (
            ("POST", CUSTOMERS),
            ("POST", f"{CUSTOMERS}/bulk"),
            ("PUT", f"{COMPANY}/integration-table-mappings/export"),
            ("PATCH", f"{COMPANY}/crm-connection"),
        ):
            answer = await ready.request(method, path, content=content, headers=JSON)
            if answer.status_code >= 500:
                faults.append(f"{name}: {asked(answer)}")
    assert not faults


DEEP_FILTERS = {
    "parentheses": "(" * DEEP + "No eq '1'" + ")" * DEEP,
    "not": "not " * 1900 + "(No eq '1')",
    "and": " and ".join(["No eq '1'"] * 600),
    "or": " or ".join(["No eq '1'"] * 600),
    "just deep enough": "".join("No eq '1' and (No eq '1' or (" for _ in range(49)) + "No eq '1'" + "))" * 49,
    "alternating": "".join("No eq '1' and (No eq '1' or (" for _ in range(250)) + "No eq '1'" + "))" * 250,
    "path": "a/" * 3900 + "b eq 1",
    "list": "No in (" + ",".join(["'1'"] * 1900) + ")",
    "deep list": "No in " + "(" * 1500 + "'1'" + ")" * 1500,
    "minus": "No eq " + "-" * 7000 + "1",
    "functions": "tolower(" * 800 + "No" + ")" * 800 + " eq 'x'",
    "concat": "concat('a'," * 700 + "'b'" + ")" * 700 + " eq 'x'",
    "lambda": "No/any(a:" * 700 + "a eq 1" + ")" * 700,
    "arithmetic": "1 add " * 1200 + "1 eq 1",
    "digits": "No eq " + "9" * 7000,
    "number": "Credit_Limit_LCY eq 1e999999999",
    "date": "No eq 99999-99-99",
    "guid": "No eq 00000000-0000-0000-0000-00000000000g",
    "duration": "No eq duration'P99999999999D'",
}


async def test_a_filter_that_is_hard_to_read(ready: httpx.AsyncClient) -> None:
    faults = []
    mapping = f"{COMPANY}/integration-table-mappings/CUSTOMER"
    for name, text in DEEP_FILTERS.items():
        crm = text.replace("No ", "accountnumber ").replace("Credit_Limit_LCY", "creditlimit")
        for answer in (
            await ready.get(CUSTOMERS, params={"filter": text[:8000]}),
            await ready.get(f"{COMPANY}/crm/accounts", params={"filter": crm[:8000]}),
            await ready.patch(mapping, json={"nav_filter": text, "preview": True}),
            await ready.patch(mapping, json={"crm_filter": crm, "preview": True}),
        ):
            if answer.status_code not in (200, 422):
                faults += [f"{name}: {asked(answer)}"]
    assert not faults


async def test_a_moment_is_told_in_utc_or_refused(ready: httpx.AsyncClient) -> None:
    entry = {"description": "odd", "mapping": "CUSTOMER", "status": "on_hold"}
    key = {"name": "odd", "scopes": ["read"]}
    for address, body, field in (
        (f"{COMPANY}/job-queue-entries", entry, "earliest_start_at"),
        (f"{API}/api-keys", key, "expires_at"),
    ):
        made = await ready.post(address, json=body | {field: "2099-01-01T00:00:00+05:30"})
        assert (made.status_code, made.json()[field]) == (201, "2098-12-31T18:30:00Z")
        for moment in ("9999-12-31T23:59:59-05:00", "2099", 4070908800, "2099-01-01T00:00:00"):
            odd = await ready.post(address, json=body | {field: moment})
            assert (odd.status_code, odd.json()["errors"][0]["pointer"]) == (422, f"/{field}")
    for moment in ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59Z"):
        found = await ready.get(CUSTOMERS, params={"filter": f"Last_Modified_Date_Time lt {moment}"})
        assert found.status_code == (200 if moment.endswith("Z") else 422)


async def test_a_body_that_is_no_utf_8_text_is_told_as_such(ready: httpx.AsyncClient) -> None:
    for name in ("no utf-8", "utf-16"):
        answer = await ready.post(CUSTOMERS, content=BODY_BYTES[name], headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-json")
    for escape in ("\\ud800", "\\uDFFF", "\\udc00\\ud800"):
        answer = await ready.post(CUSTOMERS, content=f'{{"no": "{escape}"}}'.encode(), headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-json"), escape
    whole = b'{"no": "1", "fields": {"Name": "\\ud83d\\ude00"}}'  # two halves that are one character
    assert (await ready.post(CUSTOMERS, content=whole, headers=JSON)).status_code == 201


async def test_a_body_in_pieces_without_a_length_is_refused_when_it_is_too_long(
    ready: httpx.AsyncClient,
) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b'"' + b"x" * 1024 * 1024

    answer = await ready.post(CUSTOMERS, content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert sent <= 17
