"""Runs the measures one after the other and writes docs/benchmarks.md: `python3 dev.py bench [--size small|large]`."""

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import api, growth, loads, report
from tests.benchmarks.processes import ROOT
from tests.benchmarks.world import World, a_world

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "loads": (1000, 5000),
        "tables": (1000, 20_000),
        "beside_api": 50_000,
        "listed": 20_000,
        "changes": 2,
        "starts": 10,
        "killed": 5000,
    },
    "large": {
        "loads": (1000, 10_000, 100_000),
        "tables": (1000, 10_000, 100_000, 1_000_000),
        "beside_api": 100_000,
        "listed": 1_000_000,
        "changes": 6,
        "starts": 40,
        "killed": 10_000,
    },
}
LANES = 16
"""Requests in flight where CRM is slow: at ten milliseconds a row, eight would starve."""

Measure = Callable[[World, dict[str, Any]], Any]


def first_loads(world: World, size: dict[str, Any]) -> Any:
    """From CRM and into it, at every size."""
    with world.service() as running:
        return {
            "from": {str(n): loads.load_from_crm(running, n) for n in size["loads"]},
            "to": {str(n): loads.load_to_crm(running, n) for n in size["loads"]},
        }


def tables(world: World, size: dict[str, Any]) -> Any:
    """Changes, no changes and full runs as the table grows."""
    return {str(n): growth.table(world, n) for n in size["tables"]}


def slow_crm(world: World, size: dict[str, Any]) -> Any:
    """2,000 creates in `real`, and 1,000 changes."""
    with world.service(crm_concurrency=str(LANES)) as running:
        changes = loads.changed_in_nav(running, 2000, 1000, "real")
        return loads.load_to_crm(running, 2000, "real", LANES) | {"changes": changes}


def limited_crm(world: World, size: dict[str, Any]) -> Any:
    """5,000 creates in `limits`."""
    with world.service(crm_concurrency=str(LANES)) as running:
        return loads.load_to_crm(running, 5000, "limits", LANES, ("service", "bound"))


def the_api(world: World, size: dict[str, Any]) -> Any:
    """Rate and slowest hundredth, a worker beside it; the pages of a long list; how soon a job starts."""
    with world.service(workers=1) as running:
        return api.beside_a_bare_endpoint(running, size["beside_api"])


def lists_and_starts(world: World, size: dict[str, Any]) -> Any:
    """The pages of a long list, and how soon a queued job starts."""
    with world.service() as running:
        return {"starts": api.starts(running, size["starts"]), "pages": api.pages(running, size["listed"])}


def scale_out(world: World, size: dict[str, Any]) -> Any:
    """One, two and four workers."""
    return {str(count): taken for count, taken in api.workers(world, (1, 2, 4)).items()}


def a_killed_worker(world: World, size: dict[str, Any]) -> Any:
    """A load whose worker dies."""
    return api.killed(world, size["killed"])


def everyday(world: World, size: dict[str, Any]) -> Any:
    """How soon a change arrives, with the default settings."""
    with world.service(worker_watch_seconds="5") as running:
        return api.arrivals(running, size["changes"])


MEASURES: dict[str, Measure] = {
    "loads": first_loads,
    "growth": tables,
    "real": slow_crm,
    "limits": limited_crm,
    "api": the_api,
    "lists": lists_and_starts,
    "workers": scale_out,
    "killed": a_killed_worker,
    "arrivals": everyday,
}


def main() -> int:
    """Measures and writes; the result is an exit code."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks.md")
    given = parser.parse_args()
    command = f"python3 dev.py bench --size {given.size}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: the children end with it
    began = time.monotonic()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="navcrm-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another account where we are root
        for name in given.only:
            with a_world(Path(folder) / name) as world:
                started = time.monotonic()
                print(f"{name} ...", flush=True)
                found[name] = MEASURES[name](world, SIZES[given.size])
                print(f"  {json.dumps(found[name])}\n  {time.monotonic() - started:.0f} s", flush=True)
            report.write(given.output, found, command, time.monotonic() - began)
    print(f"{given.output} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
