"""Changes that several people make at once: who said nothing of what he has read is not told that it is old."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.domain.errors import PreconditionFailed

Made = TypeVar("Made")


async def on_what_is_there(revision: int | None, change: Callable[[], Awaitable[Made]]) -> Made:
    """Makes a change that reads, decides and writes. Where somebody else wrote in between, it is made once more on what
    is there then, unless the caller named the revision that he has read: that one is gone.

    Raises PreconditionFailed then, and whatever the change raises.
    """
    while True:
        try:
            return await change()
        except PreconditionFailed:
            if revision is not None:
                raise
