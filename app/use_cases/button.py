"""The button "Dynamics NAV" in CRM: it finds its way in the NAV Connections of the solution that brought it."""

from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from app.domain import solution
from app.domain.company import Company, ConnectionSetup
from app.domain.errors import SideRefused, SideUnavailable, TableNotFound
from app.ports import Context, CrmSide, Insert, Update

TABLE: Final = f"{solution.OURS}_{solution.CONNECTION}"
COMPANY: Final = f"{solution.OURS}_company"
NAME: Final = f"{solution.OURS}_name"
MICROSOFTS_TABLE: Final = f"{solution.MICROSOFTS}_{solution.CONNECTION}"
MICROSOFTS_NAME: Final = f"{solution.MICROSOFTS}_name"
CLIENT_URL: Final = f"{solution.MICROSOFTS}_dynamicsnavurl"


async def show_company(ctx: Context, company: Company, connection: ConnectionSetup | None) -> None:
    """Tells the NAV Connections in CRM of the company and of the address of its NAV client (nav-behaviour 3.8).

    Nothing is done while the connection is disabled or no solution is installed. A refusal of CRM is no reason to
    refuse what led here: whoever presses the button reads what is missing, and enabling again tries again.
    """
    if connection is None or not connection.is_enabled or not connection.integration_solution_installed:
        return
    crm = ctx.sides.crm(company, connection)
    for tell in (_add_to_ours, _address_in_microsofts):
        try:
            await tell(crm, company)
        except (TableNotFound, SideUnavailable, SideRefused):
            continue


async def _add_to_ours(crm: CrmSide, company: Company) -> None:
    """A row for the company, unless one names it. It names no address: that of the solution file serves, until an
    administrator gives it one of its own."""
    await crm.definition(TABLE)
    if not (await crm.match(TABLE, COMPANY, [company.name])).get(company.name):
        row = {NAME: company.display_name or company.name, COMPANY: company.name}
        await crm.write(TABLE, [Insert(_row_id(TABLE, company), row)])


async def _address_in_microsofts(crm: CrmSide, company: Company) -> None:
    """Microsoft's button leads to the NAV client that its row for the company names."""
    await crm.definition(MICROSOFTS_TABLE)
    name, address = company.display_name or company.name, company.nav_web_client_url
    found = (await crm.match(MICROSOFTS_TABLE, MICROSOFTS_NAME, [name], (CLIENT_URL,))).get(name, ())
    if not found and address:
        row = {MICROSOFTS_NAME: name, CLIENT_URL: address}
        await crm.write(MICROSOFTS_TABLE, [Insert(_row_id(MICROSOFTS_TABLE, company), row)])
    differing = [row.id for row in found if (row.values.get(CLIENT_URL) or None) != address]
    await crm.write(MICROSOFTS_TABLE, [Update(row_id, {CLIENT_URL: address}) for row_id in differing])


def _row_id(table: str, company: Company) -> UUID:
    """Two services at once make one row."""
    return uuid5(NAMESPACE_URL, f"{table}/{company.name}")
