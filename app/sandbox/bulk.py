"""CreateMultiple, UpdateMultiple, UpsertMultiple: one table, one transaction."""

from collections.abc import Callable
from typing import Any

from app.sandbox import addresses, payload, rows, writes
from app.sandbox.addresses import Context, RowKey
from app.sandbox.errors import DataverseError, duplicate_key, invalid, payload_error
from app.sandbox.messages import ApiRequest, ApiResponse
from app.sandbox.metadata import Table

Target = dict[str, Any]


def handle(context: Context, table: Table, message: str, request: ApiRequest) -> ApiResponse:
    """A bulk message bound to an entity set.

    Raises:
        DataverseError: what any of its targets raised; then none is written.
    """
    if message not in _MESSAGES:
        raise invalid(f"{message} has not yet been implemented.")
    targets = payload.read_json(request.body).get("Targets")
    if not isinstance(targets, list) or not targets:
        raise payload_error("The parameter 'Targets' must be a collection of at least one row.")
    for target in targets:
        _require_type(table, target)
    with context.organization.storage.transaction():
        return _MESSAGES[message](context, table, targets)


def _require_type(table: Table, target: Any) -> None:
    if not isinstance(target, dict):
        raise payload_error("Each of the Targets must be a JSON object.")
    name = str(target.get("@odata.type", "")).removeprefix("#")
    if not name:
        raise payload_error(
            "A resource without a type name was found, but no expected type was specified. Each of the Targets "
            f"needs '@odata.type': '{table.type_name}'."
        )
    if name != table.type_name:
        raise payload_error(f"The type '{name}' does not fit the entity set '{table.set_name}'.")


def _create(context: Context, table: Table, targets: list[Target]) -> ApiResponse:
    ids = [rows.create(context, table, payload.columns(context, table, target)) for target in targets]
    where = f"{context.api}/$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
    return ApiResponse(200, {"@odata.context": where, "Ids": ids})


def _primary_key(table: Table, target: Target) -> str | None:
    value = target.get(table.key)
    return None if value is None else addresses.parse_key(table, str(value)).id


def _update(context: Context, table: Table, targets: list[Target]) -> ApiResponse:
    done: set[str] = set()
    for target in targets:
        row_id = _primary_key(table, target)
        if row_id is None:
            raise invalid(f"Each of the Targets of UpdateMultiple needs its primary key '{table.key}'.")
        addresses.require(context.organization, table, RowKey(row_id))
        if row_id in done:
            continue  # the service applies the first and says nothing of the others
        done.add(row_id)
        rows.update(context, table, row_id, payload.columns(context, table, target))
    return ApiResponse(204)


def _upsert(context: Context, table: Table, targets: list[Target]) -> ApiResponse:
    done: set[RowKey] = set()
    for target in targets:
        key = _upsert_key(context, table, target)
        if key in done:
            raise duplicate_key()
        done.add(key)
        row_id = addresses.find(context.organization, table, key)
        if row_id is not None:
            changes = payload.columns(context, table, target)
            if key.alternate is not None:
                changes = {k: v for k, v in changes.items() if k not in key.alternate.attributes}
            rows.update(context, table, row_id, changes)
            continue
        if key.alternate is not None and any(name in target for name in key.alternate.attributes):
            raise DataverseError(
                400,
                "0x80040203",
                "An item with the same key has already been added: key columns are in @odata.id.",
            )
        writes.upsert_missing(context, table, key, target)
    return ApiResponse(204)


def _upsert_key(context: Context, table: Table, target: Target) -> RowKey:
    if (row_id := _primary_key(table, target)) is not None:
        return RowKey(row_id)
    if (url := target.get("@odata.id")) is None:
        return RowKey(context.organization.new_id())
    parts = addresses.segments(addresses.relative(context, str(url)))
    if len(parts) != 1 or parts[0].name != table.set_name or parts[0].key is None:
        raise payload_error(f"'{url}' is no address of a row of '{table.set_name}'.")
    return addresses.parse_key(table, parts[0].key)


_MESSAGES: dict[str, Callable[[Context, Table, list[Target]], ApiResponse]] = {
    "CreateMultiple": _create,
    "UpdateMultiple": _update,
    "UpsertMultiple": _upsert,
}
