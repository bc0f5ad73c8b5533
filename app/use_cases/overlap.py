"""Work of one run that goes on at the same time: while one set waits for the database or for CRM, another is decided,
and the next page is on its way."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress

from app.ports import Page

AT_ONCE = 2
"""Sets under way together: one is written or remembered while the other is translated. More of them would only hold
more in memory: the computing is done by one processor."""


async def overlapping(works: Iterable[Callable[[], Awaitable[None]]], at_once: int = AT_ONCE) -> None:
    """Carries them out, begun in their order, so many at a time.

    When one fails no more are begun, and those under way come to their end: what they wrote is remembered.
    Raises what the first that failed raised.
    """
    waiting = iter(works)
    failures: list[BaseException] = []

    async def one_after_another() -> None:
        for work in waiting:
            try:
                await work()
            except BaseException as error:  # raised below, when nothing is under way any more
                failures.append(error)
            if failures:
                return

    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    if failures:
        raise failures[0]


async def one_ahead(pages: AsyncIterator[Page]) -> AsyncGenerator[Page, None]:
    """The same pages; while one is worked on, the next is read."""
    coming = asyncio.ensure_future(anext(pages, None))
    try:
        while (page := await coming) is not None:
            coming = asyncio.ensure_future(anext(pages, None))
            yield page
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming
