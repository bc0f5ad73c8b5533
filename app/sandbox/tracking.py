"""Change tracking: a first full read that ends in a delta link, and what changed since."""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from app.sandbox import paging, query, shape
from app.sandbox.addresses import Context
from app.sandbox.errors import DataverseError, query_error
from app.sandbox.messages import MAXIMUM_PAGE, STREAMED, ApiRequest, ApiResponse, applied
from app.sandbox.metadata import Table
from app.sandbox.storage import Row, TableData

REFUSED = ("$filter", "$orderby", "$expand", "$top")
TIME = "%m/%d/%Y %H:%M:%S"


def page(context: Context, table: Table, request: ApiRequest) -> ApiResponse:
    """One page of a tracked read or of the changes since a delta token.

    Raises:
        DataverseError: 400, when the table is not tracked, the query is more than a list of columns, or the token
            has expired (0x80044352: read everything again).
    """
    if not table.change_tracking:
        raise query_error(f"Change tracking is not enabled for table '{table.name}'.")
    for name in REFUSED:
        if name in request.options:
            raise query_error(
                f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
            )
    prepared = shape.prepare_projection(context, table, shape.options_of(request), request.prefer)
    size = request.prefer.page_size or MAXIMUM_PAGE
    start = request.options.get("$deltatoken")
    suffix = "/$delta" if start else ""
    content: dict[str, Any] = {"@odata.context": shape.context_of(context, table, prepared, suffix)}
    if start:
        entries, next_token, end = _changes(context, table, request, start, size)
    else:
        entries, next_token, end = _first_read(context, table, request, size)
    context.organization.storage.rows_read += len(entries)
    if next_token:
        content["@odata.nextLink"] = shape.next_link(context, request, next_token)
    else:
        content["@odata.deltaLink"] = _delta_link(context, request, end)
    content["value"] = [
        shape.shown(context, prepared, entry) if isinstance(entry, dict) else _deleted(context, table, entry)
        for entry in entries
    ]
    return applied(request, ApiResponse(200, content, content_type=STREAMED))


def _deleted(context: Context, table: Table, row_id: str) -> dict[str, Any]:
    where = f"{context.api}/$metadata#{table.set_name}/$deletedEntity"
    return {"@odata.context": where, "id": row_id, "reason": "deleted"}


def _token(context: Context, version: int) -> str:
    moment = context.organization.settings.clock().astimezone(dt.UTC)
    return f"{version}!{moment.strftime(TIME)}"


def _first_read(
    context: Context, table: Table, request: ApiRequest, size: int
) -> tuple[list[Row | str], str, str]:
    """All rows by key. The token is taken before the first page: what changes meanwhile comes with the delta."""
    wanted = query.Query(context, table)
    token = request.options.get("$skiptoken")
    place = paging.read_skip_token(wanted, token) if token else paging.Place()
    end = place.token or _token(context, context.organization.storage.version)
    rows: list[Row | str] = []
    for _, row in wanted.rows(place.after):
        if len(rows) == size:
            first, last = rows[0], rows[-1]
            assert isinstance(first, dict) and isinstance(last, dict)  # noqa: PT018, S101  # for the checker
            return rows, paging.skip_token(wanted, place.page + 1, first, last, end), end
        rows.append(row)
    return rows, "", end


def _changes(
    context: Context, table: Table, request: ApiRequest, start: str, size: int
) -> tuple[list[Row | str], str, str]:
    """Changed rows by version, then deleted ones, up to the version at which this delta was first asked for."""
    since = _since(context, table, start)
    token = request.options.get("$skiptoken", "")
    number, phase, reached, end = _read_position(token) if token else (1, "changed", since, "")
    end = end or _token(context, context.organization.storage.version)
    data = context.organization.data(table.name)
    entries: list[Row | str] = []
    until = int(end.partition("!")[0])
    for kind, version, entry in _entries(data, phase, since, reached, until):
        if len(entries) == size:
            return entries, _position(number + 1, phase, reached, end), end
        phase, reached = kind, version
        entries.append(entry)
    return entries, "", end


def _entries(
    data: TableData, phase: str, since: int, reached: int, until: int
) -> Iterator[tuple[str, int, Row | str]]:
    if phase == "changed":
        for version in data.changed.irange(reached, until, inclusive=(False, True)):
            yield "changed", version, data.rows[data.changed[version]]
        reached = since
    for version in data.deleted.irange(reached, until, inclusive=(False, True)):
        yield "deleted", version, data.deleted[version]


def _position(number: int, phase: str, version: int, end: str) -> str:
    text = (
        f'<cookie pagenumber="{number}" position="{phase}:{version}" deltatoken="{end}" istracking="True" />'
    )
    return paging.encode(text)


def _read_position(token: str) -> tuple[int, str, int, str]:
    match = re.search(r'pagenumber="(\d+)" position="(\w+):(\d+)" deltatoken="([^"]+)"', unquote(token))
    if match is None:
        raise query_error("Malformed $skiptoken: use the @odata.nextLink as it was given.")
    return int(match[1]), match[2], int(match[3]), match[4]


def _since(context: Context, table: Table, token: str) -> int:
    version, _, moment = token.partition("!")
    try:
        given = dt.datetime.strptime(moment, TIME).replace(tzinfo=dt.UTC)
        number = int(version)
    except ValueError as error:
        raise query_error("Malformed $deltatoken: use the @odata.deltaLink as it was given.") from error
    organization = context.organization
    row = organization.rows("organization")[organization.id]
    days = row.get("expirechangetrackingindays") or organization.settings.tracking_days
    now = organization.settings.clock().astimezone(dt.UTC).replace(microsecond=0)  # as the token has it
    too_old = now - given > dt.timedelta(days=days)
    schema_version = organization.data(table.name).schema_version
    if too_old or number < organization.tokens_valid_from or number < schema_version:
        raise DataverseError(
            400,
            "0x80044352",
            "Version stamp associated with the client has expired. Please perform a full sync.",
        )
    return number


def _delta_link(context: Context, request: ApiRequest, token: str) -> str:
    dropped = ("$deltatoken=", "$skiptoken=", "%24deltatoken=", "%24skiptoken=")
    parts = [p for p in request.query.split("&") if p and not p.lower().startswith(dropped)]
    encoded = quote(token, safe="").replace("%2F", "%2f").replace("%3A", "%3a")
    return (
        f"{context.api}/{quote(request.path, safe=shape.SAFE)}?{'&'.join([*parts, f'$deltatoken={encoded}'])}"
    )


def count(context: Context, table: Table, request: ApiRequest) -> int:
    """How many changes there are since a delta token."""
    since = _since(context, table, request.options["$deltatoken"])
    data = context.organization.data(table.name)
    until = context.organization.storage.version
    return sum(1 for _ in _entries(data, "changed", since, since, until))
