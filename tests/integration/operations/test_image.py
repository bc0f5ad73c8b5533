"""The image and the composition: what they promise is read from them, and the commands that they run are run."""

import contextlib
import os
import random
import re
import shlex
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from ruamel.yaml import YAML
from sqlalchemy import make_url
from typer.main import get_command

from app.cli import app
from app.settings import Settings

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
PINNED = re.compile(r"[a-z/]+:\d+\.\d+(\.\d+)?-[a-z-]+")
SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|DATABASE_URL")
SECRET_KEYS = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="


def instructions(kind: str) -> list[str]:
    """What the Dockerfile says after this word, lines that go on joined."""
    lines = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    return [line.removeprefix(kind).strip() for line in lines if line.startswith(f"{kind} ")]


def words(kind: str) -> list[str]:
    """The command that the Dockerfile gives as a list, options left out."""
    (text,) = instructions(kind)
    found: list[str] = YAML(typ="safe").load(text[text.index("[") :])
    return found


def image_environment() -> dict[str, str]:
    """The variables that the image sets for the service."""
    pairs = [word.partition("=") for word in shlex.split(instructions("ENV")[-1])]
    return {name: value for name, _, value in pairs}


def composition() -> dict[str, Any]:
    """The services of compose.yaml."""
    found: dict[str, Any] = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())["services"]
    return found


def test_the_image_is_pinned_runs_as_nobody_special_and_has_a_health_check() -> None:
    bases = [base.split()[0] for base in instructions("FROM")]
    assert all(PINNED.fullmatch(base) for base in bases), bases
    assert len(set(bases)) == 1
    (user,) = instructions("USER")
    assert int(user) >= 10000
    assert words("HEALTHCHECK") == ["navcrm", "healthcheck"]
    assert words("ENTRYPOINT") == ["navcrm"]
    text = (ROOT / "Dockerfile").read_text()
    assert text.index("\nUSER ") < text.index("\nENTRYPOINT ")


def test_nothing_secret_and_nothing_needless_goes_into_the_image() -> None:
    set_there = " ".join(instructions("ENV") + instructions("ARG"))
    assert not SECRET.search(set_there), set_there
    copied = [name for line in instructions("COPY") if "--from" not in line for name in line.split()[:-1]]
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(
        name
        for pattern in let_in
        for name in ([pattern] if "*" not in pattern else [each.name for each in ROOT.glob(pattern)])
    )
    for line in instructions("RUN"):
        for install in re.findall(r"pip install [^&]*", line):
            assert "--no-deps" in install
            assert "--require-hashes" in install or install.strip().endswith("dist/*.whl"), install


def test_the_image_sets_what_the_service_has() -> None:
    known = {f"NAVCRM_{name.upper()}" for name in Settings.model_fields}
    ours = {name for name in image_environment() if name.startswith("NAVCRM_")}
    assert ours <= known
    for service in composition().values():
        environment = service.get("environment", {})
        assert {name for name in environment if name.startswith("NAVCRM_")} <= known
    assert image_environment()["NAVCRM_PORT"] == image_environment()["NAVCRM_WORKER_PORT"]


def test_the_composition_is_closed_where_it_can_be() -> None:
    services = composition()
    assert set(services) == {"postgres", "api", "worker"}
    assert PINNED.fullmatch(services["postgres"]["image"])
    commands = set(get_command(app).list_commands(None))  # type: ignore[attr-defined]  # it is a group
    for name in ("api", "worker"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["command"][0] in commands
        assert "healthcheck" not in service  # that of the image
        assert service["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "ports" not in services["worker"]
    assert "ports" not in services["postgres"]
    assert services["api"]["ports"] == ["${NAVCRM_PUBLISH:-127.0.0.1:8000}:8000"]
    for service in services.values():
        for name, value in service["environment"].items():
            if SECRET.search(name):
                assert re.search(r"\$\{[A-Z_]+:[-?]", value), name


# --- the commands, run ------------------------------------------------------------------------------------


def interpreter(account: int) -> str:
    """A Python of this version that the account may run."""
    ours = Path(sys.executable).resolve()
    reachable = all(parent.stat().st_mode & 0o001 for parent in ours.parents)
    if account == os.geteuid() or reachable:
        return sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = shutil.which(version, path="/usr/local/bin:/usr/bin")
    assert found is not None, f"no {version} that every account may run"
    return found


def account_of(database: str) -> int:
    """An account without rights that may connect to the database of the test."""
    host = make_url(database).query.get("host")
    if os.geteuid() != 0:
        return os.geteuid()
    return os.stat(str(host)).st_uid if host else 65534


def free_port() -> int:
    """A port that is free, and that the kernel gives to nobody who does not ask for it."""
    for port in random.sample(range(10_000, 30_000), 100):
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
    raise OSError("There is no free port.")


@asynccontextmanager
async def running(command: list[str], database: str, port: int, folder: Path) -> AsyncIterator[Any]:
    """One command of the image, with its environment and no other, in an empty folder."""
    account = account_of(database)
    found = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    given = image_environment() | {
        "PATH": os.defpath, "PYTHONPATH": found, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent",
        "NAVCRM_DATABASE_URL": database, "NAVCRM_SECRET_KEYS": SECRET_KEYS, "NAVCRM_HOST": "127.0.0.1",
        "NAVCRM_PORT": str(port), "NAVCRM_WORKER_PORT": str(port),
    }  # fmt: skip
    navcrm = [interpreter(account), "-c", "from app.cli import main; main()"]
    async with await anyio.open_process(
        [*navcrm, *command], cwd=folder, env=given, stderr=sys.stderr, user=account
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def test_the_commands_of_the_image_run_for_an_account_without_rights_and_write_nothing(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "empty"
    folder.mkdir()
    ports = {"api": free_port(), "worker": free_port()}
    async with AsyncExitStack() as stack:
        processes = {
            name: await stack.enter_async_context(
                running(composition()[name]["command"], database, port, folder)
            )
            for name, port in ports.items()
        }
        async with httpx.AsyncClient() as client:
            for port in ports.values():
                await until_ready(client, f"http://127.0.0.1:{port}/readyz")
        for port in ports.values():
            with anyio.fail_after(60):
                # The command waits two seconds for an answer; who asks has more patience, as Docker has.
                while await asked(database, port, folder) != 0:
                    pass
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            with anyio.fail_after(60):
                assert await process.wait() == 0
    assert list(folder.iterdir()) == []


async def asked(database: str, port: int, folder: Path) -> int:
    """The exit code of the command that asks whether the process lives."""
    async with running(words("HEALTHCHECK")[1:], database, port, folder) as asking:
        return int(await asking.wait())


async def until_ready(client: httpx.AsyncClient, address: str) -> None:
    """Waits until it is."""
    with anyio.fail_after(60):
        while True:
            try:
                if (await client.get(address)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await anyio.sleep(0.1)
