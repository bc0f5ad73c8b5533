"""Links that a person follows from one side to the other.

Forms and escaping: deep links, parts A1 to A3, A5 and B. A link is built from configured addresses only.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from app.domain.company import Company, ConnectionSetup, Generation, NavKind

CARD_PAGES: Final = {
    "customers": 21,
    "vendors": 26,
    "contacts": 5050,
    "salespeople": 5116,
    "currencies": 495,
    "items": 30,
    "resources": 76,
    "opportunities": 5124,
    "sales-headers": 42,
    "sales-invoice-headers": 132,
    "units-of-measure": 209,  # a list, as is the next: NAV has no card for them
    "customer-price-groups": 7,
}
"""The page that shows one record of a table."""

_KEY_FIELDS: Final = {
    "salespeople": ("Code",),
    "currencies": ("Code",),
    "units-of-measure": ("Code",),
    "customer-price-groups": ("Code",),
    "sales-headers": ("Document Type", "No."),
}
_OPERATORS: Final = frozenset("&|<>=.*?@()'")  # what a NAV filter takes for more than a letter
_SHOWN: Final = frozenset({"page", "report", "query", "mode", "bookmark", "filter"})
"""What says which record a client shows, and stands in an address that was copied while one was open."""
_GUID: Final = re.compile(
    r"\{?([0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})\}?", re.IGNORECASE
)


def guid_of(text: str) -> UUID | None:
    """The id that a link carries: with or without braces, in any case. None if it is no id."""
    found = _GUID.fullmatch(text.strip())
    return UUID(found[1]) if found else None


def address_of(table: str, key: str) -> str:
    """Where the API has a NAV record, below its company: what a `fix` names, ready to be called."""
    return f"…/nav/{table}/{quote(key, safe='')}"


def crm_url(connection: ConnectionSetup, entity: str, record_id: UUID) -> str:
    """The address that opens a CRM record, in the app of the connection if it names one."""
    parameters = {"pagetype": "entityrecord", "etn": entity, "id": str(record_id)}
    if connection.app_id is not None:
        parameters["appid"] = str(connection.app_id)
    return f"{connection.server_url}/main.aspx?{urlencode(parameters, quote_via=quote, safe='')}"


def nav_url(company: Company, table: str, key: str) -> str | None:
    """The address that opens a NAV record in the company's client.

    None when the company has no client address or the table no page. An address that begins with
    `DynamicsNAV://` means the Windows client, any other the web client of the company's generation.
    """
    base, page = company.nav_web_client_url, CARD_PAGES.get(table)
    if not base or page is None:
        return None
    conditions = _conditions(table, key)
    if base.lower().startswith("dynamicsnav://"):
        return _windows_client(base, _company_name(company), page, conditions)
    return _web_client(base, _is_2017(company), _company_name(company), page, conditions)


def _company_name(company: Company) -> str:
    """The name by which NAV knows the company: the connector's setting, else what people call it."""
    return str(company.nav.get("company") or company.display_name or company.name)


def _is_2017(company: Company) -> bool:
    online = company.nav.get("kind") == NavKind.BUSINESS_CENTRAL
    return company.defaults_generation is Generation.NAV2017 and not online


def _conditions(table: str, key: str) -> list[tuple[str, str]]:
    fields = _KEY_FIELDS.get(table, ("No.",))
    return list(zip(fields, key.split(",", len(fields) - 1), strict=False))


def filter_literal(value: str) -> str:
    """A key value inside `'No.' IS '…'`, wrapped so that NAV takes none of its characters for an operator."""
    if not _OPERATORS.intersection(value):
        return value
    doubled = value.replace("'", "''")
    return f"''{doubled}''"


def _web_client(base: str, is_2017: bool, company: str, page: int, conditions: list[tuple[str, str]]) -> str:
    given = urlsplit(base)
    path = given.path.rstrip("/")
    if is_2017 and not path.lower().endswith((".aspx", "/webclient")):
        path += "/WebClient"
    if path.lower().endswith("/webclient"):
        path += "/default.aspx"
    elif not path.lower().endswith(".aspx"):
        path += "/"
    parameters = {
        name: value
        for name, value in parse_qsl(given.query, keep_blank_values=True)
        if name.lower() not in _SHOWN
    }
    if not any(name.lower() == "company" for name in parameters):
        parameters["company"] = company
    shown = " AND ".join(f"'{field}' IS '{filter_literal(value)}'" for field, value in conditions)
    parameters |= {"page": str(page), "mode": "View", "filter": shown}
    # Encoded once, blanks as %20: NAV does not read a plus as a blank.
    query = urlencode(parameters, quote_via=quote, safe="")
    return f"{given.scheme}://{given.netloc}{path}?{query}"


def _windows_client(base: str, company: str, page: int, conditions: list[tuple[str, str]]) -> str:
    """`DynamicsNAV://server:port/instance/company/runpage?…`; parts may be left out, the slashes stay."""
    rest = base.partition("://")[2].partition("?")[0]
    parts = [*rest.split("/"), "", "", ""]
    server, instance, named = parts[0], parts[1], parts[2]
    shown_company = named or quote(company, safe="")
    shown = "-AND-".join(f"'{field}'-IS-'{filter_literal(value)}'" for field, value in conditions)
    encoded = quote(shown, safe="'")
    return (
        f"DynamicsNAV://{server}/{instance}/{shown_company}/runpage?page={page}&mode=View&$filter={encoded}"
    )
