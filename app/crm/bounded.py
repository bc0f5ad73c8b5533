"""Answers are unpacked here, and read up to a size that no CRM needs: what a wrong address leads to may have no end, or
be a few bytes that unpack to gigabytes."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from app.domain.errors import CrmUnavailable

LARGEST = 256 * 1024 * 1024
"""Bytes of an answer. A page of 5,000 rows of 100 columns has some 35 MB."""
GZIP = frozenset({"gzip", "x-gzip"})
GZIP_FORMAT = zlib.MAX_WBITS | 16
CHECK = "Check server_url and the authority of the connection, and what stands between us and CRM."


def bounded(largest: int) -> Callable[[httpx.Response], Awaitable[None]]:
    """An event hook: whoever reads the answer gets at most so many bytes of it, or CrmUnavailable.

    What is packed in another way than we ask for stays as it came, and cannot be read as anything.
    """

    async def hook(response: httpx.Response) -> None:
        packed = response.headers.pop("content-encoding", "").strip().lower() in GZIP
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Bounded(response.stream, response.request.url.host, packed, largest)

    return hook


class _Bounded(httpx.AsyncByteStream):
    """The body of an answer, unpacked."""

    def __init__(self, body: httpx.AsyncByteStream, host: str, packed: bool, largest: int) -> None:
        self._body = body
        self._host = host
        self._packed = packed
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises CrmUnavailable, httpx.DecodingError."""
        left = self._largest
        unpacker = zlib.decompressobj(GZIP_FORMAT) if self._packed else None
        async for piece in self._body:
            content = piece if unpacker is None else _unpacked(unpacker, piece, left + 1)
            left -= max(len(piece), len(content))  # what unpacks to nothing need have no end either
            if left < 0:
                raise CrmUnavailable(f"{self._host} answers with more than CRM ever does.", fix=CHECK)
            yield content

    async def aclose(self) -> None:
        """Closes what it is read from."""
        await self._body.aclose()


def _unpacked(unpacker: "zlib._Decompress", piece: bytes, most: int) -> bytes:
    """At most so many bytes of what the piece holds."""
    if unpacker.eof:  # the rest is nothing, and it would be kept
        return b""
    try:
        return unpacker.decompress(piece, most)
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
