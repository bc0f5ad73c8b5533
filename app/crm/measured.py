"""Every request to CRM and to its login service is counted and timed, those that the login adds by itself too."""

from typing import Any

import httpx

from app.telemetry.figures import CrmCall

CALL = "navcrm_call"
LOGIN = "login"
_DESCRIBING = ("$metadata", "EntityDefinitions", "RelationshipDefinitions", "GlobalOptionSetDefinitions")
_BY_METHOD = {"GET": "read", "POST": "action", "PATCH": "write", "PUT": "write", "DELETE": "delete"}


def operation_of(request: httpx.Request) -> str:
    """The kind of request, one of few words."""
    path = request.url.path
    if path.endswith("/oauth2/v2.0/token"):
        return LOGIN
    if path.endswith("/$batch"):
        return "batch"
    if any(name in path for name in _DESCRIBING):
        return "metadata"
    return _BY_METHOD.get(request.method, "other")


def hooks() -> dict[str, list[Any]]:
    """What an httpx client calls before and after each exchange."""
    return {"request": [_begins], "response": [_answers]}


def ended(request: httpx.Request, error: Exception | None = None) -> None:
    """The request is over: its answer was read, or an error says of which request there is none."""
    for each in (request, getattr(error, "_request", None)):
        call: CrmCall | None = each.extensions.pop(CALL, None) if each is not None else None
        if call is not None:
            call.end()


async def _begins(request: httpx.Request) -> None:
    ended(request)  # the same request again, after a new login
    request.extensions[CALL] = CrmCall(operation_of(request), request.method, request.url.host)


async def _answers(response: httpx.Response) -> None:
    call: CrmCall = response.request.extensions[CALL]
    call.status = response.status_code
    if call.operation == LOGIN:
        ended(response.request)
