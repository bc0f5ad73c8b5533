"""What a list says can be done with its records is what the calls then do."""

from collections.abc import Mapping

import pytest

from app.domain.errors import IntegrationError
from app.use_cases.connection import disable_connection
from app.use_cases.couplings import couple
from app.use_cases.records import nav_get, nav_list
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio


async def reasons(office: Office, table: str, no: str) -> Mapping[str, str | None]:
    """Why not, by action; None for what can be done."""
    items, _ = await nav_list(office.ctx, office.company, table)
    (listed,) = [item for item in items if item.no == no]
    assert listed.actions == (await nav_get(office.ctx, office.company, table, no)).actions
    return {action.name: action.reason for action in listed.actions}


async def refusal(office: Office, table: str, no: str) -> str | None:
    """What the call to create the partner in CRM is told."""
    try:
        await create_in_crm(office.ctx, office.company, table, no, preview=True)
    except IntegrationError as error:
        return error.detail
    return None


async def test_a_customer_waits_for_its_salesperson(office: Office) -> None:
    user = await office.salesperson("NOEMAIL")
    await office.customer("10000", Salesperson_Code="NOEMAIL")
    await office.customer("20000")
    told = await reasons(office, "customers", "10000")
    said = "Salesperson NOEMAIL must be coupled to a CRM user first."
    assert told["set_up_coupling"] == told["create_in_crm"] == said
    assert await refusal(office, "customers", "10000") == said
    assert (await reasons(office, "customers", "20000"))["create_in_crm"] is None
    await couple(office.ctx, office.company, "salespeople", "NOEMAIL", crm_id=user)
    told = await reasons(office, "customers", "10000")
    assert (
        told["set_up_coupling"]
        is told["create_in_crm"]
        is await refusal(office, "customers", "10000")
        is None
    )


async def test_a_contact_waits_for_the_customer_of_its_company_but_can_be_coupled(office: Office) -> None:
    await office.customer("10000", Name="Adatum")
    (company,) = await office.numbers("contacts")
    person = await office.nav.create(
        "contacts", None, {"Name": "Ann", "Type": "Person", "Company_No": company}
    )
    told = await reasons(office, "contacts", person.key)
    said = "Customer 10000, the contact's company, must be coupled to an account first."
    assert (told["set_up_coupling"], told["create_in_crm"]) == (None, said)
    assert await refusal(office, "contacts", person.key) == said
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert (await reasons(office, "contacts", person.key))["create_in_crm"] is None
    await create_in_crm(office.ctx, office.company, "contacts", person.key)
    assert (await reasons(office, "contacts", person.key))["synchronize_to_crm"] is None


async def test_the_reasons_of_a_page_cost_as_much_as_those_of_a_record_and_nothing_in_crm(
    office: Office,
) -> None:
    costs = []
    for number in (1, 20):
        for position in range(number):
            code = f"S{number}-{position}"
            await office.nav.create("salespeople", code, {"Name": code})
            await office.customer(f"C{number}-{position}", Salesperson_Code=code)
        office.forget_requests()
        async with office.statements() as statements:
            items, _ = await nav_list(office.ctx, office.company, "customers")
        assert all(not item.actions[1].allowed for item in items)
        costs.append(len(statements))
    assert costs[0] == costs[1]
    assert office.requests == []


async def test_without_a_connection_that_is_the_reason(office: Office) -> None:
    await office.nav.create("salespeople", "NOEMAIL", {"Name": "N"})
    await office.customer("10000", Salesperson_Code="NOEMAIL")
    await disable_connection(office.ctx, office.company)
    assert "not enabled" in str((await reasons(office, "customers", "10000"))["create_in_crm"])
