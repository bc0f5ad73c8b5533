"""What the coupling of a customer also enables: posts about its sales orders on the account's timeline."""

import asyncio

import pytest

from tests.seeds.world import SALESPERSON, Json, World

pytestmark = pytest.mark.anyio
INVOICES = "sales-invoice-headers"


async def posted(world: World, invoice: str, order: str, customer: str = "10000") -> None:
    """Posting a sales order makes a posted invoice."""
    fields = {"Sell_to_Customer_No": customer, "Order_No": order, "Posting_Date": "2026-11-22"}
    await world.new(INVOICES, invoice, **fields)


async def run(world: World) -> Json:
    """The job of the default setup, now."""
    entries = {entry["kind"]: entry for entry in await world.items("job-queue-entries")}
    return await world.job(f"job-queue-entries/{entries['timeline_posts']['id']}/run")


async def posts(world: World) -> list[tuple[str, str]]:
    """Whom the posts regard, and the text of each."""
    rows = await world.crm.rows("posts")
    return sorted((row["_regardingobjectid_value"], row["text"]) for row in rows)


async def test_D3_39_posting_a_sales_order_makes_one_post_on_the_timeline_of_the_account(
    at_work: World,
) -> None:
    await posted(at_work, "103000", "999", "")
    account = await at_work.coupled_customer("10000")
    await at_work.customer("20000")
    await posted(at_work, "103001", "1001")
    await posted(at_work, "103002", "1002", "20000")
    await posted(at_work, "103003", "")
    job = await run(at_work)
    assert (job["status"], job["inserted"], job["failed"]) == ("succeeded", 1, 0)
    ((regarding, text),) = await posts(at_work)
    assert regarding == account
    assert "1001" in text
    assert "103001" in text
    (outcome,) = await at_work.outcomes(job)
    assert (outcome["nav_no"], outcome["crm_entity"], outcome["action"]) == ("103001", "post", "inserted")
    at_work.crm.forget()
    again = await run(at_work)
    assert (again["inserted"], at_work.crm.writes()) == (0, [])
    await posted(at_work, "103004", "1001")  # the rest of the same order
    assert (await run(at_work))["inserted"] == 0
    await posted(at_work, "103005", "1005")
    assert (await run(at_work))["inserted"] == 1
    assert len(await posts(at_work)) == 2


async def test_D3_39_orders_posted_before_the_customer_was_coupled_are_not_told(at_work: World) -> None:
    await at_work.customer("10000")
    await posted(at_work, "103001", "1001")
    assert (await run(at_work))["inserted"] == 0
    await at_work.post("nav/customers/10000/create-in-crm")
    assert (await run(at_work))["inserted"] == 0
    assert await posts(at_work) == []


async def test_D3_39_a_missing_privilege_loses_no_post(at_work: World) -> None:
    await at_work.coupled_customer("10000")
    await posted(at_work, "103001", "1001")
    at_work.crm.organization.revoke("prvCreatePost")
    entries = {entry["kind"]: entry for entry in await at_work.items("job-queue-entries")}
    job = await at_work.post(f"job-queue-entries/{entries['timeline_posts']['id']}/run")
    for _ in range(3000):
        job = await at_work.get(f"synch-jobs/{job['id']}")
        if job["message"]:
            break
        await asyncio.sleep(0.02)
    assert "prvCreatePost" in job["message"]
    assert job["inserted"] == 0
    await at_work.post(f"synch-jobs/{job['id']}/cancel")
    at_work.crm.organization.grant("prvCreatePost")
    assert (await run(at_work))["inserted"] == 1


async def test_D3_39_the_coupling_synchronizes_customer_and_account(world: World) -> None:
    account = await world.coupled_customer("10000", Salesperson_Code=SALESPERSON)
    await world.change("customers", "10000", City="London")
    await world.post("nav/customers/10000/synchronize", {"direction": "to_crm"})
    assert (await world.crm.row("accounts", account))["address1_city"] == "London"
