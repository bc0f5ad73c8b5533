"""Names that people type: the one they probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

CLOSE: Final = 0.7
"""How alike two names must be, of 1; below that a suggestion would be a guess."""


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one, whatever its capitals; None if none is close."""
    by_lower = {each.lower(): each for each in known}
    found = get_close_matches(name.lower(), list(by_lower), 1, cutoff=CLOSE)
    return by_lower[found[0]] if found else None
