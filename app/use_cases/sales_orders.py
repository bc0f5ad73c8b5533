"""Sales Order Integration is Enabled: the switch of the CRM organization (nav-behaviour 3.8).

While it is on, CRM leaves submitted orders to NAV and does not let people change them.
"""

from dataclasses import replace
from typing import Final

from app.domain.company import Company, ConnectionSetup
from app.domain.connection import require_enabled
from app.domain.errors import CrmRefused, SubmittedSalesOrders
from app.ports import Context, Refused, Update

ORGANIZATION: Final = "organization"
SWITCH: Final = "issopintegrationenabled"
SUBMITTED: Final = "statecode eq 1"


async def switch_sales_orders(ctx: Context, company: Company, on: bool) -> ConnectionSetup:
    """Switches it in CRM, unless it stands so already; the connection as it is then.

    Raises ConnectionDisabled, SubmittedSalesOrders (off while orders wait for NAV), PermissionMissing when the user
    of the connection may not change the organization, and what else CRM says.
    """
    async with ctx.uow() as tx:
        setup = require_enabled(await tx.connections.find(company.id))
    if setup.organization_id is None:
        raise CrmRefused("CRM did not tell its organization.", fix="POST …/crm-connection/test.")
    crm = ctx.sides.crm(company, setup)
    shown = (await crm.get(ORGANIZATION, [setup.organization_id], (SWITCH,))).get(setup.organization_id)
    if shown is None or bool(shown.values.get(SWITCH)) is not on:
        if not on and (waiting := await crm.count("salesorder", SUBMITTED)):
            raise SubmittedSalesOrders(
                f"{waiting} submitted sales orders in CRM wait for NAV.",
                fix="Fulfil or cancel them in CRM first.",
            )
        (answer,) = await crm.write(ORGANIZATION, [Update(setup.organization_id, {SWITCH: on})])
        if isinstance(answer, Refused):
            raise answer.error
    async with ctx.uow() as tx:
        present = require_enabled(await tx.connections.find(company.id, lock=True))
        return await tx.connections.save(company.id, replace(present, sales_order_integration_enabled=on))
