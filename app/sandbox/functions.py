"""Functions (GET) and actions (POST) by name."""

import re
from collections.abc import Callable
from typing import Any

from app.sandbox import actions, addresses, definitions, payload
from app.sandbox.addresses import Context, Segment
from app.sandbox.errors import DataverseError, not_found, payload_error, query_error, unknown_segment
from app.sandbox.messages import ApiRequest, ApiResponse
from app.sandbox.metadata import Table
from app.sandbox.organization import VERSION

Parameters = dict[str, str]


def unbound(context: Context, segment: Segment, request: ApiRequest) -> ApiResponse:
    """A function or an action that belongs to no table.

    Raises:
        DataverseError: 404 for a name that there is not, 405 for the wrong method.
    """
    if request.method == "GET" and segment.name in _FUNCTIONS:
        content = _FUNCTIONS[segment.name](context, _parameters(segment, request))
        where = f"{context.api}/$metadata#Microsoft.Dynamics.CRM.{segment.name}Response"
        return ApiResponse(200, {"@odata.context": where} | content)
    if request.method == "POST" and segment.name in actions.ACTIONS:
        return actions.carry_out(context, segment.name, request)
    if segment.name in _FUNCTIONS or segment.name in actions.ACTIONS:
        raise DataverseError(405, "0x80060888", f"{request.method} is not allowed on '{segment.name}'.")
    raise unknown_segment(segment.name)


def bound(context: Context, table: Table, row_id: str, name: str, request: ApiRequest) -> ApiResponse:
    """A function bound to a row.

    Raises:
        DataverseError: 404 for a name that there is not.
    """
    if name.startswith("RetrieveUserPrivileges") and table.name == "systemuser":
        where = f"{context.api}/$metadata#Microsoft.Dynamics.CRM.RetrieveUserPrivilegesResponse"
        return ApiResponse(200, {"@odata.context": where, "RolePrivileges": _privileges(context)})
    raise unknown_segment(name)


def _privileges(context: Context) -> list[dict[str, Any]]:
    organization = context.organization
    names = [
        f"prv{action}{table.schema_name}"
        for table in organization.metadata
        for action in ("Create", "Read", "Write", "Delete", "Append", "AppendTo", "Assign")
    ]
    return [
        {"Depth": "Global", "PrivilegeName": name, "BusinessUnitId": organization.business_unit}
        for name in names
        if name.casefold() not in organization.revoked
    ]


def _parameters(segment: Segment, request: ApiRequest) -> Parameters:
    found = {}
    for part in addresses.split(segment.key or "", ","):
        name, equals, value = part.partition("=")
        if equals:
            value = value.strip()
            found[name.strip()] = request.options.get(value, "null") if value.startswith("@") else value
    return found


def _needed(parameters: Parameters, name: str) -> str:
    if name not in parameters:
        raise query_error(f"The function needs the parameter '{name}'.")
    return parameters[name]


def _who_am_i(context: Context, parameters: Parameters) -> dict[str, Any]:
    user = context.organization.rows("systemuser")[context.user]
    return {
        "BusinessUnitId": user.get("businessunitid", context.organization.business_unit),
        "UserId": context.user,
        "OrganizationId": context.organization.id,
    }


def _version(context: Context, parameters: Parameters) -> dict[str, Any]:
    return {"Version": VERSION}


def _current_organization(context: Context, parameters: Parameters) -> dict[str, Any]:
    organization = context.organization
    root = re.sub(r"/api/data/v[\d.]+$", "", context.api)
    name = organization.settings.name
    endpoints = {
        "WebApplication": f"{root}/",
        "OrganizationService": f"{root}/XRMServices/2011/Organization.svc",
        "OrganizationDataService": f"{root}/XRMServices/2011/OrganizationData.svc",
    }
    return {
        "Detail": {
            "OrganizationId": organization.id,
            "FriendlyName": name.capitalize(),
            "OrganizationVersion": VERSION,
            "EnvironmentId": organization.id,
            "DatacenterId": organization.business_unit,
            "Geo": "EMEA",
            "TenantId": organization.settings.tenant_id,
            "UrlName": name,
            "UniqueName": name,
            "State": "Enabled",
            "Endpoints": {
                "Count": len(endpoints),
                "IsReadOnly": False,
                "Keys": list(endpoints),
                "Values": list(endpoints.values()),
            },
        }
    }


def _exchange_rate(context: Context, parameters: Parameters) -> dict[str, Any]:
    currency = _needed(parameters, "TransactionCurrencyId").lower()
    row = context.organization.rows("transactioncurrency").get(currency)
    if row is None:
        raise not_found("transactioncurrency", currency)
    return {"ExchangeRate": row["exchangerate"]}


def _record_count(context: Context, parameters: Parameters) -> dict[str, Any]:
    names = re.findall(r"""['"]([^'"]+)['"]""", _needed(parameters, "EntityNames"))
    counts = []
    for name in names:
        if name not in context.organization.metadata.tables:
            raise not_found("entity", name)
        counts.append(len(context.organization.rows(name)))
    return {"EntityRecordCountCollection": {"Count": len(names), "Keys": names, "Values": counts}}


def _state_transition(context: Context, parameters: Parameters) -> dict[str, Any]:
    table, row_id = addresses.reference(context, _entity_parameter(_needed(parameters, "Entity")))
    row = context.organization.rows(table.name)[row_id]
    state = _needed(parameters, "ProposedState").strip("'")
    status = _needed(parameters, "ProposedStatus")
    labels = {label: value for value, label in table.attributes["statecode"].options.items()}
    wanted: Any = labels.get(state, row["statecode"])
    return {"IsValid": status.isdigit() and int(status) in table.states.get(wanted, ())}


def _entity_parameter(text: str) -> str:
    match = re.search(r"""["']@odata.id["']\s*:\s*["']([^"']+)["']""", text)
    if match is None:
        raise payload_error("The parameter must be {'@odata.id': '<url>'}.")
    return match[1]


def _metadata_changes(context: Context, parameters: Parameters) -> dict[str, Any]:
    return definitions.changes(context, payload.read_json(_needed(parameters, "Query").encode()))


_FUNCTIONS: dict[str, Callable[[Context, Parameters], dict[str, Any]]] = {
    "WhoAmI": _who_am_i,
    "RetrieveVersion": _version,
    "RetrieveCurrentOrganization": _current_organization,
    "RetrieveExchangeRate": _exchange_rate,
    "RetrieveTotalRecordCount": _record_count,
    "IsValidStateTransition": _state_transition,
    "RetrieveMetadataChanges": _metadata_changes,
}
