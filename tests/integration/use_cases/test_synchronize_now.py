"""Synchronize Now: the chosen side wins, with as little traffic as it takes."""

import asyncio
from typing import Any

import pytest

from app.domain.coupling import Coupling, SynchAction, SynchResult
from app.domain.errors import (
    Busy,
    CrmUnavailable,
    DeletionConflict,
    DirectionNotAllowed,
    DirectionRequired,
    NavRecordNotFound,
    NotCoupled,
    SalespersonNotCoupled,
    StaleRecord,
    UpdateConflict,
)
from app.domain.job import JobStatus
from app.domain.mapping import Direction
from app.sandbox import Fault
from app.use_cases.couplings import couple
from app.use_cases.results import COMPLETED, RecordResult
from app.use_cases.synchronize import MERGE, create_in_crm, synchronize_record
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio
TO, FROM = Direction.TO_CRM.value, Direction.FROM_CRM.value


async def a_pair(office: Office, no: str = "10000", **fields: Any) -> Coupling:
    """A customer and its account."""
    await office.customer(no, **{"Name": "Adatum", "City": "London"} | fields)
    await create_in_crm(office.ctx, office.company, "customers", no)
    return await office.coupled(no)


async def now(office: Office, direction: str | None, no: str = "10000", **options: Any) -> RecordResult:
    """Synchronize Now of a customer."""
    return await synchronize_record(
        office.ctx, office.company, "customers", no, direction=direction, **options
    )


async def test_a_direction_must_be_chosen_where_both_are_possible(office: Office) -> None:
    await a_pair(office)
    with pytest.raises(DirectionRequired):
        await now(office, None)
    user = await office.salesperson("JO", "jo@contoso.com")
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    done = await synchronize_record(office.ctx, office.company, "salespeople", "JO")
    assert done.action is SynchAction.MODIFIED
    for wrong in (TO, MERGE):
        with pytest.raises(DirectionNotAllowed):
            await synchronize_record(office.ctx, office.company, "salespeople", "JO", direction=wrong)


async def test_only_what_is_coupled_can_be_synchronized(office: Office) -> None:
    await office.customer("10000")
    with pytest.raises(NotCoupled, match="10000"):
        await now(office, TO)
    with pytest.raises(NavRecordNotFound):
        await now(office, TO, "99")


@pytest.mark.parametrize("direction", [TO, FROM])
@pytest.mark.parametrize("who", ["NAV", "CRM", "both"])
async def test_the_chosen_side_wins_whoever_changed(office: Office, direction: str, who: str) -> None:
    coupling = await a_pair(office)
    if who in ("NAV", "both"):
        await office.change_nav("customers", "10000", Name="Of NAV")
    if who in ("CRM", "both"):
        await office.change_crm("account", coupling.crm_id, name="Of CRM")
    here = (await office.in_nav("customers", "10000"))["Name"]
    there = (await office.in_crm("account", coupling.crm_id))["name"]
    done = await now(office, direction)
    assert (done.action, done.message) == (SynchAction.MODIFIED, COMPLETED)
    wins = here if direction == TO else there
    (change,) = [change for change in done.changes if change.field.casefold() == "name"]
    assert (change.old, change.new) == ((there, here) if direction == TO else (here, there))
    assert (await office.in_nav("customers", "10000"))["Name"] == wins
    assert (await office.in_crm("account", coupling.crm_id))["name"] == wins


async def test_equal_records_stay_unmodified(office: Office) -> None:
    await a_pair(office)
    for direction in (TO, FROM, MERGE):
        done = await now(office, direction)
        assert (done.action, done.changes) == (SynchAction.UNMODIFIED, ())


async def test_different_fields_merge_both_ways(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, telephone1="999")
    shown = await now(office, MERGE, preview=True)
    assert shown.action is SynchAction.MODIFIED
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Adatum"
    done = await now(office, MERGE)
    assert {change.field for change in done.changes} == {change.field for change in shown.changes}
    assert {change.field for change in done.changes} == {"name", "Phone_No"}
    assert (await office.in_nav("customers", "10000"))["Phone_No"] == "999"
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Of NAV"


async def test_the_same_field_is_a_conflict_that_choosing_a_side_settles(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, name="Of CRM")
    with pytest.raises(UpdateConflict) as refused:
        await now(office, MERGE)
    assert all(value in refused.value.detail for value in ("Of NAV", "Of CRM", "Adatum"))
    assert (await office.in_nav("customers", "10000"))["Name"] == "Of NAV"
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Of CRM"
    assert (await office.coupled("10000")).last_synch_result is SynchResult.FAILURE
    await now(office, FROM)
    settled = await office.coupled("10000")
    assert (settled.last_synch_result, settled.last_error) == (SynchResult.SUCCESS, None)
    assert (await office.in_nav("customers", "10000"))["Name"] == "Of CRM"


async def test_a_preview_shows_and_changes_nothing(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    shown = await now(office, TO, preview=True)
    assert (shown.action, shown.synch_job_id) == (SynchAction.MODIFIED, None)
    assert [(change.field, change.old, change.new) for change in shown.changes] == [
        ("name", "Adatum", "Of NAV")
    ]
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Adatum"
    assert await office.coupled("10000") == coupling


async def test_the_account_that_is_gone_is_named(office: Office) -> None:
    coupling = await a_pair(office)
    await office.delete_crm("account", coupling.crm_id)
    for direction in (TO, FROM):
        with pytest.raises(DeletionConflict):
            await now(office, direction)
    assert office.accounts() == []


async def test_a_record_that_fails_is_written_nowhere_and_its_job_says_so(office: Office) -> None:
    coupling = await a_pair(office)
    await office.salesperson("JO")
    await office.change_nav("customers", "10000", Name="Of NAV", Salesperson_Code="JO")
    with pytest.raises(SalespersonNotCoupled):
        await now(office, TO)
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Adatum"
    failed = await office.coupled("10000")
    assert failed.last_error is not None
    assert failed.last_error.code == "salesperson-not-coupled"
    assert failed.last_job_id is not None
    async with office.ctx.uow() as tx:
        job = await tx.jobs.get(office.company.id, failed.last_job_id)
        (logged,) = await tx.synch_log.outcomes(office.company.id, job.id, None, 0, 10)
    assert (job.status, job.counted.failed) == (JobStatus.FAILED, 1)
    assert logged.outcome.action is SynchAction.FAILED


async def test_crm_that_is_away_costs_nothing_but_another_try(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    office.faults(Fault(".*", "503", retry_after=0))
    with pytest.raises(CrmUnavailable):
        await now(office, TO)
    office.faults()
    assert (await now(office, TO)).action is SynchAction.MODIFIED
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Of NAV"


@pytest.mark.parametrize("kind", ["reset_after_commit", "reset_before_commit"])
@pytest.mark.parametrize("times", [1, 50])
async def test_a_lost_answer_to_an_update_still_ends_right(office: Office, kind: Any, times: int) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    office.faults(Fault("PATCH .*/accounts", kind, times=times))
    if times > 1:
        with pytest.raises(CrmUnavailable):
            await now(office, TO)
    office.faults(*office.house.organization.faults if times == 1 else ())
    await now(office, TO)
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Of NAV"
    assert (await now(office, TO)).action is SynchAction.UNMODIFIED


@pytest.mark.parametrize("round_", range(3))
async def test_callers_who_choose_different_sides_at_once_leave_both_sides_equal(
    office: Office, round_: int
) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV", City=f"City {round_}")
    await office.change_crm("account", coupling.crm_id, name="Of CRM", telephone1="999")
    answers = await asyncio.gather(
        *(now(office, direction) for direction in (TO, FROM) * 5), return_exceptions=True
    )
    assert {type(each) for each in answers} <= {RecordResult, StaleRecord, Busy}
    assert any(isinstance(each, RecordResult) for each in answers)
    for _ in range(2):
        await office.run()
    values, account = (
        await office.in_nav("customers", "10000"),
        await office.in_crm("account", coupling.crm_id),
    )
    assert values["Name"] == account["name"]
    assert values["City"] == (account["address1_city"] or "")
    assert values["Phone_No"] == (account["telephone1"] or "")
    assert (await office.coupled("10000")).last_error is None
    assert (await office.run()).wrote_nothing


# --- what it costs -------------------------------------------------------------------------------------


async def test_one_request_and_at_most_ten_statements_while_the_kept_version_stands(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    office.forget_requests()
    async with office.statements() as statements:
        await now(office, TO)
    assert office.requests == ["PATCH accounts"]
    assert len(statements) <= 10, "\n".join(statements)
    assert (await office.in_crm("account", coupling.crm_id))["name"] == "Of NAV"


async def test_from_crm_costs_one_read(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_crm("account", coupling.crm_id, name="Of CRM")
    office.forget_requests()
    async with office.statements() as statements:
        await now(office, FROM)
    assert office.requests == ["GET accounts"]
    assert len(statements) <= 20, "\n".join(statements)  # NAV's own rules about customers are half of them


async def test_after_somebody_elses_write_it_looks_again_and_still_ends_right(office: Office) -> None:
    coupling = await a_pair(office)
    await office.change_nav("customers", "10000", Name="Of NAV")
    await office.change_crm("account", coupling.crm_id, telephone1="999")
    office.forget_requests()
    await now(office, TO)
    assert office.requests == ["PATCH accounts", "GET accounts", "PATCH accounts"]
    account = await office.in_crm("account", coupling.crm_id)
    assert (account["name"], account["telephone1"]) == ("Of NAV", None)


async def test_creating_costs_a_look_and_a_write(office: Office) -> None:
    """The look finds out whether the id of the customer is free: who asks for a new account gets a new one."""
    await office.customer("10000")
    office.forget_requests()
    async with office.statements() as statements:
        await create_in_crm(office.ctx, office.company, "customers", "10000")
    assert office.requests == ["GET accounts", "PATCH accounts"]
    assert len(statements) <= 12, "\n".join(statements)
