"""The processes of a run: PostgreSQL, the sandbox, the service and its workers; what they use of the machine."""

import itertools
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of CPU so far, and bytes of memory at their highest."""

    cpu: float
    memory: int


class Child:
    """A process that we started and end."""

    def __init__(
        self, name: str, folder: Path, arguments: Sequence[str], settings: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("NAVCRM_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**inherited, "PYTHONPATH": str(ROOT), **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for(self, url: str, certificate: Path | None = None) -> None:
        """Until the address answers below 500."""
        deadline = time.monotonic() + START_SECONDS
        trust = ssl.create_default_context(cafile=str(certificate)) if certificate else True
        with httpx.Client(timeout=5, trust_env=False, verify=trust) as http:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if http.get(url).status_code < 500:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not start; see {self.log}:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ends it and waits."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()


def usage(pids: Iterable[int]) -> Usage:
    """Of these processes together."""
    cpu, memory = 0.0, 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            continue
        fields = stat.read_text().rsplit(")", 1)[1].split()
        cpu += sum(int(fields[place]) for place in (11, 12, 13, 14)) / TICKS  # its own, and of ended children
        status = Path(f"/proc/{pid}/status").read_text()
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        memory += int(peak.split()[1]) * 1024
    return Usage(cpu, memory)


def private(pids: Iterable[int]) -> int:
    """Bytes of memory that belong to these processes alone, now: without what PostgreSQL's share, its cache."""
    held = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has just ended
            continue
        alone = next((line for line in status.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0 kB")
        held += int(alone.split()[1]) * 1024
    return held


class Highest:
    """How much memory the processes below one have had to themselves at most, looked at ten times a second."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._held = 0

    def start(self) -> None:
        """From now on."""
        self._watch.start()

    def stop(self) -> int:
        """Until now; bytes."""
        self._stopping.set()
        self._watch.join()
        return self._held

    def _look(self) -> None:
        pids: list[int] = []
        for round_ in itertools.count():
            if round_ % 10 == 0:  # who is there changes rarely
                pids = family(self._top)
            self._held = max(self._held, private(pids))
            if self._stopping.wait(0.1):
                return


def forget_peak(pid: int) -> None:
    """Lets the highest memory of a process begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
