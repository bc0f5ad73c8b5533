"""Service protection limits, faults on request, and how the sandbox is steered (section 21)."""

import asyncio
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, Fault, Limits, create_sandbox
from app.sandbox.errors import DataverseError
from app.sandbox.limits import Meter
from tests.sandbox.conftest import Connect, Crm, code, message
from tests.servers import run_in_thread

pytestmark = pytest.mark.anyio


async def test_too_many_requests_are_told_to_wait(connect: Connect) -> None:
    crm: Crm = await connect(limits=Limits(requests=3, seconds=300))
    left = [
        (await crm.get("WhoAmI")).headers["x-ms-ratelimit-burst-remaining-xrm-requests"] for _ in range(3)
    ]
    assert left == ["2", "1", "0"]
    answer = await crm.get("WhoAmI")
    assert (answer.status_code, code(answer)) == (429, "0x80072322")
    assert message(answer) == "Number of requests exceeded the limit of 3 over time window of 300 seconds."
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    again = await crm.get("WhoAmI")
    assert int(again.headers["Retry-After"]) > int(answer.headers["Retry-After"])


async def test_the_window_slides(connect: Connect) -> None:
    crm: Crm = await connect(limits=Limits(requests=1, seconds=0.05))
    for _ in range(2):
        assert (await crm.get("WhoAmI")).status_code == 200
        await asyncio.sleep(0.06)


def test_a_request_counts_until_the_window_has_left_it_behind() -> None:
    meter, limits = Meter(), Limits(requests=2, seconds=300)
    for moment in (1000, 1100):
        meter.enter(limits, moment)
        meter.leave(moment, 0)
    with pytest.raises(DataverseError, match="limit of 2"):
        meter.enter(limits, 1299)
    meter.enter(limits, 1300)
    with pytest.raises(DataverseError, match="limit of 2"):
        meter.enter(limits, 1301)


async def test_execution_time_is_limited_too(connect: Connect) -> None:
    crm: Crm = await connect(limits=Limits(execution=0.01), latency=0.02)
    answer = await crm.get("WhoAmI")
    assert answer.headers["x-ms-ratelimit-time-remaining-xrm-requests"] == "0.00"
    answer = await crm.get("WhoAmI")
    assert (answer.status_code, code(answer)) == (429, "0x80072321")
    plenty: Crm = await connect(limits=Limits())
    header = (await plenty.get("WhoAmI")).headers["x-ms-ratelimit-time-remaining-xrm-requests"]
    assert re.fullmatch(r"1,(200|1\d\d)\.\d\d", header)


async def test_requests_at_once_are_limited_too(connect: Connect) -> None:
    crm: Crm = await connect(limits=Limits(concurrent=2, dop=2), latency=0.05)
    answers = await asyncio.gather(*(crm.get("WhoAmI") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert code(refused) == "0x80072326"
    assert answers[0].headers["x-ms-dop-hint"] == "2"


async def test_latency_grows_with_rows(connect: Connect) -> None:
    crm: Crm = await connect(row_latency=0.01)
    targets = [{"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "x"}] * 10
    started = time.monotonic()
    await crm.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": targets})
    assert time.monotonic() - started >= 0.1


# -- faults


async def test_a_fault_strikes_each_nth_time(crm: Crm) -> None:
    crm.organization.faults.append(Fault(r"GET .*/WhoAmI", every=3, kind="503"))
    found = [(await crm.get("WhoAmI")).status_code for _ in range(6)]
    assert found == [200, 200, 503, 200, 200, 503]


async def test_a_fault_strikes_so_often_and_lets_others_pass(crm: Crm) -> None:
    crm.organization.faults.append(Fault("GET .*", times=1, after=1, kind="429", retry_after=2.5))
    answers = [await crm.get("WhoAmI") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 200]
    assert answers[1].headers["Retry-After"] == "2.5"
    assert code(answers[1]) == "0x80072322"
    assert (await crm.post("accounts", {"name": "x"})).status_code == 204


async def test_a_fault_of_the_customers_making_has_code_and_message(crm: Crm) -> None:
    crm.organization.faults.append(Fault(kind="400", code="0x80040265", message="VAT number missing"))
    answer = await crm.post("accounts", {"name": "x"})
    assert (answer.status_code, code(answer), message(answer)) == (400, "0x80040265", "VAT number missing")
    assert crm.organization.rows("account") == {}


@pytest.mark.parametrize("kind, written", [("reset_before_commit", 0), ("reset_after_commit", 1)])
async def test_a_lost_answer_says_nothing_of_what_happened(crm: Crm, kind: Any, written: int) -> None:
    crm.organization.faults.append(Fault("POST .*", kind=kind, times=1))
    with pytest.raises(httpx.TransportError):
        await crm.post("accounts", {"name": "x"})
    assert len(crm.organization.rows("account")) == written
    assert crm.organization.requests("POST")[-1].status == 0


async def test_answers_may_be_broken(crm: Crm) -> None:
    kinds: tuple[Any, ...] = ("truncated", "not_json")
    for kind in kinds:
        crm.organization.faults[:] = [Fault(kind=kind)]
        answer = await crm.get("WhoAmI")
        assert answer.status_code == 200
        with pytest.raises(ValueError):
            answer.json()
    crm.organization.faults[:] = [Fault(kind="html")]
    answer = await crm.get("WhoAmI")
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (503, "text/html")


async def test_a_hanging_answer_comes_in_the_end(crm: Crm) -> None:
    crm.organization.faults.append(Fault(kind="hang", seconds=0.05))
    started = time.monotonic()
    assert (await crm.get("WhoAmI")).status_code == 200
    assert time.monotonic() - started >= 0.05


async def test_an_unknown_kind_of_fault_is_refused() -> None:
    kind: Any = "earthquake"
    with pytest.raises(ValueError, match="earthquake"):
        Fault(kind=kind)


# -- over real HTTP


@pytest.fixture
def sandbox() -> Starlette:
    return create_sandbox()


@pytest.fixture
def served(sandbox: Starlette) -> Iterator[httpx.Client]:
    with run_in_thread(sandbox) as url, httpx.Client(base_url=f"{url}/api/data/v9.2/", timeout=60) as http:
        form = {
            "grant_type": "client_credentials",
            "client_id": DEFAULT_CLIENT,
            "client_secret": DEFAULT_SECRET,
            "scope": f"{url}/.default",
        }
        token = http.post(f"{url}/tenant/oauth2/v2.0/token", data=form).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        http.headers["Origin-Of-Sandbox"] = url
        yield http


def test_a_dropped_connection_is_a_transport_error(served: httpx.Client, sandbox: Starlette) -> None:
    kinds: tuple[Any, ...] = ("reset_before_commit", "reset_after_commit")
    for written, kind in enumerate(kinds):
        sandbox.state.organization.faults[:] = [Fault("POST .*", kind=kind, times=1)]
        with pytest.raises(httpx.TransportError):
            served.post("accounts", json={"name": "x"})
        assert len(sandbox.state.organization.rows("account")) == written
    assert served.post("accounts", json={"name": "y"}).status_code == 204


def test_the_sandbox_is_steered_over_http(served: httpx.Client) -> None:
    root = served.headers["Origin-Of-Sandbox"]
    served.post("accounts", json={"name": "x"})
    put = served.put(f"{root}/sandbox/faults", json=[{"match": "GET .*", "kind": "500", "times": 1}])
    assert put.json()[0]["struck"] == 0
    assert served.get("WhoAmI").status_code == 500
    assert served.get("WhoAmI").status_code == 200
    assert served.get(f"{root}/sandbox/faults").json()[0]["struck"] == 1
    assert served.put(f"{root}/sandbox/faults", json=[{"kind": "earthquake"}]).status_code == 400
    counts = served.get(f"{root}/sandbox/requests").json()
    assert counts["by_method_and_status"] == {"POST 204": 1, "GET 500": 1, "GET 200": 1}
    link = served.get("accounts", headers={"Prefer": "odata.track-changes"}).json()["@odata.deltaLink"]
    assert served.post(f"{root}/sandbox/delta-tokens/expire").status_code == 204
    assert served.get(link).json()["error"]["code"] == "0x80044352"
    assert served.post(f"{root}/sandbox/reset").status_code == 204
    assert served.get("accounts").json()["value"] == []


def test_repeated_prefer_headers_count_together(served: httpx.Client) -> None:
    headers = [
        ("Prefer", "return=representation"),
        ("Prefer", 'odata.include-annotations="OData.Community.Display.V1.FormattedValue"'),
    ]
    answer = served.post("accounts", json={"name": "x"}, headers=headers)
    assert answer.status_code == 201
    assert answer.json()["statecode@OData.Community.Display.V1.FormattedValue"] == "Active"


# -- size


async def test_a_page_of_a_large_table_costs_no_more_than_of_a_small_one(crm: Crm) -> None:
    """In seconds of this thread's own work: what else the machine does meanwhile is not counted."""

    async def seconds(path: str) -> float:
        started = time.thread_time()
        answer = await crm.get(path, Prefer="odata.maxpagesize=50")
        took = time.thread_time() - started
        assert answer.status_code == 200
        return took

    async def least(paths: list[str]) -> list[float]:
        return [min([await seconds(path) for _ in range(10)]) for path in paths]

    async def create(count: int) -> None:
        target = {"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "Customer"}
        for _ in range(count // 1000):
            await crm.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [target] * 1000})

    await create(1000)
    page = (await crm.get("accounts?$select=name", Prefer="odata.maxpagesize=50")).json()
    paths = ["accounts?$select=name", page["@odata.nextLink"]]
    small = await least(paths)
    await create(19_000)
    large = await least(paths)
    assert all(after < 5 * before for before, after in zip(small, large, strict=True))
    tracked = await crm.get("accounts?$select=name", Prefer="odata.track-changes, odata.maxpagesize=50")
    assert tracked.status_code == 200


async def test_a_large_answer_is_compressed_for_those_who_take_it_so(crm: Crm) -> None:
    for number in range(20):
        await crm.create("accounts", name=f"Adatum {number}")
    plain = await crm.get("accounts?$select=name", Accept_Encoding="identity")
    packed = await crm.get("accounts?$select=name", Accept_Encoding="gzip")
    assert packed.json()["value"] == plain.json()["value"]
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert crm.organization.log[-1].received * 2 < crm.organization.log[-2].received
    small = await crm.get("accounts?$select=name&$top=1", Accept_Encoding="gzip")
    assert "Content-Encoding" not in small.headers
