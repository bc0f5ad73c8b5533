"""First loads and changes, both ways, beside the bound and both scripts on Microsoft's client."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import asyncpg

from app.demo.service import Company
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT
from tests.benchmarks.processes import ROOT
from tests.benchmarks.scripts import Task
from tests.benchmarks.world import Running, World

SCRIPT_SECONDS = 900
SCRIPTS = ("bound", "microsoft", "microsoft_bare")
CHANGING = ("service", "microsoft", "microsoft_bare")
REMEMBERING = ("service", "microsoft")
"""Those who know themselves what was carried, and so read what others wrote."""
ROUNDS = 5  # of changes: one of a third of a second says little
FILL = """
    INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
    SELECT $1, 'customers', 'K' || lpad(n::text, 8, '0'), gen_random_uuid(), jsonb_build_object(
        'No', 'K' || lpad(n::text, 8, '0'), 'Name', 'Customer ' || n, 'Address', n || ' High Street',
        'Address_2', 'Floor 2', 'City', 'London', 'Post_Code', 'W1 3AL', 'County', 'Greater London',
        'Phone_No', '020 7946 ' || lpad((n % 10000)::text, 4, '0'), 'Fax_No', '020 7946 0001',
        'E_Mail', 'c' || n || '@adatum.example', 'Home_Page', 'adatum.example', 'Credit_Limit_LCY', '25000')
    FROM generate_series($2::bigint, $3::bigint) AS n
    """
TOUCH = """
    UPDATE nav_record SET fields = fields || jsonb_build_object('Name', $2 || ' ' || key)
    WHERE company_id = $1 AND nav_table = 'customers' AND key IN (
        SELECT key FROM nav_record WHERE company_id = $1 AND nav_table = 'customers' ORDER BY key LIMIT $3)
    """
Connection = asyncpg.Connection


def company_id(world: World, company: Company) -> int:
    """The number that our tables know a company by."""

    async def ask(connection: "Connection[asyncpg.Record]") -> int:
        return int(await connection.fetchval("SELECT id FROM company WHERE name = $1", company.name))

    return world.sql(ask)


def fill_nav(world: World, company: Company, first: int, last: int) -> None:
    """Customers with eleven fields, as if they had been there for long."""
    number = company_id(world, company)

    async def fill(connection: "Connection[asyncpg.Record]") -> None:
        await connection.execute(FILL, number, first, last)
        await connection.execute("ANALYZE nav_record")

    world.sql(fill)


def touch_nav(world: World, company: Company, name: str, count: int) -> None:
    """One field of the first so many customers changes."""
    number = company_id(world, company)
    world.sql(lambda connection: connection.execute(TOUCH, number, name, count))


def newest_version(world: World) -> int:
    """Up to which NAV has counted."""
    return int(
        world.sql(lambda connection: connection.fetchval("SELECT max(row_version) FROM nav_record")) or 0
    )


def script(world: World, module: str, work: str, company: Company, **more: Any) -> dict[str, Any]:
    """What a script of ours says of its run."""
    task = Task(
        crm_url=world.crm_url,
        certificate=str(world.certificate),
        database=world.postgres.url,
        company_id=company_id(world, company),
        tenant=DEFAULT_TENANT,
        client=DEFAULT_CLIENT,
        secret=DEFAULT_SECRET,
        **more,
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"tests.benchmarks.{module}", work, json.dumps(asdict(task))],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "NO_PROXY": "localhost"},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {work}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def seconds(job: dict[str, Any]) -> float:
    """From the start of a job to its end, as the service says."""
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    return (ended - began).total_seconds()


def load_from_crm(running: Running, count: int, pace: str = "fast") -> dict[str, Any]:
    """A first load of so many accounts into NAV, then changes of what is coupled: the service and the scripts, each
    with a company of its own, in this order. The seconds of each, and what the service used."""
    world = running.world
    found: dict[str, Any] = {"rows": count}
    world.empty_crm()
    world.tell_crm("fill", count=count)
    companies: dict[str, Company] = {}
    for name in ("service", *SCRIPTS):
        companies[name] = company = running.without_schedule(running.company())
        world.pace(pace)
        world.meter()
        if name == "service":
            with running.watched(statements=True) as used:
                job = running.run(company, mode="full", direction="from_crm", create_uncoupled=True)
            found |= {"service": seconds(job), "cpu": used.cpu, "statements": used.statements}
            rows = job["inserted"]
        else:
            done = script(world, name, "load_from_crm", company)
            found[name], rows = done["seconds"], done["rows"]
        if rows != count:
            raise RuntimeError(f"{rows} of {count} arrived in NAV by {name}.")
        found[f"{name}_requests"] = world.meter()["requests"]
    found["changes"] = changes(running, companies, min(1000, count // 10))
    found["written_again"] = written_again(running, companies["service"])
    world.pace("none")
    return found


def changes(running: Running, companies: Mapping[str, Company], count: int) -> dict[str, Any]:
    """So many changed records on one side, by the service and by both scripts on Microsoft's client in turn: the median
    of the seconds of several rounds, the most requests, the bytes that the service sent for a record."""
    rounds = [a_round(running, companies, count, f"Round {number}") for number in range(ROUNDS)]
    found: dict[str, Any] = {"rows": count, "rounds": ROUNDS}
    for way in ("from_crm", "to_crm"):
        for name in CHANGING:
            found[key_of(way, name)] = median(one[way][name]["seconds"] for one in rounds)
        ours = [one[way]["service"] for one in rounds]
        found[f"{way}_requests"] = max(one["requests"] for one in ours)
    found["to_crm_sent"] = max(one["to_crm"]["service"]["sent"] for one in rounds) / count
    return found


def key_of(way: str, name: str) -> str:
    """Where the seconds of changes are found: the service's have no name."""
    return way if name == "service" else f"{way}_{name}"


def a_round(
    running: Running, companies: Mapping[str, Company], count: int, told: str
) -> dict[str, dict[str, Any]]:
    """Changes in CRM that each of them takes over, and changes in NAV of each of them.

    They share one CRM, so what one writes there is a change to the others. Who remembers what was carried reads that
    before anything is measured; who keeps nothing is told where to begin."""
    world = running.world
    for name in REMEMBERING:
        catch_up(running, name, companies[name])
    since = next_second()
    world.tell_crm("change", count=count, name=told)
    from_crm = {
        name: carried(running, name, "from_crm", companies[name], count, since=since) for name in CHANGING
    }
    to_crm = {}
    for name in CHANGING:
        if name in REMEMBERING:
            catch_up(running, name, companies[name])
        version = newest_version(world)
        touch_nav(world, companies[name], f"{told} {name}", count)
        to_crm[name] = carried(running, name, "to_crm", companies[name], count, version=version)
    return {"from_crm": from_crm, "to_crm": to_crm}


def next_second() -> str:
    """Waits for it, and says when it began: `modifiedon` has whole seconds, and nothing else shall have been modified
    in this one."""
    second = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((second - datetime.now(UTC)).total_seconds())
    return second.isoformat().replace("+00:00", "Z")


def catch_up(running: Running, name: str, company: Company) -> None:
    """Reads both sides until nothing is left to carry."""
    for way in ("from_crm", "to_crm"):
        if name == "service":
            running.run(company, mode="modified", direction=way)
        else:
            script(running.world, name, f"changes_{way}", company)


def carried(
    running: Running, name: str, way: str, company: Company, count: int, **more: Any
) -> dict[str, Any]:
    """What it cost to carry so many changes. Raises RuntimeError unless it was these."""
    world = running.world
    world.meter()
    if name == "service":
        job = running.run(company, mode="modified", direction=way)
        spent, rows = seconds(job), job["modified"]
    else:
        done = script(world, name, f"changes_{way}", company, **more)
        spent, rows = done["seconds"], done["rows"]
    meter = world.meter()
    if rows != count:
        raise RuntimeError(f"{rows} instead of {count} changes were carried {way} by {name}.")
    return {"seconds": spent, "requests": meter["requests"], "sent": meter["sent"]}


def changed_in_nav(running: Running, coupled: int, count: int, pace: str) -> dict[str, Any]:
    """The seconds that so many changes take into a CRM of this pace, of so many customers that are coupled: by the
    service and by the script that remembers what was carried."""
    found: dict[str, Any] = {"rows": count}
    for name in REMEMBERING:
        running.world.empty_crm()
        company = running.without_schedule(running.company())
        fill_nav(running.world, company, 1, coupled)
        if name == "service":
            running.run(company, mode="full", direction="to_crm", create_uncoupled=True)
        catch_up(running, name, company)
        touch_nav(running.world, company, "Changed", count)
        running.world.pace(pace)
        found[name] = carried(running, name, "to_crm", company, count)["seconds"]
        running.world.pace("none")
    return found


def written_again(running: Running, company: Company) -> int:
    """How many records a full run after a run writes, when nobody else wrote in between."""
    catch_up(running, "service", company)
    job = running.run(company, mode="full", direction="from_crm")
    return int(job["inserted"] + job["modified"] + job["failed"])


def load_to_crm(
    running: Running, count: int, pace: str = "fast", lanes: int = 8, only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A first load of so many customers into CRM: the service and the scripts, each with a company of its own and with
    an empty CRM, in this order."""
    world = running.world
    found: dict[str, Any] = {"rows": count, "lanes": lanes}
    for name in only or ("service", *SCRIPTS):
        world.empty_crm()
        company = running.without_schedule(running.company())
        fill_nav(world, company, 1, count)
        world.pace(pace)
        world.meter()
        if name == "service":
            with running.watched(statements=True) as used:
                job = running.run(company, mode="full", direction="to_crm", create_uncoupled=True)
            found |= {"service": seconds(job), "cpu": used.cpu, "statements": used.statements}
        else:
            batch = -(-min(count, 1000) // lanes)
            done = script(world, name, "load_to_crm", company, lanes=lanes, batch=batch)
            found[name] = done["seconds"]
        world.pace("none")
        found |= {f"{name}_{what}": value for what, value in arrived(world, count).items()}
    return found


def arrived(world: World, count: int) -> dict[str, Any]:
    """What a load into CRM cost there, and whether every row is there once."""
    meter, accounts = world.meter(), world.tell_crm("accounts", "GET")
    return {
        "requests": meter["requests"],
        "429": meter["statuses"].get("429", 0),
        "429_window": meter["refused_in_a_window"],
        "lost": count - accounts["names"],
        "doubled": accounts["rows"] - accounts["names"],
    }
