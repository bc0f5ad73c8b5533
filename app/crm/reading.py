"""Reading sets of rows: by id, by the value of an attribute, page by page, or only how many."""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from app.crm import odata
from app.crm.client import DataverseClient
from app.crm.failures import QUERY_ERROR, error_of
from app.crm.filters import crm_filter, invalid_filter
from app.crm.metadata import CrmTable
from app.crm.rows import Columns, columns_of, list_path, pages, rest
from app.crm.wire import Answer, Request
from app.domain.errors import CrmRefused, PermissionMissing
from app.domain.records import Reference, Snapshot, Value
from app.ports import Listing

PAGE = 5000
COUNTED = 5000  # CRM stops counting there
QUERIES_A_BATCH = 10  # of up to 500 ids each; their rows are in memory together
LONGEST_PATH = 4000  # characters; proxies on the way take less than CRM does
SEARCHED = "emailaddress1"


async def require_entry(client: DataverseClient, keys: Mapping[str, str]) -> None:
    """Asks for one row of each of these entity sets, named with their keys; without any, who we are (which CRM
    tells a user without a role, too). See `ports.CrmSide`."""
    if not keys:
        await client.send(Request("GET", "WhoAmI"), "who we are")
        return
    rows = [Request("GET", odata.query(name, {"$select": key, "$top": "1"})) for name, key in keys.items()]
    refusals = []
    for answer, name in zip(await client.batch(rows, "one row of each entity"), keys, strict=True):
        if answer.ok:
            return
        refusals.append(error_of(answer, name))
    undecided = [error for error in refusals if not isinstance(error, PermissionMissing)]
    raise (undecided or refusals)[0]


async def by_ids(client: DataverseClient, columns: Columns, ids: Collection[UUID]) -> dict[UUID, Snapshot]:
    """The rows that exist among these ids: a thousand of them in one request."""
    key = columns.table.key
    filters = [odata.any_of(key, chunk) for chunk in odata.chunks([str(i) for i in dict.fromkeys(ids)])]
    rows = await _rows(client, columns, filters)
    found = (columns.snapshot(row) for row in rows)
    return {snapshot.id: snapshot for snapshot in found}


async def _rows(client: DataverseClient, columns: Columns, filters: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of several queries: a short one alone as it is, long or many ones as batches."""
    subject = columns.table.entity_set
    requests = [Request("GET", list_path(columns, filter=text), columns.paged(PAGE)) for text in filters]
    rows: list[dict[str, Any]] = []
    if len(requests) == 1 and len(requests[0].path) <= LONGEST_PATH:
        return await rest(client, await client.send(requests[0], subject), columns.paged(PAGE), subject)
    for start in range(0, len(requests), QUERIES_A_BATCH):
        some = requests[start : start + QUERIES_A_BATCH]
        for answer in await client.batch(some, subject):
            if not answer.ok:
                raise error_of(answer, subject)
            rows += await rest(client, answer, columns.paged(PAGE), subject)
    return rows


async def by_values(
    client: DataverseClient, table: CrmTable, field: str, values: Collection[str], fields: Collection[str]
) -> dict[str, list[Snapshot]]:
    """The rows whose attribute has one of these values, by value as given. CRM compares, without case."""
    columns = columns_of(table, dict.fromkeys([field, *fields]))
    wanted = [value for value in dict.fromkeys(values) if value]
    filters = [odata.any_of(field, chunk) for chunk in odata.chunks(wanted)]
    found: dict[str, list[Snapshot]] = {}
    givers = _Givers(wanted)
    for row in await _rows(client, columns, filters):
        snapshot = columns.snapshot(row)
        for value in givers.of(_text(snapshot.values.get(field))):
            found.setdefault(value, []).append(snapshot)
    return found


class _Givers:
    """Which of the given values a found one answers: exactly, or as a database collation would compare."""

    def __init__(self, values: Collection[str]) -> None:
        self._exact: dict[str, list[str]] = {}
        self._loose: dict[str, list[str]] = {}
        for value in values:
            self._exact.setdefault(_folded(value), []).append(value)
            self._loose.setdefault(_bare(value), []).append(value)

    def of(self, found: str) -> list[str]:
        """The given values that mean this one."""
        return self._exact.get(_folded(found)) or self._loose.get(_bare(found), [])


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.rstrip().casefold())


def _bare(text: str) -> str:
    """Without case, accents and blanks at the end."""
    decomposed = unicodedata.normalize("NFKD", text.rstrip().casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _text(value: Value) -> str:
    return str(value.id if isinstance(value, Reference) else value)


async def listing(
    client: DataverseClient,
    table: CrmTable,
    fields: Collection[str] | None,
    *,
    filter: str | None,
    search: str | None,
    limit: int,
    cursor: str | None,
) -> Listing:
    """A page of rows in the order of their ids."""
    columns = columns_of(table, fields)
    conditions = [f"({crm_filter(table, filter)})"] if filter and filter.strip() else []
    if search and search.strip():
        conditions.append(_search(table, search.strip()))
    path = list_path(columns, filter=" and ".join(conditions) or None, orderby=f"{table.key} asc")
    if cursor is not None:
        try:
            path = odata.with_cursor(path, cursor)
        except ValueError as error:
            raise invalid_filter(str(error), "Start without a cursor.", "cursor") from error
    request = Request("GET", path, columns.paged(limit))
    answer = await client.ask(request, table.entity_set)
    if not answer.ok:
        raise _bad_query(error_of(answer, table.entity_set), bool(conditions or cursor))
    page = answer.json()
    records = [columns.snapshot(row) for row in page["value"]]
    return Listing(records, odata.cursor_of(page.get("@odata.nextLink")))


def _bad_query(error: Exception, asked: bool) -> Exception:
    """CRM's word against a filter is the filter's fault, as far as we could see it is well-formed."""
    if asked and isinstance(error, CrmRefused) and error.extra.get("crm_code") in (QUERY_ERROR, "0x0", ""):
        return invalid_filter(str(error.extra.get("crm_message") or error.detail))
    return error


def _search(table: CrmTable, text: str) -> str:
    names = [table.definition.name_field, SEARCHED if table.field(SEARCHED) else None]
    searched = [name for name in names if name]
    if not searched:
        raise invalid_filter(f"{table.name} has no name to search in.", parameter="search")
    return f"({' or '.join(odata.contains(name, text) for name in searched)})"


async def count(client: DataverseClient, table: CrmTable, filter: str) -> int:
    """How many rows pass the filter."""
    condition = crm_filter(table, filter) if filter.strip() else None
    answer = await client.ask(_counting(table, condition), table.entity_set)
    return await _counted(client, table, condition, answer)


async def counts(client: DataverseClient, queries: Sequence[tuple[CrmTable, str]]) -> list[int]:
    """How many rows of each entity pass its filter, asked in one batch."""
    asked = [(table, crm_filter(table, filter) if filter.strip() else None) for table, filter in queries]
    if not asked:
        return []
    answers = await client.batch([_counting(table, condition) for table, condition in asked], "the counts")
    return [
        await _counted(client, table, condition, answer)
        for (table, condition), answer in zip(asked, answers, strict=True)
    ]


def _counting(table: CrmTable, condition: str | None) -> Request:
    options = {"$select": table.key, "$filter": condition, "$count": "true", "$top": "1"}
    return Request("GET", odata.query(table.entity_set, options))


async def _counted(client: DataverseClient, table: CrmTable, condition: str | None, answer: Answer) -> int:
    """The number in an answer. CRM counts up to 5000; more are counted by their ids, page by page."""
    if not answer.ok:
        raise _bad_query(error_of(answer, table.entity_set), condition is not None)
    counted = int(answer.json().get("@odata.count", COUNTED))
    if counted < COUNTED:
        return counted
    path = odata.query(
        table.entity_set, {"$select": table.key, "$filter": condition, "$orderby": f"{table.key} asc"}
    )
    headers: Mapping[str, str] = columns_of(table, ()).paged(PAGE)
    total = 0
    async for page in pages(client, path, headers, table.entity_set):
        total += len(page["value"])
    return total
