"""Rows in memory: by id, in key order, in the order of their last change, and by value where a query asks for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sortedcontainers import SortedDict, SortedList

from app.sandbox.metadata import Metadata, Table

Row = dict[str, Any]
KEPT_ORDERS = 8


def fold(value: Any) -> Any:
    """A value as the database compares it: text without regard to case."""
    return value.casefold() if isinstance(value, str) else value


class TableData:
    """The rows of one table. A row holds only the columns that are not null, and is replaced, never changed."""

    __slots__ = (
        "changed",
        "deleted",
        "deleted_version",
        "indexes",
        "keys",
        "rows",
        "schema_version",
        "table",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: dict[str, Row] = {}
        self.keys: SortedList[str] = SortedList()
        self.changed: SortedDict[int, str] = SortedDict()  # version -> id, the last change of each row
        self.deleted: SortedDict[int, str] = SortedDict()
        self.deleted_version: dict[str, int] = {}
        self.indexes: dict[str, dict[Any, set[str]]] = {}
        self.schema_version = 0  # the version at which the columns last changed

    def ids(self, column: str, value: Any) -> set[str]:
        """The rows whose column has this value; the index is built when first asked for and kept from then on."""
        index = self.indexes.get(column)
        if index is None:
            index = self.indexes[column] = {}
            for row_id, row in self.rows.items():
                if (found := row.get(column)) is not None:
                    index.setdefault(fold(found), set()).add(row_id)
        return index.get(fold(value), set())

    def place(self, row_id: str, row: Row | None) -> None:
        """Put a row where it belongs, replacing the one that was there; None takes it away."""
        old = self.rows.get(row_id)
        if old is not None:
            self.changed.pop(old["versionnumber"], None)
        if row is None:
            if old is not None:
                del self.rows[row_id]
                self.keys.remove(row_id)
        else:
            if old is None:
                self.keys.add(row_id)
            self.rows[row_id] = row
            self.changed[row["versionnumber"]] = row_id
        for column, index in self.indexes.items():
            _reindex(index, row_id, old and old.get(column), row and row.get(column))

    def mark_deleted(self, row_id: str, version: int | None) -> None:
        """Remember at which version a row went; None forgets that it ever did."""
        old = self.deleted_version.pop(row_id, None)
        if old is not None:
            del self.deleted[old]
        if version is not None:
            self.deleted[version] = row_id
            self.deleted_version[row_id] = version


def _reindex(index: dict[Any, set[str]], row_id: str, old: Any, new: Any) -> None:
    old, new = fold(old), fold(new)
    if old == new:
        return
    if old is not None and (ids := index.get(old)) is not None:
        ids.discard(row_id)
        if not ids:
            del index[old]
    if new is not None:
        index.setdefault(new, set()).add(row_id)


class Storage:
    """All tables, one version sequence, and transactions that nest."""

    def __init__(self, metadata: Metadata, first_version: int = 1_000_000) -> None:
        self.metadata = metadata
        self.tables = {table.name: TableData(table) for table in metadata}
        self.version = first_version
        self.moments: SortedDict[str, int] = SortedDict()  # modifiedon -> the first version written then
        self.rows_written = 0
        self.rows_read = 0
        self.ordered: dict[tuple[str, ...], tuple[int, list[str]]] = {}  # sorted ids of recent queries
        self._undo: list[Callable[[], None]] | None = None

    def next_version(self) -> int:
        """The next number of the one sequence that all tables share."""
        self.version += 1
        return self.version

    def keep_order(self, name: tuple[str, ...], ids: list[str]) -> None:
        """Keep the outcome of a sorted query for its next page; it holds until the next write."""
        self.ordered.pop(name, None)
        self.ordered[name] = (self.version, ids)
        while len(self.ordered) > KEPT_ORDERS:
            self.ordered.pop(next(iter(self.ordered)))

    def row(self, table: str, row_id: str | None) -> Row | None:
        """A row, or None."""
        return self.tables[table].rows.get(row_id) if row_id and table in self.tables else None

    def put(self, table: str, row_id: str, row: Row) -> None:
        """Insert or replace a row under the next version."""
        data = self.tables[table]
        version = row["versionnumber"] = self.next_version()
        moment = row.get("modifiedon")
        if moment is not None and (not self.moments or moment > self.moments.peekitem()[0]):
            self.moments[moment] = version
        self._remember(data, row_id)
        data.mark_deleted(row_id, None)
        data.place(row_id, row)
        self.rows_written += 1

    def remove(self, table: str, row_id: str) -> None:
        """Delete a row; change tracking will tell."""
        data = self.tables[table]
        self._remember(data, row_id)
        data.place(row_id, None)
        data.mark_deleted(row_id, self.next_version())
        self.rows_written += 1

    def modified_since(self, table: str, moment: str) -> set[str] | None:
        """Rows among which are all that were modified then or later; None = that would be most of the table.

        A row's version is never older than its modifiedon, so the first version of that moment bounds them.
        """
        position = self.moments.bisect_left(moment)
        if position == len(self.moments):
            return set()
        data = self.tables[table]
        first = self.moments.peekitem(position)[1]
        start = data.changed.bisect_left(first)
        if len(data.changed) - start > len(data.changed) // 2:
            return None
        return {data.changed[version] for version in data.changed.irange(first)}

    def _remember(self, data: TableData, row_id: str) -> None:
        if self._undo is None:
            return
        old, deleted = data.rows.get(row_id), data.deleted_version.get(row_id)

        def undo() -> None:
            data.place(row_id, old)
            data.mark_deleted(row_id, deleted)

        self._undo.append(undo)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside happen, or none of them."""
        outer = self._undo is None
        undo = self._undo = self._undo if self._undo is not None else []
        mark = len(undo)
        try:
            yield
        except BaseException:
            while len(undo) > mark:
                undo.pop()()
            raise
        finally:
            if outer:
                self._undo = None
