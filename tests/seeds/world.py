"""The world of the five pages: a company that is set up, CRM beside it, and both as people see them.

NAV is reached through our REST API, CRM through its Web API; nothing is looked up behind their backs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid4, uuid5

import httpx
from starlette.applications import Starlette

from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, Organization

Json = dict[str, Any]
ADDRESS = "http://navcrm.test"
COMPANY = "/api/v1/companies/cronus"
NAV_CLIENT = "https://nav.cronus.example:8080/DynamicsNAV110"
WEB_API = "/api/data/v9.2"
SALESPERSON = "PS"
USER = str(uuid5(NAMESPACE_URL, "user PS"))
"""The CRM user who is salesperson PS, coupled from the start."""
UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"
PATIENCE_SECONDS = 60
LOOK_EVERY = 0.02
CUSTOMER_TYPE = 3
COMPLETED = "Synchronization completed"


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal, as RFC 9457 tells it."""

    status: int
    code: str
    body: Json

    @property
    def said(self) -> tuple[int, str]:
        """Status and code."""
        return self.status, self.code

    @property
    def text(self) -> str:
        """What a person reads: what is wrong and what mends it."""
        return f"{self.body['detail']} {self.body.get('fix') or ''}"


class CrmPeople:
    """The people who work in CRM: a client of its Web API."""

    def __init__(self, sandbox: Starlette, url: str) -> None:
        self.url = url
        self.organization: Organization = sandbox.state.organization
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url=url)

    async def log_in(self) -> None:
        """Gets a token."""
        form = {
            "grant_type": "client_credentials",
            "client_id": DEFAULT_CLIENT,
            "client_secret": DEFAULT_SECRET,
            "scope": f"{self.url}/.default",
        }
        answer = await self._http.post(f"/{DEFAULT_TENANT}/oauth2/v2.0/token", data=form)
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    async def aclose(self) -> None:
        """Leaves."""
        await self._http.aclose()

    def works_as(self, user: str | None) -> None:
        """From here on it is this person who works in CRM, not the user of the connection."""
        self._http.headers.pop("MSCRMCallerID", None)
        if user is not None:
            self._http.headers["MSCRMCallerID"] = user

    async def begin(self) -> None:
        """An organization as new, with one user besides the application's."""
        self.works_as(None)
        self.organization.faults.clear()
        self.organization.reset()
        await self.log_in()
        await self.user("Peter", "Saddow", id=USER)
        self.organization.log.clear()

    async def create(self, entity_set: str, /, id: str | None = None, **fields: Any) -> str:
        """A new row; its id."""
        chosen = id or str(uuid4())
        await self._sent("PATCH", f"{entity_set}({chosen})", fields, {"If-None-Match": "*"})
        return chosen

    async def user(self, first: str, last: str, **fields: Any) -> str:
        """A person who may log in to CRM."""
        mail = f"{first}@contoso.example".lower()
        known: Json = {"firstname": first, "lastname": last, "internalemailaddress": mail, "islicensed": True}
        return await self.create("systemusers", **known | fields)

    async def account(self, name: str = "Adatum Corporation", **fields: Any) -> str:
        """An account of relationship type Customer."""
        known: Json = {"name": name, "customertypecode": CUSTOMER_TYPE}
        return await self.create("accounts", **known | fields)

    async def contact(self, last: str = "Thompson", account: str | None = None, **fields: Any) -> str:
        """A contact, of an account or of none."""
        bound = {"parentcustomerid_account@odata.bind": f"/accounts({account})"} if account else {}
        return await self.create("contacts", **{"lastname": last} | bound | fields)

    async def row(self, entity_set: str, id: str) -> Json:
        """A row as CRM shows it now."""
        return await self._sent("GET", f"{entity_set}({id})")

    async def rows(self, entity_set: str, filter: str | None = None) -> list[Json]:
        """All rows of an entity."""
        query = f"?$filter={quote(filter)}" if filter else ""
        found: list[Json] = (await self._sent("GET", f"{entity_set}{query}"))["value"]
        return found

    async def change(self, entity_set: str, id: str, **fields: Any) -> None:
        """A person changes a row."""
        await self._sent("PATCH", f"{entity_set}({id})", fields, {"If-Match": "*"})

    async def delete(self, entity_set: str, id: str) -> None:
        """A person deletes a row."""
        await self._sent("DELETE", f"{entity_set}({id})")

    async def act(self, action: str, body: Json) -> None:
        """A person does something that is no mere change of a row."""
        await self._sent("POST", action, body)

    def writes(self) -> list[str]:
        """The writes that CRM took from the service since the log was last cleared."""
        asked = [each for each in self.organization.log if each.path.startswith(WEB_API)]
        return [f"{each.method} {each.path}" for each in asked if each.method not in ("GET", "HEAD")]

    def forget(self) -> None:
        """Counts requests from here on."""
        self.organization.log.clear()

    async def _sent(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Json:
        answer = await self._http.request(method, f"{WEB_API}/{path}", json=body, headers=headers)
        assert answer.status_code < 400, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else {}


class World:
    """What a test of a page works with."""

    def __init__(
        self, http: httpx.AsyncClient, crm: CrmPeople, upkeep: Callable[[], Awaitable[None]]
    ) -> None:
        self.http = http
        self.crm = crm
        self.upkeep = upkeep
        """What the process does every few seconds: writes down what the contacts with CRM showed."""

    # --- asking the service ------------------------------------------------------------------------

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """An answer, whatever it is. A path that begins with a slash is whole, others are of the company."""
        address = path if path.startswith("/") else f"{COMPANY}/{path}"
        return await self.http.request(method, address, json=body, params=query or None)

    async def _fine(self, method: str, path: str, body: Any, query: Mapping[str, Any]) -> Json:
        answer = await self.ask(method, path, body, **query)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    async def get(self, path: str, **query: Any) -> Json:
        """GET."""
        return await self._fine("GET", path, None, query)

    async def post(self, path: str, body: Any = None, **query: Any) -> Json:
        """POST."""
        return await self._fine("POST", path, body, query)

    async def put(self, path: str, body: Any = None, **query: Any) -> Json:
        """PUT."""
        return await self._fine("PUT", path, body, query)

    async def patch(self, path: str, body: Any = None, **query: Any) -> Json:
        """PATCH."""
        return await self._fine("PATCH", path, body, query)

    async def delete(self, path: str) -> None:
        """DELETE."""
        await self._fine("DELETE", path, None, {})

    async def refused(self, method: str, path: str, body: Any = None, **query: Any) -> Problem:
        """The problem that a call is answered with."""
        answer = await self.ask(method, path, body, **query)
        assert answer.status_code >= 400, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["Content-Type"] == "application/problem+json", answer.text
        return Problem(answer.status_code, answer.json()["code"], answer.json())

    async def items(self, path: str, **query: Any) -> list[Json]:
        """All items of a list, page by page."""
        found: list[Json] = []
        for _ in range(100):
            page = await self.get(path, **query)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]
        raise AssertionError(f"{path} has no end")

    async def job(self, path: str, body: Any = None) -> Json:
        """Starts a synch job and waits for its end; needs a worker."""
        answer = await self.ask("POST", path, body)
        assert answer.status_code == 202, answer.text
        return await self.ended(answer.headers["Location"])

    async def ended(self, address: str) -> Json:
        """A synch job that has ended."""
        for _ in range(int(PATIENCE_SECONDS / LOOK_EVERY)):
            job = await self.get(address)
            if job["status"] not in ("queued", "running"):
                return job
            await asyncio.sleep(LOOK_EVERY)
        raise AssertionError(f"{address} does not end")

    async def outcomes(self, job: Json) -> list[Json]:
        """What became of the records of a job."""
        return await self.items(f"synch-jobs/{job['id']}/outcomes")

    # --- NAV ----------------------------------------------------------------------------------------

    async def nav(self, table: str, no: str) -> Json:
        """The fields of a NAV record."""
        fields: Json = (await self.get(f"nav/{table}/{quote(no, safe='')}"))["fields"]
        return fields

    async def new(self, table: str, no: str | None, **fields: Any) -> str:
        """A new NAV record; its number."""
        return str((await self.post(f"nav/{table}", {"no": no, "fields": fields}))["no"])

    async def customer(self, no: str = "10000", **fields: Any) -> str:
        """A customer of the coupled salesperson."""
        known = {"Name": f"Customer {no}", "Salesperson_Code": SALESPERSON}
        return await self.new("customers", no, **known | fields)

    async def change(self, table: str, no: str, **fields: Any) -> None:
        """A person changes a NAV record."""
        await self.patch(f"nav/{table}/{no}", {"fields": fields})

    async def company_contact(self, customer: str) -> str:
        """The contact that is the company of a customer."""
        where = f"No eq '{customer}' and Link_to_Table eq 'Customer'"
        (relation,) = await self.items("nav/contact-business-relations", filter=where)
        return str(relation["fields"]["Contact_No"])

    async def person(self, customer: str, surname: str = "Thompson", **fields: Any) -> str:
        """A person of a customer's company, of the coupled salesperson; its number."""
        known = {
            "Type": "Person",
            "Company_No": await self.company_contact(customer),
            "First_Name": "Alicia",
            "Surname": surname,
            "Salesperson_Code": SALESPERSON,
        }
        return await self.new("contacts", None, **known | fields)

    # --- couplings -----------------------------------------------------------------------------------

    async def coupled_customer(self, no: str = "10000", **fields: Any) -> str:
        """A customer and the account created for it; the id of the account."""
        await self.customer(no, **fields)
        made = await self.post(f"nav/customers/{no}/create-in-crm")
        return str(made["coupling"]["crm_id"])

    async def coupled_item(self, no: str = "1000") -> str:
        """An item in the unit PCS and the product created for it; the id of the product."""
        await self.new("units-of-measure", "PCS", Description="Piece")
        await self.crm.create("uomschedules", name="NAV PCS", baseuomname="PCS")
        await self.new("items", no, Description="Bicycle", Base_Unit_of_Measure="PCS")
        return str((await self.post(f"nav/items/{no}/create-in-crm"))["coupling"]["crm_id"])

    async def coupled_person(self, surname: str = "Thompson", **fields: Any) -> tuple[str, str]:
        """A person of the coupled customer 10000 and the CRM contact created for it: number and id."""
        if (await self.ask("GET", "nav/customers/10000")).status_code == 404:
            await self.coupled_customer()
        no = await self.person("10000", surname, **fields)
        made = await self.post(f"nav/contacts/{no}/create-in-crm")
        return no, str(made["coupling"]["crm_id"])

    async def partner(self, table: str, no: str) -> str | None:
        """The id of the CRM record that a NAV record is coupled with."""
        coupling = (await self.get(f"nav/{table}/{quote(no, safe='')}"))["coupling"]
        return None if coupling is None else str(coupling["crm_id"])

    async def comparison(self, table: str, no: str, **query: Any) -> dict[str, Json]:
        """The Coupled Records FastTab by NAV field."""
        found = await self.get(f"nav/{table}/{no}/coupling/comparison", **query)
        return {field["nav_field"]: field for field in found["fields"]}

    async def everything(self) -> Json:
        """Both sides and the couplings: whatever a refused call must have left as it was."""
        tables = ("customers", "contacts", "salespeople")
        sets = ("accounts", "contacts", "systemusers")
        nav = {table: [(i["no"], i["fields"]) for i in await self.items(f"nav/{table}")] for table in tables}
        crm = {entity_set: await self.crm.rows(entity_set) for entity_set in sets}
        couplings = [(c["id"], c["crm_id"], c["integration_id"]) for c in await self.items("couplings")]
        return {"nav": nav, "crm": crm, "couplings": couplings}
