"""An answer of any length is read up to a size that no CRM needs, and no further."""

import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from app.crm.auth import EntraAuth
from app.crm.bounded import LARGEST
from app.crm.client import DataverseClient, Patience
from app.crm.wire import Request
from app.domain.company import Credentials
from app.domain.errors import CrmUnavailable

pytestmark = pytest.mark.anyio
CRM = "https://contoso.crm4.dynamics.com"
MOST = 1024 * 1024
PIECE = 64 * 1024
"""What httpx reads at a time."""
ONCE = Patience(tries=1)


class Body(httpx.AsyncByteStream):
    """A body in pieces, which counts how many were read of it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.read += len(piece)
            yield piece

    async def aclose(self) -> None:
        self.closed = True


def endless(piece: bytes) -> Iterator[bytes]:
    """The piece again and again."""
    while True:
        yield piece


def in_pieces(content: bytes) -> Iterator[bytes]:
    """As it comes from the network."""
    return (content[start : start + PIECE] for start in range(0, len(content), PIECE))


def client(
    body: Body, status: int = 200, encoding: str = "", auth: httpx.Auth | None = None
) -> DataverseClient:
    """A client of what answers with this body."""
    headers = {"Content-Encoding": encoding} if encoding else {}
    transport = httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, stream=body))
    return DataverseClient(CRM, auth or httpx.Auth(), transport=transport, patience=ONCE, largest=MOST)


@pytest.mark.parametrize("status", [200, 401, 503])
async def test_what_has_no_end_is_not_read_for_ever(status: int) -> None:
    body = Body(endless(b"x" * PIECE))
    with pytest.raises(CrmUnavailable, match=f"{CRM[8:]} answers with more than CRM ever does") as refused:
        await client(body, status).send(Request("GET", "accounts"))
    assert "server_url" in (refused.value.fix or "")
    assert MOST < body.read <= MOST + PIECE
    assert body.closed


async def test_neither_is_what_the_login_service_says() -> None:
    body = Body(endless(b"x" * PIECE))
    login = EntraAuth(Credentials("client_secret", "tenant", "client", client_secret="s"), CRM)
    with pytest.raises(CrmUnavailable, match=r"login\.microsoftonline\.com answers with more"):
        await client(body, auth=login).send(Request("GET", "accounts"))
    assert body.read <= MOST + PIECE


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"x" * 100 * MOST)),
        ("gzip", gzip.compress(b"x") + b"x" * 2 * MOST),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x" * 100 * MOST))),
    ],
    ids=["little that is much", "what follows the end", "little in little"],
)
async def test_little_that_unpacks_to_much_is_not_unpacked(encoding: str, packed: bytes) -> None:
    crm = client(Body(in_pieces(packed)), encoding=encoding)
    tracemalloc.start()
    try:
        with pytest.raises(CrmUnavailable):
            await crm.send(Request("GET", "accounts"))
        _, most_at_once = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_at_once < 5 * MOST


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_answer_of_just_that_size_is_read_whole(encoding: str) -> None:
    page = b'{"@odata.context":"c","value":"'
    page += b"x" * (MOST - len(page) - 2) + b'"}'
    body = Body(in_pieces(gzip.compress(page) if encoding else page))
    answer = await client(body, encoding=encoding).send(Request("GET", "accounts"))
    assert answer.body == page


async def test_what_is_not_packed_as_it_says_is_no_answer() -> None:
    with pytest.raises(CrmUnavailable):
        await client(Body(iter([b"x"])), encoding="gzip").send(Request("GET", "accounts"))


def test_the_largest_page_that_is_asked_for_has_room() -> None:
    row = {f"new_attributenumber{n}": "a value of some forty characters, or more" for n in range(100)}
    assert 5_000 * len(json.dumps(row)) * 5 < LARGEST
