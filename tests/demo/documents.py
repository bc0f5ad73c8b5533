"""The documents for people, as tests read them: fenced blocks, code between backticks, links, curl lines."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "docs/operating.md", "docs/crm-solution.md")
FENCE = re.compile(r"^( *)```\w*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]+\]\(([^)]+)\)")
METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of the repository."""

    name: str
    text: str

    @property
    def blocks(self) -> list[str]:
        """The fenced blocks, without the indentation of the fence."""
        return [
            "\n".join(line.removeprefix(indent) for line in body.splitlines())
            for indent, body in FENCE.findall(self.text)
        ]

    @property
    def spans(self) -> list[str]:
        """The code within lines."""
        return SPAN.findall(FENCE.sub("", self.text))

    @property
    def links(self) -> list[str]:
        """Where links lead."""
        return LINK.findall(FENCE.sub("", self.text))


def documents() -> list[Document]:
    """Those that tell people how to use the service."""
    return [Document(name, (ROOT / name).read_text(encoding="utf-8")) for name in NAMES]


def kind_of(block: str) -> str:
    """What a block is: `commands`, `table` or `requests`; ValueError for one that no test would execute."""
    lines = block.splitlines()
    if all(line.startswith(("python3 dev.py ", "navcrm ")) for line in lines):
        return "commands"
    if all(line.startswith("│") for line in lines):
        return "table"
    if any(line.startswith("curl ") for line in lines):
        return "requests"
    raise ValueError(f"No test knows how to execute this block:\n{block}")


@dataclass(frozen=True, slots=True)
class Request:
    """What a curl line asks for."""

    method: str
    url: str
    headers: dict[str, str]
    body: str | None


def requests_of(block: str) -> Iterator[Request]:
    """The requests of a block of assignments and curl lines, as a shell would read them."""
    lexer = shlex.shlex(block.replace("\\\n", " "), posix=True, punctuation_chars="\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    variables: dict[str, str] = {}
    line: list[str] = []
    for token in [*lexer, "\n"]:
        if token.strip("\n"):
            line.append(Template(token).substitute(variables))
        elif line and line[0] == "curl":
            yield _request(line[1:])
            line = []
        elif line:
            (assignment,) = line
            name, _, value = assignment.partition("=")
            variables[name] = value
            line = []


def _request(words: list[str]) -> Request:
    left = iter(words)
    method, url, headers, body = None, None, {}, None
    for word in left:
        if word == "-H":
            name, _, value = next(left).partition(":")
            headers[name] = value.strip()
        elif word == "-X":
            method = next(left)
        elif word == "-d":
            body = next(left)
        elif word != "-s":
            assert url is None, f"{word!r} is neither an option that is known here nor the only address."
            url = word
    assert url is not None
    return Request(method or ("GET" if body is None else "POST"), url, headers, body)
