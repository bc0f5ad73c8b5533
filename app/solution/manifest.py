"""solution.xml, which says what the solution is, and [Content_Types].xml, which says what its files are."""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element

from app.solution.customizations import BUTTONS
from app.solution.names import (
    ADMINISTRATOR_ID,
    LANGUAGE,
    OPTION_VALUE_PREFIX,
    PREFIX,
    PUBLISHER,
    SOLUTION,
    SOLUTION_TITLE,
    USER_ID,
)
from app.solution.tables import TABLES
from app.solution.web_resources import WebResource
from app.solution.xml import NIL, SCHEMA_INSTANCE, labels, node, values

_TABLE, _ROLE, _WEB_RESOURCE = "1", "20", "61"
_WHOLE, _SHELL = "0", "2"

_ADDRESS: Final = (
    "City", "County", "Country", "Fax", "FreightTermsCode", "ImportSequenceNumber", "Latitude", "Line1", "Line2",
    "Line3", "Longitude", "Name", "PostalCode", "PostOfficeBox", "PrimaryContactName", "ShippingMethodCode",
    "StateOrProvince", "Telephone1", "Telephone2", "Telephone3", "TimeZoneRuleVersionNumber", "UPSZone", "UTCOffset",
    "UTCConversionTimeZoneCode",
)  # fmt: skip


def solution_version(package_version: str) -> str:
    """The four numbers of Dataverse out of the version of this package: 1.2.3 and 1.2.3rc1 become 1.2.3.0."""
    release = re.match(r"\d+(\.\d+)*", package_version)
    if release is None:
        raise ValueError(f"{package_version} is no version.")
    numbers = [*release[0].split("."), "0", "0", "0"]
    return ".".join(numbers[:4])


def solution_xml(version: str, resources: Sequence[WebResource]) -> Element:
    """The manifest; `version` is that of the solution, four numbers."""
    return node(
        "ImportExportXml",
        [
            node(
                "SolutionManifest",
                [
                    node("UniqueName", text=SOLUTION),
                    labels("LocalizedNames", "LocalizedName", SOLUTION_TITLE),
                    node("Descriptions"),
                    *values(Version=version, Managed=0),
                    _publisher(),
                    node("RootComponents", _root_components(resources)),
                    node("MissingDependencies"),
                ],
            )
        ],
        attributes={
            "version": "9.2.0.0",
            "SolutionPackageVersion": "9.2",
            "languagecode": str(LANGUAGE),
            "generatedBy": "CrmLive",
            "xmlns:xsi": SCHEMA_INSTANCE,
        },
    )


def _publisher() -> Element:
    return node(
        "Publisher",
        [
            node("UniqueName", text=PUBLISHER),
            labels("LocalizedNames", "LocalizedName", PUBLISHER),
            node("Descriptions"),
            node("EMailAddress", attributes=NIL),
            node("SupportingWebsiteUrl", attributes=NIL),
            *values(CustomizationPrefix=PREFIX, CustomizationOptionValuePrefix=OPTION_VALUE_PREFIX),
            node("Addresses", [_address(1), _address(2)]),
        ],
    )


def _address(number: int) -> Element:
    empty = {name: node(name, attributes=NIL) for name in _ADDRESS}
    empty["ShippingMethodCode"] = node("ShippingMethodCode", text="1")
    return node("Address", [*values(AddressNumber=number, AddressTypeCode=1), *empty.values()])


def _root_components(resources: Sequence[WebResource]) -> list[Element]:
    named = [
        *((_TABLE, table.name, _WHOLE) for table in TABLES),
        *((_TABLE, logical_name, _SHELL) for logical_name, _ in BUTTONS),
        *((_WEB_RESOURCE, resource.name, _WHOLE) for resource in resources),
    ]
    components = [{"type": kind, "schemaName": name, "behavior": how} for kind, name, how in named]
    components += [
        {"type": _ROLE, "id": f"{{{role}}}", "behavior": _WHOLE} for role in (ADMINISTRATOR_ID, USER_ID)
    ]
    return [node("RootComponent", attributes=component) for component in components]


def content_types_xml(resources: Sequence[WebResource]) -> Element:
    """A web resource has no extension in the file, so each has an entry of its own."""
    kind = {"ContentType": "application/octet-stream"}
    return node(
        "Types",
        [
            node("Default", attributes={"Extension": "xml"} | kind),
            *(node("Override", attributes={"PartName": f"/{r.path}"} | kind) for r in resources),
        ],
        attributes={"xmlns": "http://schemas.openxmlformats.org/package/2006/content-types"},
    )
