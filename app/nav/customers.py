"""What NAV does when a customer is written: its company contact and their business relation."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import text

from app.nav import statements
from app.nav.contacts import companies_of, name_persons, own_companies, own_company, touch_contacts
from app.nav.definitions import NavTable
from app.nav.drafts import Draft
from app.nav.identities import id_after_change
from app.nav.keys import key_of
from app.nav.saving import Scope, checkable, drawn, fine, merge, store
from app.nav.statements import Change
from app.nav.values import Stored, StoredValues

RELATIONS = "contact-business-relations"
CUSTOMER_RELATION = "CUST"
ALL = "All"

# The fields that a customer and its company contact have in common (NAV's customer-contact update).
SHARED = frozenset(
    {
        "Name",
        "Search_Name",
        "Name_2",
        "Address",
        "Address_2",
        "City",
        "Phone_No",
        "Territory_Code",
        "Currency_Code",
        "Language_Code",
        "Salesperson_Code",
        "Country_Region_Code",
        "Fax_No",
        "VAT_Registration_No",
        "Post_Code",
        "County",
        "E_Mail",
        "Home_Page",
    }
)

RELATIONS_OF = text(
    """
    SELECT key, fields ->> 'Contact_No' FROM nav_record
    WHERE company_id = :company AND nav_table = 'contact-business-relations'
      AND fields ->> 'Link_to_Table' = :linked AND fields ->> 'No' = ANY(CAST(:numbers AS text[]))
    """
)
LINKED = text(
    """
    SELECT fields ->> 'Contact_No' FROM nav_record
    WHERE company_id = :company AND nav_table = 'contact-business-relations'
      AND fields ->> 'Link_to_Table' = 'Customer' AND fields ->> 'Contact_No' = ANY(CAST(:contacts AS text[]))
    """
)


def block_private(table: NavTable, drafts: Sequence[Draft]) -> None:
    """A customer that is blocked for privacy is blocked for everything."""
    for draft in checkable(drafts):
        if not draft.fields.get("Privacy_Blocked"):
            continue
        if draft.given.get("Blocked", ALL) != ALL:
            message = "A customer that is blocked for privacy is blocked for everything."
            draft.refuse(table, "Blocked", message, ALL)
        else:
            draft.set("Blocked", ALL)


async def write_company_contacts(scope: Scope, drafts: Sequence[Draft]) -> None:
    """New customers get their company contact and business relation; changed ones update their contact."""
    new = [draft for draft in fine(drafts) if draft.is_new]
    changed = {
        draft.key or "": shared
        for draft in fine(drafts)
        if not draft.is_new and (shared := draft.changed_among(SHARED))
    }
    companies = await companies_of(scope, {*changed, *(draft.key or "" for draft in new)})
    unlinked = [draft for draft in new if draft.key not in companies]
    known = await _companies_of_primary_contacts(scope, unlinked)
    await _link(scope, known)
    await touch_contacts(scope, known.values())
    await _create_contacts(scope, [draft for draft in unlinked if draft.key not in known])
    of_companies: dict[str, dict[str, Stored | None]] = {}
    for customer, shared in changed.items():
        if customer in companies:
            of_companies.setdefault(companies[customer], {}).update(shared)
    await _update_contacts(scope, of_companies)


async def _companies_of_primary_contacts(scope: Scope, customers: Sequence[Draft]) -> dict[str, str]:
    """By customer, the company of its primary contact, unless that is another customer's already."""
    primary = {draft.key or "": draft.text("Primary_Contact_No") for draft in customers}
    contacts = scope.tables["contacts"]
    numbers = {number for number in primary.values() if number}
    found = await statements.locked_by_key(scope.connection, scope.company.id, contacts, numbers)
    companies = {number: str(row.fields.get("Company_No", "")) for number, row in found.items()}
    if not companies:
        return {}
    linked = await scope.connection.execute(
        LINKED, {"company": scope.company.id, "contacts": sorted(set(companies.values()))}
    )
    spoken_for = {row[0] for row in linked} | {""}
    known = {}
    for customer, number_of_contact in primary.items():
        company = companies.get(number_of_contact, "")
        if company not in spoken_for:
            spoken_for.add(company)
            known[customer] = company
    return known


async def _create_contacts(scope: Scope, customers: Sequence[Draft]) -> None:
    """A company contact of each customer, with the next number of the series, and what makes them one."""
    contacts = scope.tables["contacts"]
    company_id = scope.company.id
    numbers = await drawn(scope, contacts, len(customers)) if customers else []
    changes = []
    for customer, number in zip(customers, numbers, strict=True):
        fields: StoredValues = {**contacts.defaults, "No": number}
        fields.update({name: stored for name, stored in customer.fields.items() if name in SHARED})
        own_company(number, fields)
        changes.append(Change(number, id_after_change(scope.company, contacts, None, fields), fields))
    await statements.add(scope.connection, company_id, contacts, changes)
    pairs = zip(customers, numbers, strict=True)
    relations = _relations(scope, {customer.key or "": number for customer, number in pairs})
    await statements.add(scope.connection, company_id, scope.tables[RELATIONS], relations)


async def _link(scope: Scope, companies: dict[str, str]) -> None:
    """Saves the business relations of customers and contacts that are there."""
    table = scope.tables[RELATIONS]
    relations = _relations(scope, companies)
    asked = {(table.name, relation.key) for relation in relations}
    taken = await statements.existing(scope.connection, scope.company.id, asked)
    free = [relation for relation in relations if (table.name, relation.key) not in taken]
    await statements.add(scope.connection, scope.company.id, table, free)


def _relations(scope: Scope, companies: dict[str, str]) -> list[Change]:
    """Business relations: by customer, the number of the contact that is the same company."""
    table = scope.tables[RELATIONS]
    changes = []
    for customer, company in companies.items():
        fields: StoredValues = {
            "Contact_No": company,
            "Business_Relation_Code": CUSTOMER_RELATION,
            "Link_to_Table": "Customer",
            "No": customer,
        }
        integration_id = id_after_change(scope.company, table, None, fields)
        changes.append(Change(key_of(table, fields), integration_id, fields))
    return changes


async def _update_contacts(scope: Scope, changed: Mapping[str, dict[str, Stored | None]]) -> None:
    """Changes fields of company contacts, by their numbers."""
    contacts = scope.tables["contacts"]
    found = await statements.locked_by_key(scope.connection, scope.company.id, contacts, changed.keys())
    drafts = [Draft(changed[company], key=company, before=row) for company, row in found.items()]
    merge(contacts, drafts)
    own_companies(drafts)
    await store(scope, contacts, drafts)
    await name_persons(scope, drafts)


async def remove_relations(scope: Scope, linked: str, numbers: Collection[str]) -> None:
    """Deletes the business relations of deleted customers or vendors."""
    parameters = {"company": scope.company.id, "linked": linked, "numbers": sorted(numbers)}
    found = (await scope.connection.execute(RELATIONS_OF, parameters)).all() if numbers else []
    relations = [row[0] for row in found]
    await statements.bury(scope.connection, scope.company.id, RELATIONS, relations)
    await touch_contacts(scope, {row[1] for row in found})
