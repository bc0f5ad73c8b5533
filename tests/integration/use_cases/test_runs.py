"""A whole mapping as a synch job: what is read, what is written, what is left out, and what a run costs."""

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.domain.coupling import Coupling, CouplingStatus, SynchResult
from app.domain.errors import Busy, CrmUnavailable, InvalidFilter, InvalidMapping, SalespersonNotCoupled
from app.domain.job import Counts, SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction, FieldMapping, UpdateConflictResolution
from app.domain.records import Reference
from app.ports import Draining
from app.sandbox import Fault
from app.use_cases.couplings import couple, restore
from app.use_cases.synchronize import create_in_crm, create_in_nav
from tests.integration.use_cases.office import Office, Quiet

pytestmark = pytest.mark.anyio

FULL = SynchMode.FULL
TO, FROM = Direction.TO_CRM, Direction.FROM_CRM


async def pairs(office: Office, number: int, **fields: Any) -> list[Coupling]:
    """So many customers with their accounts, and nothing left to do."""
    for position in range(number):
        await office.customer(f"C{position}", **{"Name": f"Name {position}"} | fields)
    await office.run(mode=FULL, create_uncoupled=True)
    await office.run()
    return [await office.coupled(f"C{position}") for position in range(number)]


async def name_in_crm(office: Office, coupling: Coupling) -> Any:
    return (await office.in_crm("account", coupling.crm_id))["name"]


# --- which records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [FULL, SynchMode.MODIFIED])
async def test_only_coupled_records_are_synchronized_and_the_others_appear_nowhere(
    office: Office, mode: SynchMode
) -> None:
    await office.customer("10000", Name="Coupled")
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    await office.customer("20000")
    await office.account(name="Alone")
    await office.change_nav("customers", "10000", Name="Changed")
    ran = await office.run(mode=mode)
    assert ran.to_crm == Counts(modified=1)
    assert ran.from_crm.total <= 1
    assert len(office.accounts()) == 2
    assert await office.numbers() == ["10000", "20000"]


async def test_no_record_is_created_blank_for_want_of_field_rows(office: Office) -> None:
    await office.set_up(fields=(FieldMapping("Name", "name", TO),))
    await office.customer("10000")
    await office.account(name="Alone")
    with pytest.raises(InvalidMapping, match="direction from_crm") as refused:
        await office.run(mode=FULL, create_uncoupled=True)
    assert "/fields adds a row" in str(refused.value.fix)
    assert (await office.numbers(), len(office.accounts())) == (["10000"], 2)  # the other direction was done
    await office.set_up(fields=())
    await office.customer("20000")
    with pytest.raises(InvalidMapping, match="direction to_crm"):
        await create_in_crm(office.ctx, office.company, "customers", "20000")
    await office.run(mode=FULL)  # whom nobody lets create goes on
    assert len(office.accounts()) == 2


async def test_uncoupled_records_are_created_both_ways_when_asked_and_nobody_twice(office: Office) -> None:
    for number in range(3):
        await office.customer(f"C{number}")
    for number in range(2):
        await office.account(name=f"Account {number}")
    ran = await office.run(mode=FULL, create_uncoupled=True)
    assert ran.to_crm == Counts(inserted=3)
    assert ran.from_crm == Counts(inserted=2, unmodified=3)
    assert len(office.accounts()) == len(await office.numbers()) == len(await office.couplings()) == 5
    assert {c.status for c in await office.couplings()} == {CouplingStatus.COUPLED}
    again = await office.run(mode=FULL, create_uncoupled=True)
    assert again.wrote_nothing
    assert again.to_crm.unmodified == again.from_crm.unmodified == 5


async def test_the_flag_of_the_mapping_creates_too_and_stays_as_it_was(office: Office) -> None:
    await office.set_up(synch_only_coupled_records=False)
    await office.customer("10000")
    await office.account()
    ran = await office.run()
    assert (ran.to_crm.inserted, ran.from_crm.inserted) == (1, 1)
    await office.customer("20000")
    assert (await office.run(create_uncoupled=False)).wrote_nothing


async def test_a_direction_may_be_asked_for(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, telephone1="9")
    await office.run(direction=FROM)
    assert (await office.in_nav("customers", "C0"))["Phone_No"] == "9"
    assert await name_in_crm(office, coupling) == "Name 0"
    await office.run(direction=TO)
    assert await name_in_crm(office, coupling) == "Of NAV"


async def test_what_left_the_filter_is_left_out_with_the_reason(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_crm("account", coupling.crm_id, customertypecode=1, name="Of CRM")
    ran = await office.run()
    assert ran.told == [("from_crm", "C0", "skipped", "filtered")]
    assert (await office.in_nav("customers", "C0"))["Name"] == "Name 0"
    await office.change_crm("account", coupling.crm_id, customertypecode=3)
    await office.run()
    assert (await office.in_nav("customers", "C0"))["Name"] == "Of CRM"


async def test_a_contact_without_account_is_left_out_with_the_reason_never_failed(office: Office) -> None:
    await office.customer("10000")
    await create_in_crm(office.ctx, office.company, "customers", "10000")
    stranger = await office.account(name="Not coupled")
    account = (await office.coupled("10000")).crm_id
    await office.row("contact", lastname="Alone")
    await office.row("contact", lastname="Stranger", parentcustomerid=Reference(stranger, "account"))
    known = await office.row("contact", lastname="Known", parentcustomerid=Reference(account, "account"))
    ran = await office.run("CONTACT", FULL, FROM, create_uncoupled=True)
    assert (ran.from_crm.inserted, ran.from_crm.failed) == (1, 0)
    assert {each.reason for each in ran.outcomes if each.action.value == "skipped"} <= {
        "contact-without-account",
        "filtered",
    }
    assert {c.crm_id for c in await office.couplings("CONTACT")} == {known}


async def test_a_value_crm_should_not_hold_fails_its_record_alone(office: Office) -> None:
    broken, fine = await pairs(office, 2)
    for coupling in (broken, fine):
        await office.change_crm("account", coupling.crm_id, address1_city="Leeds")
    row = office.house.organization.rows("account")[str(broken.crm_id)]
    row["creditlimit"] = "much"
    ran = await office.run()
    assert ran.told == [("from_crm", "C0", "failed", "crm-refused"), ("from_crm", "C1", "modified", None)]
    error = ran.outcomes[0].error
    assert error is not None
    assert error.message == f"CRM shows 'much' in creditlimit of account {broken.crm_id}, which is no money."
    await office.change_crm("account", broken.crm_id, creditlimit=5)
    await office.run()
    assert [(await office.in_nav("customers", no))["City"] for no in ("C0", "C1")] == ["Leeds", "Leeds"]


# --- nothing for nothing -----------------------------------------------------------------------------------


async def test_a_run_after_which_nothing_changed_asks_crm_once_and_writes_nothing(office: Office) -> None:
    await pairs(office, 3)
    office.forget_requests()
    async with office.statements() as statements:
        ran = await office.run()
    assert office.requests == ["GET accounts"]
    assert (ran.to_crm.total, ran.from_crm.total, ran.outcomes) == (0, 0, [])
    written = [
        each for each in statements if each.startswith(("INSERT INTO nav_record", "UPDATE nav_record"))
    ]
    assert written == []


async def test_the_run_after_a_run_writes_nothing_on_either_side(office: Office) -> None:
    couplings = await pairs(office, 3)
    await office.change_nav("customers", "C0", Name="Of NAV", City="London")
    await office.change_crm("account", couplings[1].crm_id, name="Of CRM", telephone1="1")
    await office.change_nav("customers", "C2", Name="Both")
    await office.change_crm("account", couplings[2].crm_id, address1_city="Both")
    first = await office.run()
    assert (first.to_crm.modified, first.from_crm.modified) == (2, 2)
    rows = [dict(row) for row in office.accounts()]
    versions = {no: (await office.nav.by_key("customers", [no]))[no].version for no in await office.numbers()}
    for _ in range(2):
        assert (await office.run()).wrote_nothing
        assert (await office.run(mode=FULL)).wrote_nothing
    assert office.accounts() == rows
    assert versions == {
        no: (await office.nav.by_key("customers", [no]))[no].version for no in await office.numbers()
    }


async def test_many_new_records_cost_requests_by_the_set(office: Office) -> None:
    records: list[tuple[str | None, dict[str, Any]]] = [(f"C{n:03}", {"Name": f"N{n}"}) for n in range(200)]
    await office.nav.bulk("customers", records)
    office.forget_requests()
    async with office.statements() as statements:
        ran = await office.run(mode=FULL, direction=TO, create_uncoupled=True)
    assert ran.to_crm == Counts(inserted=200)
    assert office.requests == ["POST $batch"] * len(office.requests)
    assert len(office.requests) <= 20
    assert len(statements) <= 30, "\n".join(statements)


async def test_what_a_person_changes_with_the_integration_account_comes_over(office: Office) -> None:
    """Everything here is written with one account: only our own writes are no changes (seed-checklist E-28)."""
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Ours")
    await office.run()
    await office.change_crm("account", coupling.crm_id, name="A person's")
    ran = await office.run()
    assert ran.from_crm == Counts(modified=1)
    assert (await office.in_nav("customers", "C0"))["Name"] == "A person's"


# --- changes on both sides -------------------------------------------------------------------------------


async def test_different_fields_flow_both_ways(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, telephone1="9", address1_primarycontactname="Ann")
    await office.run()
    values = await office.in_nav("customers", "C0")
    assert (values["Name"], values["Phone_No"], values["Contact"]) == ("Of NAV", "9", "Ann")
    assert await name_in_crm(office, coupling) == "Of NAV"


async def test_the_same_field_is_a_conflict_once_per_direction_and_written_nowhere(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Of NAV", City="Of NAV")
    await office.change_crm("account", coupling.crm_id, name="Of CRM", telephone1="Of CRM")
    ran = await office.run()
    assert sorted(ran.told) == [
        ("from_crm", "C0", "failed", "update-conflict"),
        ("to_crm", "C0", "failed", "update-conflict"),
    ]
    for each in ran.outcomes:
        assert each.error is not None
        assert all(value in each.error.message for value in ("Of NAV", "Of CRM", "Name 0"))
        assert "POST …/nav/customers/C0/synchronize with" in str(each.error.fix)
    values, account = await office.in_nav("customers", "C0"), await office.in_crm("account", coupling.crm_id)
    assert (values["Name"], values["City"], values["Phone_No"]) == ("Of NAV", "Of NAV", "")
    assert (account["name"], account["address1_city"], account["telephone1"]) == ("Of CRM", None, "Of CRM")


async def test_a_conflict_ends_when_people_agree(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Of NAV", City="London")
    await office.change_crm("account", coupling.crm_id, name="Of CRM", telephone1="9")
    await office.run()
    await office.change_nav("customers", "C0", Name="Of CRM")
    await office.run()
    settled = await office.coupled("C0")
    assert (settled.last_synch_result, settled.last_error) == (SynchResult.SUCCESS, None)
    assert (await office.in_nav("customers", "C0"))["Phone_No"] == "9"
    assert (await office.in_crm("account", coupling.crm_id))["address1_city"] == "London"


@pytest.mark.parametrize(
    ("policy", "winner"),
    [
        (UpdateConflictResolution.SEND_TO_CRM, "Of NAV"),
        (UpdateConflictResolution.GET_FROM_CRM, "Of CRM"),
        (UpdateConflictResolution.NONE, None),
        (UpdateConflictResolution.MERGE, None),
    ],
)
async def test_the_policy_decides_who_wins(
    office: Office, policy: UpdateConflictResolution, winner: str | None
) -> None:
    (coupling,) = await pairs(office, 1)
    await office.set_up(update_conflict_resolution=policy)
    await office.change_nav("customers", "C0", Name="Of NAV", City="London")
    await office.change_crm("account", coupling.crm_id, name="Of CRM", telephone1="9")
    ran = await office.run()
    values, account = await office.in_nav("customers", "C0"), await office.in_crm("account", coupling.crm_id)
    if winner is None:
        assert (values["Name"], account["name"]) == ("Of NAV", "Of CRM")
        assert ran.to_crm.failed == ran.from_crm.failed == 1
        return
    assert values["Name"] == account["name"] == winner
    assert (values["Phone_No"], account["address1_city"]) == ("9", "London")
    assert (await office.run()).wrote_nothing


async def test_navs_record_rule_fails_a_record_that_both_changed_whichever_the_fields(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.set_up(update_conflict_resolution=UpdateConflictResolution.NONE)
    await office.change_nav("customers", "C0", City="London")
    await office.change_crm("account", coupling.crm_id, telephone1="9")
    ran = await office.run()
    assert ran.to_crm.failed == ran.from_crm.failed == 1
    assert (await office.in_nav("customers", "C0"))["Phone_No"] == ""


async def test_a_fresh_coupling_fills_blanks_and_conflicts_where_both_have_something(office: Office) -> None:
    await office.customer("C0", Name="Same", City="London")
    account = await office.account(name="Same", telephone1="9")
    await couple(office.ctx, office.company, "customers", "C0", crm_id=account)
    await office.customer("C1", Name="Of NAV")
    other = await office.account(name="Of CRM")
    await couple(office.ctx, office.company, "customers", "C1", crm_id=other)
    ran = await office.run(mode=FULL)
    assert {told[1] for told in ran.told if told[2] == "failed"} == {"C1"}
    assert (await office.in_nav("customers", "C0"))["Phone_No"] == "9"
    assert (await office.in_crm("account", account))["address1_city"] == "London"


# --- failures --------------------------------------------------------------------------------------------------


async def test_one_bad_record_harms_no_other_and_is_tried_again_although_it_did_not_change(
    office: Office,
) -> None:
    couplings = await pairs(office, 3)
    for number in range(3):
        await office.change_nav("customers", f"C{number}", Name=f"New {number}")
    user = await office.salesperson("JO")
    await office.change_nav("customers", "C1", Salesperson_Code="JO")
    ran = await office.run()
    assert (ran.to_crm.modified, ran.to_crm.failed) == (2, 1)
    assert ("to_crm", "C1", "failed", "salesperson-not-coupled") in ran.told
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    ran = await office.run()
    assert ran.to_crm.modified == 1
    assert await name_in_crm(office, couplings[1]) == "New 1"


async def test_after_the_same_failure_twice_it_is_skipped_until_somebody_restores_it(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.salesperson("JO")
    await office.change_nav("customers", "C0", Name="New", Salesperson_Code="JO")
    assert (await office.run()).to_crm.failed == 1
    assert not (await office.coupled("C0")).skipped
    assert (await office.run()).to_crm.failed == 1
    assert (await office.coupled("C0")).skipped
    assert (await office.run()).wrote_nothing
    await office.change_nav("customers", "C0", City="London", Salesperson_Code="")
    assert (await office.run()).told == [("to_crm", "C0", "skipped", "skipped")]
    assert await name_in_crm(office, coupling) == "Name 0"
    assert (await restore(office.ctx, office.company, error_code="something-else")).number == 0
    assert (await restore(office.ctx, office.company, mapping="CUSTOMER")).number == 1
    await office.run()
    assert await name_in_crm(office, coupling) == "New"


async def test_a_conflict_of_both_directions_is_skipped_after_two_runs(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, name="Of CRM")
    await office.run()
    assert not (await office.coupled("C0")).skipped
    await office.run()
    assert (await office.coupled("C0")).skipped


async def test_what_failed_on_its_way_to_nav_is_not_forgotten_because_the_way_to_crm_went_well(
    office: Office,
) -> None:
    """The account's contact person is coupled only after the first run."""
    (coupling,) = await pairs(office, 1)
    await office.set_up(fields=[_strict(row) for row in (await office.set_up()).fields])
    person = await office.row(
        "contact", lastname="Ann", parentcustomerid=Reference(coupling.crm_id, "account")
    )
    await office.change_crm(
        "account", coupling.crm_id, primarycontactid=Reference(person, "contact"), telephone1="9"
    )
    ran = await office.run()
    assert ("from_crm", "C0", "failed", "lookup-not-coupled") in ran.told
    await create_in_nav(office.ctx, office.company, "contacts", person)
    await office.run()
    assert (await office.in_nav("customers", "C0"))["Phone_No"] == "9"


def _strict(row: FieldMapping) -> FieldMapping:
    return replace(row, clear_value_on_failed_synch=False)


@pytest.mark.parametrize("kind", ["reset_after_commit", "reset_before_commit", "truncated", "503"])
async def test_lost_answers_of_batches_make_no_second_account_and_lose_no_change(
    office: Office, kind: Any
) -> None:
    for number in range(30):
        await office.customer(f"C{number}")
    office.faults(Fault("POST .*/\\$batch", kind, every=2, retry_after=0))
    for _ in range(4):
        with suppress(CrmUnavailable):
            await office.run(mode=FULL, create_uncoupled=True)
    office.faults()
    await office.run(mode=FULL, create_uncoupled=True)
    assert len(office.accounts()) == len(await office.numbers()) == len(await office.couplings()) == 30
    for number in range(30):
        await office.change_nav("customers", f"C{number}", Name=f"New {number}")
    office.faults(Fault("POST .*/\\$batch", kind, every=2, retry_after=0))
    for _ in range(4):
        with suppress(CrmUnavailable):
            await office.run()
    office.faults()
    ran = await office.run()
    assert ran.to_crm.failed == ran.from_crm.failed == 0
    assert {row["name"] for row in office.accounts()} == {f"New {number}" for number in range(30)}


WRITES = "(PATCH .*/accounts|POST .*/\\$batch)"


async def cut_off(office: Office, kind: Any, **request: Any) -> None:
    """A run to CRM whose writes get no answer, however often they are sent."""
    office.faults(Fault(WRITES, kind))
    with pytest.raises(CrmUnavailable):
        await office.run(direction=TO, **request)
    office.faults()


@pytest.mark.parametrize("number", [1, 2])  # alone and in a batch
async def test_an_edit_after_a_lost_answer_is_no_conflict_though_it_is_lost_on_its_way_too(
    office: Office, number: int
) -> None:
    couplings = await pairs(office, number)
    for position in range(number):
        await office.change_nav("customers", f"C{position}", Name="First")
    await cut_off(office, "reset_after_commit")
    for position in range(number):
        await office.change_nav("customers", f"C{position}", Name="Second")
    await cut_off(office, "reset_before_commit")
    assert [await name_in_crm(office, each) for each in couplings] == ["First"] * number
    ran = await office.run()
    assert ran.to_crm == Counts(modified=number)
    assert ran.from_crm.failed == 0
    assert [await name_in_crm(office, each) for each in couplings] == ["Second"] * number


@pytest.mark.parametrize("number", [1, 2])
async def test_an_edit_after_a_lost_creation_is_not_undone_though_it_is_lost_on_its_way_too(
    office: Office, number: int
) -> None:
    for position in range(number):
        await office.customer(f"C{position}", Name="First")
    await cut_off(office, "reset_after_commit", mode=FULL, create_uncoupled=True)
    for position in range(number):
        await office.change_nav("customers", f"C{position}", Name="Second")
    await cut_off(office, "reset_before_commit")
    assert [row["name"] for row in office.accounts()] == ["First"] * number
    await office.run()
    assert [row["name"] for row in office.accounts()] == ["Second"] * number
    assert (await office.in_nav("customers", "C0"))["Name"] == "Second"


# --- interruptions -----------------------------------------------------------------------------------------------


class Dead(Exception):
    """The worker died."""


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("mode", [SynchMode.MODIFIED, FULL])
async def test_a_worker_that_dies_between_pages_loses_nothing_and_does_nothing_twice(
    office: Office, step: int, mode: SynchMode
) -> None:
    couplings = await pairs(office, 2)
    await office.set_up(synch_only_coupled_records=False)
    await office.change_nav("customers", "C0", Name="Of NAV")
    await office.change_crm("account", couplings[1].crm_id, name="Of CRM")
    await office.customer("C2")
    await office.account(name="New in CRM")
    taken = 0

    def dies(_: str) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            raise Dead

    try:
        ran = await office.run(mode=mode, report=Quiet(dies))
        await office.run(job=ran.job)
    except Dead:
        await office.run(mode=mode)
    assert await name_in_crm(office, couplings[0]) == "Of NAV"
    assert (await office.in_nav("customers", "C1"))["Name"] == "Of CRM"
    names = sorted(row["name"] for row in office.accounts())
    assert names == ["Customer C2", "New in CRM", "Of CRM", "Of NAV"]
    assert len(await office.numbers()) == len(await office.couplings()) == 4
    assert (await office.run()).wrote_nothing


async def test_a_worker_that_is_to_stop_ends_the_page_in_flight_which_is_not_done_again(
    office: Office,
) -> None:
    await pairs(office, 3)
    for number in range(3):
        await office.change_nav("customers", f"C{number}", Name="New")
    told = 0

    def stops(step: str) -> None:
        nonlocal told
        told += step == "progress"
        if step == "go_on" and told > 1:  # after what is expected, the set
            raise Draining

    report = Quiet(stops)
    with pytest.raises(Draining):
        await office.run(direction=TO, report=report)
    assert report.counts[TO] == Counts(modified=3)
    assert (await office.run(direction=TO)).to_crm == Counts()


OTHERS_WRITE = (
    """CREATE FUNCTION others_were_first() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.revision <> OLD.revision THEN RETURN NULL; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER others BEFORE UPDATE ON coupling FOR EACH ROW EXECUTE FUNCTION others_were_first()",
)
"""Whoever writes a coupling back finds that somebody else has done so since it was read."""


async def test_a_record_whose_coupling_others_keep_writing_is_not_taken_for_done(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    await office.change_nav("customers", "C0", Name="New")
    async with office.engine.begin() as connection:
        for statement in OTHERS_WRITE:
            await connection.execute(text(statement))
    with pytest.raises(Busy, match=r"C0 .* was written by somebody else 5 times"):
        await office.run(direction=TO)
    async with office.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER others ON coupling"))
    assert (await office.run(direction=TO)).to_crm.total == 1
    assert await name_in_crm(office, coupling) == "New"
    assert (await office.coupled("C0")).intent is None
    assert (await office.run()).wrote_nothing


async def test_an_expired_watermark_is_read_anew_and_everything_comes_over(office: Office) -> None:
    couplings = await pairs(office, 3)
    await office.set_up(deletion_conflict_resolution=DeletionConflictResolution.PROPAGATE)
    await office.change_crm("account", couplings[0].crm_id, name="Of CRM")
    await office.delete_crm("account", couplings[1].crm_id)
    organization = office.house.organization
    organization.tokens_valid_from = organization.storage.version
    ran = await office.run()
    assert (ran.from_crm.modified, ran.from_crm.deleted) == (1, 1)
    assert (await office.in_nav("customers", "C0"))["Name"] == "Of CRM"
    assert await office.numbers() == ["C0", "C2"]
    assert (await office.run()).wrote_nothing


# --- a selection, and the end of all couplings ---------------------------------------------------


async def test_a_selection_is_synchronized_record_by_record(office: Office) -> None:
    couplings = await pairs(office, 2)
    await office.customer("C9")
    for no in ("C0", "C1"):
        await office.change_nav("customers", no, Name=f"New {no}")
    await office.salesperson("JO")
    await office.change_nav("customers", "C1", Salesperson_Code="JO")
    ran = await office.run(mode=SynchMode.SELECTION, direction=TO, keys=["C0", "C1", "c0", "C9", "none"])
    assert sorted(told[1:] for told in ran.told) == [
        ("C0", "modified", None),
        ("C1", "failed", "salesperson-not-coupled"),
        ("C9", "failed", "not-coupled"),
        ("none", "failed", "nav-record-not-found"),
    ]
    assert await name_in_crm(office, couplings[0]) == "New C0"
    with pytest.raises(SalespersonNotCoupled):
        await create_in_crm(office.ctx, office.company, "customers", "C1", replace_existing=True)


async def test_the_couplings_of_a_mapping_can_all_be_removed(office: Office) -> None:
    await pairs(office, 3)
    await office.run(mode=SynchMode.UNCOUPLE)
    assert await office.couplings() == []
    assert len(office.accounts()) == len(await office.numbers()) == 3


async def test_a_creation_that_was_refused_is_tried_again_and_then_skipped_until_it_is_restored(
    office: Office,
) -> None:
    """Its record did not change since, and must not be forgotten for that."""
    await office.set_up(synch_only_coupled_records=False)
    await office.run()
    await office.customer("10000")
    office.faults(Fault(r"PATCH .*/accounts.*", "400", message="A plug-in says no."))
    for _ in range(3):
        await office.run()
    (coupling,) = await office.couplings()
    assert coupling.skipped
    assert coupling.last_error is not None
    assert "A plug-in says no" in coupling.last_error.message
    office.faults()
    assert office.accounts() == []
    await restore(office.ctx, office.company)
    await office.run()
    (account,), (coupling,) = office.accounts(), await office.couplings()
    assert UUID(account["accountid"]) == coupling.crm_id
    assert (coupling.status, coupling.last_error, coupling.skipped) == (CouplingStatus.COUPLED, None, False)


async def test_a_refused_creation_whose_record_left_the_filter_is_given_up(office: Office) -> None:
    await office.set_up(synch_only_coupled_records=False, nav_filter="City eq 'Bonn'")
    await office.run()
    await office.customer("10000", City="Bonn")
    office.faults(Fault(r"PATCH .*/accounts.*", "400", message="A plug-in says no."))
    await office.run()
    assert len(await office.couplings()) == 1
    office.faults()
    await office.change_nav("customers", "10000", City="Rome")
    await office.run()
    assert (office.accounts(), await office.couplings()) == ([], [])


async def test_a_filter_that_cannot_be_used_ends_the_run_with_what_is_wrong(office: Office) -> None:
    """One that was saved when nobody looked at its values."""
    await office.customer("C1")
    await office.set_up(nav_filter="Name eq 5")
    with pytest.raises(InvalidFilter, match="Name eq 5"):
        await office.run(mode=SynchMode.FULL, create_uncoupled=True)
    assert office.accounts() == []


async def test_a_value_that_crm_keeps_in_its_own_way_is_no_change_of_theirs(office: Office) -> None:
    mapping = await office.set_up(synch_only_coupled_records=False)
    credit = [
        replace(row, direction=Direction.BIDIRECTIONAL)
        for row in mapping.fields
        if row.crm_attribute == "creditlimit"
    ]
    others = [row for row in mapping.fields if row.crm_attribute != "creditlimit"]
    await office.set_up(fields=(*others, *credit))
    organization = office.house.organization
    rounded = replace(organization.metadata.tables["account"].attributes["creditlimit"], precision=0)
    await office.crm.definition("account")  # says four decimals
    organization.put_column("account", rounded)

    await office.customer("10000", Credit_Limit_LCY=Decimal("10.25"))
    ran = await office.run()
    assert (ran.to_crm, ran.from_crm.failed) == (Counts(inserted=1), 0)
    for limit, kept in (("20.25", 20), ("30.75", 31)):
        await office.change_nav("customers", "10000", Credit_Limit_LCY=Decimal(limit))
        ran = await office.run()
        assert (ran.to_crm, ran.from_crm.failed) == (Counts(modified=1), 0)
        assert [row["creditlimit"] for row in office.accounts()] == [kept]
        assert (await office.run(mode=FULL)).wrote_nothing
    await office.change_nav("customers", "10000", Name="Of another field")
    assert (await office.run()).to_crm == Counts(modified=1)
    assert (await office.in_nav("customers", "10000"))["Credit_Limit_LCY"] == Decimal("30.75")

    await office.change_crm("account", (await office.coupled("10000")).crm_id, creditlimit=Decimal(40))
    assert (await office.run()).from_crm == Counts(modified=1)
    assert (await office.in_nav("customers", "10000"))["Credit_Limit_LCY"] == 40


async def test_a_person_who_became_a_company_in_nav_stays_one_whatever_crm_shows(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    account = Reference(coupling.crm_id, "account")
    ann = await office.row("contact", lastname="Ann", parentcustomerid=account)
    await office.run("CONTACT", create_uncoupled=True)
    (contact,) = await office.couplings("CONTACT")
    await office.change_nav("contacts", contact.nav_key, Type="Company")
    await office.change_crm("contact", ann, fax="77")
    ran = await office.run("CONTACT")
    assert ("from_crm", contact.nav_key, "skipped", "contact-type-not-person") in ran.told
    shown = await office.in_nav("contacts", contact.nav_key)
    assert (shown["Type"], shown["Company_No"]) == ("Company", contact.nav_key)


async def test_an_account_that_nav_cannot_take_is_skipped_after_two_tries_and_draws_no_more_numbers(
    office: Office,
) -> None:
    mapping = await office.set_up(synch_only_coupled_records=False)
    both_ways = [
        replace(row, direction=Direction.BIDIRECTIONAL) if row.crm_attribute == "address1_country" else row
        for row in mapping.fields
    ]
    await office.set_up(fields=both_ways)
    account = await office.account(address1_country="Nowhere")
    for _ in range(2):
        ran = await office.run()
        assert ran.told == [("from_crm", str(account), "failed", "invalid-values")]
    (coupling,) = await office.couplings()
    assert coupling.skipped
    assert (await office.run()).from_crm.failed == 0
    await office.account(name="Of somewhere")
    await office.run()
    assert await office.numbers() == ["C00030"]


async def test_a_record_that_failed_and_changed_since_is_looked_at_once(office: Office) -> None:
    (coupling,) = await pairs(office, 1)
    for limit in (-1, -2):
        await office.change_nav("customers", "C0", Credit_Limit_LCY=Decimal(limit))
        assert (await office.run()).told == [("to_crm", "C0", "failed", "invalid-values")]
    await office.change_nav("customers", "C0", Credit_Limit_LCY=Decimal(3))
    assert (await office.run()).to_crm == Counts(modified=1)
    assert (await office.in_crm("account", coupling.crm_id))["creditlimit"] == 3


async def test_what_a_template_adds_to_a_new_record_comes_back_and_what_it_replaces_does_not(
    office: Office,
) -> None:
    template = '{"customertypecode": 3, "address1_city": "Leeds"}'
    await office.set_up(synch_only_coupled_records=False, crm_template=template)
    await office.customer("10000", City="London")
    await office.customer("20000")
    assert (await office.run()).from_crm.failed == 0
    assert [row["address1_city"] for row in office.accounts()] == ["Leeds", "Leeds"]
    cities = {no: (await office.in_nav("customers", no))["City"] for no in ("10000", "20000")}
    assert cities == {"10000": "London", "20000": "Leeds"}
    assert (await office.run(mode=FULL)).wrote_nothing
