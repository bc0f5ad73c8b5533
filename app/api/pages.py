"""Paging, the same everywhere: a limit, an opaque cursor, items and the next cursor."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from app.domain.errors import FieldProblem, Invalid

Item = TypeVar("Item")
Position = TypeVar("Position")
DEFAULT_LIMIT = 100
MAXIMUM_LIMIT = 1000
CHECK_LENGTH = 6
EDITION = b"2"


class InvalidCursor(Invalid):
    """The cursor does not come from this list."""

    code = "invalid-cursor"


class Page(BaseModel, Generic[Item]):
    """A page of a list in a stable order."""

    items: list[Item]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last one.")


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page the caller asked for. A cursor belongs to the list, that is to the path, that gave it."""

    limit: int
    cursor: str | None
    path: str

    def after(self, kind: type[Position]) -> Position | None:
        """Where to continue, as `next` was given it; None at the start. Raises InvalidCursor."""
        if self.cursor is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(self.cursor.encode() + b"=" * (-len(self.cursor) % 4))
            check, text = raw[:CHECK_LENGTH], raw[CHECK_LENGTH:]
            if not hmac.compare_digest(check, self._check(text)):
                raise ValueError
            return TypeAdapter(kind).validate_json(text)
        except (ValueError, ValidationError) as error:
            raise _invalid("The cursor was not given out by this list.") from error

    def next(self, position: Any) -> str | None:
        """The cursor that continues after `position`: a text, a number, an id, a time, or a tuple; None at the end."""
        if position is None:
            return None
        text = TypeAdapter(Any).dump_json(position)
        return base64.urlsafe_b64encode(self._check(text) + text).decode().rstrip("=")

    def _check(self, text: bytes) -> bytes:
        """Tells a cursor of this list from others, those of an edition that had other words for places, and from what
        was typed; it keeps no secret."""
        return hashlib.sha256(b"\0".join((EDITION, self.path.encode(), text))).digest()[:CHECK_LENGTH]

    def of_all(
        self, found: Sequence[Item], kind: type[Position], position_of: Callable[[Item], Position | None]
    ) -> tuple[list[Item], str | None]:
        """The page of a list that is all here, and the next cursor. Raises InvalidCursor, also when the item after
        which it goes on was deleted."""
        after, start = self.after(kind), 0
        if after is not None:
            positions = [position_of(item) for item in found]
            if after not in positions:
                raise _invalid("The item that the cursor stands for was deleted.")
            start = positions.index(after) + 1
        return self.cut(list(found[start : start + self.limit + 1]), position_of)

    def cut(self, found: list[Any], position_of: Any) -> tuple[list[Any], str | None]:
        """The page out of `limit + 1` found items, and the next cursor."""
        items = found[: self.limit]
        more = len(found) > self.limit
        return items, self.next(position_of(items[-1])) if more else None


def _invalid(message: str) -> InvalidCursor:
    problem = FieldProblem("cursor", message)
    return InvalidCursor(message, errors=[problem], fix="Start again without a cursor.")


async def _paging(
    request: Request,
    limit: Annotated[
        int, Query(ge=1, le=MAXIMUM_LIMIT, description="How many items a page has at most.")
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` of the page before.", max_length=4096)
    ] = None,
) -> Paging:
    return Paging(limit, cursor, request.scope["path"])


PagingDep = Annotated[Paging, Depends(_paging)]
