"""`navcrm demo` from the outside: a process with an empty home, its output, and what it serves."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

DEMO = [sys.executable, "-c", "from app.cli import main; main()", "demo", "--port", "0", "--crm-port", "0"]
ROOT = Path(__file__).resolve().parents[2]
BUDGET_SECONDS = 60
"""What the README promises. Counted in work of the demo's processes: what else the machine does takes time as well."""
PATIENCE_SECONDS = 180


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not below pytest's own folder: PostgreSQL must be able to get there as an account that is not root."""
    made = Path(tempfile.mkdtemp(prefix="navcrm-demo-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def environment(folder: Path) -> dict[str, str]:
    """Ours, without settings of the service, and with a home that holds nothing."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NAVCRM_", "XDG_"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT)}


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The demo, told to its end."""
    return subprocess.run(
        [*DEMO, "--exit", "--data-dir", str(folder / "data"), *arguments],
        cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def counts(output: str, mapping: str) -> list[float]:
    """A row of the closing table."""
    row = next(line for line in output.splitlines() if re.match(rf"\W*{mapping}\b.*\d+\.\d\W*$", line))
    return [float(cell.replace(",", "")) for cell in re.findall(r"[\d,]+\.?\d*", row)]


def work_of_children() -> float:
    """Seconds of CPU that the children of this process took which have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.timeout(600)
def test_the_story_ends_well_and_a_second_telling_goes_on_serving_until_ctrl_c(folder: Path) -> None:
    worked, began = work_of_children(), time.monotonic()
    told = run(folder)
    assert (told.returncode, told.stderr) == (0, "")
    require_the_table(told.stdout)
    assert 0 < time_told(told.stdout) <= time.monotonic() - began
    assert work_of_children() - worked < BUDGET_SECONDS
    with serving(folder) as output:
        require_the_table(output)
        assert time_told(output) > 0
        require_the_printed_commands(output)
        require_the_printed_addresses(output)
        second = run(folder)
        assert second.returncode == 1
        assert "Another demo is using" in second.stderr
    logs = [(folder / "data" / f"{name}.log").read_text() for name in ("service", "sandbox")]
    assert not any("Traceback" in log for log in logs)


def time_told(output: str) -> float:
    """The seconds that the demo says it took."""
    seconds = re.search(r"Done in ([\d.]+) s", output)
    assert seconds is not None
    return float(seconds[1])


def require_the_table(output: str) -> None:
    coupled, created, modified, _, _, failed, _ = counts(output, "CUSTOMER")
    assert (coupled, created, failed) == (99, 52, 7)
    assert modified > 0
    assert counts(output, "SALESPEOPLE")[0] == 14
    assert counts(output, "CURRENCY")[:2] == [39, 25]
    assert counts(output, "CONTACT")[:2] == [137, 122]
    assert "salesperson-not-coupled (60005, 60006, 60021)" in output


def require_the_printed_commands(output: str) -> None:
    commands = [line for line in output.splitlines() if line.startswith("curl ")]
    assert len(commands) == 3
    record, preview, errors = (answer_to(command) for command in commands)
    assert record["no"] == "10000"
    assert record["coupling"]["crm_entity"] == "account"
    assert preview["action"] == "unmodified"
    stuck = {"60005", "60006", "60021", "CT000167", "CT000168", "CT000183"}
    assert {error["nav_no"] for error in errors["items"]} <= stuck


def require_the_printed_addresses(output: str) -> None:
    docs = next(line.split()[-1] for line in output.splitlines() if line.endswith("/docs"))
    page = httpx.get(docs, timeout=60)
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    key = re.search(r"nck_\S+", output)
    assert key is not None
    entries = httpx.get(
        docs.removesuffix("/docs") + "/api/v1/companies/cronus/job-queue-entries",
        headers={"Authorization": f"Bearer {key[0]}"},
        timeout=60,
    ).json()
    assert not {entry["status"] for entry in entries["items"]} & {"on_hold", "error"}
    assert {entry["mapping"] for entry in entries["items"]} >= {"SALESPEOPLE", "CUSTOMER", "CONTACT"}


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A demo that has told its story and serves; gives what it printed, and ends it with Ctrl-C."""
    with subprocess.Popen(
        [*DEMO, "--data-dir", str(folder / "data")],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("Serving until"):
                    break
            else:
                pytest.fail(process.stderr.read())
            yield "".join(lines)
            process.send_signal(signal.SIGINT)
            assert process.wait(100) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def answer_to(command: str) -> Any:
    """What a printed curl line answers."""
    if shutil.which("curl"):
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)
    words = shlex.split(command)
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    body = next((words[i + 1] for i, word in enumerate(words) if word == "-d"), None)
    url = next(word for word in words if word.startswith("http"))
    return httpx.request("POST" if body else "GET", url, headers=headers, content=body, timeout=60).json()
