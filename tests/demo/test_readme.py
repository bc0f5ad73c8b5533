"""What README.md and the pages below docs/ for users show can be done, as it stands there."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

import dev
from app import cli
from app.demo.screen import MappingRow, Screen
from app.domain.errors import IntegrationError
from app.main import create_app
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, create_sandbox
from app.settings import Settings
from tests.demo.documents import METHODS, ROOT, Document, documents, kind_of, requests_of
from tests.servers import run_in_thread

DOCUMENTS = documents()
README = DOCUMENTS[0]
SECRET_KEYS = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="
NAVCRM = [sys.executable, "-c", "from app.cli import main; main()"]
COMMANDS: Any = typer.main.get_command(cli.app)

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)


def blocks(kind: str) -> list[str]:
    """The blocks of a kind in all documents."""
    return [block for document in DOCUMENTS for block in document.blocks if kind_of(block) == kind]


def test_every_block_is_executed_by_a_test() -> None:
    kinds = [kind_of(block) for block in README.blocks]
    assert kinds == ["commands", "table", "commands", "requests"]
    assert [kind_of(block) for document in DOCUMENTS[1:] for block in document.blocks] == []


def test_a_block_that_no_test_knows_is_noticed() -> None:
    with pytest.raises(ValueError, match="No test knows"):
        kind_of("make coffee")


# --- commands -----------------------------------------------------------------------------------------


def commands() -> Iterator[list[str]]:
    """Every command line that is shown, as words; what is optional counts as given."""
    shown = [line for block in blocks("commands") for line in block.splitlines()]
    shown += [span for document in DOCUMENTS for span in document.spans]
    for line in shown:
        words = shlex.split(line.translate({ord("["): " ", ord("]"): " "}), comments=True)
        if words[:1] == ["navcrm"] and len(words) > 1:
            yield words[1:]
        elif words and words[0] in COMMANDS.commands:
            yield words
        elif words[:2] == ["python3", "dev.py"] and len(words) > 2:
            yield words[2:]


OF_DEV = set(re.findall(r"^  (\w+) ", dev.USAGE, re.MULTILINE)) - set(COMMANDS.commands)


@pytest.mark.parametrize("words", list(commands()), ids=shlex.join)
def test_a_command_exists_with_its_options(words: list[str]) -> None:
    if words[0] in OF_DEV:
        return
    command, path = COMMANDS, []
    for word in words:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
        path.append(word)
    assert path, f"navcrm has no command {words[0]}."
    assert CliRunner().invoke(cli.app, [*path, "--help"]).exit_code == 0
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known


def test_what_dev_py_does_by_itself_stands_in_its_help() -> None:
    help_text = subprocess.run(
        [sys.executable, str(ROOT / "dev.py"), "help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert help_text.stdout.strip() == dev.USAGE
    assert {"test", "lint", "lock", "bench"} == OF_DEV


# --- your own CRM -------------------------------------------------------------------------------------


def environment(database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAVCRM_")}
    named = {"NAVCRM_DATABASE_URL": database, "NAVCRM_SECRET_KEYS": SECRET_KEYS, "PYTHONPATH": str(ROOT)}
    return kept | named


def made_key(database: str) -> str:
    """A key, made by the command that the README shows."""
    lines = [line for block in blocks("commands") for line in block.splitlines() if "api-key create" in line]
    (line,) = lines
    words = shlex.split(line)[2:]
    done = subprocess.run(
        [*NAVCRM, *words], env=environment(database), capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.strip()


def filled(block: str, service: str, key: str, crm: str) -> str:
    """The block with an address, a key, a CRM and a login of ours; whoever tries it fills in the same places."""
    places = {
        "http://127.0.0.1:8000": service,
        "nck_...": key,
        "https://contoso.crm4.dynamics.com": crm,
        '"tenant_id": "..."': f'"tenant_id": "{DEFAULT_TENANT}", "authority": "{crm}"',
        '"client_id": "..."': f'"client_id": "{DEFAULT_CLIENT}"',
        '"client_secret": "..."': f'"client_secret": "{DEFAULT_SECRET}"',
    }
    for place, ours in places.items():
        assert block.count(place) == 1, place
        block = block.replace(place, ours)
    assert "..." not in block
    return block


@pytest.mark.usefixtures("anyio_backend")  # the database comes from an asynchronous fixture
def test_the_requests_of_the_readme_set_up_a_company(database: str) -> None:
    (block,) = blocks("requests")
    key = made_key(database)
    settings = Settings(
        _env_file=None, database_url=database, secret_keys=SECRET_KEYS, worker_watch_seconds=0
    )
    with run_in_thread(create_sandbox()) as crm, run_in_thread(create_app(settings)) as service:
        answers = []
        for asked in requests_of(filled(block, service, key, crm)):
            answer = httpx.request(
                asked.method, asked.url, headers=asked.headers, content=asked.body, timeout=60
            )
            assert answer.is_success, answer.text
            answers.append(answer.json())
        company, saved, tried, enabled, setup = answers
        assert (company["name"], company["local_currency"]) == ("cronus", "GBP")
        assert (saved["server_url"], saved["is_enabled"]) == (crm, False)
        assert tried["ok"] is True
        assert enabled["is_enabled"] is True
        assert setup["integration_table_mappings"] > 0


# --- what stands between the blocks -------------------------------------------------------------------


def cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_the_table_shown_is_the_one_the_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("table")
    header, *rows = [cells(line) for line in block.splitlines()]
    shown = [mapping_row(*row) for row in rows]
    Screen().table("", shown)
    printed = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith(("│", "┃"))]
    assert printed == [header, *rows]


def mapping_row(mapping: str, *figures: str) -> MappingRow:
    """A line of the closing table."""
    coupled, created, modified, unmodified, skipped, failed = map(int, figures[:-1])
    return MappingRow(mapping, coupled, created, modified, unmodified, skipped, failed, float(figures[-1]))


@each_document
def test_every_link_leads_to_a_file(document: Document) -> None:
    folder = (ROOT / document.name).parent
    relative = [link.partition("#")[0] for link in document.links if "://" not in link]
    assert [link for link in relative if not (folder / link).exists()] == []
    named = [span for span in document.spans if re.fullmatch(r"(app|docs|tests|openapi)/[\w./-]+", span)]
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_document
def test_every_setting_that_is_named_exists(document: Document) -> None:
    settings = {f"NAVCRM_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"NAVCRM_[A-Z_]*[A-Z]\b(?!_)", document.text))
    assert {name for name in named if name not in settings} == set()
    families = set(re.findall(r"(NAVCRM_[A-Z_]+_)\.\.\.", document.text))
    assert all(any(name.startswith(family) for name in settings) for family in families)


@each_document
def test_every_call_that_is_named_exists(document: Document) -> None:
    paths = json.loads((ROOT / "openapi/openapi.json").read_text())["paths"]
    for span in document.spans:
        method, _, address = span.partition(" ")
        if method in METHODS:
            asked = address.split()[0].partition("?")[0]
            found = [path for path in paths if method.lower() in paths[path] and same(path, asked)]
            assert found, f"{span}: there is no such call."


def same(path: str, asked: str) -> bool:
    """Whether an address is one of a path of the contract; a leading … stands for its beginning."""
    ours, theirs = path.split("/")[1:], asked.split("/")[1:]
    if asked.startswith("…"):
        ours = ours[-len(theirs) :]
        if ours[-1].startswith("{") != theirs[-1].startswith("{"):
            return False  # a word that is no path would be taken for the number of a record
    return len(ours) == len(theirs) and all(
        own == given or own.startswith("{") for own, given in zip(ours, theirs, strict=True)
    )


@each_document
def test_every_code_in_a_table_of_troubles_exists(document: Document) -> None:
    troubles = document.text.partition("| code | what is behind it |")[2]
    rows = [
        line.partition("|")[2].partition("|")[0] for line in troubles.splitlines() if line.startswith("| `")
    ]
    named = {code for row in rows for code in re.findall(r"`([\w-]+)`", row)}
    assert named <= set(codes(IntegrationError))
    assert bool(named) == (document.name == "docs/operating.md")


def codes(error: type[IntegrationError]) -> Iterator[str]:
    """The codes of an error and of those below it."""
    yield error.code
    for below in error.__subclasses__():
        yield from codes(below)
