"""NAV as the complete script on Microsoft's client writes it: values to compare with CRM's, the records of a customer.

The statements are those of the engineer, who did not know the service.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
from PowerPlatform.Dataverse.models.record import Record
from psycopg.types.json import Jsonb

from tests.benchmarks.scripts import CONTACT, PAIRS

AMOUNTS = frozenset({"Credit_Limit_LCY"})
NUMBER_SERIES = {"customers": ("C", 5, 10, 0), "contacts": ("CT", 6, 1, 0)}
"""Prefix, digits, increment, last number, where NAV has no series yet."""
Database = psycopg.Connection[Any]  # its rows are named tuples
Values = Mapping[str, str]  # by NAV's field names, as text, without the blank ones: the same for both sides
Changes = Mapping[str, str | None]  # None where it is blank now


# --- values ---------------------------------------------------------------------------------------


def values_of_account(account: Record) -> Values:
    """The values of an account."""
    values = {field: _clean(field, account.get(column)) for field, column in PAIRS.items()}
    return {field: value for field, value in values.items() if value}


def values_of_customer(fields: Mapping[str, Any]) -> Values:
    """The values of a customer."""
    values = {field: _clean(field, fields.get(field)) for field in PAIRS}
    return {field: value for field, value in values.items() if value}


def _clean(field: str, value: Any) -> str:
    if value is None or value == "":
        return ""
    if field in AMOUNTS:
        amount = round(Decimal(str(value)), 2)
        return f"{amount.normalize():f}" if amount else ""
    return str(value).strip()


def changes_between(old: Values, new: Values) -> Changes:
    """What changed."""
    return {field: new.get(field) for field in PAIRS if old.get(field) != new.get(field)}


def columns_of(values: Changes) -> dict[str, Any]:
    """The columns of an account that the values go to."""
    return {
        PAIRS[field]: float(value) if value and field in AMOUNTS else value for field, value in values.items()
    }


def _with_names(values: Changes) -> Changes:
    """A customer's values, with what follows from its name."""
    if "Name" not in values:
        return values
    name = values["Name"]
    return {**values, "Search_Name": name and name.upper()}


def _contact_values(customer: Changes) -> Changes:
    values = {field: value for field, value in customer.items() if field in CONTACT}
    if "Name" in values:
        values["Company_Name"] = values["Name"]
    return values


# --- records --------------------------------------------------------------------------------------


def create_customers(database: Database, company: int, new: Mapping[UUID, Values]) -> None:
    """New customers of these values by account id, with contact, relation and link."""
    customer_nos = _next_numbers(database, company, "customers", len(new))
    contact_nos = _next_numbers(database, company, "contacts", len(new))
    records: list[tuple[int, str, str, UUID | None, Jsonb]] = []
    links = []
    for (account_id, values), no, contact_no in zip(new.items(), customer_nos, contact_nos, strict=True):
        customer_id = uuid4()
        customer = {"No": no, **_with_names(values)}
        contact = {
            "No": contact_no,
            "Type": "Company",
            "Company_No": contact_no,
            **_contact_values(customer),
        }
        relation = {
            "Contact_No": contact_no,
            "Business_Relation_Code": "CUST",
            "Link_to_Table": "Customer",
            "No": no,
        }
        records += [
            (company, "customers", no, customer_id, Jsonb(customer)),
            (company, "contacts", contact_no, uuid4(), Jsonb(contact)),
            (company, "contact-business-relations", f"{contact_no},CUST", None, Jsonb(relation)),
        ]
        links.append((company, customer_id, account_id, Jsonb(values)))
    cursor = database.cursor()
    cursor.executemany(
        "INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields) VALUES (%s, %s, %s, %s, %s)",
        records,
    )
    cursor.executemany(
        "INSERT INTO script_link (company_id, customer_id, account_id, synced) VALUES (%s, %s, %s, %s)", links
    )


def _next_numbers(database: Database, company: int, nav_table: str, count: int) -> Sequence[str]:
    """The next numbers of NAV's series, leaving out those that somebody gave by hand."""
    database.execute(
        "INSERT INTO nav_number_series (company_id, nav_table, prefix, digits, increment, last)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (company, nav_table, *NUMBER_SERIES[nav_table]),
    )
    (series,) = database.execute(
        "SELECT prefix, digits, increment, last FROM nav_number_series"
        " WHERE company_id = %s AND nav_table = %s FOR UPDATE",
        (company, nav_table),
    )
    numbers: list[str] = []
    last = series.last
    while len(numbers) < count:
        some = []
        for _ in range(count - len(numbers)):
            last += series.increment
            some.append(f"{series.prefix}{last:0{series.digits}d}")
        found = database.execute(
            "SELECT key FROM nav_record WHERE company_id = %s AND nav_table = %s AND key = ANY(%s)",
            (company, nav_table, some),
        )
        taken = {row.key for row in found}
        numbers += [number for number in some if number not in taken]
    database.execute(
        "UPDATE nav_number_series SET last = %s WHERE company_id = %s AND nav_table = %s",
        (last, company, nav_table),
    )
    return numbers


def update_customers(database: Database, company: int, changed: Mapping[str, Changes]) -> None:
    """Changes customers by number; their contacts get what they have in common."""
    contacts = database.execute(
        "SELECT fields->>'No' AS no, fields->>'Contact_No' AS contact_no FROM nav_record"
        " WHERE company_id = %s AND nav_table = 'contact-business-relations'"
        " AND fields->>'Link_to_Table' = 'Customer' AND fields->>'No' = ANY(%s)",
        (company, list(changed)),
    ).fetchall()
    updates = [("customers", no, _with_names(changes)) for no, changes in changed.items()]
    updates += [
        ("contacts", contact.contact_no, changes)
        for contact in contacts
        if (changes := _contact_values(_with_names(changed[contact.no])))
    ]
    database.cursor().executemany(
        "UPDATE nav_record SET fields = (fields - %s::text[]) || %s"
        " WHERE company_id = %s AND nav_table = %s AND key = %s",
        [(*_split(changes), company, nav_table, key) for nav_table, key, changes in updates],
    )


def _split(changes: Changes) -> tuple[Iterable[str], Jsonb]:
    """The fields that are blank now, and the others with their values."""
    return (
        [field for field, value in changes.items() if not value],
        Jsonb({field: value for field, value in changes.items() if value}),
    )
