"""PostgreSQL out of a wheel, when no server is named.

A server belongs to a data directory, not to a process: the first who needs it starts it, others attach, and it stops
when the last one is gone, however that one ended (see postgres_keeper). It listens on a Unix socket in a directory that
only its account may enter, never on TCP. The address stays the same when the server has to be started again, so a pool
that checks its connections goes on by itself.

The folder `<data_dir>/postgres` holds `data` (the cluster), three lock files, `server.log` and `socket-dir`.
"""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

if sys.platform == "win32":
    raise ImportError("The embedded PostgreSQL needs Unix. Name a server with NAVCRM_DATABASE_URL.")

import fcntl

from app.db import postgres_keeper
from app.db.postgres_binaries import (
    EmbeddedPostgresError,
    RunAs,
    closed_parent,
    exclusive,
    packaged,
    reachable,
    run_as,
    version,
)
from app.settings import Settings

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "embedded_unless_named"]

DATABASE = "navcrm"
START_TIMEOUT = 60.0  # seconds; a server that was killed replays its log first
LONGEST_SOCKET_DIR = 80  # bytes; a socket's whole path may have 103 (macOS)
SHORT_TEMP = "/tmp"  # noqa: S108 - mkdtemp makes the name, and the mode is 0700
SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres:
    """A running embedded server that we use; `url` says where, `stop` says that we are done."""

    def __init__(self, home: Path, socket_dir: Path, users: int) -> None:
        self._home = home
        self._users: int | None = users
        self.socket_dir = socket_dir

    @classmethod
    def start(
        cls, data_dir: Path, pg_bin: Path | None = None, server_settings: Mapping[str, str] | None = None
    ) -> "EmbeddedPostgres":
        """Start the server of this data directory, or attach to it; blocks until it answers (a first start: a second).

        `pg_bin` is a folder of PostgreSQL programs to use instead of those of the wheel; `server_settings` are settings
        of postgresql.conf for a server that is not running yet. Raises EmbeddedPostgresError.
        """
        home = data_dir.resolve() / "postgres"
        account = run_as(home / "data")
        _make_home(home, account)
        with exclusive(home / "start.lock"):
            users = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is just stopping the server
                if not _kept(home):
                    _launch(home, account, pg_bin, {**SERVER_SETTINGS, **(server_settings or {})})
                return cls(home, _until_ready(home), users)
            except BaseException:
                os.close(users)
                raise

    @property
    def url(self) -> str:
        """Address of the service's database, for SQLAlchemy."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Address of one of the server's databases, for SQLAlchemy."""
        return f"postgresql+asyncpg://postgres@/{quote(database)}?host={quote(str(self.socket_dir))}"

    def stop(self) -> None:
        """Let go of the server; when nobody else uses it, wait until it has stopped cleanly. May be called twice."""
        if self._users is None:
            return
        last = postgres_keeper.unused(self._users)
        os.close(self._users)
        self._users = None
        deadline = time.monotonic() + postgres_keeper.FAST_SHUTDOWN
        while last and _kept(self._home) and time.monotonic() < deadline:
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def embedded_unless_named(settings: Settings) -> EmbeddedPostgres | None:
    """The embedded server, started, unless the settings name one; keep it until the process is done with it."""
    if settings.database_url:
        return None
    return EmbeddedPostgres.start(settings.data_dir, settings.pg_bin)


def _make_home(home: Path, account: RunAs) -> None:
    """Make the folder of the server and see that its account can get there."""
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        if account.user is None and home.stat().st_uid == os.geteuid():
            return
        if account.user is None:
            raise EmbeddedPostgresError(
                f"{home} belongs to another account: run as that one, or set NAVCRM_DATA_DIR."
            )
        for ours in (home, home.parent):  # the folders are ours; what they hold has modes of its own
            if ours.stat().st_uid == os.geteuid():
                ours.chmod(stat.S_IMODE(ours.stat().st_mode) | stat.S_IXOTH)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"Cannot make {home}: {error}. Name another folder with NAVCRM_DATA_DIR."
        ) from error
    if blocked := closed_parent(home):
        raise EmbeddedPostgresError(
            f"PostgreSQL refuses to run as root, and the account it runs as cannot pass {blocked}. "
            "Name a folder with NAVCRM_DATA_DIR that every account can reach, such as /var/lib/navcrm."
        )


def _kept(home: Path) -> bool:
    """Whether a keeper holds its lock; a look is shared, so that two looks do not take each other for a keeper."""
    try:
        handle = os.open(home / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as error:
        raise EmbeddedPostgresError(f"{home} belongs to another account: run as that one.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def _launch(home: Path, account: RunAs, pg_bin: Path | None, server_settings: Mapping[str, str]) -> None:
    """Make the cluster if there is none, and a keeper for its server."""
    data = home / "data"
    made_by = int((data / "PG_VERSION").read_text()) if (data / "PG_VERSION").exists() else None
    bin_dir = reachable(pg_bin.resolve() if pg_bin else packaged(made_by), account, home)
    if made_by is None:
        _initialise(bin_dir, data, account)
    elif made_by != version(bin_dir):
        raise EmbeddedPostgresError(
            f"{data} was made by PostgreSQL {made_by}, NAVCRM_PG_BIN holds {version(bin_dir)}: name the older programs."
        )
    socket_dir = _socket_dir(home, account)
    command = [str(bin_dir / "postgres"), "-D", str(data), "-k", str(socket_dir)]
    for name, value in server_settings.items():
        command += ["-c", f"{name}={value}"]
    account_ids = {"user": account.user, "group": account.group}
    order = {"home": str(home), "socket_dir": str(socket_dir), "command": command, **account_ids}
    with contextlib.suppress(FileNotFoundError):
        os.truncate(home / "server.log", 0)
    # A session of its own: Ctrl-C is for the service, which still needs the server for its last words.
    keeper = [sys.executable, "-I", "-S", postgres_keeper.__file__, json.dumps(order)]
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)}
    subprocess.run(
        keeper, check=True, cwd="/", env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )


def _initialise(bin_dir: Path, data: Path, account: RunAs) -> None:
    """initdb and the service's database, under another name first: a cluster is whole or not there."""
    unfinished = data.with_name("data.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account.user is not None:
        os.chown(unfinished, account.user, account.group or account.user)
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version(bin_dir) >= 17 else []
    initdb = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", *locale, "--data-checksums"]
    _run([str(bin_dir / "initdb"), "-D", str(unfinished), *initdb], account)
    single_user = [str(bin_dir / "postgres"), "--single", "-D", str(unfinished), "postgres"]
    _run(single_user, account, f"CREATE DATABASE {DATABASE};\n")
    unfinished.rename(data)


def _run(command: list[str], account: RunAs, text: str = "") -> None:
    done = subprocess.run(
        command,
        cwd="/",
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
        input=text,
        capture_output=True,
        text=True,
        check=False,
        user=account.user,
        group=account.group,
        extra_groups=None if account.user is None else [],
    )
    if done.returncode != 0:
        raise EmbeddedPostgresError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _socket_dir(home: Path, account: RunAs) -> Path:
    """The directory of the last start when it still is ours alone, else a new one; the address then stays the same."""
    noted = home / "socket-dir"
    owner = os.geteuid() if account.user is None else account.user
    made: Path | None = None
    with contextlib.suppress(OSError):
        known = Path(noted.read_text())
        with contextlib.suppress(FileExistsError):
            # Removed at the last stop; fails if somebody else took the name meanwhile.
            known.mkdir(mode=0o700)
            made = known
        found = known.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700:
            return known
    if made is None:
        roomy = len(os.fsencode(tempfile.gettempdir())) < LONGEST_SOCKET_DIR
        made = Path(tempfile.mkdtemp(prefix="navcrm-pg-", dir=None if roomy else SHORT_TEMP))
    if account.user is not None:
        os.chown(made, account.user, account.group or account.user)
    noted.write_text(str(made))
    return made


def _until_ready(home: Path) -> Path:
    """The socket directory of a server that takes connections; raises when its keeper gives up."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        state = postgres_keeper.postmaster(home / "data")
        if state is not None and state[2] and _answers(Path(state[1])):
            return Path(state[1])
        if not _kept(home):
            break
        time.sleep(0.01)
    log = home / "server.log"
    last_words = log.read_text(errors="replace")[-2000:].strip() if log.exists() else "(no log)"
    raise EmbeddedPostgresError(f"The embedded PostgreSQL did not start; {log} ends with:\n{last_words}")


def _answers(socket_dir: Path) -> bool:
    """Whether somebody listens: a killed server leaves its lock file, but not a listening socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(socket_dir / ".s.PGSQL.5432"))
        except OSError:
            return False
    return True
