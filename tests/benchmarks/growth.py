"""What runs cost as the table grows: memory of a full run, a hundred changes, nothing at all.

The tables are filled, not loaded (see `filling`), and each is looked at by a service that has done nothing else.
"""

import time
from statistics import median
from typing import Any

from app.demo.service import Company
from tests.benchmarks.filling import coupled
from tests.benchmarks.loads import seconds
from tests.benchmarks.world import Running, World

CHANGES = 100
ROUNDS = 3
QUIET = 1.5  # seconds in which a small run ends, without our asking how far it is
READ = 200_000
"""So many records are read, at whatever size, before it is known what full runs hold: the first runs of a service open
one connection after another, and in each PostgreSQL keeps its plans, which has nothing to do with the rows."""
MOST_RUNS = 20


def table(world: World, count: int) -> dict[str, Any]:
    """What runs over so many coupled records cost."""
    with world.service() as running:
        company = coupled(running, count)
    with world.service() as running:
        company = running.same(company)
        found = {"rows": count, "from_crm": everything(running, company, count, "from_crm")}
        found["to_crm"] = everything(running, company, count, "to_crm")
        found["increment"] = increments(running, company)
        found["nothing"] = nothing(running, company)
    return found


def everything(running: Running, company: Company, count: int, direction: str) -> dict[str, Any]:
    """Runs that read the whole table and find nothing to do, until READ records were read, at most MOST_RUNS: the
    median of their times, and the most that they held."""
    runs = min(max(READ // count, 1), MOST_RUNS)
    rounds = [_everything(running, company, direction) for _ in range(runs)]
    times = {what: median(one[what] for one in rounds) for what in ("seconds", "cpu")}
    return times | {what: max(one[what] for one in rounds) for what in ("memory", "postgres")}


def _everything(running: Running, company: Company, direction: str) -> dict[str, Any]:
    with running.watched() as used:
        job = running.run(company, mode="full", direction=direction)
    if job["inserted"] + job["modified"] + job["failed"]:
        raise RuntimeError("There was something to do in a table whose two sides agree.")
    return {"seconds": seconds(job), "cpu": used.cpu, "memory": used.memory, "postgres": used.postgres}


def increments(running: Running, company: Company) -> dict[str, Any]:
    """What a few changes cost: the median of a few runs."""
    rounds = [_increment(running, company, f"Increment {number}") for number in range(ROUNDS)]
    return {what: median(one[what] for one in rounds) for what in rounds[0]}


def _increment(running: Running, company: Company, name: str) -> dict[str, float]:
    running.world.tell_crm("change", count=CHANGES, name=name)
    with running.watched(statements=True) as used:
        job_id = running.start(company, mode="modified", direction="from_crm")
        time.sleep(QUIET)
    job = running.wait(company, job_id)
    if job["modified"] != CHANGES:
        raise RuntimeError(f"{job['modified']} of {CHANGES} changes arrived.")
    running.run(company, mode="modified", direction="to_crm")
    return {"seconds": seconds(job), "cpu": used.cpu, "statements": used.statements}


def nothing(running: Running, company: Company) -> dict[str, Any]:
    """What a run in each direction costs when nothing changed."""
    found: dict[str, Any] = {}
    for direction in ("to_crm", "from_crm"):
        running.world.meter()
        with running.watched(statements=True) as used:
            job_id = running.start(company, mode="modified", direction=direction)
            time.sleep(QUIET)
        running.wait(company, job_id)
        meter = running.world.meter()
        found[direction] = {
            "requests": meter["requests"],
            "bytes": meter["sent"] + meter["received"],
            "statements": used.statements,
            "cpu": used.cpu,
        }
    return found
