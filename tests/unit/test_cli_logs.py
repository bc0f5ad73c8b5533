"""Logs: lines that machines and people can read, and no secret in them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAILS = """
import logging, sys, structlog
from app.logs import configure_logs
configure_logs("info", sys.argv[1])
def login(password):
    raise ValueError("refused")
log = structlog.get_logger("x")
log.debug("too quiet to be heard")
log.info("synch job started", mapping="CUSTOMER")
log.info("request", path="/\\x1b[2J\\x9b31m\\x08\\u2028", told=["Müller\\x9b"])
logging.getLogger("some.library").warning("its own words")
try:
    login("hunter2")
except ValueError:
    log.exception("it failed")
"""


def logged(style: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FAILS, style], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr


def test_a_line_of_json_is_a_document_also_when_a_library_wrote_it() -> None:
    lines = [json.loads(line) for line in logged("json").strip().split("\n")]
    assert [line["event"] for line in lines] == ["synch job started", "request", "its own words", "it failed"]
    assert lines[0]["mapping"] == "CUSTOMER"
    assert lines[0]["level"] == "info"
    assert lines[2]["level"] == "warning"
    assert lines[0]["timestamp"].endswith("Z")
    assert "ValueError: refused" in lines[3]["exception"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_values(style: str) -> None:
    told = logged(style)
    assert "ValueError" in told
    assert "too quiet" not in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("style", "shown"),
    [
        ("console", r"/\x1b[2J\x9b31m\x08\u2028"),
        ("json", r"/\u001b[2J\u009b31m\b\u2028"),
    ],
)
def test_what_a_caller_sends_does_not_steer_the_terminal(style: str, shown: str) -> None:
    told = logged(style)
    assert all(character.isprintable() or character == "\n" for character in told)
    assert shown in told
    assert "Müller" in told


def test_json_keeps_every_character_that_a_caller_sends() -> None:
    line = json.loads(logged("json").split("\n")[1])
    assert (line["path"], line["told"]) == ("/\x1b[2J\x9b31m\x08\u2028", ["Müller\x9b"])
