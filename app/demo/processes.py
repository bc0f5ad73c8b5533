"""The service and the sandbox CRM as processes of their own, which end with the demo however it ends."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from app.demo.trouble import DemoFailed

START_SECONDS = 60
STOP_SECONDS = 20
HOST = "127.0.0.1"


def free_port(wanted: int) -> int:
    """The port, or any free one when somebody listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed(f"There is no free port on {HOST}.")


def new_key() -> str:
    """An API key that nobody knows yet."""
    return f"nck_{secrets.token_urlsafe(32)}"


class Processes:
    """Children of this process. Each holds the reading end of a pipe as its standard input and stops when that
    closes: so it ends with us, even if we are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, arguments: Sequence[str], settings: dict[str, str] | None = None) -> None:
        """Starts a command of navcrm; what it says goes to `<name>.log`.

        The child sees no setting of ours but where PostgreSQL's programs are: the demo never touches a database
        that the settings name.
        """
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith("NAVCRM_") or k == "NAVCRM_PG_BIN"
        }
        command = [
            sys.executable,
            "-P",
            "-c",
            "from app.cli import main; main()",
            *arguments,
            "--with-parent",
        ]
        package_root = str(Path(__file__).resolve().parents[2])
        search = [package_root, *filter(None, [inherited.get("PYTHONPATH")])]
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                command,
                cwd=self._folder,  # no .env but one that somebody put there
                env={**inherited, "PYTHONPATH": os.pathsep.join(search), **(settings or {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we end the children in order
            )
        self._children.append((name, child))

    def wait_for(self, name: str, url: str) -> None:
        """Waits until the address answers with anything below 500. Raises DemoFailed when the child gives up."""
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(timeout=5, trust_env=False) as http:
            while time.monotonic() < deadline:
                self.check()
                try:
                    if http.get(url).status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise DemoFailed(f"The {name} was not ready after {START_SECONDS} seconds. {self.last_words(name)}")

    def check(self) -> None:
        """Raises DemoFailed when a child has ended."""
        for name, child in self._children:
            if (code := child.poll()) is not None:
                raise DemoFailed(f"The {name} ended with code {code}. {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """Where a child's log is, and how it ends."""
        log = self._log(name)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return "\n".join([f"Its log, {log}, ends with:", *lines[-8:]])

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, child in reversed(self._children):
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                child.stdin.close()
