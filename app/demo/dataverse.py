"""The CRM as an outside system sees it: the Dataverse Web API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx

from app.demo.trouble import DemoFailed

API = "/api/data/v9.2"
TYPES = {
    "systemusers": "systemuser",
    "transactioncurrencies": "transactioncurrency",
    "accounts": "account",
    "contacts": "contact",
    "opportunities": "opportunity",
    "quotes": "quote",
    "incidents": "incident",
}
"""Entity sets that the story writes, and the logical names of their rows."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Login:
    """How to log in to a CRM."""

    server_url: str
    tenant_id: str
    client_id: str
    client_secret: str


def row_id(entity_set: str, name: str) -> str:
    """An id for a row of the story: the same in every run."""
    return str(uuid5(NAMESPACE_URL, f"cronus/{entity_set}/{name}"))


class Crm:
    """A client of the Web API."""

    def __init__(self, login: Login) -> None:
        self._http = httpx.Client(base_url=login.server_url, timeout=60, trust_env=False)
        form = {
            "grant_type": "client_credentials",
            "client_id": login.client_id,
            "client_secret": login.client_secret,
            "scope": f"{login.server_url}/.default",
        }
        answer = self._sent("POST", f"/{login.tenant_id}/oauth2/v2.0/token", data=form)
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def create(self, entity_set: str, rows: Sequence[Row]) -> int:
        """Creates rows in one request; returns how many."""
        kind = {"@odata.type": f"Microsoft.Dynamics.CRM.{TYPES[entity_set]}"}
        if rows:
            body = {"Targets": [{**kind, **row} for row in rows]}
            self._sent("POST", f"{API}/{entity_set}/Microsoft.Dynamics.CRM.CreateMultiple", json=body)
        return len(rows)

    def change(self, entity_set: str, row: str, values: Row) -> None:
        """Changes one row."""
        self._sent("PATCH", f"{API}/{entity_set}({row})", json=values, headers={"If-Match": "*"})

    def read(self, entity_set: str, row: str) -> dict[str, Any]:
        """One row."""
        found: dict[str, Any] = self._sent("GET", f"{API}/{entity_set}({row})").json()
        return found

    def count(self, entity_set: str, condition: str) -> int:
        """How many rows satisfy a condition (at most 5,000)."""
        query = httpx.QueryParams({"$filter": condition, "$count": "true", "$top": "1"})
        return int(self._sent("GET", f"{API}/{entity_set}?{query}").json()["@odata.count"])

    def _sent(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise DemoFailed(f"{method} {path}: CRM does not answer ({error}).") from error
        if answer.status_code >= 400:
            raise DemoFailed(f"{method} {path}: CRM answers {answer.status_code}: {answer.text[:400]}")
        return answer
