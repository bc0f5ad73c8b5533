"""What changed since the last look.

Entities that track changes answer with delta links: changed and deleted rows, exactly. The others are asked for what
was modified since, with an overlap, because `modifiedon` has whole seconds and transactions take a while to show;
they cannot tell what was deleted.

A watermark is our own text around what CRM said: `delta:<columns>:<link>` or `modified:<moment>`.
"""

import hashlib
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.crm import odata
from app.crm.client import DataverseClient
from app.crm.failures import error_of, http_date
from app.crm.metadata import CrmTable
from app.crm.rows import MODIFIED, NEXT, Columns, list_path, pages
from app.crm.wire import Answer, Request
from app.domain.errors import WatermarkExpired
from app.domain.records import Snapshot
from app.ports import Page

DELTA, BY_TIME = "delta", "modified"
DELTA_LINK = "@odata.deltaLink"
OVERLAP = timedelta(seconds=30)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
TRACK = "odata.track-changes"


def changes(
    client: DataverseClient, columns: Columns, since: str | None, page_size: int
) -> AsyncIterator[Page]:
    """Page by page what changed since the watermark, or everything. Raises WatermarkExpired."""
    if not columns.table.definition.tracks_changes:
        return _by_time(client, columns, since, page_size)
    if since is None:
        return _first_read(client, columns, page_size)
    return _delta(client, columns, _delta_link(columns, since), page_size)


async def changed(client: DataverseClient, places: Collection[tuple[CrmTable, str]]) -> set[tuple[str, str]]:
    """The names and watermarks of the entities in which there is something after the watermark, in one request.

    CRM is asked for the first change of each. One whose question is refused is left out unless CRM no longer
    knows the watermark: the next run tells what is wrong. Raises what holds for the whole request.
    """
    asked = [
        ((table.name, watermark), path)
        for table, watermark in places
        if (path := _first_change(table, watermark)) is not None
    ]
    if not asked:
        return set()
    headers = {"Prefer": "odata.maxpagesize=1"}
    answers = await client.batch([Request("GET", path, headers) for _, path in asked], "the changes")
    return {place for (place, _), answer in zip(asked, answers, strict=True) if _holds_a_change(answer)}


def _first_change(table: CrmTable, watermark: str) -> str | None:
    """The address of what comes first after the watermark. By time without the overlap of a run: what we
    wrote ourselves would be found again for as long as that lasts."""
    kind, _, rest = watermark.partition(":")
    if kind == DELTA:
        return rest.partition(":")[2]
    if kind != BY_TIME or table.field(MODIFIED) is None:
        return None
    moment = odata.moment(datetime.fromisoformat(rest))
    return odata.query(
        table.entity_set,
        {"$select": table.key, "$filter": f"{MODIFIED} ge {moment}", "$top": "1"},
    )


def _holds_a_change(answer: Answer) -> bool:
    if answer.ok:
        page = answer.json()
        return bool(page["value"]) or NEXT in page
    return isinstance(error_of(answer), WatermarkExpired)


# --- change tracking ------------------------------------------------------------------------------


def _delta_link(columns: Columns, watermark: str) -> str:
    kind, _, rest = watermark.partition(":")
    stamp, _, link = rest.partition(":")
    if kind != DELTA or stamp != _stamp(columns):
        raise WatermarkExpired(
            f"The changes of {columns.table.name} have been followed in another way or with other columns "
            "than now: they are read anew."
        )
    return link


def _stamp(columns: Columns) -> str:
    """Which columns a delta link belongs to: a link serves no others."""
    names = ",".join(sorted((columns.select or "").split(",")))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


async def _delta(client: DataverseClient, columns: Columns, link: str, page_size: int) -> AsyncIterator[Page]:
    headers = {"Prefer": f"odata.maxpagesize={page_size}"}
    async for page in pages(client, link, headers, f"the changes of {columns.table.entity_set}"):
        deleted = [UUID(entry["id"]) for entry in page["value"] if "reason" in entry]
        page["value"] = [entry for entry in page["value"] if "reason" not in entry]
        yield Page(_shown(columns, page), deleted, _watermark(columns, page), more=NEXT in page)


def _watermark(columns: Columns, page: dict[str, Any]) -> str | None:
    """Only the last page has a link to continue from."""
    link = page.get(DELTA_LINK)
    return f"{DELTA}:{_stamp(columns)}:{link}" if link else None


async def _first_read(client: DataverseClient, columns: Columns, page_size: int) -> AsyncIterator[Page]:
    """Everything, once; then what changed meanwhile. Only the last page can be continued from.

    It is not documented whether a token stands for the start or the end of the read that gives it, so what was
    modified after the start is asked for again. What is newer than the token comes with the next delta.
    """
    name = columns.table.entity_set
    # No annotations on tracked queries: the last page may then lack its delta link (8.2).
    headers = {"Prefer": f"{TRACK},odata.maxpagesize={page_size}"}
    started: datetime | None = None
    path: str | None = list_path(columns)
    first = True
    while path is not None:
        answer = await client.send(Request("GET", path, headers), name)
        page = answer.json()
        started = started or _said_at(answer)
        del answer  # its text is as large as the page
        path = page.get(NEXT)
        whole = first and path is None  # its rows and its token are of one moment
        first = False
        yield Page(_shown(columns, page), (), _watermark(columns, page) if whole else None)
    link = page.get(DELTA_LINK)
    if not link:
        raise WatermarkExpired(f"CRM gave no delta link for {name}.")
    if whole:
        return
    if started is None or columns.table.field(MODIFIED) is None:
        meanwhile = _delta(client, columns, link, page_size)
    else:
        meanwhile = _modified_since(client, columns, started - OVERLAP, page_size, _watermark(columns, page))
    async for caught_up in meanwhile:
        yield caught_up


def _shown(columns: Columns, page: dict[str, Any]) -> list[Snapshot]:
    """The records of a page. Each takes the place of its row: of what a run holds, both together would be a good
    part."""
    shown: list[Any] = page.pop("value")
    for place, row in enumerate(shown):
        shown[place] = columns.snapshot(row)
    return shown


async def _modified_since(
    client: DataverseClient, columns: Columns, moment: datetime, page_size: int, watermark: str | None
) -> AsyncIterator[Page]:
    """What was modified since then; the last page is given the watermark."""
    path = _modified_path(columns, moment)
    headers = {"Prefer": f"odata.maxpagesize={page_size}"}
    async for page in pages(client, path, headers, columns.table.entity_set):
        yield Page(_shown(columns, page), (), None if NEXT in page else watermark)


# --- by time --------------------------------------------------------------------------------------


async def _by_time(
    client: DataverseClient, columns: Columns, since: str | None, page_size: int
) -> AsyncIterator[Page]:
    start = _moment(columns, since) if since is not None else None
    if columns.table.field(MODIFIED) is None:
        path = list_path(columns, orderby=f"{columns.table.key} asc")
    else:
        path = _modified_path(columns, None if start is None else start - OVERLAP)
    started: datetime | None = None
    reached = start
    link: str | None = path
    while link is not None:
        answer = await client.send(
            Request("GET", link, columns.paged(page_size)), f"the changes of {columns.table.entity_set}"
        )
        page = answer.json()
        started = started or _said_at(answer)
        records = _shown(columns, page)
        reached = _latest(reached, records)
        link = page.get(NEXT)
        if link is None and started is not None:
            # All that was modified before we asked has been read: next time that need not come again.
            reached = max(started, reached or started)
        yield Page(records, (), f"{BY_TIME}:{odata.moment(reached or BEGINNING)}")


def _latest(reached: datetime | None, records: list[Snapshot]) -> datetime | None:
    moments = [record.modified_at for record in records if record.modified_at is not None]
    return max([*moments, *([reached] if reached else [])], default=None)


def _moment(columns: Columns, watermark: str) -> datetime:
    kind, _, text = watermark.partition(":")
    if kind != BY_TIME:
        raise WatermarkExpired(
            f"{columns.table.name} no longer tracks changes: it is read anew and followed by time."
        )
    return datetime.fromisoformat(text)


def _modified_path(columns: Columns, since: datetime | None) -> str:
    return list_path(
        columns,
        filter=None if since is None else f"{MODIFIED} ge {odata.moment(since)}",
        orderby=f"{MODIFIED} asc,{columns.table.key} asc",
    )


def _said_at(answer: Answer) -> datetime | None:
    """CRM's own time of an answer; its clock wrote the rows too."""
    return http_date(answer.headers.get("date", ""))
