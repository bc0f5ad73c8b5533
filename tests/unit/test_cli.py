"""The command navcrm: quick help, and troubles told in one sentence."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import app

ROOT = Path(__file__).resolve().parents[2]
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]
CANNOT = "NAVCRM_DATABASE_URL cannot be used."
KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="


def navcrm(folder: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> Result:
    """What the command does, in this process."""
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.startswith("NAVCRM_")}
    given = {"NAVCRM_DATA_DIR": str(folder / "data"), **(settings or {})}
    return CliRunner().invoke(app, arguments, env={**cleared, **given})


def environment(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """For a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAVCRM_")}
    return {**kept, "PYTHONPATH": str(ROOT), "NAVCRM_DATA_DIR": str(folder / "data"), **settings}


def test_help_needs_none_of_the_heavy_libraries() -> None:
    heavy = "{'fastapi', 'sqlalchemy', 'httpx', 'pydantic', 'uvicorn'}"
    code = f"import app.cli, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (["migrate"], {"NAVCRM_DATABASE_URL": "mysql://localhost/x"}, "begins with postgresql://"),
        (["migrate"], {"NAVCRM_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "does not answer"),
        (["migrate"], {"NAVCRM_DATABASE_URL": "postgresql://h:hunter2/x"}, f"{CANNOT} The port"),
        (["migrate"], {"NAVCRM_DATABASE_URL": "postgresql://h:65536/x"}, f"{CANNOT} The port"),
        (["migrate"], {"NAVCRM_DATABASE_URL": "postgresql://h/x?connect_timeout=x"}, f"{CANNOT} connect_"),
        (["serve"], {"NAVCRM_PORT": "hunter2"}, "NAVCRM_PORT"),
        (["api-key", "create", "--name", "n", "--scope", "all"], {}, "read, sync or admin"),
        (["api-key", "revoke", "x"], {}, "navcrm api-key list"),
        (["crm-sandbox", "--client-id", "navcrm"], {}, "--client-id is a GUID"),
        (["crm-sandbox", "--tenant-id", "contoso"], {}, "--tenant-id is a GUID"),
        (["crm-sandbox", "--certificate", "c.pem"], {}, "--key"),
        (["crm-sandbox", "--certificate", "c.pem", "--key", "k.pem"], {}, "There is no file"),
    ],
)
def test_expected_trouble_is_one_sentence(
    tmp_path: Path, arguments: list[str], settings: dict[str, str], told: str
) -> None:
    done = navcrm(tmp_path, *arguments, settings=settings)
    assert done.exit_code == 1
    assert told in done.stderr
    assert done.stderr.startswith("navcrm: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.output


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "NAVCRM_SECRET_KEYS is not"),
        ({"NAVCRM_SECRET_KEYS": KEY}, "The database does not answer"),
    ],
    ids=["no keys", "no database"],
)
def test_a_service_that_cannot_start_says_why(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    given = {"NAVCRM_DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x", "NAVCRM_PORT": "0", **settings}
    done = subprocess.run(
        [*NAVCRM, "serve"],
        cwd=tmp_path, env=environment(tmp_path, given), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("navcrm: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["serve", "crm-sandbox"])
def test_a_port_in_use_is_said_with_the_mend(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        done = navcrm(tmp_path, command, "--port", str(busy.getsockname()[1]))
    assert done.exit_code == 1
    assert "choose another --port" in done.stderr


def test_the_openapi_document_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "made/openapi.json"
    assert navcrm(tmp_path, "openapi", "--output", str(file)).exit_code == 0
    assert json.loads(file.read_text())["openapi"].startswith("3.1")


@pytest.mark.parametrize("end", [signal.SIGTERM, None], ids=["SIGTERM", "its parent is gone"])
def test_the_sandbox_serves_until_it_is_told_to_stop(tmp_path: Path, end: signal.Signals | None) -> None:
    command = [*NAVCRM, "crm-sandbox", "--port", "0", *([] if end else ["--with-parent"])]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path, {}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("http")).rstrip(";")
        assert "client_secret" in process.stdout.readline()
        assert _status(f"{url}/WhoAmI()") == 401
        if end:
            process.send_signal(end)
        else:
            process.stdin.close()
        assert process.wait(60) == 0


def _status(url: str) -> int | None:
    """What an address answers, once somebody listens there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return httpx.get(url, timeout=60).status_code
        except httpx.TransportError:
            time.sleep(0.05)
    return None


def test_the_readme_names_the_two_commands_and_they_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    usage = subprocess.run(
        [sys.executable, "dev.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for command in ("demo", "test"):
        assert f"python3 dev.py {command}" in readme
        assert f"\n  {command}" in usage
