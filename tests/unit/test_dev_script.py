"""dev.py: what a fresh clone starts with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dev

LOCKS = [dev.LOCK, dev.RUNTIME_LOCK]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.name))
def test_a_lock_holds_a_hash_for_every_package_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    packages = re.split(r"\n(?=\S)", text.strip())
    assert all(re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==", package) for package in packages)
    assert all("--hash=sha256:" in package for package in packages)


def test_the_installer_is_taken_from_the_lock_by_its_hash() -> None:
    uv = dev.locked("uv").splitlines()
    assert uv[0].startswith("uv==")
    assert all(line.strip().startswith("--hash=sha256:") for line in uv[1:])
    assert len(uv) > 1


def test_what_runs_in_production_has_the_versions_that_were_tested() -> None:
    versions = [set(re.findall(r"^[a-z0-9._-]+==[^\s;]+", lock.read_text(), re.MULTILINE)) for lock in LOCKS]
    assert versions[1] <= versions[0]


def test_without_a_command_it_says_what_there_is(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, dev.__file__], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.returncode == 2
    assert "demo" in said.stdout
    assert "test" in said.stdout


def test_a_setting_of_the_shell_does_not_reach_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAVCRM_DATABASE_URL", "postgresql://production/d")
    monkeypatch.setenv("NAVCRM_TEST_DATABASE_URL", "postgresql://laptop/d")
    environment = dev.test_environment()
    assert "NAVCRM_DATABASE_URL" not in environment
    assert "NAVCRM_TEST_DATABASE_URL" in environment


def test_what_was_compiled_once_is_kept_for_the_processes_that_tests_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = dev.test_environment()
    where = "import sys; print(sys.dont_write_bytecode, sys.pycache_prefix)"
    said = subprocess.run(
        [sys.executable, "-c", where], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["False", str(dev.VENV / "compiled")]
