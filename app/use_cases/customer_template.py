"""The template of customers that come from CRM: NAV's own customer template, taken over by the default setup.

NAV copies it into a configuration template (CRMCUST); here the mapping of customers holds its values itself.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from app.domain.errors import TableNotFound
from app.domain.mapping import TableMapping
from app.ports import NavSide

TEMPLATES: Final = "customer-templates"
CUSTOMERS, ACCOUNT = "customers", "account"
LOCAL: Final = "Currency_Code eq ''"
"""Customers from CRM are in the local currency unless CRM says otherwise."""
ITS_OWN: Final = frozenset({"Code", "Description"})


async def with_nav_template(nav: NavSide, mappings: Sequence[TableMapping]) -> tuple[TableMapping, ...]:
    """The mappings, the one of customers with the first customer template in the local currency, if there is one."""
    if not any(_is_of_customers(mapping) for mapping in mappings):
        return tuple(mappings)
    template = await _template(nav)
    return tuple(replace(m, nav_template=template) if _is_of_customers(m) else m for m in mappings)


def _is_of_customers(mapping: TableMapping) -> bool:
    return (mapping.nav_table, mapping.crm_entity) == (CUSTOMERS, ACCOUNT) and not mapping.option_attribute


async def _template(nav: NavSide) -> str | None:
    try:
        found, _ = await nav.records(TEMPLATES, filter=LOCAL, limit=1)
    except TableNotFound:
        return None
    customers = await nav.definition(CUSTOMERS)
    values = {
        name: value
        for record in found
        for name, value in record.values.items()
        if value not in (None, "") and name in customers.fields and name not in ITS_OWN
    }
    return json.dumps(values, ensure_ascii=False) if values else None
