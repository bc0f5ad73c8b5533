"""Set Up Coupling, Create in CRM, Create in NAV: with every refusal, and nothing half done."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.coupling import CouplingStatus, SynchAction
from app.domain.errors import (
    AlreadyCoupled,
    ContactTypeNotPerson,
    ContactWithoutAccount,
    ContactWithoutCompany,
    CreateNotSupported,
    CrmRecordNotFound,
    CrmRefused,
    CrmUnavailable,
    DirectionNotAllowed,
    Filtered,
    IntegrationError,
    Invalid,
    MappingNotFound,
    NavRecordNotFound,
    NoCoupling,
    SalespersonNotCoupled,
    TableNotFound,
)
from app.domain.mapping import UpdateConflictResolution
from app.domain.records import Reference
from app.sandbox import Fault
from app.use_cases import couplings
from app.use_cases.couplings import couple, coupling_of, uncouple
from app.use_cases.pairs import Pair, couple_many
from app.use_cases.results import COMPLETED
from app.use_cases.synchronize import create_in_crm, create_in_nav, create_in_nav_many, synchronize_record
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio

NEW_ACCOUNT = "PATCH .*/accounts"


async def test_an_existing_account_is_coupled_and_nothing_is_written(office: Office) -> None:
    await office.customer("10000", Name="Adatum", City="London")
    account = await office.account(name="Adatum Ltd.")
    done = await couple(office.ctx, office.company, "customers", "10000", crm_id=account)
    assert done.coupling is not None
    assert done.coupling.coupling.crm_id == account
    assert done.synchronization is None
    assert (await office.in_crm("account", account))["name"] == "Adatum Ltd."
    assert (await office.in_nav("customers", "10000"))["Name"] == "Adatum"


@pytest.mark.parametrize("changed", ["nav", "crm"])
@pytest.mark.parametrize(
    "wins", [UpdateConflictResolution.SEND_TO_CRM, UpdateConflictResolution.GET_FROM_CRM]
)
async def test_the_side_that_wins_does_so_whichever_half_of_a_new_pair_changes_first(
    office: Office, wins: UpdateConflictResolution, changed: str
) -> None:
    await office.set_up(update_conflict_resolution=wins)
    await office.customer("10000", Name="Ours", City="London")
    account = await office.account(name="Theirs", address1_city="Paris")
    await office.run()
    await couple(office.ctx, office.company, "customers", "10000", crm_id=account)
    if changed == "nav":
        await office.change_nav("customers", "10000", Name="Newer")
    else:
        await office.change_crm("account", account, name="Newer")
    for _ in range(2):
        await office.run()
    record, row = await office.in_nav("customers", "10000"), await office.in_crm("account", account)
    city = "London" if wins is UpdateConflictResolution.SEND_TO_CRM else "Paris"
    assert (record["Name"], record["City"]) == (row["name"], row["address1_city"])
    assert record["City"] == city
    assert (await office.run()).wrote_nothing


@pytest.mark.parametrize(
    ("then", "name", "city"), [("nav_data", "Adatum", ""), ("crm_data", "Account", "Paris")]
)
async def test_after_coupling_the_chosen_side_overwrites_the_other(
    office: Office, then: str, name: str, city: str
) -> None:
    await office.customer("10000", Name="Adatum")
    account = await office.account(name="Account", address1_city="Paris")
    done = await couple(office.ctx, office.company, "customers", "10000", crm_id=account, then=then)
    assert done.synchronization is not None
    assert done.synchronization.message == COMPLETED
    assert done.synchronization.action is SynchAction.MODIFIED
    nav, crm = await office.in_nav("customers", "10000"), await office.in_crm("account", account)
    assert (nav["Name"], nav["City"]) == (name, city)
    assert (crm["name"], crm["address1_city"] or "") == (name, city)


async def test_a_new_account_is_created_coupled_and_of_type_customer(office: Office) -> None:
    await office.customer("10000", Name="Adatum", City="London", Credit_Limit_LCY=1000)
    done = await couple(office.ctx, office.company, "customers", "10000", create_new=True)
    assert done.coupling is not None
    assert done.synchronization is not None
    assert done.synchronization.action is SynchAction.INSERTED
    (account,) = office.accounts()
    assert UUID(account["accountid"]) == done.coupling.coupling.crm_id
    assert (account["name"], account["address1_city"], account["customertypecode"]) == ("Adatum", "London", 3)
    coupling = await office.coupled("10000")
    assert (coupling.status, coupling.last_synch_action) == (CouplingStatus.COUPLED, SynchAction.INSERTED)


async def test_a_preview_couples_and_writes_nothing(office: Office) -> None:
    await office.customer("10000")
    account = await office.account()
    for choice in ({"crm_id": account, "then": "nav_data"}, {"create_new": True}):
        done = await couple(office.ctx, office.company, "customers", "10000", preview=True, **choice)
        assert done.coupling is None
    await create_in_crm(office.ctx, office.company, "customers", "10000", preview=True)
    await create_in_nav(office.ctx, office.company, "accounts", account, preview=True)
    assert len(office.accounts()) == 1
    assert await office.numbers() == ["10000"]
    assert await office.couplings() == []


async def untouched(office: Office, call: Any, error: type[IntegrationError]) -> IntegrationError:
    """The refusal of a call that must leave both sides and our memory as they were."""
    rows = [dict(row) for row in office.accounts()]
    records = {no: await office.in_nav("customers", no) for no in await office.numbers()}
    before = (
        await office.couplings() + await office.couplings("CONTACT") + await office.couplings("SALESPEOPLE")
    )
    with pytest.raises(error) as refused:
        await call
    assert type(refused.value) is error
    assert office.accounts() == rows
    assert {no: await office.in_nav("customers", no) for no in await office.numbers()} == records
    after = (
        await office.couplings() + await office.couplings("CONTACT") + await office.couplings("SALESPEOPLE")
    )
    assert after == before
    return refused.value


async def test_what_is_coupled_elsewhere_is_refused_naming_the_partner(office: Office) -> None:
    ctx, company = office.ctx, office.company
    for no in ("10000", "20000"):
        await office.customer(no)
    first, second = await office.account(), await office.account()
    await couple(ctx, company, "customers", "10000", crm_id=first)
    refused = await untouched(
        office, couple(ctx, company, "customers", "20000", crm_id=first), AlreadyCoupled
    )
    assert refused.extra["nav_no"] == "10000"
    refused = await untouched(
        office, couple(ctx, company, "customers", "10000", crm_id=second), AlreadyCoupled
    )
    assert refused.extra["crm_id"] == str(first)
    await untouched(office, couple(ctx, company, "customers", "10000", create_new=True), AlreadyCoupled)
    await untouched(office, create_in_crm(ctx, company, "customers", "10000"), AlreadyCoupled)
    refused = await untouched(office, create_in_nav(ctx, company, "accounts", first), AlreadyCoupled)
    assert refused.extra["nav_no"] == "10000"


async def test_what_does_not_exist_is_not_found(office: Office) -> None:
    ctx, company = office.ctx, office.company
    await office.customer("10000")
    await untouched(office, couple(ctx, company, "customers", "10000", crm_id=uuid4()), CrmRecordNotFound)
    await untouched(office, couple(ctx, company, "customers", "99", create_new=True), NavRecordNotFound)
    await untouched(office, create_in_crm(ctx, company, "customers", "99"), NavRecordNotFound)
    await untouched(office, create_in_nav(ctx, company, "accounts", uuid4()), CrmRecordNotFound)
    await untouched(office, create_in_nav(ctx, company, "nothings", uuid4()), TableNotFound)
    await untouched(office, create_in_crm(ctx, company, "items", "1"), MappingNotFound)
    await untouched(office, coupling_of(ctx, company, "customers", "10000"), NoCoupling)
    await untouched(office, uncouple(ctx, company, "customers", "10000"), NoCoupling)


@pytest.mark.parametrize(
    "asked",
    [
        {"create_new": True, "crm_id": uuid4()},
        {"create_new": True, "then": "crm_data"},
        {"create_new": True, "then": "no"},
        {},
    ],
)
async def test_choices_that_exclude_each_other_are_refused(office: Office, asked: dict[str, Any]) -> None:
    await office.customer("10000")
    await untouched(office, couple(office.ctx, office.company, "customers", "10000", **asked), Invalid)


async def test_salespeople_only_come_from_crm(office: Office) -> None:
    ctx, company = office.ctx, office.company
    user = await office.salesperson("JO", "jo@contoso.com")
    await untouched(office, couple(ctx, company, "salespeople", "JO", create_new=True), CreateNotSupported)
    await untouched(office, create_in_crm(ctx, company, "salespeople", "JO"), CreateNotSupported)
    await untouched(
        office, couple(ctx, company, "salespeople", "JO", crm_id=user, then="nav_data"), DirectionNotAllowed
    )
    done = await couple(ctx, company, "salespeople", "JO", crm_id=user, then="crm_data")
    assert done.synchronization is not None
    assert (await office.in_nav("salespeople", "JO"))["E_Mail"] == "jo@contoso.com"


async def test_a_customer_whose_salesperson_is_not_coupled_is_refused_naming_the_call(office: Office) -> None:
    ctx, company = office.ctx, office.company
    user = await office.salesperson("JO")
    await office.customer("10000", Salesperson_Code="JO")
    account = await office.account()
    refused = await untouched(
        office, couple(ctx, company, "customers", "10000", crm_id=account), SalespersonNotCoupled
    )
    assert "salespeople/JO/coupling" in (refused.fix or "")
    await untouched(
        office, couple(ctx, company, "customers", "10000", create_new=True), SalespersonNotCoupled
    )
    await untouched(office, create_in_crm(ctx, company, "customers", "10000"), SalespersonNotCoupled)
    await couple(ctx, company, "salespeople", "JO", crm_id=user)
    await create_in_crm(ctx, company, "customers", "10000")
    coupling = await office.coupled("10000")
    owner = (await office.in_crm("account", coupling.crm_id))["ownerid"]
    assert getattr(owner, "id", None) == user


async def test_only_persons_with_a_company_can_be_coupled(office: Office) -> None:
    ctx, company = office.ctx, office.company
    await office.nav.create("contacts", "CT1", {"Name": "Adatum", "Type": "Company"})
    await office.nav.create("contacts", "CT2", {"Name": "Ann", "Type": "Person"})
    contact = await office.row("contact", lastname="Ann")
    for call in (
        lambda no: couple(ctx, company, "contacts", no, crm_id=contact),
        lambda no: couple(ctx, company, "contacts", no, create_new=True),
        lambda no: create_in_crm(ctx, company, "contacts", no),
    ):
        await untouched(office, call("CT1"), ContactTypeNotPerson)
        await untouched(office, call("CT2"), ContactWithoutCompany)


async def test_a_contact_without_account_or_with_an_uncoupled_one_does_not_become_a_nav_contact(
    office: Office,
) -> None:
    ctx, company = office.ctx, office.company
    account = await office.account()
    alone = await office.row("contact", lastname="Ann")
    other = await office.row("contact", lastname="Bob", parentcustomerid=an_account_lookup(account))
    for contact in (alone, other):
        await untouched(office, create_in_nav(ctx, company, "contacts", contact), ContactWithoutAccount)
    await create_in_nav(ctx, company, "accounts", account)
    coupled, result = await create_in_nav(ctx, company, "contacts", other)
    assert coupled is not None
    assert result.action is SynchAction.INSERTED
    person = await office.in_nav("contacts", coupled.coupling.nav_key)
    assert (person["Type"], person["Surname"], bool(person["Company_No"])) == ("Person", "Bob", True)


def an_account_lookup(account: UUID) -> Any:
    """A lookup of an account."""
    return Reference(account, "account")


async def test_an_account_becomes_a_customer_with_its_link(office: Office) -> None:
    account = await office.account(name="CRM only", address1_city="Paris")
    coupled, result = await create_in_nav(office.ctx, office.company, "accounts", account)
    assert coupled is not None
    assert (result.action, result.message) == (SynchAction.INSERTED, COMPLETED)
    (no,) = await office.numbers()
    assert coupled.coupling.nav_key == no
    values = await office.in_nav("customers", no)
    assert (values["Name"], values["City"]) == ("CRM only", "Paris")
    assert str(account) in (coupled.crm_url or "")


async def test_with_consent_the_new_record_takes_the_coupling_and_the_old_one_stays(office: Office) -> None:
    ctx, company = office.ctx, office.company
    await office.customer("10000", Name="Adatum")
    await create_in_crm(ctx, company, "customers", "10000")
    first = await office.coupled("10000")
    coupled, _ = await create_in_crm(ctx, company, "customers", "10000", replace_existing=True)
    assert coupled is not None
    second = await office.coupled("10000")
    assert second.crm_id == coupled.coupling.crm_id != first.crm_id
    assert len(office.accounts()) == 2
    copy, _ = await create_in_nav(ctx, company, "accounts", second.crm_id, replace_existing=True)
    assert copy is not None
    assert sorted(await office.numbers()) == sorted(["10000", copy.coupling.nav_key])
    assert await office.coupling("10000") is None
    assert len(await office.couplings()) == 1


async def test_with_consent_a_record_may_change_partners(office: Office) -> None:
    ctx, company = office.ctx, office.company
    for no in ("10000", "20000"):
        await office.customer(no)
    first, second = await office.account(), await office.account()
    await couple(ctx, company, "customers", "10000", crm_id=first)
    await couple(ctx, company, "customers", "20000", crm_id=second)
    await couple(ctx, company, "customers", "10000", crm_id=second, replace_existing=True)
    assert (await office.coupled("10000")).crm_id == second
    assert await office.coupling("20000") is None
    assert len(await office.couplings()) == 1


async def test_a_partner_that_is_gone_no_longer_stands_in_the_way(office: Office) -> None:
    ctx, company = office.ctx, office.company
    await office.customer("10000")
    account = await office.account()
    await couple(ctx, company, "customers", "10000", crm_id=account)
    await office.nav.remove("customers", "10000")
    coupled, _ = await create_in_nav(ctx, company, "accounts", account)
    assert coupled is not None
    await office.delete_crm("account", account)
    await create_in_crm(ctx, company, "customers", coupled.coupling.nav_key)
    assert len(office.accounts()) == len(await office.couplings()) == 1


async def test_a_template_or_filter_that_leaves_the_new_record_outside_creates_nothing(
    office: Office,
) -> None:
    await office.customer("10000")
    await office.set_up(crm_template='{"customertypecode": 1}')
    await untouched(office, create_in_crm(office.ctx, office.company, "customers", "10000"), Filtered)


async def test_what_crm_refuses_leaves_nothing_behind(office: Office) -> None:
    await office.customer("10000")
    office.faults(Fault(NEW_ACCOUNT, "400", times=1, message="A plug-in says no."))
    with pytest.raises(IntegrationError, match="A plug-in says no"):
        await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert (office.accounts(), await office.couplings()) == ([], [])
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert len(office.accounts()) == 1


@pytest.mark.parametrize("kind", ["reset_after_commit", "reset_before_commit", "503", "truncated"])
async def test_a_lost_answer_makes_no_second_account(office: Office, kind: Any) -> None:
    await office.customer("10000", Name="Adatum")
    office.faults(Fault(NEW_ACCOUNT, kind, times=50, retry_after=0))
    with pytest.raises((CrmUnavailable, CrmRefused)):  # half an answer may look like a refusal
        await create_in_crm(office.ctx, office.company, "customers", "10000")
    office.faults()
    coupled, _ = await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert coupled is not None
    (account,) = office.accounts()
    assert UUID(account["accountid"]) == coupled.coupling.crm_id
    (coupling,) = await office.couplings()
    assert coupling.status is CouplingStatus.COUPLED


@pytest.mark.parametrize("kind", ["reset_after_commit", "reset_before_commit"])
async def test_a_lost_answer_while_replacing_keeps_the_old_coupling_until_the_new_record_is_there(
    office: Office, kind: Any
) -> None:
    ctx, company = office.ctx, office.company
    await office.customer("10000", Name="Adatum")
    await create_in_crm(ctx, company, "customers", "10000")
    before = await office.coupled("10000")
    office.faults(Fault(NEW_ACCOUNT, kind, times=50))
    with pytest.raises(CrmUnavailable):
        await create_in_crm(ctx, company, "customers", "10000", replace_existing=True)
    assert (await office.coupled("10000")).crm_id == before.crm_id
    office.faults()
    await create_in_crm(ctx, company, "customers", "10000", replace_existing=True)
    assert len(office.accounts()) == 2
    (coupling,) = await office.couplings()
    assert coupling.crm_id != before.crm_id


async def test_an_edit_after_a_lost_replacement_is_not_undone_though_it_is_lost_too(office: Office) -> None:
    ctx, company = office.ctx, office.company
    await office.customer("10000", Name="Before")
    await create_in_crm(ctx, company, "customers", "10000")
    before = await office.coupled("10000")
    lost = {
        "First": Fault(NEW_ACCOUNT, "reset_after_commit"),
        "Second": Fault(NEW_ACCOUNT, "reset_before_commit"),
    }
    for name, fault in lost.items():
        await office.change_nav("customers", "10000", Name=name)
        office.faults(fault)
        with pytest.raises(CrmUnavailable):
            await create_in_crm(ctx, company, "customers", "10000", replace_existing=True)
    office.faults()
    await office.run()
    (coupling,) = await office.couplings()
    assert coupling.crm_id != before.crm_id
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Second"
    assert (await office.in_nav("customers", "10000"))["Name"] == "Second"


async def test_a_refusal_after_a_lost_answer_does_not_forget_the_account(office: Office) -> None:
    """The account was created although nobody said so; then the salesperson comes in between."""
    ctx, company = office.ctx, office.company
    user = await office.salesperson("JO")
    await office.customer("10000")
    office.faults(Fault(NEW_ACCOUNT, "reset_after_commit", times=50))
    with pytest.raises(CrmUnavailable):
        await create_in_crm(ctx, company, "customers", "10000")
    office.faults()
    await office.change_nav("customers", "10000", Salesperson_Code="JO")
    with pytest.raises(SalespersonNotCoupled):
        await create_in_crm(ctx, company, "customers", "10000")
    await couple(ctx, company, "salespeople", "JO", crm_id=user)
    await synchronize_record(ctx, company, "customers", "10000", direction="to_crm")
    (coupling,) = await office.couplings()
    assert len(office.accounts()) == 1
    assert (await office.in_crm("account", coupling.crm_id))["ownerid"] == Reference(user, "systemuser")
    assert coupling.last_error is None


async def test_fifty_who_create_the_same_account_at_once_make_one(office: Office) -> None:
    await office.customer("10000", Name="Adatum")
    answers = await asyncio.gather(
        *(create_in_crm(office.ctx, office.company, "customers", "10000") for _ in range(50)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refused) < 50
    assert {type(error) for error in refused} <= {AlreadyCoupled}
    assert len(office.accounts()) == len(await office.couplings()) == 1
    assert (await office.coupled("10000")).status is CouplingStatus.COUPLED


async def test_several_pairs_at_once_each_with_its_own_outcome(office: Office) -> None:
    for no in ("10000", "20000"):
        await office.customer(no)
    accounts = [await office.account(name=f"A{n}") for n in range(2)]
    pairs = [
        Pair("customers", "10000", accounts[0]),
        Pair("customers", "20000", accounts[0]),
        Pair("customers", "99", accounts[1]),
        Pair("customers", "20000", accounts[1]),
    ]
    done = await couple_many(office.ctx, office.company, pairs, then="crm_data")
    assert [type(each.error) for each in done] == [type(None), AlreadyCoupled, NavRecordNotFound, type(None)]
    assert (await office.in_nav("customers", "20000"))["Name"] == "A1"


async def test_several_accounts_become_customers_each_with_its_own_outcome(office: Office) -> None:
    ids = [await office.account(name="A"), uuid4(), await office.account(name="B")]
    done = await create_in_nav_many(office.ctx, office.company, "accounts", ids)
    assert [type(each.error) for each in done] == [type(None), CrmRecordNotFound, type(None)]
    assert len(await office.numbers()) == 2


async def test_a_failed_synchronization_after_coupling_says_that_the_coupling_stands(office: Office) -> None:
    await office.customer("10000", Name="Adatum")
    account = await office.account()
    office.faults(Fault(NEW_ACCOUNT, "400", times=1))
    with pytest.raises(IntegrationError) as refused:
        await couple(office.ctx, office.company, "customers", "10000", crm_id=account, then="nav_data")
    assert refused.value.extra["coupled"] is True
    assert (await office.coupled("10000")).crm_id == account


async def test_uncoupling_leaves_both_records(office: Office) -> None:
    await office.customer("10000")
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    await uncouple(office.ctx, office.company, "customers", "10000")
    assert await office.couplings() == []
    assert (await office.numbers(), len(office.accounts())) == (["10000"], 1)


async def test_both_records_are_compared_before_and_after_coupling(office: Office) -> None:
    await office.customer("10000", Name="Adatum", City="London")
    account = await office.account(name="Adatum", address1_city="Paris")
    for _ in range(2):
        shown = await couplings.comparison(office.ctx, office.company, "customers", "10000", crm_id=account)
        equal = {field.nav_field: field.equal for field in shown.fields}
        assert (equal["Name"], equal["City"]) == (True, False)
        await couple(office.ctx, office.company, "customers", "10000", crm_id=account)


@pytest.mark.parametrize("number", [2, 12])
async def test_the_rows_of_several_pairs_are_read_in_one_request(office: Office, number: int) -> None:
    for position in range(number):
        await office.customer(f"{position}")
    pairs = [Pair("customers", f"{position}", await office.account()) for position in range(number)]
    office.forget_requests()
    outcomes = await couple_many(office.ctx, office.company, pairs)
    assert [outcome.error for outcome in outcomes] == [None] * number
    assert office.requests == ["GET accounts"]
