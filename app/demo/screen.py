"""What the demo shows: steps, progress bars, the closing table. Plain lines where the output is no terminal."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

PLAIN_WIDTH = 100


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One line of the closing table."""

    mapping: str
    coupled: int
    created: int
    modified: int
    unmodified: int
    skipped: int
    failed: int
    seconds: float


class Screen:
    """Tells the story on standard output."""

    def __init__(self) -> None:
        terminal = sys.stdout.isatty()
        self.console = Console(
            width=None if terminal else PLAIN_WIDTH, highlight=False, soft_wrap=not terminal
        )
        self._began = monotonic()

    @property
    def seconds(self) -> float:
        """Since the story began."""
        return monotonic() - self._began

    def title(self, text: str) -> None:
        """The beginning of a chapter."""
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(f"  {escape(text)}")

    def raw(self, text: str) -> None:
        """A line to be copied: never wrapped."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def bars(self, names: Sequence[str]) -> Iterator["Bars"]:
        """A progress bar for each name."""
        columns = (
            TextColumn("  {task.description:<12}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            yield Bars(self, progress, names)

    def table(self, title: str, rows: Sequence[MappingRow]) -> None:
        """The closing table."""
        table = Table(title=title, title_justify="left")
        table.add_column("mapping")
        for name in ("coupled", "created", "modified", "unmodified", "skipped", "failed", "seconds"):
            table.add_column(name, justify="right")
        for row in rows:
            counts = (row.coupled, row.created, row.modified, row.unmodified, row.skipped, row.failed)
            table.add_row(row.mapping, *(f"{count:,}" for count in counts), f"{row.seconds:.1f}")
        self.console.print()
        self.console.print(table)


class Bars:
    """Progress bars by name."""

    def __init__(self, screen: Screen, progress: Progress, names: Sequence[str]) -> None:
        self._screen = screen
        self._progress = progress
        self._tasks = {name: progress.add_task(name, total=None, status="queued") for name in names}
        self._told: Mapping[str, str] = {}

    def show(self, name: str, done: int, expected: int | None, status: str, *, ended: bool) -> None:
        """How far one came."""
        total = done if ended else expected
        self._progress.update(self._tasks[name], completed=done, total=total, status=status)
        if ended and not self._screen.console.is_terminal and name not in self._told:
            self._screen.say(f"{name}: {status}, {done:,} records")
        if ended:
            self._told = {**self._told, name: status}
