"""All a fresh clone needs is Python: `python3 dev.py demo` shows the service, `python3 dev.py test` checks it.

The first call makes `.venv` from the hashes in requirements.lock; later calls start at once, until the lock changes.
Only the standard library is used here, and syntax that older interpreters can read, to tell them what is missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
RUNTIME_LOCK = ROOT / "requirements-runtime.lock"
INSTALLED = VENV / "installed-lock"
USAGE = """usage: python3 dev.py COMMAND [arguments]

  demo [--exit]    the service with a sandbox CRM, and a story told through its API
  serve, ...       any other command of navcrm: serve, worker, migrate, api-key, crm-sandbox
  test             every check: format, lint, types, imports, tests
  test ARGUMENTS   pytest with these arguments, such as: test tests/unit -k coupling
  lint             every check but the tests
  bench [--size large]  what the service costs, beside a bare script and Microsoft's client: docs/benchmarks.md
  openapi          write openapi/openapi.json
  lock [--upgrade] resolve pyproject.toml into the lock files"""

LINT = (
    ("format", ["-m", "ruff", "format", "--check", "."]),
    ("lint", ["-m", "ruff", "check", "."]),
    ("types", ["-m", "mypy"]),
    ("imports", ["-c", "from importlinter.cli import lint_imports_command as run; run()"]),
)
NAVCRM = ["-c", "from app.cli import main; main()"]
TESTS = ("tests", ["-m", "pytest", "-q", "-n", "2", "--dist", "worksteal"])
# fmt: off
COMPILE = ["-m", "uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal", "--python-version", "3.11",
           "--all-extras", "--generate-hashes", "--no-annotate", "--no-header",
           "--no-emit-index-url", "--no-emit-find-links"]
# fmt: on


def main(arguments: list[str]) -> int:
    """Run one command; the result is an exit code."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command in ("", "-h", "--help", "help"):
        print(USAGE)
        return 0 if command else 2
    set_up()
    if command == "test" and rest:
        return call(["-m", "pytest", *rest], test_environment())
    if command in ("test", "lint"):
        return check([*LINT, TESTS] if command == "test" else list(LINT))
    if command == "lock":
        return lock(rest)
    if command == "bench":
        return call(["-m", "tests.benchmarks", *rest], test_environment())
    if command == "openapi":
        return call([*NAVCRM, "openapi", "--output", "openapi/openapi.json", *rest])
    os.chdir(ROOT)
    program = [str(PYTHON), *NAVCRM, command, *rest]
    if os.name != "nt":
        os.execv(PYTHON, program)  # so that Ctrl-C and kill reach the service itself
    return subprocess.call(program)


def set_up() -> None:
    """Make `.venv` as the lock says; nothing to do when it is so already."""
    if sys.version_info < (3, 11):  # noqa: UP036 - whoever has an older one shall read this, not a syntax error
        sys.exit(f"navcrm needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.")
    with alone():
        parts = (LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), os.fsencode(ROOT))
        wanted = hashlib.sha256(b"\0".join(parts)).hexdigest()
        if PYTHON.exists() and INSTALLED.exists() and INSTALLED.read_text() == wanted:
            return
        if not works():
            make_venv()
        print("Setting up .venv from requirements.lock ...", flush=True)
        began = time.monotonic()
        install()
        INSTALLED.write_text(wanted)
        print(f"Set up in {time.monotonic() - began:.0f} s.", flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One set-up at a time; the lock is on the folder itself and leaves no file."""
    if os.name == "nt":
        yield
        return
    import fcntl

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def works() -> bool:
    """Whether `.venv` has an interpreter that still runs and has pip."""
    return PYTHON.exists() and subprocess.call([PYTHON, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0


def make_venv() -> None:
    """An empty environment, with pip."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        sys.exit(
            "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv"
        )
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(f"Could not make {VENV}; the reason stands above.")


def install() -> None:
    """The locked packages by uv, itself installed by its hash in the lock; by pip where uv cannot; then the project."""
    with tempfile.TemporaryDirectory() as folder:
        uv_alone = Path(folder) / "uv.txt"
        uv_alone.write_text(locked("uv"))
        environment = uv_environment()
        pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "--no-deps",
            "-r",
        ]
        uv = [
            "-m",
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(PYTHON),
            "--require-hashes",
            "--no-deps",
            "-r",
        ]
        if call([*pip, str(uv_alone)]) or call([*uv, str(LOCK)], environment):
            print("uv could not install the packages; trying pip, which takes longer ...", flush=True)
            if call([*pip, str(LOCK)]):
                sys.exit("The packages could not be installed; the reason stands above.")
    project = ["--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    if call(["-m", "uv", "pip", "install", "--python", str(PYTHON), *project], environment):
        sys.exit("The project itself could not be installed; the reason stands above.")


def locked(package: str) -> str:
    """What the lock says of one package: its version and hashes."""
    lines = LOCK.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"{package}=="))
    last = next(i for i in range(first, len(lines)) if not lines[i].endswith("\\"))
    return "\n".join(lines[first : last + 1]) + "\n"


def uv_environment() -> dict[str, str]:
    """Our environment, with the package index and certificate that pip is set to use, and a cache we may write."""
    environment = dict(os.environ)
    said = subprocess.run(
        [PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = dict(line.split("=", 1) for line in said.stdout.splitlines() if "=" in line)
    for option, variable in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        for source in ("global", "install", ":env:"):  # the later one wins, as in pip
            if f"{source}.{option}" in settings and variable not in os.environ:
                environment[variable] = settings[f"{source}.{option}"].strip("'\"")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or "/nonexistent") / ".cache")
    nearest = next(folder for folder in (home / "uv", *home.parents, Path("/")) if folder.exists())
    if os.name != "nt" and not os.access(nearest, os.W_OK):
        environment.setdefault("UV_CACHE_DIR", str(VENV / "cache"))
    return environment


def check(steps: list[tuple[str, list[str]]]) -> int:
    """Run every step, whatever became of the ones before, and say at the end which failed."""
    results = []
    for name, arguments in steps:
        print(f"\n--- {name}", flush=True)
        began = time.monotonic()
        results.append((name, call(arguments, test_environment()), time.monotonic() - began))
    print()
    for name, code, seconds in results:
        print(f"{'FAILED' if code else 'ok':8}{name:10}{seconds:6.1f} s")
    return 1 if any(code for _, code, _ in results) else 0


def test_environment() -> dict[str, str]:
    """Our environment without settings of the service: a test says itself what it needs.

    What Python compiles is kept in `.venv`, also where the shell wants it kept nowhere: the tests start many processes,
    and each would spend a second or two on compiling the same again.
    """
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("NAVCRM_") or k.startswith("NAVCRM_TEST_")
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment | {"PYTHONPYCACHEPREFIX": str(VENV / "compiled")}


def lock(options: list[str]) -> int:
    """Write the lock files: hashes for every platform, and no address. Versions stay unless --upgrade is given."""
    everything = [*COMPILE, "--group", "dev", "-o", LOCK.name, *options]
    runtime = [*COMPILE, "--constraint", LOCK.name, "-o", RUNTIME_LOCK.name, *options]
    return call(everything, uv_environment()) or call(runtime, uv_environment())


def call(arguments: list[str], environment: dict[str, str] | None = None) -> int:
    """Exit code of the environment's Python with these arguments, run in the project."""
    try:
        return subprocess.call([str(PYTHON), *arguments], cwd=ROOT, env=environment)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
