"""Actions: what closes an opportunity, a quote or a case, merges rows, deletes in bulk, publishes."""

from collections.abc import Callable
from typing import Any

from app.sandbox import addresses, payload, rows
from app.sandbox.addresses import Context
from app.sandbox.conditions import value_test
from app.sandbox.errors import DataverseError, invalid, payload_error
from app.sandbox.messages import ApiRequest, ApiResponse
from app.sandbox.metadata import Table

Body = dict[str, Any]


def carry_out(context: Context, name: str, request: ApiRequest) -> ApiResponse:
    """Carry out an action; all that it writes, or nothing.

    Raises:
        DataverseError: it is refused.
    """
    body = payload.read_json(request.body)
    with context.organization.storage.transaction():
        content = ACTIONS[name](context, body)
    if content is None:
        return ApiResponse(204)
    where = f"{context.api}/$metadata#Microsoft.Dynamics.CRM.{name}Response"
    return ApiResponse(200, {"@odata.context": where} | content)


def _close(context: Context, body: Body, activity: str, parent: str, state: int) -> None:
    """Write the closing activity and put its parent into a closed state."""
    tables = context.organization.metadata.tables
    name = {"opportunityclose": "OpportunityClose", "quoteclose": "QuoteClose"}.get(
        activity, "IncidentResolution"
    )
    closing = body.get(name)
    if not isinstance(closing, dict):
        raise payload_error(f"The action needs '{name}'.")
    values = payload.columns(context, tables[activity], closing)
    parent_id = values.get(f"{parent}id")
    if parent_id is None:
        raise payload_error(f"'{name}' needs '{parent}id@odata.bind'.")
    status = body.get("Status")
    changes: dict[str, Any] = {"statecode": state}
    if status is not None and status != -1:  # -1 = the default status of the state
        changes["statuscode"] = status
    now = context.organization.now()
    if parent == "opportunity":
        changes |= {"actualclosedate": now[:10]}
        if state == 1:
            row = context.organization.rows("opportunity")[parent_id]
            changes["actualvalue"] = values.get("actualrevenue", row.get("estimatedvalue"))
    rows.update(context, tables[parent], parent_id, changes, closing=True)
    rows.create(context, tables[activity], values | {"actualend": now})


def _win_opportunity(context: Context, body: Body) -> None:
    _close(context, body, "opportunityclose", "opportunity", 1)


def _lose_opportunity(context: Context, body: Body) -> None:
    _close(context, body, "opportunityclose", "opportunity", 2)


def _win_quote(context: Context, body: Body) -> None:
    _close(context, body, "quoteclose", "quote", 2)


def _close_quote(context: Context, body: Body) -> None:
    _close(context, body, "quoteclose", "quote", 3)


def _close_incident(context: Context, body: Body) -> None:
    _close(context, body, "incidentresolution", "incident", 1)


def _merge(context: Context, body: Body) -> None:
    """The subordinate account or contact becomes inactive and points to the one that stays."""
    table, target = _entity(context, body.get("Target"))
    other, subordinate = _entity(context, body.get("Subordinate"))
    if table.name != other.name or table.name not in ("account", "contact"):
        raise invalid("Merge takes two accounts or two contacts.")
    if target == subordinate:
        raise invalid("A row cannot be merged with itself.")
    content = body.get("UpdateContent")
    if isinstance(content, dict):
        rows.update(context, table, target, payload.columns(context, table, content))
    changes = {"statecode": 1, "merged": True, "masterid": target}
    rows.update(context, table, subordinate, changes, closing=True)


def _entity(context: Context, value: Any) -> tuple[Table, str]:
    """A row given as `{"@odata.type": ..., "<key>": <id>}` or `{"@odata.id": <url>}`."""
    if isinstance(value, dict) and "@odata.id" in value:
        return addresses.reference(context, value["@odata.id"])
    kind = str(value.get("@odata.type", "")).rpartition(".")[2] if isinstance(value, dict) else ""
    table = context.organization.metadata.tables.get(kind)
    if table is None or not isinstance(value, dict):
        raise payload_error("The action needs rows with '@odata.type' and their primary key.")
    key = addresses.parse_key(table, str(value.get(table.key)))
    return table, addresses.require(context.organization, table, key)


def _bulk_delete(context: Context, body: Body) -> Body:
    """Delete what the queries of the QuerySet find: a system job, done before the answer is sent."""
    for query in body.get("QuerySet") or []:
        table = context.organization.metadata.tables.get(str(query.get("EntityName")))
        if table is None:
            raise invalid(f"There is no table '{query.get('EntityName')}'.")
        for row_id in _found(context, table, query.get("Criteria") or {}):
            if row_id in context.organization.rows(table.name):
                rows.delete(context, table, row_id)
    return {"JobId": context.organization.new_id()}


def _found(context: Context, table: Table, criteria: Body) -> list[str]:
    tests = []
    for condition in criteria.get("Conditions") or []:
        attribute = table.attributes.get(str(condition.get("AttributeName")))
        if attribute is None or condition.get("Operator") not in ("In", "Equal"):
            raise invalid("BulkDelete understands the operators In and Equal.")
        values = [
            str(v.get("Value", "")) if isinstance(v, dict) else str(v) for v in condition.get("Values") or []
        ]
        tests.append((attribute.name, value_test(context, attribute, "In", values)))
    if not tests:
        raise invalid("BulkDelete needs at least one condition.")
    data = context.organization.rows(table.name)
    return [
        row_id
        for row_id, row in data.items()
        if all(row.get(name) is not None and test(row[name]) for name, test in tests)
    ]


def _publish(context: Context, body: Body) -> None:
    """Customizations work at once here: nothing is left to publish."""


def _revise_quote(context: Context, body: Body) -> Body:
    """A draft with the columns of a closed quote."""
    organization = context.organization
    table = organization.metadata.tables["quote"]
    quote_id = str(body.get("QuoteId", "")).lower()
    row = organization.rows("quote").get(quote_id)
    if row is None or row.get("statecode") != 3:  # closed
        raise DataverseError(400, "0x80040203", "Only a closed quote can be revised.")
    skipped = {"quoteid", "statecode", "statuscode", "overriddencreatedon"}
    values = {name: value for name, value in row.items() if name not in skipped and _writable(table, name)}
    return {"quoteid": rows.create(context, table, values)}


def _writable(table: Table, name: str) -> bool:
    attribute = table.attributes.get(name)
    return attribute is None or attribute.create


ACTIONS: dict[str, Callable[[Context, Body], Body | None]] = {
    "WinOpportunity": _win_opportunity,
    "LoseOpportunity": _lose_opportunity,
    "WinQuote": _win_quote,
    "CloseQuote": _close_quote,
    "ReviseQuote": _revise_quote,
    "CloseIncident": _close_incident,
    "Merge": _merge,
    "BulkDelete": _bulk_delete,
    "PublishXml": _publish,
    "PublishAllXml": _publish,
}
