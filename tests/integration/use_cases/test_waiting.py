"""A record that waits for another is released when that one is coupled, by whomever, and looked at once."""

from uuid import UUID, uuid4

import pytest

from app.domain.coupling import Coupling
from app.domain.errors import Awaited, SalespersonNotCoupled
from app.domain.job import Counts, SynchMode
from app.domain.mapping import Direction, UpdateConflictResolution
from app.domain.records import Reference, Side
from app.ports import Wait
from app.use_cases.couplings import couple
from app.use_cases.previews import preview_mapping
from app.use_cases.synchronize import create_in_crm, create_in_nav
from tests.integration.use_cases.office import Office, Ran

pytestmark = pytest.mark.anyio

FULL = SynchMode.FULL
TO, FROM = Direction.TO_CRM, Direction.FROM_CRM


async def contacts(office: Office, direction: Direction) -> Ran:
    """A run of the contacts that gives uncoupled ones a partner."""
    return await office.run("CONTACT", direction=direction, create_uncoupled=True)


async def a_contact(office: Office, no: str, company: str) -> None:
    await office.nav.create("contacts", no, {"Name": no, "Type": "Person", "IntegrationCustomerNo": company})


async def a_pair(office: Office, no: str) -> Coupling:
    await office.customer(no)
    await create_in_crm(office.ctx, office.company, "customers", no)
    await office.run()
    return await office.coupled(no)


async def waiting(office: Office, mapping: str, side: Side) -> set[UUID]:
    """The records whose wait is over, whether they are coupled or not."""
    async with office.ctx.uow() as tx:
        return set(await tx.waiting.released(office.company.id, mapping, side, uncoupled=True))


async def without_salesperson(office: Office) -> tuple[Coupling, UUID]:
    """A customer that was skipped, because its salesperson is not coupled with the user who is the same person."""
    coupling = await a_pair(office, "C0")
    user = await office.salesperson("JO")
    await office.change_nav("customers", "C0", Name="New", Salesperson_Code="JO")
    await office.run()
    await office.run()
    assert (await office.coupled("C0")).skipped
    return coupling, user


async def test_a_contact_waits_for_its_account_on_the_way_to_crm(office: Office) -> None:
    await office.customer("10000")
    await a_contact(office, "CT1", "10000")
    assert (await contacts(office, TO)).told == [("to_crm", "CT1", "failed", "lookup-not-coupled")]
    assert (await contacts(office, TO)).told == []
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert (await contacts(office, TO)).to_crm == Counts(inserted=1)
    person = await office.in_crm("contact", (await office.coupled("CT1", "contacts")).crm_id)
    assert person["parentcustomerid"] == Reference((await office.coupled("10000")).crm_id, "account")
    assert (await contacts(office, TO)).wrote_nothing


async def test_a_contact_waits_for_its_account_on_the_way_from_crm(office: Office) -> None:
    account = await office.account(name="Adatum")
    person = await office.row("contact", lastname="Ann", parentcustomerid=Reference(account, "account"))
    first = await contacts(office, FROM)
    assert ("from_crm", str(person), "skipped", "contact-without-account") in first.told
    assert (await contacts(office, FROM)).told == []
    await create_in_nav(office.ctx, office.company, "accounts", account)
    assert (await contacts(office, FROM)).from_crm.inserted == 1
    assert (await contacts(office, FROM)).wrote_nothing


async def test_a_customer_waits_for_its_salesperson(office: Office) -> None:
    user = await office.salesperson("JO")
    await office.customer("10000", Salesperson_Code="JO")
    await office.run(direction=TO, create_uncoupled=True)
    assert office.accounts() == []
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert (await office.run(direction=TO, create_uncoupled=True)).to_crm == Counts(inserted=1)


async def test_a_run_that_couples_what_was_needed_releases_too(office: Office) -> None:
    await office.customer("10000")
    await a_contact(office, "CT1", "10000")
    await contacts(office, TO)
    await office.run(direction=TO, create_uncoupled=True)
    assert (await contacts(office, TO)).to_crm == Counts(inserted=1)


async def test_a_coupled_one_that_was_skipped_meanwhile_is_taken_back(office: Office) -> None:
    coupling, user = await without_salesperson(office)
    assert (await office.run()).wrote_nothing
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert (await office.run(direction=TO)).to_crm == Counts(modified=1)
    settled = await office.coupled("C0")
    assert (settled.skipped, settled.last_error) == (False, None)
    account = await office.in_crm("account", coupling.crm_id)
    assert (account["name"], account["ownerid"]) == ("New", Reference(user, "systemuser"))
    assert (await office.run()).wrote_nothing
    assert (await office.run(mode=FULL)).wrote_nothing


async def test_a_full_run_takes_it_back_as_well(office: Office) -> None:
    coupling, user = await without_salesperson(office)
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    await office.run(mode=FULL)
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "New"
    assert not (await office.coupled("C0")).skipped


async def test_a_preview_foresees_the_release_and_releases_nothing(office: Office) -> None:
    _, user = await without_salesperson(office)
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    for _ in range(2):
        preview = await preview_mapping(
            office.ctx, office.company, "CUSTOMER", mode=SynchMode.MODIFIED, direction=TO
        )
        assert [each.action.value for each in preview.outcomes] == ["modified"]
    assert (await office.coupled("C0")).skipped
    assert (await office.run(direction=TO)).to_crm.modified == 1


async def test_what_a_person_could_not_synchronize_is_released_too_if_the_mapping_creates(
    office: Office,
) -> None:
    user = await office.salesperson("JO")
    await office.customer("10000", Salesperson_Code="JO")
    await office.run(direction=TO)  # the customer is read, and left alone: it is not coupled
    with pytest.raises(SalespersonNotCoupled) as refused:
        await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert refused.value.extra["waits_for"] == {"nav_table": "salespeople", "nav_key": "JO"}
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert (await office.run(direction=TO)).told == []
    assert (await office.run(direction=TO, create_uncoupled=True)).to_crm == Counts(inserted=1)


async def test_it_waits_for_the_next_thing_when_the_first_did_not_suffice(office: Office) -> None:
    user = await office.salesperson("JO")
    await office.customer("10000")
    await a_contact(office, "CT1", "10000")
    await office.change_nav("contacts", "CT1", Salesperson_Code="JO")
    assert (await contacts(office, TO)).told == [("to_crm", "CT1", "failed", "salesperson-not-coupled")]
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert (await contacts(office, TO)).told == [("to_crm", "CT1", "failed", "lookup-not-coupled")]
    assert (await contacts(office, TO)).told == []
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert (await contacts(office, TO)).to_crm == Counts(inserted=1)


async def test_nothing_is_released_twice_by_a_coupling_that_does_not_help(office: Office) -> None:
    """The customer behind the account is gone, its coupling is still there."""
    coupling = await a_pair(office, "10000")
    person = await office.row(
        "contact", lastname="Ann", parentcustomerid=Reference(coupling.crm_id, "account")
    )
    await office.nav.remove("customers", "10000")
    told = ("from_crm", str(person), "skipped", "contact-without-account")
    assert (await contacts(office, FROM)).told == [told]
    assert (await contacts(office, FROM)).told == [
        told
    ]  # it may have been coupled while the first run looked
    for _ in range(2):
        assert (await contacts(office, FROM)).told == []


async def test_deleted_records_wait_no_longer(office: Office) -> None:
    user = await office.salesperson("JO")
    for no in ("10000", "20000"):
        await office.customer(no, Salesperson_Code="JO")
    await office.run(direction=TO, create_uncoupled=True)
    await office.nav.remove("customers", "10000")
    await office.run(direction=TO)
    await office.nav.remove("customers", "20000")
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert len(await waiting(office, "CUSTOMER", Side.NAV)) == 1
    assert (await office.run(direction=TO, create_uncoupled=True)).told == []
    assert await waiting(office, "CUSTOMER", Side.NAV) == set()


async def test_a_run_in_which_nobody_waits_costs_one_statement_more(office: Office) -> None:
    await a_pair(office, "C0")
    await office.change_nav("customers", "C0", Name="New")
    async with office.statements() as statements:
        await office.run(direction=TO)
    assert len([each for each in statements if "waiting_record" in each]) == 1


async def test_many_that_wait_are_released_in_sets(office: Office) -> None:
    user = await office.salesperson("JO")
    fields = {"Name": "N", "Salesperson_Code": "JO"}
    await office.nav.bulk("customers", [(f"C{number:03}", fields) for number in range(150)])
    async with office.statements() as statements:
        await office.run(direction=TO, create_uncoupled=True)
    assert len([each for each in statements if "waiting_record" in each]) == 2
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    async with office.statements() as statements:
        assert (await office.run(direction=TO, create_uncoupled=True)).to_crm == Counts(inserted=150)
    assert len([each for each in statements if "waiting_record" in each]) == 2


async def test_waiting_records_are_read_page_by_page(office: Office) -> None:
    user = await office.salesperson("JO")
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    ids = sorted(uuid4() for _ in range(5))
    company = office.company.id
    async with office.ctx.uow() as tx:
        await tx.waiting.note(
            company, "CUSTOMER", Side.NAV, [Wait(one, Awaited("salespeople", nav_key="JO")) for one in ids]
        )
        await tx.waiting.note(company, "GONE", Side.NAV, [Wait(ids[0], Awaited("salespeople", nav_key="JO"))])
    async with office.ctx.uow() as tx:
        first = await tx.waiting.released(company, "CUSTOMER", Side.NAV, uncoupled=True, limit=3)
        rest = await tx.waiting.released(company, "CUSTOMER", Side.NAV, uncoupled=True, after=max(first))
        assert [*first, *rest] == ids
        assert len({*first.values(), *rest.values()}) == 1
        assert await tx.waiting.released(company, "CUSTOMER", Side.NAV, uncoupled=False) == {}
        assert await tx.waiting.released(company, "CUSTOMER", Side.CRM, uncoupled=True) == {}
        assert await tx.waiting.released(company, "GONE", Side.NAV, uncoupled=True) == {}


async def test_a_reference_that_was_cleared_is_filled_when_its_record_is_coupled(office: Office) -> None:
    coupling = await a_pair(office, "C0")
    await a_contact(office, "CT1", "C0")
    await office.change_nav("customers", "C0", Name="New", Primary_Contact_No="CT1")
    await office.run()
    account = await office.in_crm("account", coupling.crm_id)
    assert (account["name"], account["primarycontactid"]) == ("New", None)
    assert (await office.in_nav("customers", "C0"))["Primary_Contact_No"] == "CT1"
    assert (await office.run()).wrote_nothing
    await contacts(office, TO)
    assert (await office.run()).to_crm == Counts(modified=1)
    person = (await office.coupled("CT1", "contacts")).crm_id
    account = await office.in_crm("account", coupling.crm_id)
    assert account["primarycontactid"] == Reference(person, "contact")
    assert (await office.run()).wrote_nothing
    await office.change_crm("account", coupling.crm_id, primarycontactid=None)
    await office.run()
    assert (await office.in_nav("customers", "C0"))["Primary_Contact_No"] == ""
    assert (await office.run()).wrote_nothing


async def test_what_somebody_puts_where_a_reference_was_cleared_is_no_conflict(office: Office) -> None:
    coupling = await a_pair(office, "C0")
    await a_contact(office, "CT1", "C0")
    await a_contact(office, "CT2", "C0")
    await office.change_nav("customers", "C0", Primary_Contact_No="CT1")
    await office.run()
    await create_in_crm(office.ctx, office.company, "contacts", "CT2")
    other = (await office.coupled("CT2", "contacts")).crm_id
    await office.change_crm("account", coupling.crm_id, primarycontactid=Reference(other, "contact"))
    await office.run()
    await contacts(office, TO)
    for _ in range(2):
        await office.run()
    assert (await office.in_nav("customers", "C0"))["Primary_Contact_No"] == "CT2"
    assert (await office.coupled("C0")).last_error is None


async def test_an_owner_who_is_no_salesperson_yet_arrives_when_it_is(office: Office) -> None:
    first, second = await office.salesperson("JO"), await office.salesperson("PS")
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=first)
    await office.customer("10000", Salesperson_Code="JO")
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    account = (await office.coupled("10000")).crm_id
    await office.change_crm("account", account, ownerid=Reference(second, "systemuser"))
    assert (await office.run()).wrote_nothing
    await couple(office.ctx, office.company, "salespeople", "PS", crm_id=second)
    await office.run(mode=FULL)
    assert (await office.in_nav("customers", "10000"))["Salesperson_Code"] == "PS"
    assert (await office.run(mode=FULL)).wrote_nothing


async def test_an_owner_who_is_no_salesperson_keeps_no_edit_back(office: Office) -> None:
    """Also where NAV's rule by record holds: both sides changed, but nobody can carry the owner."""
    await office.set_up(update_conflict_resolution=UpdateConflictResolution.NONE)
    first, second = await office.salesperson("JO"), await office.salesperson("PS")
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=first)
    await office.customer("10000", Salesperson_Code="JO")
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    account = (await office.coupled("10000")).crm_id
    await office.run()
    await office.change_crm("account", account, ownerid=Reference(second, "systemuser"))
    assert (await office.run()).wrote_nothing
    await office.change_nav("customers", "10000", Name="New")
    await office.run()
    row = await office.in_crm("account", account)
    assert (row["name"], row["ownerid"]) == ("New", Reference(second, "systemuser"))
    assert (await office.coupled("10000")).last_error is None
