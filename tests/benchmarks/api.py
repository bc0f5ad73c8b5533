"""The API beside a bare endpoint: rate and the slowest hundredth, at rest and while a load runs."""

import asyncio
import time
from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

from app.demo.service import Company
from tests.benchmarks.loads import company_id, fill_nav
from tests.benchmarks.processes import Child, free_port
from tests.benchmarks.world import Running, World

CONNECTIONS = 16
SLICES = 6
SLICE = 0.8  # seconds
PAGE = 1000
WARM_ROUNDS = 20
WAIT = 2.0  # seconds that CRM takes for every request of a mapping that waits
Asked = tuple[str, Mapping[str, str]]  # an address and the headers of the request


def measured(asked: Sequence[Asked], slices: int = SLICES) -> list[dict[str, float]]:
    """Of each address: answers a second, and milliseconds of the slowest hundredth, over 16 connections that ask
    without pause; each for another record, where the address has a place `{no}`. They take turns in short slices, so
    that what else the machine does meanwhile meets them alike."""
    latencies: list[list[float]] = [[] for _ in asked]
    spent = [0.0 for _ in asked]
    for _ in range(slices):
        for index, (url, headers) in enumerate(asked):
            some, took = asyncio.run(_all(url, headers, SLICE))
            latencies[index] += some
            spent[index] += took
    return [
        {"rate": len(some) / took, "p99": quantiles(some, n=100)[98] * 1000}
        for some, took in zip(latencies, spent, strict=True)
    ]


async def _all(url: str, headers: Mapping[str, str], duration: float) -> tuple[list[float], float]:
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in headers.items())]
    request = "\r\n".join(lines) + "\r\n\r\n"
    requests = [request.replace("{no}", f"K{n:08}").encode() for n in range(1, CONNECTIONS + 1)]
    began = time.perf_counter()
    done = await asyncio.gather(
        *(_one(parts.hostname or "", parts.port or 80, each, began + duration) for each in requests)
    )
    return [latency for some in done for latency in some], time.perf_counter() - began


async def _one(host: str, port: int, request: bytes, until: float) -> list[float]:
    reader, writer = await asyncio.open_connection(host, port)
    latencies = []
    try:
        while (began := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head[:200].decode("latin-1"))
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - began)
    finally:
        writer.close()
    return latencies


def beside_a_bare_endpoint(running: Running, load: int) -> dict[str, Any]:
    """One NAV record, by both; the API also while a load of so many records runs in a worker of its own."""
    world = running.world
    world.empty_crm()
    company = running.without_schedule(running.company())
    fill_nav(world, company, 1, load)
    number = company_id(world, company)
    made = running.api.call("POST", "/api-keys", {"name": "web shop", "scopes": ["read"]})
    key = {"Authorization": f"Bearer {made['key']}"}
    ours = f"{running.api.url}/api/v1{company.path}/nav/customers/{{no}}"
    port = free_port()
    arguments = (
        "-P",
        "-m",
        "tests.benchmarks.bare_api",
        "--port",
        str(port),
        "--database",
        world.postgres.url,
    )
    bare = Child("bare", world.folder, arguments, {})
    theirs = f"http://127.0.0.1:{port}/companies/{number}/nav/customers/{{no}}"
    try:
        bare.wait_for(theirs)
        both: Sequence[Asked] = ((ours, key), (theirs, {}))
        measured(both, slices=1)
        found: dict[str, Any] = dict(zip(("api", "bare"), measured(both), strict=True))
        world.pace("fast")
        job = running.start(company, mode="full", direction="to_crm", create_uncoupled=True)
        time.sleep(1)
        found |= dict(zip(("api_loaded", "bare_loaded"), measured(both), strict=True))
        found["still_loading"] = company.get(f"synch-jobs/{job}")["status"] == "running"
        company.post(f"synch-jobs/{job}/cancel")
    finally:
        bare.stop()
        world.pace("none")
    return found


def pages(running: Running, records: int, size: int = 100) -> dict[str, Any]:
    """The first page of so many records and the last one, milliseconds each (the median of five)."""
    world = running.world
    company = running.without_schedule(running.company())
    fill_nav(world, company, 1, records)
    last = records // size
    cursor = _cursor_of(company, records - size)
    first, final = f"nav/customers?limit={size}", f"nav/customers?limit={size}&cursor={cursor}"
    return {"page": last, "first": _median(company, first), "last": _median(company, final)}


def _cursor_of(company: Company, after: int) -> str:
    """The cursor behind so many records, as whoever pages through the list gets it."""
    cursor, read = "", 0
    while read < after:
        limit = min(PAGE, after - read)
        found = company.get("nav/customers", limit=str(limit), **({"cursor": cursor} if cursor else {}))
        cursor, read = str(found["next_cursor"]), read + limit
    return cursor


def _median(company: Company, path: str) -> float:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        company.service.call("GET", f"{company.path}/{path}")
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[2]


def p95(values: Sequence[float]) -> float:
    """The value that 95 of a hundred stay below."""
    return quantiles(values, n=20)[18] if len(values) > 1 else values[0]


def starts(running: Running, jobs: int) -> float:
    """Seconds from a job's being queued to its start on an idle service, 95 of a hundred."""
    company = running.without_schedule(running.company())
    waits = []
    for _ in range(jobs):
        job = running.run(company, mode="modified", direction="to_crm")
        queued, started = (datetime.fromisoformat(job[name]) for name in ("created_at", "started_at"))
        waits.append((started - queued).total_seconds())
        time.sleep(0.1)
    return p95(waits)


def arrivals(running: Running, changes: int) -> dict[str, float]:
    """Seconds from a change on one side to its arrival on the other, with the default settings, 95 of a hundred."""
    world = running.world
    world.empty_crm()
    world.tell_crm("fill", count=3)
    company = running.company()
    running.run(company, mode="full", direction="from_crm", create_uncoupled=True)
    running.run(company, mode="modified", direction="to_crm")
    record = company.items("nav/customers")[0]["no"]
    time.sleep(8)
    to_nav, to_crm = [], []
    for number in range(changes):
        told = f"Change {number}"
        world.tell_crm("change", count=3, name=told)
        to_nav.append(_until(told, lambda: company.get(f"nav/customers/{record}")["fields"]["Phone_No"]))
        time.sleep(1.3)
        told = f"Name {number}"
        company.patch(f"nav/customers/{record}", {"fields": {"Name": told}})
        to_crm.append(_until(told, lambda: world.tell_crm("names", "GET")["names"]))
        time.sleep(1.7)
    return {"to_nav": p95(to_nav), "to_crm": p95(to_crm), "changes": changes}


def _until(told: str, shown: Callable[[], Container[str]]) -> float:
    """Seconds until it is shown."""
    began = time.perf_counter()
    while told not in shown():
        if time.perf_counter() - began > 120:
            raise RuntimeError("The change did not arrive within two minutes.")
        time.sleep(0.05)
    return time.perf_counter() - began


def workers(world: World, counts: Sequence[int]) -> dict[int, float]:
    """Seconds for four mappings, each in a company of its own, that wait for CRM: by so many workers of one job at a
    time (the median of three rounds)."""
    found = {}
    for count in counts:
        with world.service(workers=count, worker_concurrency="1") as running:
            world.empty_crm()
            world.tell_crm("fill", count=100)
            companies = [running.without_schedule(running.company()) for _ in range(4)]
            for company in companies:
                running.run(company, mode="full", direction="from_crm", create_uncoupled=True)
            world.tell_crm("pace", "PUT", latency=0.1)  # so that every worker gets something to do
            for _ in range(WARM_ROUNDS):  # until every worker has learned what CRM holds, in every company
                _round(running, companies)
            world.tell_crm("pace", "PUT", latency=WAIT)
            found[count] = sorted(_round(running, companies) for _ in range(3))[1]
            world.pace("none")
    return found


def _round(running: Running, companies: Sequence[Company]) -> float:
    """Seconds from the first job's being queued to the end of the last, a run of each."""
    ids = [running.start(company, mode="modified", direction="from_crm") for company in companies]
    jobs = [running.wait(company, job) for company, job in zip(companies, ids, strict=True)]
    began = min(datetime.fromisoformat(job["created_at"]) for job in jobs)
    return (max(datetime.fromisoformat(job["finished_at"]) for job in jobs) - began).total_seconds()


def killed(world: World, records: int) -> dict[str, Any]:
    """A load whose worker is killed half way: what another does again, and whether all is there once."""
    with world.service(
        workers=2, worker_concurrency="1", worker_heartbeat_timeout_seconds="2", worker_poll_seconds="1"
    ) as running:
        world.empty_crm()
        company = running.without_schedule(running.company())
        fill_nav(world, company, 1, records)
        world.pace("fast")
        world.meter()
        job = running.start(company, mode="full", direction="to_crm", create_uncoupled=True)
        while world.tell_crm("accounts", "GET")["rows"] < records // 2:
            time.sleep(0.02)
        busy = max(running.children[1:], key=running.cpu_of)
        busy.kill()
        running.wait(company, job)
        world.pace("none")
        meter, accounts = world.meter(), world.tell_crm("accounts", "GET")
    return {
        "rows": records,
        "requests": meter["requests"],
        "lost": records - accounts["names"],
        "doubled": accounts["rows"] - accounts["names"],
    }
