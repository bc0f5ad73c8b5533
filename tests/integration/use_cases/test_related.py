"""Dynamics CRM Statistics of a customer: what sales works on with its account."""

from uuid import UUID

import pytest

from app.domain.errors import NotCoupled
from app.domain.records import Reference
from app.ports import Insert
from app.use_cases.couplings import couple
from app.use_cases.related import crm_statistics, related_rows
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio


async def a_pair(office: Office, no: str) -> UUID:
    await office.customer(no)
    account = await office.account(name=no)
    await couple(office.ctx, office.company, "customers", no, crm_id=account)
    return account


async def some_sales(office: Office, account: UUID) -> None:
    """Two open opportunities and a won one, an active quote and a draft, a case and one that is resolved."""
    of = Reference(account, "account")
    await office.row("opportunity", name="By customer", customerid=of)
    await office.row("opportunity", name="By parent account", parentaccountid=of)
    office.house.organization.rows("opportunity")[
        str(await office.row("opportunity", name="Won", customerid=of))
    ]["statecode"] = 1
    await office.row("quote", name="Draft", customerid=of)
    await office.change_crm("quote", await office.row("quote", name="Active", customerid=of), statecode=1)
    await office.row("incident", title="Broken", customerid=of)
    solved = await office.row("incident", title="Solved", customerid=of)
    office.house.organization.rows("incident")[str(solved)]["statecode"] = 1


async def test_the_figures_of_the_coupled_account_cost_one_request(office: Office) -> None:
    account, other = await a_pair(office, "10000"), await a_pair(office, "20000")
    await some_sales(office, account)
    await office.row("opportunity", name="Of another", customerid=Reference(other, "account"))
    found = await crm_statistics(office.ctx, office.company, "10000")
    assert found.counts == {"opportunities": 2, "quotes": 1, "cases": 1}
    assert found.as_of == office.ctx.clock.now()
    office.forget_requests()
    assert (await crm_statistics(office.ctx, office.company, "20000")).counts == {
        "opportunities": 1,
        "quotes": 0,
        "cases": 0,
    }
    assert office.requests == ["POST $batch"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("opportunities", {"By customer", "By parent account"}), ("quotes", {"Active"}), ("cases", {"Broken"})],
)
async def test_the_lists_hold_what_was_counted_each_with_its_link(
    office: Office, kind: str, names: set[str]
) -> None:
    await some_sales(office, await a_pair(office, "10000"))
    rows, cursor = await related_rows(office.ctx, office.company, "10000", kind, limit=10, cursor=None)
    assert ({row.name for row in rows}, cursor) == (names, None)
    entity = {"opportunities": "opportunity", "quotes": "quote", "cases": "incident"}[kind]
    assert all(f"etn={entity}&id={row.id}" in row.url for row in rows)


async def test_a_list_goes_on_page_by_page(office: Office) -> None:
    of = Reference(await a_pair(office, "10000"), "account")
    await office.crm.write(
        "incident", [Insert(office.ctx.new_id(), {"title": str(n), "customerid": of}) for n in range(5)]
    )
    names: list[str] = []
    cursor = None
    for _ in range(3):
        rows, cursor = await related_rows(
            office.ctx, office.company, "10000", "cases", limit=2, cursor=cursor
        )
        names += [row.name for row in rows]
    assert (sorted(names), cursor) == (["0", "1", "2", "3", "4"], None)


async def test_more_than_crm_counts_are_counted_by_us(office: Office) -> None:
    of = Reference(await a_pair(office, "10000"), "account")
    wanted = [Insert(office.ctx.new_id(), {"title": "Case", "customerid": of}) for _ in range(5003)]
    await office.crm.write("incident", wanted)
    assert (await crm_statistics(office.ctx, office.company, "10000")).counts["cases"] == 5003


async def test_an_uncoupled_customer_has_no_figures_rather_than_zeros(office: Office) -> None:
    await office.customer("10000")
    with pytest.raises(NotCoupled):
        await crm_statistics(office.ctx, office.company, "10000")
    with pytest.raises(NotCoupled):
        await related_rows(office.ctx, office.company, "10000", "quotes", limit=1, cursor=None)
