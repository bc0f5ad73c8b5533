"""Runs of option mappings: the options that CRM has by now, and the records whose code stands for one at last."""

import pytest

from app.domain.job import Counts, SynchMode
from app.use_cases.default_setup import use_default_setup
from app.use_cases.records import nav_change
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio

PAYMENT_TERMS = "PAYMENT TERMS"
TABLE, ATTRIBUTE = "payment-terms", "paymenttermscode"


async def before_there_was(office: Office, key: str) -> dict[str, int]:
    """The option mapping as it was before CRM had the option of that key; as it is since then."""
    await use_default_setup(office.ctx, office.company, mappings=[PAYMENT_TERMS])
    async with office.ctx.uow() as tx:
        known = (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE]
        fewer = {each: value for each, value in known.items() if each != key}
        await tx.option_mappings.replace(office.company.id, TABLE, ATTRIBUTE, fewer)
    return known


@pytest.mark.parametrize("mode", [SynchMode.MODIFIED, SynchMode.FULL])
async def test_a_run_reads_the_options_of_crm_again(office: Office, mode: SynchMode) -> None:
    known = await before_there_was(office, "NET45")
    await office.nav.remove(TABLE, "NET45")
    ran = await office.run(PAYMENT_TERMS, mode)
    assert ran.from_crm == Counts(inserted=1, unmodified=len(known) - 1)
    assert ran.told == [("from_crm", "NET45", "inserted", None)]
    async with office.ctx.uow() as tx:
        assert (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE] == known
    assert (await office.run(PAYMENT_TERMS, mode)).wrote_nothing


async def test_a_code_that_stands_for_an_option_at_last_is_sent(office: Office) -> None:
    known = await before_there_was(office, "NET45")
    await office.customer("C0", Payment_Terms_Code="NET45")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    account = (await office.coupled("C0")).crm_id
    assert (await office.in_crm("account", account))[ATTRIBUTE] is None
    await office.run(PAYMENT_TERMS)
    await office.run()
    assert (await office.in_crm("account", account))[ATTRIBUTE] == known["NET45"]
    await office.run(PAYMENT_TERMS)
    assert (await office.run()).wrote_nothing


async def test_a_code_that_stands_for_an_option_since_the_default_setup_is_sent(office: Office) -> None:
    known = await before_there_was(office, "NET45")
    await office.customer("C0", Payment_Terms_Code="NET45")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    await use_default_setup(office.ctx, office.company, mappings=[PAYMENT_TERMS], replace_existing=True)
    await office.run()
    account = (await office.coupled("C0")).crm_id
    assert (await office.in_crm("account", account))[ATTRIBUTE] == known["NET45"]


async def test_a_code_that_is_renamed_stands_for_the_same_option(office: Office) -> None:
    known = await before_there_was(office, "none of them")
    await nav_change(office.ctx, office.company, TABLE, "NET45", {"Code": "45D"})
    await office.customer("C0", Payment_Terms_Code="45D")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    account = (await office.coupled("C0")).crm_id
    assert (await office.in_crm("account", account))[ATTRIBUTE] == known["NET45"]


async def test_a_code_that_is_renamed_is_not_made_again(office: Office) -> None:
    known = await before_there_was(office, "none of them")
    await nav_change(office.ctx, office.company, TABLE, "NET45", {"Code": "45D"})
    assert (await office.run(PAYMENT_TERMS)).from_crm == Counts(unmodified=len(known))
    await use_default_setup(office.ctx, office.company, mappings=[PAYMENT_TERMS], replace_existing=True)
    assert "NET45" not in await office.numbers(TABLE)
    async with office.ctx.uow() as tx:
        now = (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE]
    assert now["45D"] == known["NET45"]


async def test_a_code_that_is_renamed_and_deleted_is_made_again(office: Office) -> None:
    known = await before_there_was(office, "none of them")
    await nav_change(office.ctx, office.company, TABLE, "NET45", {"Code": "45D"})
    await office.nav.remove(TABLE, "45D")
    assert (await office.run(PAYMENT_TERMS)).from_crm == Counts(inserted=1, unmodified=len(known) - 1)


async def test_a_code_is_renamed_to_one_that_was_there(office: Office) -> None:
    known = await before_there_was(office, "none of them")
    await office.nav.remove(TABLE, "NET45")
    await nav_change(office.ctx, office.company, TABLE, "NET30", {"Code": "NET45"})
    async with office.ctx.uow() as tx:
        assert (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE]["NET45"] == known["NET30"]


async def test_a_code_that_is_spelled_in_another_way_is_not_renamed(office: Office) -> None:
    known = await before_there_was(office, "none of them")
    await nav_change(office.ctx, office.company, TABLE, "net45", {"Description": "Net 45 days"})
    async with office.ctx.uow() as tx:
        assert (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE] == known


async def test_options_that_pass_their_names_on_keep_their_codes(office: Office) -> None:
    """One that stands behind the code OLD is called like another one now, which has got a new name itself."""
    known = await before_there_was(office, "none of them")
    await office.nav.remove(TABLE, "NET45")
    await office.nav.create(TABLE, "OLD", {})
    before = {key: value for key, value in known.items() if key != "NET45"}
    before |= {"OLD": known["NET30"], "NET30": known["NET45"]}
    async with office.ctx.uow() as tx:
        await tx.option_mappings.replace(office.company.id, TABLE, ATTRIBUTE, before)
    assert (await office.run(PAYMENT_TERMS)).from_crm == Counts(unmodified=len(known))
    async with office.ctx.uow() as tx:
        assert (await tx.option_mappings.all(office.company.id))[TABLE, ATTRIBUTE] == before
