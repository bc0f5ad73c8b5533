"""customizations.xml: everything the solution brings, in the order of an export."""

from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from app.solution.columns import Column, Kind, column_xml
from app.solution.forms import forms_xml, views_xml
from app.solution.names import LANGUAGE, LOOKUP
from app.solution.relationships import relationships_xml
from app.solution.ribbon import button_xml, empty_ribbon_xml
from app.solution.roles import roles_xml
from app.solution.tables import TABLES, Table, table_xml
from app.solution.web_resources import WebResource, web_resource_xml
from app.solution.xml import SCHEMA_INSTANCE, node

BUTTONS: Final = (("account", "Account"), ("contact", "Contact"), ("systemuser", "SystemUser"))
"""The entities whose forms have the button: logical name, schema name."""

_LOOKUP_ON_ACCOUNT: Final = Column(LOOKUP, "NAV Account Statistics", Kind.LOOKUP)


def customizations_xml(resources: Sequence[WebResource], *, sales: bool) -> Element:
    """The root of the file."""
    return node(
        "ImportExportXml",
        [
            node(
                "Entities", [*(_own_table(table) for table in TABLES), *(_with_button(*e) for e in BUTTONS)]
            ),
            node("Roles", roles_xml(sales=sales)),
            node("Workflows"),
            node("FieldSecurityProfiles"),
            node("Templates"),
            node("EntityMaps"),
            node("EntityRelationships", relationships_xml()),
            node("OrganizationSettings"),
            node("optionsets"),
            node("WebResources", [web_resource_xml(resource) for resource in resources]),
            node("CustomControls"),
            node("EntityDataProviders"),
            node("Languages", [node("Language", text=str(LANGUAGE))]),
        ],
        attributes={"xmlns:xsi": SCHEMA_INSTANCE},
    )


def _own_table(table: Table) -> Element:
    name = {"LocalizedName": table.label, "OriginalName": table.label}
    return node(
        "Entity",
        [
            node("Name", text=table.name, attributes=name),
            node("EntityInfo", [table_xml(table)]),
            forms_xml(table),
            views_xml(table),
            empty_ribbon_xml(),
        ],
    )


def _with_button(logical_name: str, schema_name: str) -> Element:
    """An entity of CRM's own: only what we add to it, so that an import leaves the rest as it is."""
    is_account = logical_name == "account"
    columns = [column_xml(logical_name, _LOOKUP_ON_ACCOUNT)] if is_account else []
    info = node("entity", [node("attributes", columns)], attributes={"Name": schema_name})
    if not is_account:
        info.set("unmodified", "1")
    return node(
        "Entity",
        [
            node("Name", text=schema_name, attributes={"LocalizedName": schema_name, "OriginalName": ""}),
            node("EntityInfo", [info]),
            button_xml(logical_name),
        ],
    )
