"""One organization: its rows, its settings, who may call it, and the account of what was asked of it."""

import datetime as dt
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from app.sandbox import catalogue, imports, metadata
from app.sandbox.errors import DataverseError
from app.sandbox.faults import Fault
from app.sandbox.limits import Limits
from app.sandbox.metadata import Attribute
from app.sandbox.storage import Row, Storage, TableData

VERSION = "9.2.24073.198"
DEFAULT_TENANT = "0a1b2c3d-0000-4000-8000-000000000001"
DEFAULT_CLIENT = "0a1b2c3d-0000-4000-8000-000000000002"
DEFAULT_SECRET = "sandbox-secret"  # noqa: S105  # opens nothing but a sandbox on this machine
CURRENCIES = {
    "GBP": ("Pound Sterling", "£"),
    "EUR": ("Euro", "€"),
    "USD": ("US Dollar", "$"),
    "DKK": ("Danish Krone", "kr"),
    "SEK": ("Swedish Krona", "kr"),
    "NOK": ("Norwegian Krone", "kr"),
    "CHF": ("Swiss Franc", "CHF"),
}
MESSAGES = ("Create", "Update", "Delete", "CreateMultiple", "UpdateMultiple")
LOGGED_REQUESTS = 100_000


@dataclass(frozen=True, slots=True)
class Requested:
    """One request as it was answered; batch parts are not listed."""

    method: str
    path: str
    status: int
    sent: int
    received: int
    seconds: float


@dataclass(slots=True)
class Settings:
    """What a test may choose about an organization."""

    tenant_id: str = DEFAULT_TENANT
    client_id: str = DEFAULT_CLIENT
    client_secret: str = DEFAULT_SECRET
    certificates: tuple[bytes, ...] = ()  # PEM; public keys of the application's certificates
    token_lifetime: int = 3599  # seconds
    base_currency: str = "GBP"
    name: str = "contoso"
    solution_installed: bool = True
    solutions: tuple[imports.Solution, ...] = ()
    tracked: tuple[str, ...] = catalogue.TRACKED
    tracking_days: int = 7
    latency: float = 0  # seconds per request
    row_latency: float = 0  # seconds per row written or read
    clock: Callable[[], dt.datetime] = field(default=lambda: dt.datetime.now(dt.UTC))


class Organization:
    """The organization behind the Web API. Everything in it may be read and changed by tests."""

    def __init__(
        self, settings: Settings, faults: Sequence[Fault] = (), limits: Limits | None = None
    ) -> None:
        self.settings = settings
        self.faults = list(faults)
        self.limits = limits
        self.log: deque[Requested] = deque(maxlen=LOGGED_REQUESTS)
        self.counts: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """An organization as new: its own rows and nothing else; the request log is empty too."""
        settings = self.settings
        self.metadata = metadata.load(
            solution_installed=settings.solution_installed,
            tracked=settings.tracked,
            solutions=settings.solutions,
        )
        self.storage = Storage(self.metadata)
        self.revoked: set[str] = set()
        self.duplicate_rules: dict[str, list[tuple[str, ...]]] = {}
        self.tokens_valid_from = 0
        self.log.clear()
        self.counts.clear()
        self._bootstrap()

    # ids that stay the same when the organization is reset
    def _id(self, name: str) -> str:
        return str(uuid5(NAMESPACE_URL, f"{self.settings.name}/{name}"))

    def _bootstrap(self) -> None:
        self.id = self._id("organization")
        self.business_unit = self._id("businessunit")
        self.user = self._id("application user")
        self.base_currency = self._id("currency")
        self.team = self._id("team")
        currency_name, symbol = CURRENCIES.get(
            self.settings.base_currency, (self.settings.base_currency,) * 2
        )
        name = self.settings.name
        self._insert(
            "transactioncurrency",
            self.base_currency,
            isocurrencycode=self.settings.base_currency,
            currencyname=currency_name,
            currencysymbol=symbol,
            currencyprecision=2,
            exchangerate=Decimal("1.0000000000"),
            organizationid=self.id,
            statecode=0,
            statuscode=1,
        )
        self._insert(
            "organization",
            self.id,
            name=name,
            basecurrencyid=self.base_currency,
            currencysymbol=symbol,
            basecurrencysymbol=symbol,
            basecurrencyprecision=2,
            currencydecimalprecision=2,
            pricingdecimalprecision=2,
            languagecode=1033,
            expirechangetrackingindays=self.settings.tracking_days,
        )
        self._insert("businessunit", self.business_unit, name=name, organizationid=self.id, isdisabled=False)
        self._insert(
            "systemuser",
            self.user,
            firstname="#",
            lastname="navcrm",
            fullname="# navcrm",
            domainname=f"navcrm@{name}.example",
            internalemailaddress=f"navcrm@{name}.example",
            applicationid=self.settings.client_id,
            businessunitid=self.business_unit,
            organizationid=self.id,
            isdisabled=False,
            accessmode=4,
            islicensed=False,
        )
        self._insert(
            "team", self.team, name=name, businessunitid=self.business_unit, isdefault=True, teamtype=0
        )
        self._roles()
        self._messages()

    def _roles(self) -> None:
        roles = ["System Administrator"]
        if self.settings.solution_installed:
            roles += ["Dynamics NAV Integration Administrator", "Dynamics NAV Integration User"]
            self._insert(
                "solution",
                self._id("solution"),
                uniquename="MicrosoftDynamicsNavIntegration",
                friendlyname="Microsoft Dynamics NAV Integration",
                version="11.0.0.0",
                ismanaged=True,
                isvisible=True,
            )
        for solution in self.settings.solutions:
            roles += solution.roles
            self._insert(
                "solution",
                self._id(solution.unique_name),
                uniquename=solution.unique_name,
                friendlyname=solution.title,
                version=solution.version,
                ismanaged=False,
                isvisible=True,
            )
        for name in roles:
            role, link = self._id(name), self._id(f"{name} of the application user")
            self._insert("role", role, name=name, businessunitid=self.business_unit)
            self._insert("systemuserroles", link, systemuserid=self.user, roleid=role)
        member = self._id("membership")
        self._insert("teammembership", member, teamid=self.team, systemuserid=self.user)

    def _messages(self) -> None:
        for message in MESSAGES:
            self._insert("sdkmessage", self._id(message), name=message)
            for table in self.metadata:
                self._insert(
                    "sdkmessagefilter",
                    self._id(f"{message} {table.name}"),
                    sdkmessageid=self._id(message),
                    primaryobjecttypecode=table.name,
                )

    def _insert(self, table: str, row_id: str, **values: Any) -> None:
        definition = self.metadata.tables[table]
        now = self.now()
        row: Row = {definition.key: row_id}
        audit = {"createdon": now, "modifiedon": now, "createdby": self.user, "modifiedby": self.user}
        row |= {name: value for name, value in audit.items() if name in definition.attributes}
        row |= {name: value for name, value in values.items() if name in definition.attributes}
        self.storage.put(table, row_id, row)

    def now(self) -> str:
        """The time in whole seconds, as Dataverse writes it."""
        return self.settings.clock().astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def rows(self, table: str) -> dict[str, Row]:
        """The rows of a table by id."""
        return self.storage.tables[table].rows

    def data(self, table: str) -> TableData:
        """A table with its order of changes."""
        return self.storage.tables[table]

    def new_id(self) -> str:
        """An id for a new row."""
        return str(uuid4())

    # -- who may do what

    def revoke(self, privilege: str) -> None:
        """Take a privilege, such as `prvWriteAccount`, from everybody."""
        self.revoked.add(privilege.casefold())

    def grant(self, privilege: str) -> None:
        """Give a revoked privilege back."""
        self.revoked.discard(privilege.casefold())

    def require(self, user: str, action: str, table: str) -> None:
        """Refuse unless the user may do this to rows of the table.

        Args:
            user: systemuserid.
            action: Create, Read, Write, Delete, Assign ...
            table: logical name; empty for a privilege that belongs to no table.
        """
        schema_name = self.metadata.tables[table].schema_name if table else ""
        privilege = f"prv{action}{schema_name}"
        if privilege.casefold() in self.revoked:
            raise DataverseError(
                403,
                "0x80040220",
                f"Principal user (Id={user}, type=8, roleCount=1) is missing {privilege} privilege "
                f"(Id={uuid5(NAMESPACE_URL, privilege)}) on OTC={self._code(table)} for entity '{table}'.",
            )

    def _code(self, table: str) -> int:
        return self.metadata.tables[table].type_code if table else 0

    def user_of_application(self, application_id: str) -> str:
        """The systemuser bound to an app registration.

        Raises:
            DataverseError: 403, when there is none or it is disabled.
        """
        for user in self.data("systemuser").ids("applicationid", application_id):
            return self.active_user(user)
        raise DataverseError(403, "0x80072560", "The user is not a member of the organization.")

    def active_user(self, user: str) -> str:
        """The user, unless missing or disabled."""
        row = self.rows("systemuser").get(user)
        if row is None:
            raise DataverseError(403, "0x80072560", "The user is not a member of the organization.")
        if row.get("isdisabled"):
            raise DataverseError(403, "0x80040225", f"The specified user(Id = {user}) is disabled.")
        return user

    # -- duplicate detection

    def detect_duplicates(self, table: str, *columns: str) -> None:
        """Publish a rule: rows that agree in all these columns are duplicates, for callers that ask for it."""
        self.duplicate_rules.setdefault(table, []).append(columns)

    # -- somebody else

    def overtake(self, line: str, headers: Mapping[str, str], body: bytes, values: Row) -> None:
        """Change the rows that a request, or the parts of a batch, would update if they still had their version."""
        alone = f"{line}\nIf-Match: {headers.get('if-match', '')}\n"
        for part in re.split(r"\r?\n--", alone + body.decode("utf-8", "replace")):
            named = re.search(r"(?m)^PATCH \S*?/(\w+)\(([0-9a-f-]{36})\)", part)
            if named is None or not re.search(r"(?mi)^If-Match: W/", part):
                continue
            table = next((each for each in self.metadata if each.set_name == named[1]), None)
            row = self.rows(table.name).get(named[2]) if table else None
            if table and row:
                self.storage.put(table.name, named[2], {**row, **values, "modifiedon": self.now()})

    # -- the columns

    def remove_column(self, table: str, name: str) -> Attribute:
        """Take a column away; delta links of the table end with it. What was in it is there again with the column."""
        definition = self.metadata.tables[table]
        attribute = definition.attributes.pop(name)
        definition.properties.pop(attribute.read_name, None)
        self.data(table).schema_version = self.storage.next_version()
        return attribute

    def put_column(self, table: str, attribute: Attribute) -> None:
        """Give a table a column, or another one of the same name."""
        definition = self.metadata.tables[table]
        definition.attributes[attribute.name] = attribute
        definition.properties[attribute.read_name] = attribute
        self.data(table).schema_version = self.storage.next_version()

    # -- change tracking

    def expire_delta_tokens(self) -> None:
        """All delta links given out so far are too old from now on."""
        self.tokens_valid_from = self.storage.next_version()

    def track(self, table: str, enabled: bool = True) -> None:
        """Switch change tracking of a table."""
        self.metadata.tables[table].change_tracking = enabled

    # -- what was asked

    def record(self, requested: Requested) -> None:
        """Note a request."""
        self.log.append(requested)
        self.counts[f"{requested.method} {requested.status}"] += 1

    def requests(self, method: str = "", path: str = "") -> list[Requested]:
        """The requests of a method whose path contains a text, oldest first."""
        return [r for r in self.log if method in ("", r.method) and path in r.path]


def is_guid(text: str) -> bool:
    """Whether the text is a GUID without braces."""
    try:
        return len(text) == 36 and bool(UUID(text))
    except ValueError:
        return False
