"""The button "Dynamics NAV" in CRM: it leads to the companies that stand in the NAV Connections of our solution."""

from typing import Final
from uuid import NAMESPACE_URL, uuid5

from app.domain import solution
from app.domain.company import Company, ConnectionSetup
from app.domain.errors import SideRefused, SideUnavailable, TableNotFound
from app.ports import Context, Insert

TABLE: Final = f"{solution.OURS}_{solution.CONNECTION}"
COMPANY: Final = f"{solution.OURS}_company"
NAME: Final = f"{solution.OURS}_name"


async def add_to_button(ctx: Context, company: Company, connection: ConnectionSetup) -> None:
    """Adds the company to the NAV Connections, unless one of them names it already.

    It names no address: that of the solution file serves, until an administrator gives it one of its own. Where our
    solution is not installed, nothing is done. A refusal of CRM is no reason to leave the connection disabled: whoever
    presses the button reads that a NAV Connection is missing, and enabling again tries again.
    """
    if not connection.integration_solution_installed:
        return
    crm = ctx.sides.crm(company, connection)
    try:
        await crm.definition(TABLE)
        if not (await crm.match(TABLE, COMPANY, [company.name])).get(company.name):
            row_id = uuid5(NAMESPACE_URL, f"{TABLE}/{company.name}")  # two services at once make one row
            row = {NAME: company.display_name or company.name, COMPANY: company.name}
            await crm.write(TABLE, [Insert(row_id, row)])
    except (TableNotFound, SideUnavailable, SideRefused):
        return
