"""What the scripts beside the service share: their task, the columns, the mapping, a token; and NAV's table for those
that keep nothing.

These are the bound and `microsoft_bare`: no couplings, no base, no history, no log, nothing to continue from when they
are interrupted. They leave NAV with the records that NAV itself would leave, or they would not do the same: a customer
has its company contact, which changes with it, and their business relation. What `microsoft` keeps it says itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg

SET = 1000
PAGE = 5000
PAIRS: Mapping[str, str] = {
    "Name": "name",
    "Address": "address1_line1",
    "Address_2": "address1_line2",
    "City": "address1_city",
    "Post_Code": "address1_postalcode",
    "County": "address1_stateorprovince",
    "Country_Region_Code": "address1_country",
    "Contact": "address1_primarycontactname",
    "Phone_No": "telephone1",
    "Fax_No": "fax",
    "E_Mail": "emailaddress1",
    "Home_Page": "websiteurl",
    "Credit_Limit_LCY": "creditlimit",
}
READ_TOO = (
    "accountid", "customertypecode", "_primarycontactid_value", "statuscode", "address1_shippingmethodcode",
    "_ownerid_value", "statecode", "address1_freighttermscode", "paymenttermscode", "modifiedon",
)  # fmt: skip
SELECT = ",".join((*PAIRS.values(), *READ_TOO))
CONTACT = frozenset(PAIRS) - {"Contact", "Credit_Limit_LCY"} | {"Search_Name"}
"""What a customer and its company contact have in common."""
INSERT = """
    INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
    SELECT $1, r.nav_table, r.key, r.id, r.fields::jsonb
    FROM unnest($2::text[], $3::text[], $4::uuid[], $5::text[]) AS r(nav_table, key, id, fields)
    """
UPDATE = """
    UPDATE nav_record n SET fields = n.fields || r.fields::jsonb
    FROM unnest($2::text[], $3::text[], $4::text[]) AS r(nav_table, key, fields)
    WHERE n.company_id = $1 AND n.nav_table = r.nav_table AND n.key = r.key
    """
READ = """
    SELECT key, integration_id, row_version, fields FROM nav_record
    WHERE company_id = $1 AND nav_table = 'customers' AND row_version > $2 ORDER BY row_version LIMIT $3
    """


@dataclass(frozen=True, slots=True)
class Task:
    """What a script is told on its command line, as JSON; `since` and `version` tell those that keep nothing where
    changes begin."""

    crm_url: str
    certificate: str
    database: str
    company_id: int
    tenant: str
    client: str
    secret: str
    lanes: int = 8
    batch: int = 125
    since: str = ""
    version: int = 0

    @classmethod
    def of(cls, text: str) -> "Task":
        """The task out of its JSON."""
        return cls(**json.loads(text))

    @property
    def api(self) -> str:
        """The root of the Web API."""
        return f"{self.crm_url}/api/data/v9.2/"

    def token_request(self) -> tuple[str, dict[str, str]]:
        """Where to ask for a token, and with which form."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client,
            "client_secret": self.secret,
            "scope": f"{self.crm_url}/.default",
        }
        return f"{self.crm_url}/{self.tenant}/oauth2/v2.0/token", form


def to_nav(row: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a customer out of an account."""
    fields = {nav: str(value) for nav, crm in PAIRS.items() if (value := row.get(crm)) not in (None, "")}
    return {**fields, "Search_Name": fields.get("Name", "").upper()}


def numbers(row: Mapping[str, Any]) -> tuple[str, str]:
    """The numbers of the customer and of the contact that are made of an account."""
    return f"B{str(row['accountid'])[:18]}", f"T{str(row['accountid'])[:18]}"


def to_crm(fields: str) -> dict[str, Any]:
    """The columns of an account out of a customer."""
    found = json.loads(fields)
    columns: dict[str, Any] = {crm: found[nav] for nav, crm in PAIRS.items() if nav in found}
    if "creditlimit" in columns:
        columns["creditlimit"] = float(columns["creditlimit"])
    return {**columns, "customertypecode": 3}


async def insert(
    connection: "asyncpg.Connection[asyncpg.Record]", company_id: int, rows: Sequence[Mapping[str, Any]]
) -> None:
    """New customers with their contacts and relations, a statement for all of them."""
    records = [record for row in rows for record in _new_records(row)]
    await connection.execute(INSERT, company_id, *map(list, zip(*records, strict=True)))


def _new_records(row: Mapping[str, Any]) -> Iterable[tuple[str, str, UUID | None, str]]:
    """By table, key, integration id and fields: what NAV has more when an account became a customer."""
    fields, (customer, contact) = to_nav(row), numbers(row)
    shared = {name: value for name, value in fields.items() if name in CONTACT}
    yield "customers", customer, UUID(row["accountid"]), json.dumps({**fields, "No": customer})
    company = {"No": contact, "Company_No": contact, "Company_Name": shared.get("Name", "")}
    yield "contacts", contact, uuid4(), json.dumps({**shared, **company})
    relation = {
        "Contact_No": contact,
        "Business_Relation_Code": "CUST",
        "Link_to_Table": "Customer",
        "No": customer,
    }
    yield "contact-business-relations", f"{contact},CUST", None, json.dumps(relation)


async def update(
    connection: "asyncpg.Connection[asyncpg.Record]", company_id: int, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Changes customers and their contacts, a statement for all of them."""
    records = [record for row in rows for record in _changed_records(row)]
    await connection.execute(UPDATE, company_id, *map(list, zip(*records, strict=True)))


def _changed_records(row: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    fields, (customer, contact) = to_nav(row), numbers(row)
    yield "customers", customer, json.dumps(fields)
    yield "contacts", contact, json.dumps({name: value for name, value in fields.items() if name in CONTACT})


def sets(rows: Sequence[Any], size: int = SET) -> Iterable[Sequence[Any]]:
    """In sets of that size."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def new_id() -> str:
    """For a row that is created."""
    return str(uuid4())
