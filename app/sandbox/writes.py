"""POST, PATCH, PUT and DELETE of rows, their properties and their references."""

from typing import Any

from app.sandbox import addresses, payload, projection, retrieve, rows, shape
from app.sandbox.addresses import Context, RowKey
from app.sandbox.errors import (
    DataverseError,
    duplicate_key,
    key_not_found,
    not_found,
    payload_error,
    query_error,
    version_mismatch,
)
from app.sandbox.messages import ApiRequest, ApiResponse, applied
from app.sandbox.metadata import LOOKUPS, Many, Table
from app.sandbox.storage import Row


def address(context: Context, table: Table, row_id: str) -> str:
    """The URL of a row."""
    return f"{context.api}/{table.set_name}({row_id})"


def post(context: Context, table: Table, request: ApiRequest) -> ApiResponse:
    """Create a row; rows nested in its collections are created with it."""
    body = payload.read_json(request.body)
    with context.organization.storage.transaction():
        row_id = create_nested(context, table, body)
    if request.prefer.representation:
        return _representation(context, table, row_id, request, 201)
    return ApiResponse(204, headers=_entity_headers(address(context, table, row_id)))


def create_nested(context: Context, table: Table, body: dict[str, Any]) -> str:
    """Create a row and what its body nests: the row behind a lookup first, those of collections after it."""
    own = dict(body)
    tables = context.organization.metadata.tables
    children: list[tuple[Many, Any]] = []
    for name, value in body.items():
        single = table.singles.get(name)
        if (
            single is not None
            and single.target in tables
            and isinstance(value, dict)
            and "@odata.id" not in value
        ):
            target = tables[single.target]
            del own[name]
            own[f"{name}{payload.BIND}"] = f"{target.set_name}({create_nested(context, target, value)})"
        elif name in table.collections and isinstance(value, list):
            children += [(table.collections[name], child) for child in value]
            del own[name]
    row_id = rows.create(context, table, payload.columns(context, table, own))
    for many, child in children:
        _create_child(context, table, row_id, many, child)
    return row_id


def _create_child(context: Context, table: Table, row_id: str, many: Many, body: Any) -> None:
    if not isinstance(body, dict):
        raise payload_error(f"The collection '{many.name}' takes JSON objects.")
    target = context.organization.metadata.tables[many.table]
    if many.intersect is not None:
        associate(context, table, row_id, many, target, create_nested(context, target, body))
        return
    navigation = target.attributes[many.attribute].navigations[table.name]
    create_nested(context, target, body | {f"{navigation}{payload.BIND}": f"{table.set_name}({row_id})"})


def _entity_headers(url: str) -> dict[str, str]:
    return {"Location": url, "OData-EntityId": url}


def _representation(
    context: Context, table: Table, row_id: str, request: ApiRequest, status: int
) -> ApiResponse:
    options = {
        name: value for name, value in shape.options_of(request).items() if name != "$expand" or status == 201
    }
    prepared = shape.prepare_projection(context, table, options, request.prefer)
    row = context.organization.rows(table.name)[row_id]
    content = {"@odata.context": shape.context_of(context, table, prepared, "/$entity")}
    headers = {"ETag": projection.etag(row)}
    return applied(request, ApiResponse(status, content | shape.shown(context, prepared, row), headers))


def patch(context: Context, table: Table, key: RowKey, request: ApiRequest) -> ApiResponse:
    """Update a row, or create it: If-Match forbids the creation, If-None-Match: * the update."""
    match, none_match = request.condition("if-match"), request.condition("if-none-match")
    if match == "*" and none_match == "*":
        raise query_error("If-Match and If-None-Match cannot both be '*'.")
    row_id = addresses.find(context.organization, table, key)
    body = payload.read_json(request.body)
    if row_id is None:
        if match is not None:
            raise key_not_found(table.name) if key.id is None else not_found(table.name, key.id)
        return _create_by_key(context, table, key, body, request)
    if none_match == "*":
        raise duplicate_key()
    _require_version(context, table, row_id, match)
    changes = payload.columns(context, table, body)
    if key.alternate is not None:
        changes = {name: value for name, value in changes.items() if name not in key.alternate.attributes}
    rows.update(context, table, row_id, changes)
    if request.prefer.representation:
        return _representation(context, table, row_id, request, 200)
    return ApiResponse(204, headers=_entity_headers(_sent_address(context, table, key, row_id, request)))


def _create_by_key(
    context: Context, table: Table, key: RowKey, body: dict[str, Any], request: ApiRequest
) -> ApiResponse:
    row_id = upsert_missing(context, table, key, body)
    if request.prefer.representation:
        return _representation(context, table, row_id, request, 201)
    return ApiResponse(204, headers=_entity_headers(_sent_address(context, table, key, row_id, request)))


def upsert_missing(context: Context, table: Table, key: RowKey, body: dict[str, Any]) -> str:
    """Create the row that an upsert did not find; key values of the body win over those of the URL."""
    values = payload.columns(context, table, body)
    if key.id is not None:
        return rows.create(context, table, values | {table.key: key.id})
    return rows.create(context, table, key_columns(table, key) | values)


def key_columns(table: Table, key: RowKey) -> Row:
    """The columns that an alternate key sets on a new row."""
    found: Row = {}
    for name, value in key.values:
        found[name] = value
        attribute = table.attributes[name]
        if attribute.type in LOOKUPS and len(attribute.targets) > 1:
            found[f"{name}type"] = attribute.targets[0]
    return found


def _sent_address(context: Context, table: Table, key: RowKey, row_id: str, request: ApiRequest) -> str:
    """An upsert by alternate key echoes the address as it was sent."""
    return address(context, table, row_id) if key.id is not None else f"{context.api}/{request.path}"


def _require_version(context: Context, table: Table, row_id: str, match: str | None) -> None:
    if match not in (None, "*") and match != projection.etag(context.organization.rows(table.name)[row_id]):
        raise version_mismatch()


def delete(context: Context, table: Table, key: RowKey, request: ApiRequest) -> ApiResponse:
    """Delete a row."""
    row_id = addresses.require(context.organization, table, key)
    _require_version(context, table, row_id, request.condition("if-match"))
    rows.delete(context, table, row_id)
    return ApiResponse(204)


def put_property(context: Context, table: Table, row_id: str, name: str, request: ApiRequest) -> ApiResponse:
    """`PUT accounts(<id>)/name` with a value; DELETE empties it."""
    body = payload.read_json(request.body)
    if request.method == "PUT" and "value" not in body:
        raise payload_error('The body must be {"value": ...}.')
    value = body["value"] if request.method == "PUT" else None
    rows.update(context, table, row_id, payload.columns(context, table, {name: value}))
    return ApiResponse(204)


# -- references


def reference(context: Context, table: Table, row_id: str, name: str, request: ApiRequest) -> ApiResponse:
    """`$ref` below a navigation property: POST and PUT associate, DELETE takes apart.

    Raises:
        DataverseError: 405, when the method does not fit the property.
    """
    single, many = table.singles.get(name), table.collections.get(name)
    if request.method == "DELETE":
        return _disassociate(context, table, row_id, name, request)
    link = payload.read_json(request.body).get("@odata.id")
    if single is not None and request.method == "PUT":
        changes = payload.columns(context, table, {f"{name}{payload.BIND}": link})
        rows.update(context, table, row_id, changes)
        return ApiResponse(204)
    if many is not None and request.method == "POST":
        target, target_id = addresses.reference(context, link)
        if target.name != many.table:
            raise payload_error(f"'{name}' holds rows of '{many.table}', not of '{target.name}'.")
        associate(context, table, row_id, many, target, target_id)
        return ApiResponse(204)
    raise DataverseError(405, "0x80060888", f"{request.method} is not allowed on '{name}/$ref'.")


def associate(context: Context, table: Table, row_id: str, many: Many, target: Table, target_id: str) -> None:
    """Put a row into a collection of another.

    Raises:
        DataverseError: 412, when an N:N link is there already.
    """
    organization = context.organization
    if many.intersect is None:
        attribute = target.attributes[many.attribute]
        changes: Row = {many.attribute: row_id}
        if len(attribute.targets) > 1:
            changes[f"{many.attribute}type"] = table.name
        rows.update(context, target, target_id, changes)
        return
    links = organization.data(many.intersect)
    if any(links.rows[link][many.far] == target_id for link in links.ids(many.near, row_id)):
        raise duplicate_key()
    link_id = organization.new_id()
    row = {links.table.key: link_id, many.near: row_id, many.far: target_id}
    organization.storage.put(many.intersect, link_id, row)


def _disassociate(context: Context, table: Table, row_id: str, name: str, request: ApiRequest) -> ApiResponse:
    if name in table.singles:
        rows.update(context, table, row_id, payload.columns(context, table, {name: None}))
        return ApiResponse(204)
    many = table.collections[name]
    link = request.options.get("$id")
    if link is None:
        raise query_error(f"Name the row to take out of '{name}': {name}(<id>)/$ref or $ref?$id=<url>.")
    target, target_id = addresses.reference(context, link)
    remove_from(context, table, row_id, name, target_id)
    del many, target
    return ApiResponse(204)


def remove_from(context: Context, table: Table, row_id: str, name: str, target_id: str) -> None:
    """Take a row out of a collection of another.

    Raises:
        DataverseError: 404, when it is not in it.
    """
    many = table.collections[name]
    target, ids = retrieve.within_of(context, table, row_id, name)
    if target_id not in ids:
        raise not_found(target.name, target_id)
    organization = context.organization
    if many.intersect is not None:
        links = organization.data(many.intersect)
        for link in [i for i in links.ids(many.near, row_id) if links.rows[i][many.far] == target_id]:
            organization.storage.remove(many.intersect, link)
        return
    rows.update(context, target, target_id, {many.attribute: None, f"{many.attribute}type": None})
