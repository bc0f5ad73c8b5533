"""The embedded PostgreSQL: what is committed stays, whoever is killed, and a start is never in the way of another."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import asyncpg
import pytest

from app.db.embedded import EmbeddedPostgres, EmbeddedPostgresError
from app.db.engine import connect, create_engine
from app.db.postgres_binaries import PACKAGE, RunAs, closed_parent, packaged, reachable, version
from app.db.postgres_keeper import is_postgres, postmaster

pytestmark = pytest.mark.anyio

# A service of its own: starts the server, says where it is and waits to be killed.
SERVICE = """
import json, sys, time
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
print(json.dumps(EmbeddedPostgres.start(Path(sys.argv[1])).url), flush=True)
time.sleep(300)
"""

# A keeper that has no patience with a server that never was ready.
KEEPER = """
import os, subprocess, sys
from pathlib import Path
from app.db import postgres_keeper
postgres_keeper.PATIENCE = 0.5
users = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
sys.exit(postgres_keeper.keep(Path(sys.argv[1]), users, lambda: subprocess.Popen(["sh", sys.argv[3]])))
"""


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A folder outside pytest's own, which as root no other account may pass."""
    folder = Path(tempfile.mkdtemp(prefix="navcrm-embedded-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    """A server on the data that the test before left."""
    with EmbeddedPostgres.start(data_dir) as server:
        yield server


def postgres_process(data_dir: Path) -> int:
    """Process id of the running server."""
    state = postmaster(data_dir / "postgres" / "data")
    assert state is not None
    return state[0]


def kill_keeper(data_dir: Path) -> None:
    """Kill the parent of the server, and wait until it is gone."""
    server = postgres_process(data_dir)
    keeper = status(server)[1]
    os.kill(int(keeper), signal.SIGKILL)
    while status(server)[1] == keeper:
        time.sleep(0.005)


def status(pid: int) -> list[str]:
    """State, parent, ... of a process; a process that is gone has neither."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return ["gone", "none"]


def account_of(path: Path) -> int:
    """User id that a process (by its /proc entry) or file belongs to."""
    return path.stat().st_uid


def mode_of(path: Path) -> int:
    """Permissions of a file."""
    return path.stat().st_mode & 0o777


def a_service(data_dir: Path) -> "subprocess.Popen[str]":
    """Another process that uses the server of this data directory."""
    command = [sys.executable, "-c", SERVICE, str(data_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def address_of(service: "subprocess.Popen[str]") -> str:
    """Where the service found the server."""
    assert service.stdout is not None
    return str(json.loads(service.stdout.readline()))


def kill(service: "subprocess.Popen[str]") -> None:
    """What a power cut is to a process."""
    service.kill()
    service.wait()
    assert service.stdout is not None
    service.stdout.close()


async def remember(address: str, word: str) -> None:
    """Commit a row."""
    connection = await connect(address)
    await connection.execute("CREATE TABLE IF NOT EXISTS remembered (word text)")
    await connection.execute("INSERT INTO remembered VALUES ($1)", word)
    await connection.close()


async def remembered(address: str) -> set[str]:
    """The rows, once the server answers; it may be on its way up again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = await connect(address)
            rows = await connection.fetch("SELECT word FROM remembered")
            await connection.close()
            return {row["word"] for row in rows}
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if time.monotonic() > deadline:
                raise
            await anyio.sleep(0.05)


async def test_it_is_a_utf8_database_with_checksums_that_survives_a_power_cut(
    server: EmbeddedPostgres,
) -> None:
    connection = await connect(server.url)
    assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    assert await connection.fetchval("SHOW data_checksums") == "on"
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW listen_addresses") == ""
    assert await connection.fetchval("SELECT lower('ÅBO')") == "åbo"
    await connection.close()
    assert mode_of(server.socket_dir) == 0o700


async def test_what_was_committed_is_there_after_a_stop_and_a_start(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as first:
        await remember(first.url, "stop")
    with EmbeddedPostgres.start(data_dir) as second:
        assert second.url == first.url
        assert "stop" in await remembered(second.url)


async def test_a_killed_server_comes_back_by_itself_at_the_same_address(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    engine = create_engine(server.url, pool_size=2)
    await remember(server.url, "killed server")
    async with engine.connect() as held:
        await held.exec_driver_sql("SELECT 1")
    os.kill(postgres_process(data_dir), signal.SIGKILL)
    assert "killed server" in await remembered(server.url)
    async with engine.connect() as again:  # the pool held a connection to the dead one
        assert (await again.exec_driver_sql("SELECT 1")).scalar_one() == 1
    await engine.dispose()


async def test_a_start_right_after_the_server_was_killed_finds_it_running(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    await remember(server.url, "start after kill")
    os.kill(postgres_process(data_dir), signal.SIGKILL)
    with EmbeddedPostgres.start(data_dir) as again:
        assert "start after kill" in await remembered(again.url)


async def test_a_killed_service_leaves_no_server_behind_and_starts_again_at_once(data_dir: Path) -> None:
    service = a_service(data_dir)
    await remember(address_of(service), "killed service")
    server_process = postgres_process(data_dir)
    kill(service)
    with EmbeddedPostgres.start(data_dir) as again:
        assert "killed service" in await remembered(again.url)
    assert not is_postgres(server_process)


async def test_two_services_share_a_server_and_the_second_goes_on_when_the_first_is_killed(
    data_dir: Path,
) -> None:
    first, second = a_service(data_dir), a_service(data_dir)
    try:
        address = address_of(first)
        assert address_of(second) == address
        shared = postgres_process(data_dir)
        kill(first)
        await remember(address, "shared")
        assert postgres_process(data_dir) == shared
    finally:
        kill(second)


def pauses(pid: int) -> int:
    """How often a process has paused by itself so far."""
    told = Path(f"/proc/{pid}/status").read_text().partition("\nvoluntary_ctxt_switches:")[2]
    return int(told.split()[0])


def test_a_server_that_ran_is_started_again_until_it_can_run(tmp_path: Path) -> None:
    starts, seen = tmp_path / "starts", tmp_path / "seen"
    script = tmp_path / "server.sh"
    # Ready once, then without room for a while, as on a full disk, then ready again.
    script.write_text(
        f"""echo . >> {starts}; count=$(wc -l < {starts})
        if [ $count -gt 1 ] && [ $count -lt 5 ]; then exit 1; fi
        printf '%s\\n' $$ . . . . . . ready > {tmp_path}/postmaster.pid
        if [ $count -ge 5 ]; then exec sleep 300; fi
        while [ ! -e {seen} ]; do sleep 0.05; done"""
    )
    users = tmp_path / "users.lock"
    with users.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        keeper = subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), str(users), str(script)])
        deadline = time.monotonic() + 60
        while not (tmp_path / "postmaster.pid").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        enough = pauses(keeper.pid) + 3  # it pauses after every look
        while pauses(keeper.pid) < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)  # its patience with a server that never was ready
        seen.touch()
        while (len(starts.read_text()) if starts.exists() else 0) < 10 and time.monotonic() < deadline:
            assert keeper.poll() is None
            time.sleep(0.05)
        assert len(starts.read_text().split()) == 5
    assert keeper.wait(60) == 0


async def test_a_killed_keeper_takes_the_server_along_and_the_next_start_brings_it_back(
    data_dir: Path,
) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        await remember(server.url, "killed keeper")
        kill_keeper(data_dir)
        with EmbeddedPostgres.start(data_dir) as again:
            assert again.url == server.url
            assert "killed keeper" in await remembered(again.url)


async def test_a_lock_file_whose_process_id_went_to_another_program_is_no_obstacle(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        await remember(server.url, "reused id")
        left_behind = (data_dir / "postgres/data/postmaster.pid").read_text().split("\n", 1)[1]
    (data_dir / "postgres/data/postmaster.pid").write_text(f"{os.getpid()}\n{left_behind}")
    with EmbeddedPostgres.start(data_dir) as again:
        assert "reused id" in await remembered(again.url)


def test_it_never_runs_as_root_and_opens_no_door_to_do_so(server: EmbeddedPostgres, data_dir: Path) -> None:
    runs_as = account_of(Path(f"/proc/{postgres_process(data_dir)}"))
    assert runs_as == account_of(data_dir / "postgres/data")
    if os.geteuid() == 0:
        assert runs_as != 0
        assert mode_of(Path("/root")) == 0o700
    else:
        assert runs_as == os.geteuid()


def test_programs_that_the_account_cannot_reach_are_copied_to_where_it_can(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    bin_dir = packaged(None)
    shutil.copytree(bin_dir.parent, closed / PACKAGE / bin_dir.parent.name)
    libraries = bin_dir.parents[2] / f"{PACKAGE}.libs"
    shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    copy = reachable(closed / PACKAGE / bin_dir.parent.name / "bin", RunAs(65534, 65534), tmp_path)
    assert closed not in copy.parents
    assert version(copy) == version(bin_dir)
    assert all(entry.stat().st_mode & 0o044 == 0o044 for entry in copy.parents[1].rglob("*"))
    assert mode_of(closed) == 0o700
    assert reachable(bin_dir, RunAs(), tmp_path) == bin_dir


def test_a_folder_that_holds_no_postgres_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="holds no PostgreSQL"):
        version(tmp_path)


def test_the_way_to_a_folder_is_closed_where_the_first_parent_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert closed_parent(closed / "data") is not None


async def test_an_installation_is_used_by_name(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="navcrm-named-"))
    try:
        with EmbeddedPostgres.start(folder, pg_bin=packaged(None)) as server:
            await remember(server.url, "named")
            assert await remembered(server.url) == {"named"}
    finally:
        shutil.rmtree(folder)
