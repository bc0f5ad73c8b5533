"""First loads and changes, both ways, beside the bound and the script on Microsoft's client."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import asyncpg

from app.demo.service import Company
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT
from tests.benchmarks.processes import ROOT
from tests.benchmarks.scripts import Task
from tests.benchmarks.world import Running, World

SCRIPT_SECONDS = 900
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
    """A first load of so many accounts into NAV, then changes of what is coupled: the service, the bound,
    Microsoft's client, in this order. The seconds of each, and what the service used."""
    world = running.world
    found: dict[str, Any] = {"rows": count}
    world.empty_crm()
    world.tell_crm("fill", count=count)
    companies: dict[str, Company] = {}
    for name in ("service", "bound", "microsoft"):
        companies[name] = company = running.without_schedule(running.company())
        world.pace(pace)
        world.meter()
        if name == "service":
            with running.watched(statements=True) as used:
                job = running.run(company, mode="full", direction="from_crm", create_uncoupled=True)
            if job["inserted"] != count:
                raise RuntimeError(f"{job['inserted']} of {count} arrived.")
            found |= {"service": seconds(job), "cpu": used.cpu, "statements": used.statements}
        else:
            found[name] = script(world, name, "load_from_crm", company)["seconds"]
        found[f"{name}_requests"] = world.meter()["requests"]
    running.run(companies["service"], mode="modified", direction="to_crm")
    found["changes"] = changes(running, companies["service"], companies["microsoft"], min(1000, count // 10))
    found["written_again"] = written_again(running, companies["service"])
    world.pace("none")
    return found


def changes(running: Running, ours: Company, theirs: Company, count: int) -> dict[str, Any]:
    """So many changed records on one side: the service with its company, Microsoft's client with its own."""
    world = running.world
    found: dict[str, Any] = {"rows": count}
    began = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1.1)  # modifiedon has whole seconds
    world.tell_crm("change", count=count, name="Changed")
    world.meter()
    job = running.run(ours, mode="modified", direction="from_crm")
    found["from_crm"] = seconds(job)
    found["from_crm_requests"] = world.meter()["requests"]
    since = began.isoformat().replace("+00:00", "Z")
    found["from_crm_microsoft"] = script(world, "microsoft", "changes_from_crm", theirs, since=since)[
        "seconds"
    ]
    if job["modified"] != count:
        raise RuntimeError(f"{job['modified']} of {count} changes arrived from CRM.")
    running.run(ours, mode="modified", direction="to_crm")
    touch_nav(world, ours, "Changed", count)
    world.meter()
    job = running.run(ours, mode="modified", direction="to_crm")
    found["to_crm"] = seconds(job)
    meter = world.meter()
    found |= {"to_crm_requests": meter["requests"], "to_crm_sent": meter["sent"] / count}
    if job["modified"] != count:
        raise RuntimeError(f"{job['modified']} of {count} changes arrived in CRM.")
    running.run(ours, mode="modified", direction="from_crm")
    version = newest_version(world)
    touch_nav(world, theirs, "Changed", count)
    done = script(world, "microsoft", "changes_to_crm", theirs, version=version)
    found["to_crm_microsoft"] = done["seconds"]
    running.run(ours, mode="modified", direction="from_crm")
    return found


def written_again(running: Running, company: Company) -> int:
    """How many records a full run after a run writes."""
    job = running.run(company, mode="full", direction="from_crm")
    return int(job["inserted"] + job["modified"] + job["failed"])


def load_to_crm(
    running: Running, count: int, pace: str = "fast", lanes: int = 8, only: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A first load of so many customers into CRM: the service, the bound, Microsoft's client, in this order."""
    world = running.world
    found: dict[str, Any] = {"rows": count, "lanes": lanes}
    for name in only or ("service", "bound", "microsoft"):
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
