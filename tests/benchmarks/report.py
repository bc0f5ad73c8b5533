"""From what was measured to docs/benchmarks.md and its chart. Nothing stands there that was not measured."""

import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.api import SLICE, SLICES
from tests.benchmarks.chart import Line, draw
from tests.benchmarks.growth import MOST_RUNS, READ
from tests.benchmarks.loads import ROUNDS

Found = Mapping[str, Any]
Row = tuple[str, str, str, bool | None]  # what, measured, must be, whether it holds
HEAD = """# What it costs

Written by `{command}` on {day}, in {minutes:.0f} minutes, on {machine}. One run; the load average of the
machine was {load:.1f} at its end.

The service is driven over its REST API, in processes of its own, against the sandbox in another process, over TLS.
Beside it, in the same run and against the same PostgreSQL, run three scripts, each with a company of its own:

- **the bound** does the same reads and writes in the same sets and keeps nothing (no couplings, base, history or log,
  nothing to continue from).
- **Microsoft's client** is what one would put to work instead of the service for this one mapping: a script on
  `powerplatform-dataverse-client` and psycopg that may be killed and run again. It keeps which account is which
  customer, the values both had when they were last in step, and how far it has read; it has no history, log, filters
  or conflicts. Three were written independently of each other, without knowing the service's code or its figures. With
  10,000 records they took the same time; this is the one that was fastest with 100,000, in the house's style, with its
  statements, sets and requests as they were.
- **a script that keeps nothing, on Microsoft's client**, does the same loads by CreateMultiple and UpdateMultiple. It
  can neither go on where it was killed nor be run twice, and is told where to begin.

`fast` is 20 ms a request, `real` 100 ms a request and 10 ms a row, `limits` is `real` with 100 requests and 20 s of
execution in 5 s, 52 at once. Loads run in `fast`. Records have eleven fields with values. Seconds are those of the
synch job, from its start to its end, and of a script once it is connected and knows what CRM calls the table. Changes
are the median of {rounds} rounds in which the service and the scripts take turns; what others changed meanwhile is read
before and not measured. The API and the bare endpoint take turns too, in {slices} slices of {slice} s each.

The counts are also tests: `tests/integration/counts`.
"""
COMPLETE = "Microsoft's client"
BARE = "a script that keeps nothing, on Microsoft's client"
NOTES = ("<!-- notes -->", "<!-- end of notes -->")
"""What a person wrote between these lines stays when the page is written anew."""


def write(path: Path, found: Found, command: str, seconds: float) -> None:
    """The page, and the chart beside it where there is something to draw."""
    head = HEAD.format(
        command=command,
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        minutes=seconds / 60,
        machine=_machine(),
        load=os.getloadavg()[1],
        rounds=ROUNDS,
        slices=SLICES,
        slice=SLICE,
    )
    parts = [head, "\n".join((NOTES[0], *notes(path), NOTES[1]))]
    for title, rows in (("Counts", _counts(found)), ("Ratios in the same run", _ratios(found))):
        if rows:
            parts.append(f"## {title}\n\n{_table(rows)}")
    if "loads" in found or "growth" in found:
        chart = path.with_suffix(".svg")
        chart.write_text(draw(_curves(found), "rows of the table", "seconds"), encoding="utf-8")
        parts.append(f"## Growth\n\n![Growth with the size of the table]({chart.name})")
    if "growth" in found:
        parts.append(_growth_table(found["growth"]))
    if "loads" in found:
        parts.append(f"## First loads in seconds\n\n{_loads_table(found['loads'])}")
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def notes(path: Path) -> list[str]:
    """The lines that a person wrote into the page between the two lines for it."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if NOTES[0] not in lines or NOTES[1] not in lines:
        return []
    return lines[lines.index(NOTES[0]) + 1 : lines.index(NOTES[1])]


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}"
    cores = f"{os.cpu_count()} cores ({model or 'unnamed'})"
    return f"{cores}, {memory:.0f} GB, {system}, Python {platform.python_version()}"


# --- the two tables -------------------------------------------------------------------------------


def _counts(found: Found) -> list[Row]:
    rows: list[Row] = []
    if "growth" in found:
        rows += _growth_counts(found["growth"])
    if "loads" in found:
        rows += _load_counts(found["loads"])
    if "killed" in found:
        killed = found["killed"]
        said = f"{killed['requests']} requests, {killed['lost']} lost, {killed['doubled']} doubled"
        whole = not killed["lost"] and not killed["doubled"]
        rows.append((f"after `kill -9` in a load of {killed['rows']:,}", said, "none lost or doubled", whole))
    return rows


def _growth_counts(measured: Found) -> list[Row]:
    rows: list[Row] = []
    for n, one in measured.items():
        there, back = one["nothing"]["to_crm"], one["nothing"]["from_crm"]
        requests = max(there["requests"], back["requests"])
        size = max(there["bytes"], back["bytes"])
        rows.append(
            (
                f"nothing changed, {int(n):,} coupled: requests and bytes to CRM / from CRM",
                f"{there['requests']} / {back['requests']}, {there['bytes']} / {back['bytes']} B",
                "1, 1 kB",
                requests <= 1 and size <= 1024,
            )
        )
    return rows + _memory(measured)


def _memory(measured: Found) -> list[Row]:
    """A row more from ten thousand rows to the most: a smaller table does not fill a page of what is read at once."""
    sizes = sorted(int(n) for n in measured if int(n) >= 10_000)
    if len(sizes) < 2:
        return []
    few, many = sizes[0], sizes[-1]
    rows: list[Row] = []
    for direction, name in (("from_crm", "from CRM"), ("to_crm", "to CRM")):
        held = [_held(measured[str(n)][direction]) for n in (few, many)]
        more = (held[1] - held[0]) / (many - few)
        what = f"memory of all processes in a full run {name}, a row more from {few:,} to {many:,}"
        rows.append((what, f"{more:.1f} B", "20 B", more <= 20))
    return rows


def _held(run: Found) -> float:
    return float(run["memory"] + run["postgres"])


def _load_counts(measured: Found) -> list[Row]:
    rows: list[Row] = []
    for n, one in measured["from"].items():
        count = int(n)
        most = math.ceil(count / 5000) + 1
        got = one["service_requests"]
        rows.append((f"first load from CRM, {count:,}: requests", str(got), str(most), got <= most))
        changed = one["changes"]
        got, rows_ = changed["from_crm_requests"], changed["rows"]
        rows.append((f"{rows_} of {count:,} changed in CRM: requests", str(got), "1", got <= 1))
        got, most = changed["to_crm_requests"], 8 + 1
        rows.append((f"{rows_} of {count:,} changed in NAV: requests", str(got), str(most), got <= most))
    for n, one in measured["to"].items():
        count = int(n)
        most = math.ceil(count / math.ceil(min(count, 1000) / one["lanes"])) + 2
        got = one["service_requests"]
        rows.append((f"first load into CRM, {count:,}: requests", str(got), str(most), got <= most))
    written = sum(one["written_again"] for one in measured["from"].values())
    rows.append(("writes of a full run after a run", str(written), "0", written == 0))
    return rows


LOAD_LIMITS = {"from": {10_000: 2.5, 100_000: 2.0}, "to": {10_000: 1.8, 100_000: 1.6}}


def _ratios(found: Found) -> list[Row]:
    rows: list[Row] = []
    if "loads" in found:
        rows += _load_ratios(found["loads"])
    if "growth" in found:
        rows += _growth_ratios(found["growth"])
    if "real" in found:
        one = found["real"]
        rows.append(_times("`real`, 2,000 creates, to the bound", one["service"] / one["bound"], 1.3))
        rows += _beside("`real`, 2,000 creates", one, ("service", "microsoft", "microsoft_bare"), 0.1)
        changed = one["changes"]
        what = f"`real`, {changed['rows']:,} of 2,000 changed in NAV, to {COMPLETE}"
        rows.append(_times(what, changed["service"] / changed["microsoft"], None))
    if "limits" in found:
        one = found["limits"]
        rows.append(_times("`limits`, 5,000 creates, to the bound", one["service"] / one["bound"], 1.2))
        whole = one["service_429_window"] <= 2 and not one["service_lost"] and not one["service_doubled"]
        said = f"{one['service_429_window']} in a window, {one['service_lost']} lost, {one['service_doubled']} doubled"
        rows.append(("`limits`: 429s", said, "2 a window, none lost or doubled", whole))
    if "api" in found:
        rows += _api_ratios(found["api"])
    if "workers" in found:
        taken = {int(count): value for count, value in found["workers"].items()}
        for count, must in ((2, 1.9), (4, 3.6)):
            gain = taken[1] / taken[count]
            rows.append(
                (
                    f"{count} workers of one job each, four mappings that wait for CRM",
                    f"{gain:.2f} times one",
                    f"{must}",
                    gain >= must,
                )
            )
    if "lists" in found:
        start, pages = found["lists"]["starts"] * 1000, found["lists"]["pages"]
        rows.append(
            ("a queued job starts on an idle service, p95", f"{start:.0f} ms", "100 ms", start <= 100)
        )
        ratio = max(pages["last"], pages["first"]) / min(pages["last"], pages["first"])
        said = f"{pages['first']:.0f} ms and {pages['last']:.0f} ms"
        rows.append(
            (f"page 1 and page {pages['page']:,} of a list", said, "within twice of each other", ratio <= 2)
        )
    if "arrivals" in found:
        one = found["arrivals"]
        for name, where in (("to_nav", "CRM reaches NAV"), ("to_crm", "NAV reaches CRM")):
            rows.append(
                (
                    f"a change in {where}, defaults, p95 of {one['changes']}",
                    f"{one[name]:.1f} s",
                    "15 s",
                    one[name] <= 15,
                )
            )
    return rows


def _load_ratios(measured: Found) -> list[Row]:
    rows: list[Row] = []
    for way, name in (("from", "first load from CRM"), ("to", "first load into CRM")):
        for n, one in measured[way].items():
            must = LOAD_LIMITS[way].get(int(n))
            rows.append(_times(f"{name}, {int(n):,}, to the bound", one["service"] / one["bound"], must))
            must = 1.0 if way == "from" and must else None
            rows += _beside(f"{name}, {int(n):,}", one, ("service", "microsoft", "microsoft_bare"), must)
    for n, one in measured["from"].items():
        changed = one["changes"]
        must = 1.5 if int(n) == 100_000 else None
        for way, name in (("from_crm", "in CRM"), ("to_crm", "in NAV")):
            what = f"{changed['rows']} of {int(n):,} changed {name}"
            rows += _beside(what, changed, (way, f"{way}_microsoft", f"{way}_microsoft_bare"), must)
    sizes = sorted(int(n) for n in measured["from"])
    for way, name in (("from", "from CRM"), ("to", "into CRM")):
        for what, of in (("cpu", "CPU"), ("statements", "statements")):
            curve = [measured[way][str(n)][what] for n in sizes]
            rows += _exponent(f"the {of} of a first load {name}", sizes, curve, 1.05)
    return rows


def _beside(what: str, found: Found, names: tuple[str, str, str], must: float | None) -> list[Row]:
    """Our seconds to those of both scripts on Microsoft's client; what must be is said of the complete one."""
    ours, complete, bare = (found[name] for name in names)
    return [
        _times(f"{what}, to {COMPLETE}", ours / complete, must),
        _times(f"{what}, to {BARE}", ours / bare, None),
    ]


def _growth_ratios(measured: Found) -> list[Row]:
    sizes = sorted(int(n) for n in measured)
    rows: list[Row] = []
    for what, of in (("cpu", "CPU"), ("statements", "statements")):
        curve = [measured[str(n)]["increment"][what] for n in sizes]
        rows += _exponent(f"the {of} of an increment", sizes, curve, 0.15)
        still = [measured[str(n)]["nothing"]["from_crm"][what] for n in sizes]
        rows += _exponent(f"the {of} of a run that finds no change", sizes, still, 0.15)
    return rows


def _exponent(of: str, sizes: Sequence[int], curve: Sequence[float], must: float) -> list[Row]:
    if len(sizes) < 2:
        return []
    exponent = slope(sizes, curve)
    name = f"growth from {sizes[0]:,} to {sizes[-1]:,}, exponent of {of}"
    return [(name, f"{exponent:.2f}", f"{must}", exponent <= must)]


def _api_ratios(one: Found) -> list[Row]:
    rows: list[Row] = []
    loaded = "while a load runs" if one["still_loading"] else "while a load runs, which ended before"
    for ours, theirs, name in (
        ("api", "bare", "at rest"),
        ("api_loaded", "bare_loaded", loaded),
    ):
        rate = one[ours]["rate"] / one[theirs]["rate"]
        said = f"{rate:.2f} ({one[ours]['rate']:.0f} and {one[theirs]['rate']:.0f} a second)"
        rows.append((f"API, one record, rate beside a bare endpoint, {name}", said, "0.6", rate >= 0.6))
        slow = one[ours]["p99"] / one[theirs]["p99"]
        said = f"{slow:.1f} ({one[ours]['p99']:.0f} and {one[theirs]['p99']:.0f} ms)"
        rows.append((f"API, one record, p99 beside a bare endpoint, {name}", said, "2", slow <= 2))
    return rows


def _times(name: str, ratio: float, must: float | None) -> Row:
    return (
        name,
        f"{ratio:.2f} times",
        "" if must is None else f"{must}",
        None if must is None else ratio <= must,
    )


def _table(rows: Sequence[Row]) -> str:
    lines = ["| what | measured | must be | holds |", "|---|---|---|---|"]
    for what, measured, must, holds in rows:
        word = "" if holds is None else "yes" if holds else "**no**"
        lines.append(f"| {what} | {measured} | {must} | {word} |")
    return "\n".join(lines)


# --- growth ---------------------------------------------------------------------------------------


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent of a power law through these points: least squares over the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(value, 1e-3)) for value in values]
    middle, height = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - middle) * (y - height) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - middle) ** 2 for x in xs)


def _curves(found: Found) -> list[Line]:
    loads, growth = found.get("loads"), found.get("growth")
    lines: list[Line] = []
    if loads:
        for way, name in (("from", "first load from CRM"), ("to", "first load into CRM")):
            lines.append(_curve(name, loads[way], lambda one: one["service"]))
            lines.append(_curve("its bound", loads[way], lambda one: one["bound"]))
    if growth:
        lines.append(_curve("full run, no change", growth, lambda one: one["from_crm"]["seconds"]))
        lines.append(_curve("100 changes, CPU", growth, lambda one: one["increment"]["cpu"]))
        still = _curve("no change, CPU", growth, lambda one: max(one["nothing"]["from_crm"]["cpu"], 0.01))
        lines.append(still)
    return lines


def _curve(name: str, measured: Found, value: Callable[[Found], float]) -> Line:
    return Line(name, sorted((int(n), value(one)) for n, one in measured.items()))


def _growth_table(measured: Found) -> str:
    lines = [
        "| coupled records | 100 changes | CPU | statements | no change: CPU | statements "
        "| full run from CRM | memory | full run to CRM | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for n, one in measured.items():
        step, still = one["increment"], one["nothing"]["from_crm"]
        full = [one[direction] for direction in ("from_crm", "to_crm")]
        read = " | ".join(f"{run['seconds']:.1f} s | {_held(run) / 2**20:.0f} MB" for run in full)
        lines.append(
            f"| {int(n):,} | {step['seconds']:.2f} s | {step['cpu']:.2f} s | {step['statements']:.0f} "
            f"| {still['cpu']:.2f} s | {still['statements']} | {read} |"
        )
    lines.append(
        "\nThe tables are filled, not loaded. Changes are those of CRM, the median of three runs; full runs read the "
        f"whole table and find nothing to do. They are repeated until {READ:,} records were read, up to {MOST_RUNS} "
        "times: the median of their seconds, and the most memory. That is of the service at its highest and of all "
        "processes of PostgreSQL, at theirs, but for the cache that they share (`shared_buffers`, of fixed size). "
        "Statements are those in the log of PostgreSQL while the run was on: with the call that starts it, and what an "
        "idle service asks meanwhile. The tests count those of the run alone. First loads are measured up to 100,000 "
        "records: a million would take too long here."
    )
    return "\n".join(lines)


def _loads_table(measured: Found) -> str:
    lines = [
        f"| load | service | its CPU with PostgreSQL | bound | {COMPLETE} | {BARE} |",
        "|---|---|---|---|---|---|",
    ]
    for way, name in (("from", "from CRM"), ("to", "into CRM")):
        for n, one in measured[way].items():
            seconds = (one["service"], one["cpu"], one["bound"], one["microsoft"], one["microsoft_bare"])
            lines.append(f"| {name}, {int(n):,} | {' | '.join(f'{value:.1f}' for value in seconds)} |")
    return "\n".join(lines)
