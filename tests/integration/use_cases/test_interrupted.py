"""The process dies between a write and its being remembered, and people go on working: what we wrote ourselves is
never taken for somebody's change, and no second record is made."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.coupling import Coupling
from app.domain.errors import CrmUnavailable, StaleRecord
from app.domain.job import Counts, SynchJob, SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction
from app.domain.records import Side
from app.sandbox import Fault
from app.use_cases.items import Options
from app.use_cases.setting import open_setting
from app.use_cases.synchronize import create_in_crm, create_in_nav, synchronize_record, synchronize_set
from tests.integration.fuses import Crash, Fuse, fused
from tests.integration.use_cases.office import Office, Quiet

pytestmark = pytest.mark.anyio

NAV, CRM = "nav", "crm"
WAYS = pytest.mark.parametrize("to", [CRM, NAV])
NAMES = {NAV: "Name", CRM: "name"}


def dying(office: Office, step: int, *, after: bool) -> Any:
    """The ports of a process that dies at that step."""
    fuse = Fuse()
    fuse.light(step, after=after)
    return fused(office.ctx, fuse)


async def dies_at_every_step(
    office: Office, attempt: Callable[[Any], Awaitable[Any]], check: Callable[[int], Awaitable[None]]
) -> int:
    """Carries the attempt out again and again, dying one step later each time, until it survives; so many steps."""
    for step in range(1, 60):
        for after in (False, True):
            try:
                await attempt(dying(office, step, after=after))
            except Crash:
                await check(step)
            else:
                return step
    raise AssertionError("it never survives")


async def write(office: Office, side: str, pair: Coupling, value: str, **others: Any) -> None:
    """A person changes the name on one side."""
    if side == NAV:
        await office.change_nav("customers", pair.nav_key, Name=value, **others)
    else:
        await office.change_crm("account", pair.crm_id, name=value, **others)


async def shown(office: Office, pair: Coupling) -> tuple[Any, Any]:
    """The name on both sides."""
    nav, crm = await office.in_nav("customers", pair.nav_key), await office.in_crm("account", pair.crm_id)
    return nav["Name"], crm["name"]


async def a_pair(office: Office) -> Coupling:
    """A customer and its account, which agree."""
    await office.customer("10000", Name="A")
    await office.run(create_uncoupled=True)
    await office.run()
    return await office.coupled("10000")


async def dies_once(
    office: Office, run: Callable[[Any], Awaitable[Any]], written: Callable[[], Awaitable[bool]]
) -> None:
    """Carries the run out, dying ever later, until it dies just after something was written."""
    for step in range(1, 60):
        with suppress(Crash):
            await run(dying(office, step, after=False))
        if await written():
            return
    raise AssertionError("nothing was written")


async def dies_after_writing(office: Office, to: str, value: str) -> None:
    """A run that dies when the other side has the name, before anybody remembers it."""

    async def written() -> bool:
        if to == CRM:
            return value in [row["name"] for row in office.accounts()]
        return value in [(await office.in_nav("customers", no))["Name"] for no in await office.numbers()]

    await dies_once(office, lambda ctx: office.run(ctx=ctx), written)


@WAYS
@pytest.mark.parametrize("newer", ["C", "A"])
async def test_an_edit_after_an_unanswered_write_wins_without_a_conflict(
    office: Office, to: str, newer: str
) -> None:
    """The newer edit may even put back what both sides agreed on before."""
    pair, side = await a_pair(office), NAV if to == CRM else CRM
    await write(office, side, pair, "B")
    await dies_after_writing(office, to, "B")
    await write(office, side, pair, newer)
    for _ in range(2):
        await office.run()
    assert await shown(office, pair) == (newer, newer)
    assert (await office.coupled("10000")).last_error is None
    assert (await office.run()).wrote_nothing


@WAYS
async def test_an_edit_of_the_written_record_after_an_unanswered_write_flows_back(
    office: Office, to: str
) -> None:
    pair, side = await a_pair(office), NAV if to == CRM else CRM
    await write(office, side, pair, "B")
    await dies_after_writing(office, to, "B")
    phone = {"telephone1": "555"} if to == CRM else {"Phone_No": "555"}
    await write(office, to, pair, "B", **phone)
    for _ in range(2):
        await office.run()
    nav, crm = await office.in_nav("customers", "10000"), await office.in_crm("account", pair.crm_id)
    assert (nav["Name"], nav["Phone_No"], crm["name"], crm["telephone1"]) == ("B", "555", "B", "555")
    assert (await office.coupled("10000")).last_error is None


@WAYS
async def test_what_was_written_before_two_crashes_in_a_row_is_still_known(office: Office, to: str) -> None:
    pair, side = await a_pair(office), NAV if to == CRM else CRM
    await write(office, side, pair, "B")
    await dies_after_writing(office, to, "B")
    city = {"City": "Bonn"} if side == NAV else {"address1_city": "Bonn"}

    async def written() -> bool:
        nav, crm = await office.in_nav("customers", "10000"), await office.in_crm("account", pair.crm_id)
        return nav["City"] == crm["address1_city"] == "Bonn"

    await write(office, side, pair, "B", **city)
    await dies_once(office, lambda ctx: office.run(ctx=ctx), written)
    await write(office, side, pair, "C")
    for _ in range(2):
        await office.run()
    assert (await office.coupled("10000")).last_error is None
    assert await shown(office, pair) == ("C", "C")


async def test_what_both_really_changed_is_still_a_conflict(office: Office) -> None:
    pair = await a_pair(office)
    await write(office, NAV, pair, "B")
    await dies_after_writing(office, CRM, "B")
    await write(office, NAV, pair, "C")
    await write(office, CRM, pair, "D")
    await office.run()
    failure = (await office.coupled("10000")).last_error
    assert failure is not None
    assert failure.code == "update-conflict"
    assert await shown(office, pair) == ("C", "D")


@WAYS
@pytest.mark.parametrize("who", [NAV, CRM])
async def test_an_edit_of_a_record_whose_creation_was_not_answered_is_no_conflict(
    office: Office, to: str, who: str
) -> None:
    await office.set_up(synch_only_coupled_records=False)
    if to == CRM:
        await office.customer("10000", Name="A", City="Bonn")
    else:
        await office.account(name="A", address1_city="Bonn")
    await dies_after_writing(office, to, "A")
    (no,), (account,) = await office.numbers(), office.accounts()
    if who == NAV:
        await office.change_nav("customers", no, Name="C")
    else:
        await office.change_crm("account", account["accountid"], name="C")
    for _ in range(2):
        await office.run()
    (coupling,) = await office.couplings()
    assert coupling.last_error is None
    assert await shown(office, coupling) == ("C", "C")
    assert (await office.numbers(), len(office.accounts())) == ([no], 1)


@WAYS
async def test_a_restoration_that_dies_at_any_step_makes_no_second_record(office: Office, to: str) -> None:
    await office.set_up(
        synch_only_coupled_records=False, deletion_conflict_resolution=DeletionConflictResolution.RESTORE
    )
    pair = await a_pair(office)
    deleted = 0

    async def attempt(ctx: Any) -> None:
        nonlocal pair, deleted
        (pair,) = await office.couplings()
        if to == NAV:
            await office.nav.remove("customers", pair.nav_key)
        else:
            await office.delete_crm("account", pair.crm_id)
        deleted += 1
        await office.run(ctx=ctx)

    async def check(step: int) -> None:
        # The run that reads the side where the record was made anew comes first: it must not look new there.
        for direction in (Direction.TO_CRM, Direction.FROM_CRM) if to == NAV else (Direction.FROM_CRM, None):
            await office.run(direction=direction)
        assert (len(await office.numbers()), len(office.accounts())) == (1, 1), f"step {step}"
        assert len(await office.couplings()) == 1

    assert await dies_at_every_step(office, attempt, check) > 8
    assert deleted > 16


async def test_a_replacement_that_was_interrupted_is_finished_and_keeps_what_people_wrote(
    office: Office,
) -> None:
    await office.set_up(synch_only_coupled_records=False)
    pair = await a_pair(office)

    async def made() -> bool:
        return len(await office.numbers()) == 2

    await dies_once(office, lambda ctx: _replace(ctx, office, pair), made)
    (new,) = set(await office.numbers()) - {"10000"}
    await office.change_nav("customers", new, City="Bonn")
    for _ in range(2):
        await office.run(direction=Direction.TO_CRM)
    assert len(office.accounts()) == 1  # the new customer was not taken for one without an account
    assert (await office.coupled(new)).crm_id == pair.crm_id
    assert (await office.in_crm("account", pair.crm_id))["address1_city"] == "Bonn"


async def _replace(ctx: Any, office: Office, pair: Coupling) -> None:
    await create_in_nav(ctx, office.company, "accounts", pair.crm_id, replace_existing=True)


async def test_a_replacement_that_others_overtake_and_that_dies_makes_no_third_record(office: Office) -> None:
    """At any step a run the other way remembers the old coupling; then the process dies as soon as there is a new
    account."""
    step, happened, refused = 0, [True], 0
    while happened:
        step, happened = step + 1, []
        no = await office.customer(f"R{step}", Name="A")
        for _ in range(2):
            await office.run(create_uncoupled=True)
        pair, before = await office.coupled(no), len(office.accounts())

        async def meanwhile(pair: Coupling = pair, happened: list[bool] = happened) -> None:
            happened.append(True)
            await office.change_crm("account", pair.crm_id, telephone1="55")
            await office.run(direction=Direction.FROM_CRM)

        async def made(before: int = before) -> bool:
            return len(office.accounts()) > before

        fuse = DiesOnce(made)
        fuse.light(step, after=True, instead=meanwhile)
        try:
            await create_in_crm(
                fused(office.ctx, fuse), office.company, "customers", no, replace_existing=True
            )
        except StaleRecord:
            refused += 1
        except Crash:
            assert await made(), step
        for direction in (
            Direction.FROM_CRM,
            None,
        ):  # the run that could take the new account for one of theirs first
            await office.run(direction=direction, create_uncoupled=True)
        assert len(await office.numbers()) == step, step
    assert (step > 4, refused) == (True, 1)


async def test_synchronize_now_that_dies_at_any_step_can_be_repeated(office: Office) -> None:
    pair = await a_pair(office)
    edits = 0

    async def attempt(ctx: Any) -> None:
        nonlocal edits
        edits += 1
        await office.change_nav("customers", "10000", Name=f"Name {edits}")
        await synchronize_record(ctx, office.company, "customers", "10000", direction="to_crm")

    async def check(step: int) -> None:
        await office.change_nav("customers", "10000", Name=f"Newer {edits}")
        await office.run()
        assert await shown(office, pair) == (f"Newer {edits}", f"Newer {edits}"), f"step {step}"
        assert (await office.coupled("10000")).last_error is None

    assert await dies_at_every_step(office, attempt, check) > 4


@pytest.mark.parametrize("edited", [True, False])
async def test_what_we_wrote_is_ours_although_others_remember_the_pair_first(
    office: Office, edited: bool
) -> None:
    """At any step of a run to CRM a run the other way comes between, and the written field may be edited again."""
    pair = await a_pair(office)
    step, happened = 0, [True]

    async def meanwhile() -> None:
        happened.append(True)
        await office.run(direction=Direction.FROM_CRM)
        if edited:
            await write(office, NAV, pair, f"C{step}")

    while happened:
        step, happened = step + 1, []
        _, before = await shown(office, pair)
        await write(office, NAV, pair, f"B{step}")
        await office.change_crm("account", pair.crm_id, fax=str(step))
        fuse = Fuse()
        fuse.light(step, after=True, instead=meanwhile)
        ran = await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
        assert ran.to_crm.modified == 1, step
        assert ran.told == [("to_crm", "10000", "modified", None)], step
        assert [each.old for each in ran.outcomes[0].changes if each.field == "name"] == [before], step
        for _ in range(2):
            await office.run()
        assert (await office.coupled("10000")).last_error is None, step
        assert await shown(office, pair) == ((f"C{step}",) * 2 if happened and edited else (f"B{step}",) * 2)
    assert step > 8


class Again(Fuse):
    """What happens instead happens a second time, so many steps later."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    async def _blow(self) -> None:
        instead, steps, self._steps = self._instead, self._steps, 0
        await super()._blow()
        if steps:
            self.light(steps, after=False, instead=instead)


async def test_a_creation_that_others_are_quicker_than_twice_is_told_as_one(office: Office) -> None:
    await office.set_up(synch_only_coupled_records=False)
    for first in range(9, 16):  # the last steps of a run that creates one account
        for later in range(1, 8):
            no = await office.customer(f"R{first}{later}")

            async def meanwhile() -> None:
                for account in office.accounts():
                    await office.change_crm("account", account["accountid"], fax=str(uuid4())[:20])
                await office.run(direction=Direction.FROM_CRM)

            fuse = Again(later)
            fuse.light(first, after=False, instead=meanwhile)
            ran = await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
            assert ran.told == [("to_crm", no, "inserted", None)], (first, later)
            assert ran.to_crm.inserted == 1, (first, later)
            await office.run()


async def test_what_is_written_to_a_record_that_an_earlier_run_made_is_told(office: Office) -> None:
    """That run died before it remembered the account; at any step of the next others are quicker."""
    await office.set_up(synch_only_coupled_records=False)
    step, happened = 0, [True]
    while happened:
        step, happened = step + 1, []
        no = await office.customer(f"R{step}", Name="A")

        async def made(step: int = step) -> bool:
            return len(office.accounts()) == step

        async def meanwhile(happened: list[bool] = happened) -> None:
            happened.append(True)
            for account in office.accounts():
                await office.change_crm("account", account["accountid"], fax=str(uuid4())[:20])
            await office.run(direction=Direction.FROM_CRM)

        await dies_once(office, lambda ctx: office.run(ctx=ctx), made)
        await office.change_nav("customers", no, Name="B")
        fuse = Fuse()
        fuse.light(step, after=False, instead=meanwhile)
        ran = await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
        assert ran.told == [("to_crm", no, "modified", None)], step
        await office.run()
    assert step > 8


class Once(Fuse):
    """Blows, too, at the first step at which something is so."""

    def __init__(self, so: Callable[[], Awaitable[bool]]) -> None:
        super().__init__()
        self._so = so

    async def before(self, *, locked: bool = False) -> int:
        if not locked and await self._so():
            await self.at_once()
        return await super().before(locked=locked)

    async def at_once(self) -> None:
        """It blows."""
        self._so = self._never
        await self._blow()

    async def _never(self) -> bool:
        return False


class DiesOnce(Once):
    """Is the end then, whatever happens instead at the step it was lit for."""

    async def at_once(self) -> None:
        """The process dies."""
        raise Crash


async def test_what_was_done_of_a_selection_has_its_job_although_the_rest_could_not_be(
    office: Office,
) -> None:
    """Of two records somebody else is quicker to remember one, and CRM goes away before it is looked at again."""
    first = await a_pair(office)
    await office.customer("20000", Name="A")
    await office.run(create_uncoupled=True)
    second = await office.coupled("20000")

    async def are_written() -> bool:
        return [await shown(office, one) for one in (first, second)] == [("B", "B")] * 2

    async def meanwhile() -> None:
        await office.change_crm("account", first.crm_id, fax="1")
        await synchronize_record(office.ctx, office.company, "customers", "10000", direction="from_crm")
        office.faults(Fault(".*", "503", times=50))

    for pair in (first, second):
        await write(office, NAV, pair, "B")
    fuse = Once(are_written)
    fuse.light(0, after=False, instead=meanwhile)
    ctx = fused(office.ctx, fuse)
    setting = await open_setting(ctx, office.company, mapping="CUSTOMER")
    sources = await setting.nav.get("customers", [first.nav_id, second.nav_id], setting.fields(Side.NAV))
    options = Options(force=True, background=False)
    with pytest.raises(CrmUnavailable):
        await synchronize_set(ctx, setting, Direction.TO_CRM, list(sources.values()), options)
    office.faults()
    job_id = (await office.coupled("20000")).last_job_id
    assert job_id is not None
    async with office.ctx.uow() as tx:
        assert (await tx.jobs.get(office.company.id, job_id)).counts == {"to_crm": Counts(modified=1)}


async def test_an_edit_of_what_others_remembered_before_us_flows_back(office: Office) -> None:
    """As soon as our write is there a run the other way remembers it, and somebody in CRM edits the field again: what
    we find there is theirs, although we wrote that field, and write another one now."""
    pair = await a_pair(office)
    happened: list[bool] = []

    async def is_written() -> bool:
        return await shown(office, pair) == ("B", "B")

    async def meanwhile() -> None:
        happened.append(True)
        await office.run(direction=Direction.FROM_CRM)
        await write(office, CRM, pair, "C")
        await office.change_nav("customers", "10000", City="Rome")

    await write(office, NAV, pair, "B")
    fuse = Once(is_written)
    fuse.light(0, after=False, instead=meanwhile)
    await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
    assert happened == [True]
    await office.run()
    assert await shown(office, pair) == ("C", "C")
    assert (await office.in_crm("account", pair.crm_id))["address1_city"] == "Rome"
    assert (await office.coupled("10000")).last_error is None


async def test_a_write_that_others_were_quicker_than_is_known_after_a_crash(office: Office) -> None:
    """At any step of a run to CRM somebody changes the account, which a run the other way remembers; then the run
    dies as soon as the account has what it writes."""
    pair = await a_pair(office)
    step, happened = 0, [True]

    async def meanwhile() -> None:
        happened.append(True)
        await office.change_crm("account", pair.crm_id, telephone1=f"0{step}")
        await office.run(direction=Direction.FROM_CRM)

    async def written() -> bool:
        return await shown(office, pair) == (f"B{step}",) * 2

    while happened:
        step, happened = step + 1, []
        await write(office, NAV, pair, f"B{step}")
        fuse = DiesOnce(written)
        fuse.light(step, after=True, instead=meanwhile)
        with pytest.raises(Crash):
            await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
        await write(office, NAV, pair, f"C{step}")
        for _ in range(2):
            await office.run()
        assert (await office.coupled("10000")).last_error is None, step
        assert await shown(office, pair) == (f"C{step}",) * 2, step
    assert step > 8


async def test_what_a_run_counts_is_what_it_tells_wherever_it_dies(office: Office) -> None:
    """At any step of a run from CRM somebody changes one of two customers, so that only the other is written at once;
    the run dies as soon as it is."""
    one = await a_pair(office)
    await office.customer("20000", Name="A")
    await office.run(create_uncoupled=True)
    other = await office.coupled("20000")
    step, happened = 0, [True]

    async def meanwhile() -> None:
        happened.append(True)
        await office.change_nav("customers", "10000", Phone_No=f"0{step}")

    async def written() -> bool:
        return await shown(office, other) == (f"B{step}",) * 2

    while happened:
        step, happened = step + 1, []
        for pair in (one, other):
            await write(office, CRM, pair, f"B{step}")
        fuse, report = DiesOnce(written), Quiet()
        fuse.light(step, after=True, instead=meanwhile)
        job = SynchJob(uuid4(), "synchronize", "CUSTOMER", SynchMode.MODIFIED, Direction.FROM_CRM)
        async with office.ctx.uow() as tx:
            await tx.jobs.add(office.company.id, [job])
        with pytest.raises(Crash):
            await office.run(job=job, report=report, ctx=fused(office.ctx, fuse))
        ran = await office.ran(job, report)
        assert ran.from_crm.modified == len(ran.told), step
        for _ in range(2):
            await office.run()
    assert step > 8


async def test_what_we_wrote_to_one_account_is_not_held_against_another(office: Office) -> None:
    """Whoever uncouples the customer and couples it with an account that has the written name by itself changes
    nothing that both agreed on: they never did."""
    judged = 0
    for step in range(1, 60):
        no = f"R{step}"
        happened: list[UUID] = []
        await office.customer(no, Name="A")
        await office.run(create_uncoupled=True)
        await office.run()
        pair = await office.coupled(no)
        await write(office, NAV, pair, "B")

        async def recoupled(pair: Coupling = pair, happened: list[UUID] = happened) -> None:
            other = await office.account(name="B", customertypecode=1)
            happened.append(other)
            await write(office, NAV, pair, "C")
            async with office.ctx.uow() as tx:
                await tx.couplings.delete(office.company.id, [pair.id])
                again = replace(pair, id=uuid4(), crm_id=other, base=None, revision=0)
                await tx.couplings.reserve(office.company.id, [again])

        fuse = Fuse()
        fuse.light(step, after=True, instead=recoupled)
        await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
        if not happened:
            break
        (other,) = happened
        if (await office.in_crm("account", pair.crm_id))["name"] == "B":  # we wrote, before that or after it
            judged += 1
            await office.run(direction=Direction.TO_CRM)
            error = (await office.coupled(no)).last_error
            assert error is not None, step
            assert error.code == "update-conflict", step
            assert (await office.in_crm("account", other))["name"] == "B", step
    assert judged > 1


@WAYS
@pytest.mark.parametrize("after", [False, True])
async def test_whoever_writes_the_record_after_us_is_believed(office: Office, to: str, after: bool) -> None:
    """What a run is about to write is replaced by something newer, which is carried over, and then put back by somebody
    on the other side: it looks like ours, and is theirs."""
    pair = await a_pair(office)
    here, run = (NAV, Direction.TO_CRM) if to == CRM else (CRM, Direction.FROM_CRM)
    step, happened = 0, [True]

    async def meanwhile() -> None:
        happened.append(True)
        await office.run()
        await write(office, here, pair, f"C{step}")
        await office.run(direction=run)
        await write(office, to, pair, f"B{step}")

    while happened:
        step, happened = step + 1, []
        await write(office, here, pair, f"B{step}")
        fuse = Fuse()
        fuse.light(step, after=after, instead=meanwhile)
        await office.run(direction=run, ctx=fused(office.ctx, fuse))
        for _ in range(2):
            await office.run()
        assert (await office.coupled("10000")).last_error is None, step
        assert await shown(office, pair) == (f"B{step}",) * 2, step
    assert step > 8


@pytest.mark.parametrize("after", [False, True])
async def test_what_was_deleted_since_it_was_read_is_not_carried_as_it_was_read(
    office: Office, after: bool
) -> None:
    """A customer that a run has read is changed, carried by another run and deleted."""
    for step in range(1, 60):
        no = f"R{step}"
        happened: list[bool] = []
        await office.customer(no, Name="A")
        await office.run(create_uncoupled=True)
        pair = await office.coupled(no)
        await write(office, NAV, pair, "B")

        async def meanwhile(pair: Coupling = pair, happened: list[bool] = happened) -> None:
            happened.append(True)
            await write(office, NAV, pair, "C")
            await office.run(direction=Direction.TO_CRM)
            await office.nav.remove("customers", pair.nav_key)

        fuse = Fuse()
        fuse.light(step, after=after, instead=meanwhile)
        ran = await office.run(direction=Direction.TO_CRM, ctx=fused(office.ctx, fuse))
        if not happened:
            break
        assert {told for *_, told in ran.told} <= {None, "deletion-conflict"}, step
        assert (await office.in_crm("account", pair.crm_id))["name"] == "C", step
    assert step > 8
