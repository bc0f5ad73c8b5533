"""Keeps an embedded PostgreSQL alive for as long as somebody uses it. Run by path, with the standard library alone.

Everyone who uses the server holds a shared lock on `users.lock`; the kernel lets go of it however a process ends. The
keeper starts postgres as its own child, starts it again when it dies, and stops it cleanly once it can lock that file
for itself. So a server outlives the process that asked for it first, and never outlives the last one.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

POLL = 0.1  # seconds between two looks at the child and at the lock
PATIENCE = 20.0  # seconds until postgres must be ready at first; a predecessor may still be on its way out
LONGEST_PAUSE = 5.0  # seconds between two attempts to start a server that has been ready before
FAST_SHUTDOWN = 30.0  # seconds for a clean stop before an immediate one
PR_SET_PDEATHSIG = 1


def postmaster(data: Path) -> tuple[int, str, bool] | None:
    """Process id, socket directory and readiness that postmaster.pid tells, or None without a complete one."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[4].strip(), len(lines) > 7 and lines[7].strip() == "ready"
    except (OSError, ValueError, IndexError):
        return None


def is_postgres(pid: int) -> bool:
    """Whether a living process of this id is a postgres; a zombie or another program under a reused id is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        with contextlib.suppress(OSError, IndexError):
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            return name == "postgres" and rest.split()[0] not in "ZX"
        return False
    command = subprocess.run(
        ["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return Path(command.stdout.strip()).name == "postgres"


def clear_leftover(data: Path) -> None:
    """Stop a server that lost its keeper, and take away a lock file whose process is gone."""
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + PATIENCE
    while is_postgres(pid) and time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGINT)
        time.sleep(POLL)
    if not is_postgres(pid):
        pid_file.unlink(missing_ok=True)


def die_with_parent() -> Callable[[], None] | None:
    """What the child does before exec so that a keeper killed with -9 leaves no server behind (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGINT) and None


def serve(command: Sequence[str], user: int | None, group: int | None, log: int) -> "subprocess.Popen[bytes]":
    """Start postgres; its death signal survives because the user changes before the hook runs."""
    return subprocess.Popen(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        umask=0o077,
        preexec_fn=die_with_parent(),  # noqa: PLW1509 - this process has one thread
    )


def unused(users: int) -> bool:
    """Whether nobody holds the users' lock any more; if so, we hold it now and newcomers wait for our end."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def keep(data: Path, users: int, start: Callable[[], "subprocess.Popen[bytes]"]) -> int:
    """Keep a server running until nobody uses it.

    Returns 1 when it would not become ready in PATIENCE seconds. Once it has been ready, it is started again and
    again: what keeps it from coming back, a full disk say, may pass.
    """
    asked = stop_signals()
    began = time.monotonic()
    was_ready = False
    pause = POLL
    while True:
        clear_leftover(data)
        server = start()
        while server.poll() is None:
            state = postmaster(data)
            if state is not None and state[0] == server.pid and state[2]:
                was_ready, pause = True, POLL
            if asked or unused(users):
                stop(server)
                return 0
            time.sleep(POLL)
        if not was_ready and time.monotonic() - began > PATIENCE:
            return 1
        if not idle(pause, lambda: bool(asked) or unused(users)):
            return 0
        pause = min(pause * 2, LONGEST_PAUSE)


def idle(seconds: float, over: Callable[[], bool]) -> bool:
    """Wait so long; False, at once, when it is over meanwhile."""
    until = time.monotonic() + seconds
    while not over():
        if time.monotonic() >= until:
            return True
        time.sleep(POLL)
    return False


def stop_signals() -> list[int]:
    """Turns a request to end this process into an entry of the list it returns, for a clean stop of the server."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: asked.append(got))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return asked


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Fast shutdown: sessions are ended, a checkpoint is written."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(FAST_SHUTDOWN)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def main() -> int:
    """Do as the JSON on the command line says: {home, socket_dir, command, user, group}."""
    order = json.loads(sys.argv[1])
    home = Path(order["home"])
    keeper = os.open(home / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    # It waits at most for somebody's look at it: starts come one after another.
    fcntl.flock(keeper, fcntl.LOCK_EX)
    if os.fork():
        os._exit(0)  # the lock lives on in the child, which nobody needs to wait for
    users = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
    log = os.open(home / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    result = keep(home / "data", users, lambda: serve(order["command"], order["user"], order["group"], log))
    with contextlib.suppress(OSError):
        os.rmdir(order["socket_dir"])
    os.close(keeper)  # before the users' lock, which a newcomer may be waiting for
    return result


if __name__ == "__main__":
    sys.exit(main())
