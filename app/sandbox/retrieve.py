"""GET of rows: one, a page of many, a count, a single property."""

from itertools import islice
from typing import Any

from app.sandbox import aggregate, paging, projection, query, shape, tracking
from app.sandbox.addresses import Context
from app.sandbox.errors import DataverseError, query_error
from app.sandbox.messages import MAXIMUM_PAGE, STREAMED, ApiRequest, ApiResponse, Preferences, applied
from app.sandbox.metadata import Single, Table
from app.sandbox.organization import is_guid
from app.sandbox.projection import Projection
from app.sandbox.query import Query

MAXIMUM_COUNT = 5000
TOTAL = "Microsoft.Dynamics.CRM.totalrecordcount"
TOTAL_EXCEEDED = "Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"


def one(context: Context, table: Table, row_id: str, request: ApiRequest) -> ApiResponse:
    """One row; 304 when If-None-Match names its version."""
    organization = context.organization
    organization.require(context.user, "Read", table.name)
    row = organization.rows(table.name)[row_id]
    prepared = shape.prepare_projection(context, table, shape.options_of(request), request.prefer)
    tag = projection.etag(row)
    plain = not prepared.expands and not request.prefer.annotations
    if plain and request.condition("if-none-match") == tag:
        return ApiResponse(304, headers={"ETag": tag})
    organization.storage.rows_read += 1
    content = {"@odata.context": shape.context_of(context, table, prepared, "/$entity")}
    return applied(request, ApiResponse(200, content | shape.shown(context, prepared, row), {"ETag": tag}))


def collection(
    context: Context, table: Table, request: ApiRequest, within: set[str] | None = None
) -> ApiResponse:
    """A page of rows.

    Args:
        context: who asks.
        table: the table of the rows.
        request: with its query options.
        within: only these ids, for a collection behind a row.
    """
    context.organization.require(context.user, "Read", table.name)
    if request.prefer.track_changes or "$deltatoken" in request.options:
        return tracking.page(context, table, request)
    options = shape.options_of(request)
    if "$apply" in options:
        return ApiResponse(200, aggregate.answer(context, table, options), content_type=STREAMED)
    prepared = shape.prepare_projection(context, table, options, request.prefer)
    wanted = query.prepare(context, table, options)
    if within is not None:
        wanted.candidates = lambda: within
        wanted.text = (f"{wanted.text[0]} within {request.path}", wanted.text[1])
    content: dict[str, Any] = {"@odata.context": shape.context_of(context, table, prepared)}
    content |= _counted(wanted, options, request.prefer)
    content["value"], link = _page(context, prepared, wanted, options, request)
    if link:
        content["@odata.nextLink"] = link
    return applied(request, ApiResponse(200, content, content_type=STREAMED))


def _counted(wanted: Query, options: dict[str, str], prefer: Preferences) -> dict[str, Any]:
    asked = options.get("$count", "").lower() == "true"
    found = wanted.count(MAXIMUM_COUNT + 1) if asked else -1
    content: dict[str, Any] = {"@odata.count": min(found, MAXIMUM_COUNT)} if asked else {}
    if prefer.annotated(TOTAL):
        content[f"@{TOTAL}"] = min(found, MAXIMUM_COUNT)
    if prefer.annotated(TOTAL_EXCEEDED):
        content[f"@{TOTAL_EXCEEDED}"] = found > MAXIMUM_COUNT
    return content


def _page(
    context: Context, prepared: Projection, wanted: Query, options: dict[str, str], request: ApiRequest
) -> tuple[list[dict[str, Any]], str | None]:
    size = request.prefer.page_size
    top = shape.number(options, "$top") if size is None else None  # the page size wins over $top
    limit = min(top if top is not None else size or MAXIMUM_PAGE, MAXIMUM_PAGE)
    token = request.options.get("$skiptoken")
    place = paging.read_skip_token(wanted, token) if token else paging.Place()
    skip = limit * (place.page - 1) if place.after is None else 0
    if skip + limit > paging.SIMPLE_PAGING_LIMIT:
        raise query_error("Paging by page number ends at 50,000 rows: order by columns of the table itself.")
    rows = [row for _, row in islice(wanted.rows(place.after), skip, skip + limit + 1)]
    more, rows = len(rows) > limit, rows[:limit]
    context.organization.storage.rows_read += len(rows)
    link = None
    if more and top is None and rows:
        link = shape.next_link(context, request, paging.skip_token(wanted, place.page + 1, rows[0], rows[-1]))
    return [shape.shown(context, prepared, row) for row in rows], link


def count(context: Context, table: Table, request: ApiRequest, within: set[str] | None = None) -> ApiResponse:
    """`/$count`: a number as text, behind a byte order mark, at most 5000; changes with `$deltatoken`."""
    context.organization.require(context.user, "Read", table.name)
    if "$deltatoken" in request.options:
        found = tracking.count(context, table, request)
    else:
        wanted = query.prepare(context, table, shape.options_of(request))
        if within is not None:
            wanted.candidates = lambda: within
        found = wanted.count(MAXIMUM_COUNT)
    return ApiResponse(200, f"\ufeff{found}", content_type="text/plain")


def single_property(context: Context, table: Table, row_id: str, name: str, raw: bool) -> ApiResponse:
    """`accounts(<id>)/name`; 204 when it is null."""
    context.organization.require(context.user, "Read", table.name)
    attribute = projection.declared(table, name)
    value = context.organization.rows(table.name)[row_id].get(attribute.name)
    if value is None:
        return ApiResponse(204)
    if raw:
        return ApiResponse(200, str(value), content_type="text/plain")
    where = f"{context.api}/$metadata#{table.set_name}({row_id})/{name}"
    return ApiResponse(200, {"@odata.context": where, "value": value})


def within_of(context: Context, table: Table, row_id: str, name: str) -> tuple[Table, set[str]]:
    """The table and the ids behind a collection-valued navigation property."""
    many = table.collections[name]
    target = context.organization.metadata.tables[many.table]
    return target, set(query.related_ids(context, table, name, row_id))


def behind(context: Context, table: Table, row_id: str, single: Single) -> tuple[Table, str] | None:
    """The row that a single-valued navigation property leads to, None if it leads nowhere."""
    lookup = table.attributes[single.attribute]
    row = context.organization.rows(table.name)[row_id]
    kind = projection.target_of(lookup, row)
    if single.target not in ("principal", kind) or not is_guid(row.get(lookup.name) or ""):
        return None
    target = context.organization.metadata.tables[kind]
    return (target, row[lookup.name]) if row[lookup.name] in context.organization.rows(kind) else None


def related(
    context: Context, table: Table, row_id: str, name: str, request: ApiRequest, rest: list[str]
) -> ApiResponse:
    """What is behind a navigation property: a row, a collection, its count, or references (`$ref`)."""
    if name in table.collections:
        target, ids = within_of(context, table, row_id, name)
        if rest == ["$count"]:
            return count(context, target, request, ids)
        if rest == ["$ref"]:
            links = [{"@odata.id": f"{context.api}/{target.set_name}({i})"} for i in sorted(ids)]
            where = f"{context.api}/$metadata#Collection($ref)"
            return ApiResponse(200, {"@odata.context": where, "value": links})
        return collection(context, target, request, ids)
    found = behind(context, table, row_id, table.singles[name])
    if found is None:
        return ApiResponse(204)
    target, target_id = found
    if rest == ["$ref"]:
        content = {
            "@odata.context": f"{context.api}/$metadata#$ref",
            "@odata.id": f"{context.api}/{target.set_name}({target_id})",
        }
        return ApiResponse(200, content)
    if rest:
        raise DataverseError(404, "0x8006088a", f"Resource not found for the segment '{rest[0]}'.")
    return one(context, target, target_id, request)
