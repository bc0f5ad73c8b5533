"""Whatever is sent to an operation, the answer is one that the contract declares, and none is a fault of ours.

Requests are made up from the OpenAPI document, fitting it and not; some of their addresses lead to what is there.
In the suite they are few and the same every time. `NAVCRM_FUZZ_EXAMPLES=500 pytest tests/fuzz` makes up that many of
each kind for every operation, other ones with every run.
"""

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.main import create_app
from app.sandbox import create_sandbox
from app.settings import Settings
from tests.database import TestServer
from tests.declared import SCHEMA, check_headers
from tests.fuzz.world import EXPENDABLE, KEPT, World
from tests.servers import run_in_thread

ADMIN_KEY = "nck_a-key-for-whoever-sends-everything-0123456789"
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
EXAMPLES = int(os.environ.get("NAVCRM_FUZZ_EXAMPLES", "0"))
FEW = 6
TOO_LONG = b"Invalid HTTP request received."  # by the server below the application


def headers_are_declared(context: Any, answer: Any, case: Any) -> None:
    """No header of ours comes with a status that does not declare it."""
    check_headers(case.operation, answer.status_code, answer.headers)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    headers_are_declared,
    response_schema_conformance,
]
pytestmark = pytest.mark.usefixtures("anyio_backend")  # the database comes from an asynchronous fixture


def _operations() -> Iterator[Any]:
    for found in SCHEMA.get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


OPERATIONS = {operation.label: operation for operation in _operations()}
REQUESTS = [
    (label, mode)
    for label, operation in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.definition.raw.get("parameters") or operation.body
]
"""Where nothing can be sent along, nothing wrong can."""


@pytest.fixture(scope="module")
async def address(test_server: TestServer, template: str) -> AsyncIterator[str]:
    """A database for all requests."""
    async with test_server.clone(template) as found:
        yield found


@pytest.fixture(scope="module")
def world(address: str) -> Iterator[World]:
    """The service and the CRM, each behind a server of its own."""
    given = Settings(
        _env_file=None,
        database_url=address,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        rate_limit_per_minute=0,
        allowed_outbound_hosts=("localhost", "127.0.0.1"),
        worker_watch_seconds=0,
    )
    with run_in_thread(create_sandbox()) as crm, run_in_thread(create_app(given)) as url:
        found = World(url, ADMIN_KEY, crm)
        found.begin()
        yield found
        found.close()


def expends(path: str, method: str) -> bool:
    """Whether the operation may leave a company that is of no use for the others: one that changes the setup."""
    ends = (
        "/companies/{company}",
        "/crm-connection",
        "/{mapping}",
        "/fields",
        "/fields/{id}",
        "/export",
        "-setup",
    )
    return method != "get" and path.endswith(ends)


@pytest.mark.timeout(3600 if EXAMPLES else 120)
@pytest.mark.parametrize(("label", "mode"), REQUESTS, ids=lambda each: str(getattr(each, "value", each)))
def test_every_answer_is_one_that_the_contract_declares(
    world: World, label: str, mode: GenerationMode
) -> None:
    operation = OPERATIONS[label]
    path = operation.path
    company = EXPENDABLE if expends(path, operation.method) else KEPT
    if company == EXPENDABLE:
        world.restore(company)
    known = world.known(path, company)
    places = {
        name: st.sampled_from(values) for name, values in known.items() if f"{{{name}}}" in path and values
    }
    events = path.endswith("/events")

    @settings(
        max_examples=EXAMPLES or FEW,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # bodies are large, and each goes through the service
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        place=st.fixed_dictionaries(places),
        leads=st.integers(0, 9).map(lambda number: number < 9 or events),
    )
    def send(case: Any, place: dict[str, str], leads: bool) -> None:
        if leads:
            case.path_parameters = {**(case.path_parameters or {}), **place}
        answer = case.call(base_url=world.url, session=world.http, timeout=60, allow_redirects=False)
        if answer.content != TOO_LONG:
            case.validate_response(answer, checks=checks_of(answer))

    send()


def checks_of(answer: Any) -> list[Any]:
    """What must hold for an answer."""
    if "text/event-stream" in answer.headers.get("content-type", [""])[0]:
        return CHECKS[
            :-1
        ]  # the schema says that the whole is text; the library takes it for that of one event
    if answer.status_code == requests.codes.bad_gateway and answer.json()["code"] == "crm-refused":
        return CHECKS[
            1:
        ]  # CRM took the request for a wrong one, and its own words are told: so says the contract
    if answer.request.url.endswith("/readyz"):
        return CHECKS[1:]  # 503 is its way to say no
    return CHECKS
