"""`navcrm crm-solution`, as an administrator runs it."""

import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app


def test_the_command_writes_the_file_with_the_public_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # away from a .env
    monkeypatch.setenv("NAVCRM_PUBLIC_URL", "https://navcrm.cronus.example")
    file = tmp_path / "new" / "solution.zip"
    for options, address in (([], "navcrm.cronus"), (["--public-url", "https://other.example"], "other")):
        done = CliRunner().invoke(app, ["crm-solution", "--output", str(file), *options])
        assert done.exit_code == 0, done.stderr
        with zipfile.ZipFile(file) as archive:
            script = next(archive.read(n).decode() for n in archive.namelist() if "opennavjs" in n)
        assert f'DEFAULT_SERVICE_URL = "https://{address}.example";' in script


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--public-url", "navcrm.example"], "begins with https://"),
        (["--output", "."], "Cannot write ."),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["crm-solution", "--output", "x.zip", *options])
    assert done.exit_code == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
