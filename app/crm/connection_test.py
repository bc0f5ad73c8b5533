"""A connection tried step by step, from the network up to the rows; it changes nothing in CRM.

Each step answers what it found, or says what is wrong and what mends it. After a failure that leaves nothing to try,
the rest is left out.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.crm import odata
from app.crm.client import DataverseClient
from app.crm.failures import GIVE_ROLE
from app.crm.metadata import Metadata
from app.crm.wire import Request
from app.domain import solution
from app.domain.errors import CrmRecordNotFound, CrmRefused, IntegrationError
from app.ports import ConnectionReport, TestStep

READ = ("systemuser", "account", "contact", "transactioncurrency")
TRACKED = ("account", "contact", "systemuser", "transactioncurrency", "product", "opportunity")
TRY_AGAIN = "Correct the connection, then POST …/crm-connection/test."
INSTALL = (
    "Import the integration solution into CRM (navcrm crm-solution writes the file) and publish it. "
    "Without it, customers are kept in step but account statistics are not written."
)
ADMINISTRATOR = "System Administrator"
TOO_MUCH = (
    f"The role {ADMINISTRATOR} allows more than the integration needs: "
    "give the user the integration roles instead."
)
USE_APPLICATION_USER = (
    "Connect as an application user: what a person changes under the same user "
    "cannot be told from the integration."
)
ENABLE_TRACKING = (
    "In the maker portal open the table's properties and switch on Track changes. Until then changes are found by "
    "their time, and deletions in CRM are not noticed."
)


class StepFailed(Exception):
    """A step of the test did not succeed, though CRM answered."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fix = fix


Finding = tuple[str, str | None]  # what was found, and what would make it better
Step = Callable[[], Awaitable[Finding]]


class ConnectionTest:
    """One run of the test over one client."""

    def __init__(self, client: DataverseClient, local_currency: str | None) -> None:
        self._client = client
        self._metadata = Metadata(client)
        self._local_currency = local_currency
        self._user_id: UUID | None = None
        self._organization_id: UUID | None = None
        self._version: str | None = None
        self._base_currency: str | None = None
        self._solution: bool | None = None
        self._is_integration_user: bool | None = None
        self._is_administrator: bool | None = None
        self._sales_orders: bool | None = None

    async def run(self) -> ConnectionReport:
        """All steps, up to the first that makes the rest pointless."""
        steps: list[TestStep] = []
        for name, step, needed in self._steps():
            done = await _timed(name, step)
            steps.append(done)
            if needed and not done.ok:
                break
        return ConnectionReport(
            steps=steps,
            user_id=self._user_id,
            organization_id=self._organization_id,
            crm_version=self._version,
            base_currency=self._base_currency,
            integration_solution_installed=self._solution,
            user_is_integration_user=self._is_integration_user,
            user_is_administrator=self._is_administrator,
            sales_order_integration_enabled=self._sales_orders,
        )

    def _steps(self) -> Sequence[tuple[str, Step, bool]]:
        return (
            ("address", self._address, True),
            ("login", self._login, True),
            ("user", self._who_am_i, True),
            ("roles", self._roles, False),
            ("version", self._crm_version, False),
            ("tables", self._tables, True),
            ("read", self._read, True),
            ("organization", self._organization, False),
            ("change_tracking", self._tracking, False),
            ("solution", self._solution_installed, False),
        )

    async def _address(self) -> Finding:
        """Any answer will do: without a token CRM answers 401."""
        status = await self._client.knock()
        if 300 <= status < 400 or status >= 500:
            raise StepFailed(f"{self._client.server_url} answered HTTP {status}.", TRY_AGAIN)
        return f"{self._client.server_url} answers.", None

    async def _login(self) -> Finding:
        await self._client.log_in()
        return "The login service gave a token.", None

    async def _who_am_i(self) -> Finding:
        answer = await self._read_json("WhoAmI", "WhoAmI")
        try:
            self._user_id, self._organization_id = UUID(answer["UserId"]), UUID(answer["OrganizationId"])
        except (KeyError, ValueError) as error:
            raise StepFailed(
                "What answers there is not the Web API of a CRM organization.", TRY_AGAIN
            ) from error
        return f"We are the user {self._user_id} of the organization {self._organization_id}.", None

    async def _roles(self) -> Finding:
        """What kind of user we work as. Nothing depends on it, so CRM need not tell."""
        path = odata.query(
            f"systemusers({self._user_id})",
            {
                "$select": "isintegrationuser,applicationid",
                "$expand": "systemuserroles_association($select=name)",
            },
        )
        try:
            row = await self._read_json(path, "our user")
        except (CrmRefused, CrmRecordNotFound):
            return "CRM does not show us our own user and its security roles.", GIVE_ROLE
        roles = sorted(str(role["name"]) for role in row.get("systemuserroles_association") or ())
        self._is_integration_user = bool(row.get("isintegrationuser") or row.get("applicationid"))
        self._is_administrator = ADMINISTRATOR in roles
        kind = "an integration user" if self._is_integration_user else "a person's user"
        held = f"Our user is {kind} with the roles {', '.join(roles) or 'none'}."
        advice = [USE_APPLICATION_USER] if not self._is_integration_user else []
        advice += [TOO_MUCH] if self._is_administrator else []
        return held, " ".join(advice) or None

    async def _crm_version(self) -> Finding:
        self._version = str((await self._read_json("RetrieveVersion()", "RetrieveVersion"))["Version"])
        return f"CRM {self._version}.", None

    async def _tables(self) -> Finding:
        names = await self._metadata.names()
        missing = [table for table in READ if table not in names]
        if missing:
            raise StepFailed(f"CRM has no table {', '.join(missing)}.", GIVE_ROLE)
        return f"CRM describes {len(names)} tables.", None

    async def _read(self) -> Finding:
        """WhoAmI works without any role, so rows are read too."""
        names = await self._metadata.names()
        for table in READ:
            path = odata.query(names[table].entity_set, {"$select": f"{table}id", "$top": "1"})
            await self._read_json(path, f"reading {table}")
        return f"{', '.join(READ)} can be read.", None

    async def _organization(self) -> Finding:
        found = await self._read_json(
            "organizations?$select=name,issopintegrationenabled&$expand=basecurrencyid($select=isocurrencycode)",
            "the organization",
        )
        row: dict[str, Any] = next(iter(found["value"]), {})
        self._sales_orders = bool(row.get("issopintegrationenabled"))
        base = (row.get("basecurrencyid") or {}).get("isocurrencycode")
        if not base:
            raise StepFailed("CRM does not tell its base currency.", GIVE_ROLE)
        self._base_currency = str(base)
        local = self._local_currency
        if local is None or local == base:
            return f"The base currency is {base}.", None
        rate = await self._rate_of(local)
        return f"The base currency is {base}; CRM counts {rate} {local} for 1 {base}.", None

    async def _rate_of(self, currency: str) -> Decimal:
        path = odata.query(
            "transactioncurrencies",
            {"$select": "exchangerate", "$filter": f"isocurrencycode eq {odata.literal(currency)}"},
        )
        found = await self._read_json(path, f"the currency {currency}")
        rate = next((row.get("exchangerate") for row in found["value"]), None)
        if not rate or Decimal(rate) <= 0:
            raise StepFailed(
                f"The base currency of CRM is {self._base_currency}, NAV's local currency is {currency}, and CRM "
                f"has no exchange rate for {currency}: amounts could not be converted.",
                f"Add the currency {currency} with its exchange rate in CRM, or correct the local currency of "
                "the company.",
            )
        return Decimal(rate)

    async def _tracking(self) -> Finding:
        names = await self._metadata.names()
        missing = [name for name in TRACKED if name in names and not names[name].tracks_changes]
        if missing:
            return f"CRM does not track changes of {', '.join(missing)}.", ENABLE_TRACKING
        return "CRM tracks the changes of all tables that are kept in step.", None

    async def _solution_installed(self) -> Finding:
        names = await self._metadata.names()
        self._solution = False
        prefix = solution.installed(names)
        if prefix is None:
            missing = ", ".join(solution.tables_of(solution.OURS))
            return f"The integration solution is not installed: CRM has no {missing}.", INSTALL
        for table in solution.tables_of(prefix):
            path = odata.query(names[table].entity_set, {"$select": f"{table}id", "$top": "1"})
            await self._read_json(path, f"reading {table}")
        self._solution = True
        whose = "" if prefix == solution.OURS else "Microsoft's "
        return f"The integration solution is installed: {whose}{prefix}_{solution.STATISTICS}.", None

    async def _read_json(self, path: str, subject: str) -> dict[str, Any]:
        return (await self._client.send(Request("GET", path), subject)).json()


async def _timed(name: str, step: Step) -> TestStep:
    started = time.monotonic()
    try:
        (detail, fix), ok = await step(), True
    except StepFailed as failure:
        detail, fix, ok = failure.detail, failure.fix, False
    except IntegrationError as error:
        detail, fix, ok = error.detail, error.fix or TRY_AGAIN, False
    except (KeyError, TypeError, ValueError):
        detail, fix, ok = "What came back is not what the Web API of CRM answers.", TRY_AGAIN, False
    return TestStep(name, ok, detail, fix, round((time.monotonic() - started) * 1000))
