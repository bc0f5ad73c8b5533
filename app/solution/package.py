"""The parts in one file. The same contents make the same bytes, so that two builds can be compared."""

import io
import re
import zipfile
from typing import Final
from urllib.parse import urlsplit

from app.solution.customizations import customizations_xml
from app.solution.manifest import content_types_xml, solution_version, solution_xml
from app.solution.web_resources import web_resources
from app.solution.xml import document

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)  # the first moment a zip can name
_UNIX: Final = 3


def build(package_version: str, service_url: str | None = None, *, sales: bool = True) -> bytes:
    """The solution file.

    Args:
        package_version: of navcrm; the solution gets it as four numbers, and CRM refuses an older one as an update.
        service_url: where people's browsers reach the service, for connections that name no address of their own.
        sales: whether the organization has the tables of Sales and Customer Service, which the role of the
            integration then covers.

    Raises ValueError: the address is no web address.
    """
    if service_url:
        require_web_address(service_url)
    resources = web_resources(service_url)
    contents = {
        "[Content_Types].xml": document(content_types_xml(resources)),
        "solution.xml": document(solution_xml(solution_version(package_version), resources)),
        "customizations.xml": document(customizations_xml(resources, sales=sales)),
        **{resource.path: resource.content for resource in resources},
    }
    return _zip(contents)


def require_web_address(url: str) -> None:
    """Raises ValueError, saying why, unless a browser can open paths below this address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address that begins with https:// or http:// and names a host.")
    if parts.query or parts.fragment or parts.username or re.search(r"\s", url):
        raise ValueError(f"{url} holds more than scheme, host, port and path.")


def _zip(contents: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in contents.items():
            entry = zipfile.ZipInfo(path, _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = _UNIX  # else it depends on who builds
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return made.getvalue()
