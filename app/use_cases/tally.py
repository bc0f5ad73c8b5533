"""Counting what a run did."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from app.domain.coupling import SynchAction
from app.domain.job import Counts
from app.use_cases.items import Item


class Tally:
    """The counts of one direction of a job, continued from what an earlier attempt recorded."""

    def __init__(self, before: Counts | None = None) -> None:
        self._before = before or Counts()
        self._counted: Counter[SynchAction] = Counter()

    def add(self, items: Iterable[Item]) -> None:
        """Counts records that went through the engine; an uncoupled one was read and left alone, too."""
        for item in items:
            self._counted[item.action or SynchAction.UNMODIFIED] += 1
            if item.uncouple:
                self._counted[SynchAction.UNCOUPLED] += 1

    @contextmanager
    def if_committed(self) -> Iterator[None]:
        """Keeps what is counted in the block, unless that fails: then nothing of it was done."""
        before = self._counted.copy()
        try:
            yield
        except BaseException:
            self._counted = before
            raise

    def count(self, action: SynchAction, number: int = 1) -> None:
        """Counts what did not go through the engine."""
        self._counted[action] += number

    @property
    def counts(self) -> Counts:
        """All of this direction so far."""
        return self._before + Counts.of(self._counted)
