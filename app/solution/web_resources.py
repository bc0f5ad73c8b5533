"""The script of the button, the page on which a person chooses a company, and the icon."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from xml.etree.ElementTree import Element

from app.solution.names import CHOICE_PAGE, CHOICE_PAGE_ID, ICON, ICON_ID, INTRODUCED, SCRIPT, SCRIPT_ID
from app.solution.xml import node, values

_NO_DEFAULT: Final = 'var DEFAULT_SERVICE_URL = "";'
HTML: Final = 1
JAVASCRIPT: Final = 3
SVG: Final = 11


@dataclass(frozen=True, slots=True)
class WebResource:
    """A file that CRM serves to the browser."""

    name: str
    id: str
    title: str
    kind: int
    content: bytes

    @property
    def path(self) -> str:
        """Where it lies in the solution: a name without separators and extension."""
        return f"WebResources/{self.name.replace('/', '').replace('.', '')}{self.id.upper()}"


def web_resources(service_url: str | None) -> tuple[WebResource, ...]:
    """All of them. `service_url` serves connections that name no address of their own."""
    return (
        WebResource(SCRIPT, SCRIPT_ID, "Dynamics NAV: script of the button", JAVASCRIPT, script(service_url)),
        WebResource(
            CHOICE_PAGE, CHOICE_PAGE_ID, "Dynamics NAV: choice of a company", HTML, _file("opennav.html")
        ),
        WebResource(ICON, ICON_ID, "Dynamics NAV: icon", SVG, _file("opennav.svg")),
    )


def script(service_url: str | None) -> bytes:
    """The script, with the address put into it."""
    text = _file("opennav.js").decode()
    if text.count(_NO_DEFAULT) != 1:
        raise RuntimeError("opennav.js has no place for the default address of the service.")
    chosen = f"var DEFAULT_SERVICE_URL = {json.dumps((service_url or '').rstrip('/'))};"
    return text.replace(_NO_DEFAULT, chosen).encode()


def _file(name: str) -> bytes:
    return files("app.solution").joinpath("resources", name).read_bytes()


def web_resource_xml(resource: WebResource) -> Element:
    """Its entry in customizations.xml."""
    return node(
        "WebResource",
        values(
            WebResourceId=f"{{{resource.id}}}",
            Name=resource.name,
            DisplayName=resource.title,
            WebResourceType=resource.kind,
            IntroducedVersion=INTRODUCED,
            IsEnabledForMobileClient=0,
            IsAvailableForMobileOffline=0,
            IsCustomizable=1,
            CanBeDeleted=1,
            IsHidden=0,
            FileName=f"/{resource.path}",
        ),
    )
