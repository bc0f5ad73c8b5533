"""What the bare script and the one on Microsoft's client share: the columns, the mapping, NAV's table, a token.

Both are what one writes for one mapping on one afternoon: no couplings, no base, no history, no log, nothing to
continue from when they are interrupted.
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
INSERT = """
    INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
    SELECT $1, 'customers', r.key, r.id, r.fields::jsonb
    FROM unnest($2::text[], $3::uuid[], $4::text[]) AS r(key, id, fields)
    """
UPDATE = """
    UPDATE nav_record n SET fields = n.fields || r.fields::jsonb
    FROM unnest($2::uuid[], $3::text[]) AS r(id, fields)
    WHERE n.company_id = $1 AND n.nav_table = 'customers' AND n.integration_id = r.id
    """
READ = """
    SELECT key, integration_id, row_version, fields FROM nav_record
    WHERE company_id = $1 AND nav_table = 'customers' AND row_version > $2 ORDER BY row_version LIMIT $3
    """


@dataclass(frozen=True, slots=True)
class Task:
    """What a script is told on its command line, as JSON."""

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


def to_nav(row: Mapping[str, Any]) -> str:
    """The fields of a customer out of an account."""
    return json.dumps(
        {nav: str(value) for nav, crm in PAIRS.items() if (value := row.get(crm)) not in (None, "")}
    )


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
    """New customers, a statement for all of them."""
    keys = [f"B{str(row['accountid'])[:18]}" for row in rows]
    ids = [UUID(row["accountid"]) for row in rows]
    await connection.execute(INSERT, company_id, keys, ids, [to_nav(row) for row in rows])


async def update(
    connection: "asyncpg.Connection[asyncpg.Record]", company_id: int, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Changes customers, a statement for all of them."""
    ids = [UUID(row["accountid"]) for row in rows]
    await connection.execute(UPDATE, company_id, ids, [to_nav(row) for row in rows])


def sets(rows: Sequence[Any], size: int = SET) -> Iterable[Sequence[Any]]:
    """In sets of that size."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def new_id() -> str:
    """For a row that is created."""
    return str(uuid4())
