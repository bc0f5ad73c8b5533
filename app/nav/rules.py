"""Saving and deleting records the way NAV does: checks, numbers, and what follows from a change."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.domain.conversion import capitals, cut
from app.nav import contacts, customers, statements
from app.nav.definitions import NavTable
from app.nav.drafts import Draft
from app.nav.identities import give_ids
from app.nav.keys import SEPARATOR
from app.nav.rows import Row
from app.nav.saving import Scope, check_relations, fine, merge, number, store
from app.nav.values import StoredValues, from_stored

# Fields that follow another one in capitals, so that lists can be searched.
SEARCH_FIELDS = {
    "Search_Name": "Name",
    "Search_Description": "Description",
    "Search_E_Mail": "E_Mail",
}


@dataclass(frozen=True, slots=True)
class Parent:
    """Whose lines these are: a change of a line counts as a change of its parent (nav-behaviour 2.2)."""

    table: str
    key: tuple[str, ...]
    only: tuple[str, str] | None = None


PARENTS = {
    "sales-lines": Parent("sales-headers", ("Document_Type", "Document_No")),
    "sales-invoice-lines": Parent("sales-invoice-headers", ("Document_No",)),
    "currency-exchange-rates": Parent("currencies", ("Currency_Code",)),
    "sales-prices": Parent("customer-price-groups", ("Sales_Code",), ("Sales_Type", "Customer Price Group")),
}

LINKED_TABLES = {"customers": "Customer", "vendors": "Vendor"}


async def save(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    """Creates or changes a set of records of one table; what goes wrong stands in the drafts."""
    merge(table, drafts)
    if table.name == "contacts":
        await contacts.write_companies(scope, table, drafts)
        contacts.write_names(table, drafts)
    elif table.name == "customers":
        customers.block_private(table, drafts)
    _write_search_fields(table, drafts)
    await number(scope, table, drafts)
    if table.name == "contacts":
        contacts.own_companies(drafts)
    await check_relations(scope, table, drafts)
    await store(scope, table, drafts)
    await _after(scope, table, drafts)


async def _after(scope: Scope, table: NavTable, drafts: Sequence[Draft]) -> None:
    saved = [draft for draft in fine(drafts) if draft.stamp is not None]
    if table.name == "customers":
        await customers.write_company_contacts(scope, saved)
    elif table.name == "contacts":
        await contacts.name_persons(scope, saved)
    elif table.name == "contact-business-relations":
        await contacts.touch_contacts(scope, {draft.text("Contact_No") for draft in saved})
    await _touch_parents(scope, table, [draft.fields for draft in saved])


def _write_search_fields(table: NavTable, drafts: Sequence[Draft]) -> None:
    """A search field follows its source unless somebody gave it a text of its own."""
    for name, source in SEARCH_FIELDS.items():
        field = table.fields.get(name)
        if field is None:
            continue
        for draft in fine(drafts):
            before = draft.before.fields if draft.before else {}
            if draft.fields.get(source) == before.get(source):
                continue
            followed = before.get(name, "") == capitals(str(before.get(source, "")).strip())
            if followed and draft.fields.get(name) == before.get(name):
                draft.set(name, cut(capitals(draft.text(source).strip()), field.length))


async def _touch_parents(scope: Scope, table: NavTable, changed: Sequence[StoredValues]) -> None:
    parent = PARENTS.get(table.name)
    if parent is None:
        return
    keys = {key for fields in changed if (key := _parent_key(table, parent, fields))}
    await statements.touch(scope.connection, scope.company.id, parent.table, keys)
    if keys and scope.company.tracking:
        await give_ids(scope.connection, scope.company, scope.tables[parent.table], keys)


def _parent_key(table: NavTable, parent: Parent, fields: StoredValues) -> str | None:
    values = {name: str(from_stored(table.fields[name], fields.get(name))) for name in parent.key}
    if parent.only is not None:
        name, option = parent.only
        if from_stored(table.fields[name], fields.get(name)) != option:
            return None
    return SEPARATOR.join(values.values())


async def delete(scope: Scope, table: NavTable, rows: Mapping[str, Row]) -> None:
    """Deletes records by their keys, with the business relations that go with them."""
    keys = rows.keys()
    await statements.bury(scope.connection, scope.company.id, table.name, keys)
    await _delete_dependents(scope, table, keys)
    if table.name == "contact-business-relations":
        await contacts.touch_contacts(scope, {str(row.fields.get("Contact_No", "")) for row in rows.values()})
    await _touch_parents(scope, table, [row.fields for row in rows.values()])


async def _delete_dependents(scope: Scope, table: NavTable, keys: Collection[str]) -> None:
    if linked := LINKED_TABLES.get(table.name):
        await customers.remove_relations(scope, linked, keys)
    elif table.name == "contacts":
        await contacts.remove_relations(scope, keys)
