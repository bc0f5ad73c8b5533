"""The integration solution in CRM: ours, or the one that Microsoft made for NAV.

Both bring a table of account statistics and one of connections, alike but for the prefix of every name.
"""

from collections.abc import Collection
from typing import Final

OURS: Final = "navcrm"
MICROSOFTS: Final = "nav"
PREFIXES: Final = (OURS, MICROSOFTS)
"""Who installed ours beside Microsoft's means the service to use ours."""

STATISTICS: Final = "accountstatistics"
CONNECTION: Final = "connection"


def tables_of(prefix: str) -> tuple[str, ...]:
    """The tables that the solution with this prefix brings."""
    return f"{prefix}_{STATISTICS}", f"{prefix}_{CONNECTION}"


def installed(tables: Collection[str]) -> str | None:
    """The prefix of the solution whose tables are among these; None if no solution is installed."""
    return next((prefix for prefix in PREFIXES if all(t in tables for t in tables_of(prefix))), None)
