"""`navcrm demo`: the service, a sandbox CRM, and the story told through both their APIs."""

import fcntl
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.demo.dataverse import Login
from app.demo.processes import HOST, Processes, free_port, new_key
from app.demo.screen import Screen
from app.demo.story import Story
from app.demo.trouble import DemoFailed

OURS = ("postgres", "secret-keys", "service.log", "sandbox.log")
"""What the demo keeps in its folder."""
POSTGRES_STOP_SECONDS = 15


def run_demo(folder: Path, *, fresh: bool, port: int, crm_port: int, stay: bool) -> int:
    """Tells the story and, with `stay`, keeps serving until Ctrl-C. Returns the exit code.

    Args:
        folder: where the demo keeps its database between runs.
        fresh: begin with an empty one.
        port: of the service, `crm_port` of the sandbox; others are taken where these are in use.
    """
    # Both end it, children first. What a shell starts in the background ignores Ctrl-C unless it says so itself.
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, signal.default_int_handler)
    screen = Screen()
    try:
        with _alone(folder):
            if fresh:
                _empty(folder)
            with Processes(folder) as processes:
                _tell(screen, processes, folder, port, crm_port, stay)
    except DemoFailed as failure:
        sys.stdout.flush()
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _tell(screen: Screen, processes: Processes, folder: Path, port: int, crm_port: int, stay: bool) -> None:
    login = Login(
        server_url=f"http://{HOST}:{free_port(crm_port)}",
        tenant_id="0a1b2c3d-0000-4000-8000-000000000001",
        client_id="0a1b2c3d-0000-4000-8000-000000000002",
        client_secret="sandbox-secret",  # noqa: S106 - opens nothing but a sandbox on this machine
    )
    service_url = f"http://{HOST}:{free_port(port)}"
    screen.title("Starting the service with its own PostgreSQL, and a sandbox CRM")
    admin_key = new_key()
    # fmt: off
    processes.start("sandbox", [
        "crm-sandbox", "--host", HOST, "--port", login.server_url.rsplit(":", 1)[1], "--tenant-id", login.tenant_id,
        "--client-id", login.client_id, "--client-secret", login.client_secret,
    ])
    processes.start("service", ["serve", "--host", HOST, "--port", service_url.rsplit(":", 1)[1]], {
        "NAVCRM_DATA_DIR": str(folder), "NAVCRM_BOOTSTRAP_API_KEY": admin_key, "NAVCRM_RATE_LIMIT_PER_MINUTE": "0",
        "NAVCRM_WORKER_POLL_SECONDS": "1",
    })
    # fmt: on
    processes.wait_for("sandbox", f"{login.server_url}/sandbox/requests")
    processes.wait_for("service", f"{service_url}/readyz")
    screen.say(f"Both are up after {screen.seconds:.1f} s; their data and logs are in {folder}.")
    story = Story(screen, service_url, admin_key, login)
    try:
        story.tell()
        if stay:
            story.set_jobs_ready()
    except DemoFailed:
        processes.check()  # a child that died explains more than the call it did not answer
        raise
    finally:
        story.close()
    if stay:
        _keep_serving(processes)


def _keep_serving(processes: Processes) -> None:
    print("\nServing until you press Ctrl-C.", flush=True)
    try:
        while True:
            processes.check()
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nStopping.", flush=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One demo at a time in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "demo.lock").open("w")
    except OSError as error:
        raise DemoFailed(
            f"{folder} cannot be used ({error.strerror}). Name another with --data-dir."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed(
                f"Another demo is using {folder}. End it, or name another folder with --data-dir."
            ) from None
        yield


def _empty(folder: Path) -> None:
    """Removes what the demo keeps there, and nothing else."""
    deadline = time.monotonic() + POSTGRES_STOP_SECONDS
    while (folder / "postgres/data/postmaster.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # the server of a demo that ended a moment ago is just stopping
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
