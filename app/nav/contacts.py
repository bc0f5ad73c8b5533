"""What NAV does when a contact is written: names, companies, and the persons of a company."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text

from app.domain.conversion import cut
from app.nav import statements
from app.nav.definitions import INTEGRATION_CUSTOMER, NavTable
from app.nav.drafts import Draft
from app.nav.rows import Row
from app.nav.saving import Scope, checkable, fine
from app.nav.values import StoredValues

NAME_PARTS = ("First_Name", "Middle_Name", "Surname")
# What the contact of a company has only of the company that it is itself.
OF_PERSONS = (*NAME_PARTS, "Company_Name")

# The first relation of each, in the order of the keys. With one condition for all customers the planner reads all
# relations of a large company for every set. A limit in the place of the aggregate would let it hope to meet the
# relation among the first.
COMPANIES_OF_CUSTOMERS = text(
    """
    SELECT customer.no, related.contact
    FROM unnest(CAST(:customers AS text[])) AS customer(no)
    CROSS JOIN LATERAL (
        SELECT (array_agg(fields ->> 'Contact_No' ORDER BY key))[1] AS contact FROM nav_record
        WHERE company_id = :company AND nav_table = 'contact-business-relations'
          AND fields ->> 'No' = customer.no AND fields ->> 'Link_to_Table' = 'Customer'
    ) AS related
    WHERE related.contact IS NOT NULL
    """
)
# The companies stand there twice: as one condition they are looked up by their index, as rows they never were.
NAME_PERSONS = text(
    """
    UPDATE nav_record n
    SET fields = CASE WHEN r.name = '' THEN n.fields - 'Company_Name'
                      ELSE jsonb_set(n.fields, '{Company_Name}', to_jsonb(r.name)) END
    FROM unnest(CAST(:companies AS text[]), CAST(:names AS text[])) AS r(company, name)
    WHERE n.company_id = :company AND n.nav_table = 'contacts'
      AND n.fields ->> 'Company_No' = ANY(CAST(:companies AS text[]))
      AND n.fields ->> 'Company_No' = r.company AND n.key <> r.company
      AND coalesce(n.fields ->> 'Company_Name', '') <> r.name
    """
)
TOUCH_CONTACTS = text(
    """
    UPDATE nav_record SET touched = touched + 1
    WHERE company_id = :company AND nav_table = 'contacts'
      AND fields ->> 'Company_No' = ANY(CAST(:companies AS text[]))
    """
)


def is_person(draft: Draft) -> bool:
    """Whether the contact is a person; otherwise it is a company, NAV's default."""
    return draft.fields.get("Type") == "Person"


def split_name(name: str) -> tuple[str, str, str]:
    """First name, middle names and surname, as NAV breaks a name down. One word is a surname."""
    words = name.split()
    if len(words) < 2:
        return "", "", "".join(words)
    return words[0], " ".join(words[1:-1]), words[-1]


def write_names(table: NavTable, drafts: Sequence[Draft]) -> None:
    """A person's name is composed from its parts when they are written, and broken down when it is."""
    for draft in fine(drafts):
        if not is_person(draft):
            continue
        if draft.changes(*NAME_PARTS):
            parts = (draft.text(part) for part in NAME_PARTS)
            draft.set("Name", cut(" ".join(part for part in parts if part), table.fields["Name"].length))
        elif draft.changes("Name", "Type") and draft.text("Name"):
            for name, part in zip(NAME_PARTS, split_name(draft.text("Name")), strict=True):
                draft.set(name, cut(part, table.fields[name].length))


async def write_companies(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """A person belongs to a company contact: the one it names, or the one of the customer it names."""
    await _find_by_customer(scope, table, drafts)
    persons = [
        draft
        for draft in checkable(drafts)
        if is_person(draft) and draft.changes("Company_No", "Type", "Company_Name")
    ]
    named = {draft.text("Company_No") for draft in persons} - {""}
    coming = {draft.text("No"): draft for draft in fine(drafts) if not is_person(draft) and draft.text("No")}
    found = await _contacts(scope, table, named - coming.keys())
    for draft in persons:
        company_no = draft.text("Company_No")
        if not company_no:
            continue
        if company_no in coming:
            draft.set("Company_Name", coming[company_no].fields.get("Name"))
        elif company_no not in found:
            draft.refuse(
                table, "Company_No", f"There is no contact {company_no}; create the company contact first."
            )
        elif found[company_no].fields.get("Type") == "Person":
            draft.refuse(table, "Company_No", f"Contact {company_no} is a person, not a company.")
        else:
            draft.set("Company_Name", found[company_no].fields.get("Name"))


async def _find_by_customer(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    asking = [draft for draft in checkable(drafts) if INTEGRATION_CUSTOMER in draft.given]
    customers = {str(no) for draft in asking if (no := draft.given[INTEGRATION_CUSTOMER])}
    companies = await companies_of(scope, customers)
    for draft in asking:
        customer = draft.given[INTEGRATION_CUSTOMER]
        draft.fields.pop(INTEGRATION_CUSTOMER, None)
        if draft.given.get("Company_No") is not None:
            continue  # the company itself was named too
        if customer is None:
            draft.set("Company_No", None)
            draft.set("Company_Name", None)
        elif customer in companies:
            draft.set("Company_No", companies[str(customer)])
        else:
            message = f"Customer {customer} has no company contact: there is no business relation to it."
            draft.refuse(table, INTEGRATION_CUSTOMER, message)


async def companies_of(scope: Scope, customers: Collection[str]) -> dict[str, str]:
    """The numbers of the company contacts of these customers, by their business relations."""
    if not customers:
        return {}
    parameters = {"company": scope.company.id, "customers": sorted(customers)}
    return {row[0]: row[1] for row in await scope.connection.execute(COMPANIES_OF_CUSTOMERS, parameters)}


async def _contacts(scope: Scope, table: NavTable, numbers: Collection[str]) -> Mapping[str, Row]:
    return await statements.locked_by_key(scope.connection, scope.company.id, table, numbers)


def own_companies(drafts: Sequence[Draft]) -> None:
    """A company contact is its own company."""
    for draft in fine(drafts):
        if not is_person(draft):
            own_company(draft.key or "", draft.fields)


def own_company(number: str, fields: StoredValues) -> None:
    """Makes a company contact with that number its own company."""
    for name in OF_PERSONS:
        fields.pop(name, None)
    fields["Company_No"] = number
    if "Name" in fields:
        fields["Company_Name"] = fields["Name"]


async def name_persons(scope: Scope, drafts: Sequence[Draft]) -> None:
    """The persons of a company carry its name."""
    renamed = {
        draft.key or "": draft.text("Name")
        for draft in fine(drafts)
        if draft.before is not None and not is_person(draft) and draft.changes("Name")
    }
    if renamed:
        parameters = {
            "company": scope.company.id,
            "companies": list(renamed),
            "names": list(renamed.values()),
        }
        await scope.connection.execute(NAME_PERSONS, parameters)


async def touch_contacts(scope: Scope, companies: Collection[str]) -> None:
    """The contacts of a company that became a customer, or ceased to be one, count as changed."""
    if companies:
        parameters = {"company": scope.company.id, "companies": sorted(companies)}
        await scope.connection.execute(TOUCH_CONTACTS, parameters)


RELATIONS = text(
    """
    SELECT key FROM nav_record
    WHERE company_id = :company AND nav_table = 'contact-business-relations'
      AND fields ->> 'Contact_No' = ANY(CAST(:contacts AS text[]))
    """
)


async def remove_relations(scope: Scope, numbers: Collection[str]) -> None:
    """Deletes the business relations of deleted contacts."""
    if numbers:
        parameters = {"company": scope.company.id, "contacts": sorted(numbers)}
        found = [row[0] for row in await scope.connection.execute(RELATIONS, parameters)]
        await statements.bury(scope.connection, scope.company.id, "contact-business-relations", found)
