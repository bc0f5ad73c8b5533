"""A mapping that somebody changes while a job of it is under way."""

from collections.abc import Awaitable, Callable

import pytest

from app.domain.job import SynchMode
from app.domain.mapping import Direction, FieldMapping
from app.use_cases.default_setup import use_default_setup
from app.use_cases.mappings import add_field, change_mapping
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office, Quiet

pytestmark = pytest.mark.anyio

TO = Direction.TO_CRM
ROW = FieldMapping("Name_2", "description", Direction.BIDIRECTIONAL)
PAYMENT_TERMS = "PAYMENT TERMS"
OPTIONS = "payment-terms", "paymenttermscode"


class Meanwhile(Quiet):
    """Somebody does something after the job has read its mapping."""

    def __init__(self, what: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._what: Callable[[], Awaitable[object]] | None = what

    async def progress(self, *args: object, **rest: object) -> None:
        what, self._what = self._what, None
        if what is not None:
            await what()


async def test_what_a_changed_filter_lets_in_comes_over_although_a_run_was_under_way(office: Office) -> None:
    await office.customer("C0", City="Berlin")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    narrow = {"nav_filter": "City eq 'Berlin'", "synch_only_coupled_records": False}
    await change_mapping(office.ctx, office.company, "CUSTOMER", narrow)
    await office.run(direction=TO)
    await office.customer("C1", City="Rome")

    widened = Meanwhile(lambda: change_mapping(office.ctx, office.company, "CUSTOMER", {"nav_filter": None}))
    await office.run(direction=TO, report=widened)
    assert (await office.run(direction=TO)).to_crm.inserted == 1
    assert (await office.run(direction=TO)).wrote_nothing


@pytest.mark.parametrize("mode", [SynchMode.FULL, SynchMode.SELECTION])
async def test_a_new_row_reaches_what_a_job_under_way_saves(office: Office, mode: SynchMode) -> None:
    await office.customer("C0", Name_2="ours")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    await office.change_nav("customers", "C0", City="Rome")
    added = Meanwhile(lambda: add_field(office.ctx, office.company, "CUSTOMER", ROW))
    await office.run(mode=mode, direction=TO, keys=["C0"], report=added)
    account = (await office.coupled("C0")).crm_id
    row = await office.in_crm("account", account)
    assert (row["address1_city"], row["description"]) == ("Rome", None)
    await office.run()
    assert (await office.in_crm("account", account))["description"] == "ours"
    assert (await office.run(mode=SynchMode.FULL)).wrote_nothing


async def test_a_code_that_stands_for_an_option_while_a_run_is_under_way_is_sent(office: Office) -> None:
    await use_default_setup(office.ctx, office.company, mappings=[PAYMENT_TERMS])
    async with office.ctx.uow() as tx:
        known = (await tx.option_mappings.all(office.company.id))[OPTIONS]
        fewer = {each: value for each, value in known.items() if each != "NET45"}
        await tx.option_mappings.replace(office.company.id, *OPTIONS, fewer)
    await office.customer("C0", Payment_Terms_Code="NET45")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    await office.change_nav("customers", "C0", City="Rome")
    await office.run(direction=TO, report=Meanwhile(lambda: office.run(PAYMENT_TERMS)))
    account = (await office.coupled("C0")).crm_id
    row = await office.in_crm("account", account)
    assert (row["address1_city"], row["paymenttermscode"]) == ("Rome", None)
    await office.run()
    assert (await office.in_crm("account", account))["paymenttermscode"] == known["NET45"]
