"""What the demo is made of: its data, its processes, its folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.demo import cronus
from app.demo.processes import HOST, free_port
from app.demo.run import _alone, _empty
from app.demo.trouble import DemoFailed

ROOT = Path(__file__).resolve().parents[2]
STARTS_A_CHILD = """
import sys, time
from pathlib import Path
from app.demo.processes import Processes
port, folder = sys.argv[1:]
with Processes(Path(folder)) as processes:
    processes.start("sandbox", ["crm-sandbox", "--port", port])
    processes.wait_for("sandbox", f"http://127.0.0.1:{port}/sandbox/requests")
    print("up", flush=True)
    time.sleep(300)
"""


def test_a_killed_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    port = free_port(0)
    command = [sys.executable, "-c", STARTS_A_CHILD, str(port), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _listens(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def test_a_port_in_use_is_replaced_by_a_free_one() -> None:
    with socket.create_server((HOST, 0)) as busy:
        taken = busy.getsockname()[1]
        assert free_port(taken) != taken


def test_a_fresh_start_removes_what_the_demo_made_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/PG_VERSION").touch()
    (tmp_path / "secret-keys").touch()
    (tmp_path / "letter.txt").touch()
    _empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_serves_one_demo_at_a_time(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(DemoFailed, match="Another demo"), _alone(tmp_path):
        pytest.fail("both were let in")


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoFailed, match="--data-dir"), _alone(tmp_path / "file/demo"):
        pytest.fail("there is no such folder")


def test_every_row_of_crm_refers_to_rows_that_come_before_it() -> None:
    known: set[str] = set()
    for entity_set, rows in cronus.crm_rows().rows.items():
        for row in rows:
            bound = [str(value) for name, value in row.items() if name.endswith("@odata.bind")]
            assert all(reference in known for reference in bound), row
        keys = [str(next(iter(row.values()))) for row in rows]
        assert len(set(keys)) == len(rows)
        known |= {f"/{entity_set}({key})" for key in keys}


def test_about_half_of_the_customers_are_in_crm_already() -> None:
    customers = cronus.cronus()["Customer"]
    assert 0.4 < len(cronus.known_customers()) / len(customers) < 0.6
    assert set(cronus.CLASHING) <= {customer["No."] for customer in cronus.known_customers()}
    assert not cronus.customers_without_user() & {customer["No."] for customer in cronus.known_customers()}


def test_every_currency_has_a_rate() -> None:
    assert all(cronus.rate_of(currency) > 0 for currency in cronus.cronus()["Currency"])
