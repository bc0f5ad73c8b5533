"""A service with two set up companies in front of a sandbox CRM, and the values that lead to something in it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import requests

from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT

BASE = "/api/v1"
KEPT, EXPENDABLE = "kept", "spare"  # names that no example in the contract has
CRM_ROWS: dict[str, Any] = {
    "systemusers": {"firstname": "Peter", "lastname": "Saddow", "islicensed": True},
    "accounts": {"name": "Adatum Corporation", "customertypecode": 3},
    "contacts": {"firstname": "Robert", "lastname": "Townes"},
}
NAV_RECORDS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("salespeople", "PS", {"Name": "Peter Saddow"}),
    ("currencies", "EUR", {"Description": "Euro"}),
    ("customers", "10000", {"Name": "Adatum", "Salesperson_Code": "PS"}),
    ("customers", "K&M/01", {"Name": "K & M"}),
)


@dataclass
class World:
    """The service, by its address and an admin key, and the CRM behind it."""

    url: str
    key: str
    crm_url: str

    def __post_init__(self) -> None:
        self.http = requests.Session()
        self.http.headers["Authorization"] = f"Bearer {self.key}"
        self.crm_ids: dict[str, str] = {}

    def close(self) -> None:
        """Lets the connections go."""
        self.http.close()

    def ask(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = ()) -> Any:
        """The answer's body. Fails for what was neither successful nor allowed."""
        answer = self.http.request(method, f"{self.url}{BASE}{path}", json=body, timeout=60)
        assert answer.ok or answer.status_code in allowed, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def begin(self) -> None:
        """Fills CRM, and sets up both companies."""
        token = requests.post(
            f"{self.crm_url}/{DEFAULT_TENANT}/oauth2/v2.0/token",
            data={"grant_type": "client_credentials", "client_id": DEFAULT_CLIENT, "client_secret": DEFAULT_SECRET,
                  "scope": f"{self.crm_url}/.default"},
            timeout=60,
        ).json()["access_token"]  # fmt: skip
        for entity_set, row in CRM_ROWS.items():
            row_id = str(uuid4())
            made = requests.patch(
                f"{self.crm_url}/api/data/v9.2/{entity_set}({row_id})",
                json=row,
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
            assert made.ok, made.text
            self.crm_ids[entity_set] = row_id
        for company in (KEPT, EXPENDABLE):
            self.restore(company)
        self.ask(
            "PUT", f"/companies/{KEPT}/nav/salespeople/PS/coupling", {"crm_id": self.crm_ids["systemusers"]}
        )
        self.ask(
            "PUT", f"/companies/{KEPT}/nav/customers/10000/coupling", {"crm_id": self.crm_ids["accounts"]}
        )

    def restore(self, company: str) -> None:
        """Brings a company back to where it began, whatever was done to it."""
        path = f"/companies/{company}"
        self.ask(
            "POST",
            "/companies",
            {"name": company, "nav_web_client_url": "https://nav.example/DynamicsNAV110"},
            (409,),
        )
        login = {"type": "client_secret", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT,
                 "client_secret": DEFAULT_SECRET, "authority": self.crm_url}  # fmt: skip
        self.ask("PATCH", f"{path}/crm-connection", {"is_enabled": False}, (404,))
        self.ask("PUT", f"{path}/crm-connection", {"server_url": self.crm_url, "authentication": login})
        self.ask("PATCH", f"{path}/crm-connection", {"is_enabled": True})
        self.ask(
            "POST", f"{path}/crm-connection/use-default-synchronization-setup", {"replace_existing": True}
        )
        for table, no, fields in NAV_RECORDS:
            self.ask("POST", f"{path}/nav/{table}", {"no": no, "fields": fields}, (409,))

    def known(self, path: str, company: str) -> dict[str, list[str]]:
        """For each parameter of a path values that lead to something, as they stand in an address."""
        found = {
            "company": [company],
            "mapping": ["CUSTOMER", "CONTACT"],
            "table": ["customers", "contacts", "salespeople", "currencies"],
            "no": ["10000", quote("K&M/01", safe=""), "PS"],
            "entity_set": ["accounts", "contacts", "systemusers"],
            "kind": ["opportunities", "quotes", "cases"],
        }
        if "{id}" in path:
            found["id"] = self._ids(path, f"/companies/{company}")
        return found

    def _ids(self, path: str, company: str) -> list[str]:
        if "/api-keys/" in path:
            return [self.ask("POST", "/api-keys", {"name": "to be revoked", "scopes": ["read"]})["id"]]
        if "/fields/" in path:
            return self._listed(f"{company}/integration-table-mappings/CUSTOMER/fields")
        if "/crm/" in path:
            return list(self.crm_ids.values())
        if "/couplings/" in path:
            return self._listed(f"{company}/couplings")
        if "/job-queue-entries/" in path:
            return self._listed(f"{company}/job-queue-entries")
        if path.endswith("/events"):  # of a job that ended: there is no worker to end one
            job = self.ask(
                "POST", f"{company}/integration-table-mappings/CUSTOMER/synchronize", {"mode": "full"}
            )
            self.ask("POST", f"{company}/synch-jobs/{job['id']}/cancel")
            return [str(job["id"])]
        self.ask(
            "POST", f"{company}/integration-table-mappings/CUSTOMER/synchronize", {"mode": "full"}, (409,)
        )
        return self._listed(f"{company}/synch-jobs")

    def _listed(self, path: str) -> list[str]:
        return [str(item["id"]) for item in self.ask("GET", path)["items"]][:5]
