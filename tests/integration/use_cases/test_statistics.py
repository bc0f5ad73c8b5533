"""Update Account Statistics, for one customer and as a job over all of them."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.coupling import SynchAction
from app.domain.errors import CrmRecordNotFound, NotCoupled, SolutionNotInstalled
from app.domain.job import SynchJob, SynchMode
from app.sandbox import Fault
from app.solution import build
from app.use_cases.couplings import couple
from app.use_cases.statistics import run_account_statistics, update_account_statistics
from tests.integration.use_cases.office import Office, Quiet, Ran, an_office

pytestmark = pytest.mark.anyio


async def a_pair(office: Office, no: str, **fields: Any) -> UUID:
    """A customer coupled with an account of its own."""
    await office.customer(no, **fields)
    account = await office.account(name=f"Account {no}")
    await couple(office.ctx, office.company, "customers", no, crm_id=account, then="nav_data")
    return account


async def figures(office: Office, no: str, **amounts: object) -> None:
    await office.nav.change("customers", no, amounts)


def rows(office: Office) -> dict[str, dict[str, Any]]:
    return {
        row["nav_customerno"]: row for row in office.house.organization.rows("nav_accountstatistics").values()
    }


async def run(office: Office, report: Quiet | None = None) -> Ran:
    job = SynchJob(uuid4(), "account_statistics", None, SynchMode.MODIFIED, created_at=office.ctx.clock.now())
    async with office.ctx.uow() as tx:
        await tx.jobs.add(office.company.id, [job])
    report = report or Quiet()
    await run_account_statistics(office.ctx, office.company, job, report)
    return await office.ran(job, report)


async def test_the_figures_of_a_customer_hang_on_its_account(office: Office) -> None:
    account = await a_pair(office, "10000", Credit_Limit_LCY=5000)
    await figures(office, "10000", Balance_LCY="120484.42", Outstanding_Orders_LCY="23340.78")
    done = await update_account_statistics(office.ctx, office.company, "10000")
    assert done.action is SynchAction.INSERTED
    row = rows(office)["10000"]
    assert (row["nav_name"], row["nav_balancelcy"], row["nav_totallcy"], row["nav_creditlimitlcy"]) == (
        "Customer 10000",
        Decimal("120484.42"),
        Decimal("143825.20"),
        5000,
    )
    shown = await office.in_crm("account", account)
    assert str(shown["nav_accountstatisticsid"].id) == row["nav_accountstatisticsid"]  # type: ignore[union-attr]  # a lookup
    async with office.ctx.uow() as tx:
        job = await tx.jobs.get(office.company.id, done.synch_job_id)  # type: ignore[arg-type]  # it was no preview
    assert job.counted.inserted == 1


async def test_unchanged_figures_write_nothing_though_the_day_is_another(office: Office) -> None:
    await a_pair(office, "10000")
    await figures(office, "10000", Balance_LCY=100)
    await update_account_statistics(office.ctx, office.company, "10000")
    office.house.clock.pass_by(days=2)
    office.forget_requests()
    again = await update_account_statistics(office.ctx, office.company, "10000")
    assert (again.action, again.changes) == (SynchAction.UNMODIFIED, ())
    assert not [request for request in office.requests if not request.startswith("GET")]
    await figures(office, "10000", Balance_LCY=200)
    changed = await update_account_statistics(office.ctx, office.company, "10000")
    assert changed.action is SynchAction.MODIFIED
    assert {change.field for change in changed.changes} == {
        "nav_balancelcy",
        "nav_totallcy",
        "nav_overdueamountsasof",
    }


async def test_the_name_is_given_once_and_then_belongs_to_crm(office: Office) -> None:
    await a_pair(office, "10000")
    await update_account_statistics(office.ctx, office.company, "10000")
    row_id = UUID(rows(office)["10000"]["nav_accountstatisticsid"])
    await office.change_crm("nav_accountstatistics", row_id, nav_name="Our best")
    await figures(office, "10000", Balance_LCY=1)
    await update_account_statistics(office.ctx, office.company, "10000")
    assert rows(office)["10000"]["nav_name"] == "Our best"


async def test_a_preview_says_what_would_be_written_and_writes_nothing(office: Office) -> None:
    await a_pair(office, "10000")
    preview = await update_account_statistics(office.ctx, office.company, "10000", preview=True)
    assert (preview.action, preview.synch_job_id) == (SynchAction.INSERTED, None)
    assert rows(office) == {}


async def test_the_account_does_not_look_changed_afterwards(office: Office) -> None:
    await a_pair(office, "10000")
    await office.run()
    await update_account_statistics(office.ctx, office.company, "10000")
    coupling = await office.coupled("10000")
    found = await office.crm.get("account", [coupling.crm_id], ())
    assert coupling.base is not None
    assert coupling.base.crm_version == found[coupling.crm_id].version


async def test_a_customer_without_a_coupling_and_a_lost_account_are_refused(office: Office) -> None:
    await office.customer("20000")
    with pytest.raises(NotCoupled):
        await update_account_statistics(office.ctx, office.company, "20000")
    account = await a_pair(office, "10000")
    await office.delete_crm("account", account)
    with pytest.raises(CrmRecordNotFound):
        await update_account_statistics(office.ctx, office.company, "10000")


async def test_without_the_solution_there_are_no_statistics(engine: AsyncEngine) -> None:
    async with an_office(engine, solution_installed=False) as office:
        await a_pair(office, "10000")
        with pytest.raises(SolutionNotInstalled):
            await update_account_statistics(office.ctx, office.company, "10000")
        with pytest.raises(SolutionNotInstalled):
            await run(office)


async def test_the_statistics_table_of_our_own_solution_serves_as_well(engine: AsyncEngine) -> None:
    async with an_office(engine, solution_installed=False, solutions=[build("1.0")]) as office:
        account = await a_pair(office, "10000")
        await figures(office, "10000", Balance_LCY=100)
        done = await update_account_statistics(office.ctx, office.company, "10000")
        assert done.action is SynchAction.INSERTED
        (row,) = office.house.organization.rows("navcrm_accountstatistics").values()
        assert (row["navcrm_customerno"], row["navcrm_totallcy"]) == ("10000", 100)
        shown = office.house.organization.rows("account")[str(account)]
        assert shown["navcrm_accountstatisticsid"] == row["navcrm_accountstatisticsid"]
        again = await update_account_statistics(office.ctx, office.company, "10000")
        assert again.action is SynchAction.UNMODIFIED


async def test_a_job_goes_on_where_an_account_is_gone(office: Office) -> None:
    lost = await a_pair(office, "10000")
    await a_pair(office, "20000")
    await a_pair(office, "30000")
    await office.delete_crm("account", lost)
    await office.nav.remove("customers", "30000")
    ran = await run(office)
    assert sorted(ran.told, key=str) == [
        ("to_crm", "10000", "failed", "crm-record-not-found"),
        ("to_crm", "20000", "inserted", None),
    ]
    assert (ran.to_crm.failed, ran.to_crm.inserted) == (1, 1)
    again = await run(office)
    assert (again.to_crm.failed, again.to_crm.unmodified) == (1, 1)


async def test_a_lost_answer_makes_no_second_row(office: Office) -> None:
    await a_pair(office, "10000")
    office.faults(Fault("PATCH .*nav_accountstatistics", kind="reset_after_commit", times=1))
    await run(office)
    office.faults()
    await run(office)
    assert len(rows(office)) == 1


async def test_the_cost_does_not_grow_with_the_customers(office: Office) -> None:
    for number in range(12):
        await a_pair(office, f"C{number:02}")
        await figures(office, f"C{number:02}", Balance_LCY=number)
    await run(office)
    office.forget_requests()
    assert (await run(office)).to_crm.unmodified == 12
    assert len(office.requests) <= 3, office.requests
    for number in range(12):
        await figures(office, f"C{number:02}", Balance_LCY=number + 1)
    office.forget_requests()
    assert (await run(office)).to_crm.modified == 12
    assert len(office.requests) <= 5, office.requests
