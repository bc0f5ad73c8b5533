"""From an address and a method to what is done."""

from app.filters import FilterError
from app.sandbox import (
    addresses,
    batch,
    bulk,
    csdl,
    definitions,
    fetchxml,
    functions,
    payload,
    retrieve,
    writes,
)
from app.sandbox.addresses import Context, RowKey, Segment
from app.sandbox.errors import DataverseError, query_error, unknown_segment
from app.sandbox.messages import ApiRequest, ApiResponse, to_json
from app.sandbox.metadata import Table

NAMESPACE = "Microsoft.Dynamics.CRM."
MAXIMUM_URL = 32_768
MAXIMUM_URL_IN_BATCH = 65_536


def handle(context: Context, request: ApiRequest) -> ApiResponse:
    """Answer one request below the service root.

    Raises:
        DataverseError: the request is refused.
    """
    try:
        return _handle(context, request)
    except FilterError as error:  # some filters show only with the first row that they make no sense
        raise query_error(error.message) from error


def _handle(context: Context, request: ApiRequest) -> ApiResponse:
    limit = MAXIMUM_URL_IN_BATCH if context.in_batch else MAXIMUM_URL
    if len(request.path) + len(request.query) > limit:
        raise query_error(f"The length of the URL exceeds {limit} characters.", 414)
    _impersonate(context, request)
    _bypass(context, request)
    # The header suppresses, so false switches detection on.
    suppressed = request.headers.get("mscrm.suppressduplicatedetection", "true")
    context.detect_duplicates = suppressed.lower() == "false"
    if not request.path.strip("/"):
        return csdl.service_document(context)
    parts = addresses.segments(request.path)
    head = parts[0]
    if head.name == "$metadata":
        return csdl.answer(context, request)
    if head.name == "$batch" and request.method == "POST":
        return batch.handle(context, request, handle)
    if head.name in definitions.ROOTS:
        return definitions.handle(context, parts, request)
    if head.name in context.organization.metadata.sets:
        return _entity_set(context, context.organization.metadata.sets[head.name], parts, request)
    return functions.unbound(context, head, request)


def _impersonate(context: Context, request: ApiRequest) -> None:
    organization = context.organization
    caller = request.headers.get("mscrmcallerid")
    object_id = request.headers.get("callerobjectid")
    if caller and object_id:
        raise query_error("Send MSCRMCallerID or CallerObjectId, not both.")
    if not caller and not object_id:
        return
    organization.require(context.user, "ActOnBehalfOfAnotherUser", "")
    if object_id:
        found = organization.data("systemuser").ids("azureactivedirectoryobjectid", object_id)
        caller = next(iter(found), "")
    context.behind, context.user = context.user, organization.active_user((caller or "").lower())


def _bypass(context: Context, request: ApiRequest) -> None:
    if request.headers.get("mscrm.bypasscustompluginexecution", "").lower() == "true":
        context.organization.require(context.user, "BypassCustomPlugins", "")
    if request.headers.get("mscrm.bypassbusinesslogicexecution"):
        context.organization.require(context.user, "BypassCustomBusinessLogic", "")


def _entity_set(context: Context, table: Table, parts: list[Segment], request: ApiRequest) -> ApiResponse:
    head, *rest = parts
    if head.key is None:
        return _whole_set(context, table, rest, request)
    key = addresses.parse_key(table, head.key)
    if not rest:
        return _row(context, table, key, request)
    row_id = addresses.require(context.organization, table, key)
    return _below_row(context, table, row_id, rest, request)


def _whole_set(context: Context, table: Table, rest: list[Segment], request: ApiRequest) -> ApiResponse:
    if rest and rest[0].name == "$count":
        return retrieve.count(context, table, request)
    if rest and rest[0].name.startswith(NAMESPACE):
        name = rest[0].name.removeprefix(NAMESPACE)
        if request.method == "POST" and name.endswith("Multiple"):
            return bulk.handle(context, table, name, request)
        raise unknown_segment(rest[0].name)
    if rest:
        raise unknown_segment(rest[0].name)
    match request.method:
        case "GET" if "fetchXml" in request.options:
            return fetchxml.answer(context, table, request)
        case "GET":
            return retrieve.collection(context, table, request)
        case "POST":
            return writes.post(context, table, request)
    raise _not_allowed(request)


def _not_allowed(request: ApiRequest) -> DataverseError:
    return DataverseError(
        405,
        "0x80060888",
        f"The requested resource does not support http method '{request.method}'.",
    )


def _row(context: Context, table: Table, key: RowKey, request: ApiRequest) -> ApiResponse:
    match request.method:
        case "GET":
            row_id = addresses.require(context.organization, table, key)
            return retrieve.one(context, table, row_id, request)
        case "PATCH" | "PUT":
            return writes.patch(context, table, key, request)
        case "DELETE":
            return writes.delete(context, table, key, request)
    raise _not_allowed(request)


def _below_row(
    context: Context, table: Table, row_id: str, rest: list[Segment], request: ApiRequest
) -> ApiResponse:
    name, key = rest[0].name, rest[0].key
    tail = [segment.name for segment in rest[1:]]
    if name.startswith(NAMESPACE):
        return functions.bound(context, table, row_id, name.removeprefix(NAMESPACE), request)
    if name in table.collections and key is not None and tail == ["$ref"] and request.method == "DELETE":
        target = context.organization.metadata.tables[table.collections[name].table]
        found = addresses.require(context.organization, target, addresses.parse_key(target, key))
        writes.remove_from(context, table, row_id, name, found)
        return ApiResponse(204)
    if name in table.singles or name in table.collections:
        return _navigation(context, table, row_id, name, tail, request)
    if name in table.properties:
        if request.method == "GET":
            return retrieve.single_property(context, table, row_id, name, tail == ["$value"])
        if request.method in ("PUT", "DELETE"):
            return writes.put_property(context, table, row_id, name, request)
        raise _not_allowed(request)
    raise unknown_segment(name)


def _navigation(
    context: Context, table: Table, row_id: str, name: str, tail: list[str], request: ApiRequest
) -> ApiResponse:
    if request.method == "GET":
        return retrieve.related(context, table, row_id, name, request, tail)
    if tail == ["$ref"]:
        return writes.reference(context, table, row_id, name, request)
    if request.method == "POST" and name in table.collections and not tail:
        return _post_related(context, table, row_id, name, request)
    raise _not_allowed(request)


def _post_related(context: Context, table: Table, row_id: str, name: str, request: ApiRequest) -> ApiResponse:
    """`POST accounts(<id>)/contact_customer_accounts`: a new row that belongs to this one."""
    many = table.collections[name]
    if many.intersect is not None:
        raise _not_allowed(request)
    target = context.organization.metadata.tables[many.table]
    navigation = target.attributes[many.attribute].navigations[table.name]
    body = payload.read_json(request.body)
    body[f"{navigation}{payload.BIND}"] = f"{table.set_name}({row_id})"
    inner = ApiRequest("POST", target.set_name, request.query, request.headers, to_json(body).encode())
    return writes.post(context, target, inner)
