"""Wires that lie between a process of the service and PostgreSQL or CRM, and know how much went over them.

Everything that passes, in whichever direction, is a moment at which the process can be cut off: before its question
arrives, or after it was answered and before it knows.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import URL

from app.db.engine import async_url

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
AT_ONCE = 65_536


@dataclass(slots=True)
class Tripwire:
    """Counts what passes, and calls `trip` in place of letting the n-th pass. Of several wires at once."""

    passed: int = 0
    trips_at: int | None = None
    trip: Callable[[], None] = lambda: None
    tripped: asyncio.Event = field(default_factory=asyncio.Event)

    def arm(self, after: int, trip: Callable[[], None]) -> None:
        """From now on so many may pass; then it trips."""
        self.tripped.clear()
        self.passed, self.trips_at, self.trip = 0, after, trip

    def disarm(self) -> None:
        """Everything may pass."""
        self.passed, self.trips_at = 0, None

    def lets_pass(self) -> bool:
        """Counts one more."""
        if self.tripped.is_set() and self.trips_at is not None:
            return False
        self.passed += 1
        if self.trips_at is not None and self.passed > self.trips_at:
            self.tripped.set()
            self.trip()
            return False
        return True


@dataclass(slots=True)
class NearEnds:
    """The near ends of a wire, to say something in place of who is at the far end."""

    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def hear(self, message: bytes) -> None:
        """Says it to everyone who is connected at this moment."""
        for writer in self.writers:
            writer.write(message)
            await writer.drain()


@asynccontextmanager
async def _wire(
    connect: Connect, tripwire: Tripwire, near_ends: NearEnds | None = None
) -> AsyncIterator[int]:
    """A port of this machine that leads to where `connect` does."""
    writers = near_ends.writers if near_ends else set()
    open_ones: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(AT_ONCE):
            if not tripwire.lets_pass():
                return
            writer.write(data)
            await writer.drain()

    async def join(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await connect()
        writers.add(to_near)
        ways = [asyncio.create_task(carry(near, to_far)), asyncio.create_task(carry(far, to_near))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writers.discard(to_near)
            for way in ways:
                way.cancel()
            for writer in (to_near, to_far):  # before anything is waited for: this may be cancelled once more
                writer.close()
            await asyncio.gather(*ways, return_exceptions=True)

    def accept(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        async def joined() -> None:
            with contextlib.suppress(OSError):
                await join(near, to_near)

        task = asyncio.create_task(joined())
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)
        # Also where nobody answers at the far end, and where the task is cancelled before it began.
        task.add_done_callback(lambda _: to_near.close())

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(open_ones):
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)


@asynccontextmanager
async def wire_to_database(
    address: str, tripwire: Tripwire, near_ends: NearEnds | None = None
) -> AsyncIterator[str]:
    """The address of the same database by way of a wire."""
    url = async_url(address)
    async with _wire(lambda: _connect_to_postgres(url), tripwire, near_ends) as port:
        there = url.set(host="127.0.0.1", port=port, query={})
        yield there.render_as_string(hide_password=False)


@asynccontextmanager
async def wire_to_crm(address: str, tripwire: Tripwire) -> AsyncIterator[str]:
    """The address of the same CRM by way of a wire."""
    host, _, port = address.removeprefix("http://").partition(":")
    async with _wire(lambda: asyncio.open_connection(host, int(port)), tripwire) as near:
        yield f"http://127.0.0.1:{near}"


async def _connect_to_postgres(url: URL) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    folder = url.query.get("host")
    if folder is not None:
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{url.port or 5432}")
    return await asyncio.open_connection(url.host or "127.0.0.1", url.port or 5432)
