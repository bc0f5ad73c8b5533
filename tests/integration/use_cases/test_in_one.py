"""What comes from CRM is written to NAV and remembered in one transaction: both happen or nothing does."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.domain.coupling import Coupling, CouplingStatus
from app.domain.errors import Busy, NotCoupled, StaleRecord
from app.domain.job import Counts, SynchMode
from app.domain.mapping import Direction
from app.use_cases.synchronize import create_in_nav, synchronize_record
from tests.integration.fuses import Crash, Fuse, fused
from tests.integration.use_cases.office import Office
from tests.integration.use_cases.test_runs import OTHERS_WRITE

pytestmark = pytest.mark.anyio

FROM = Direction.FROM_CRM
STEPS = 40


async def coupled_by_hand(office: Office, no: str, account: UUID) -> Coupling:
    """A person couples a customer with an account."""
    record = (await office.nav.by_key("customers", [no]))[no]
    assert record.integration_id is not None
    coupling = Coupling(
        office.ctx.new_id(), "CUSTOMER", "customers", record.integration_id, no, "account", account
    )
    async with office.ctx.uow() as tx:
        (held,) = await tx.couplings.reserve(office.company.id, [coupling])
    return held


async def survives(office: Office, attempt: Any, check: Any) -> int:
    """Carries the attempt out, dying one step later each time, until it survives; so many steps."""
    for step in range(1, STEPS):
        for after in (False, True):
            fuse = Fuse()
            fuse.light(step, after=after)
            try:
                await attempt(fused(office.ctx, fuse))
            except Crash:
                await check()
            else:
                return step
    raise AssertionError("it never survives")


async def test_a_run_that_dies_leaves_no_record_without_a_coupling(office: Office) -> None:
    for number in range(3):
        await office.account(name=f"Account {number}")

    async def check() -> None:
        couplings = await office.couplings()
        assert {c.status for c in couplings} <= {CouplingStatus.COUPLED}
        assert sorted(c.nav_key for c in couplings) == await office.numbers()
        async with office.ctx.uow(reading=True) as tx:
            history = [await tx.synch_log.history(office.company.id, c.id, None, 10) for c in couplings]
        assert all(history)

    async def attempt(ctx: Any) -> None:
        await office.run(direction=FROM, ctx=ctx, create_uncoupled=True)

    assert await survives(office, attempt, check) > 5
    assert len(await office.numbers()) == 3


async def test_synchronize_now_that_dies_at_any_step_happened_or_did_not(office: Office) -> None:
    account = await office.account(name="Old")
    await office.run(direction=FROM, create_uncoupled=True)
    (pair,) = await office.couplings()
    names = ["Old"]

    async def attempt(ctx: Any) -> None:
        names.append(f"Name {len(names)}")
        await office.change_crm("account", account, name=names[-1])
        await synchronize_record(ctx, office.company, "customers", pair.nav_key, direction="from_crm")

    async def check() -> None:
        shown = (await office.in_nav("customers", pair.nav_key))["Name"]
        held = await office.coupled(pair.nav_key)
        assert held.base is not None
        assert (held.base.nav["Name"], held.intent) == (shown, None)
        assert shown in names

    assert await survives(office, attempt, check) > 3
    assert (await office.in_nav("customers", pair.nav_key))["Name"] == names[-1]


async def test_what_somebody_couples_meanwhile_stands_and_no_second_customer_is_made(office: Office) -> None:
    account = await office.account(name="Account")
    await office.customer("10000", Name="Customer")
    for step in range(1, STEPS):
        fuse = Fuse()

        async def coupled() -> None:
            await coupled_by_hand(office, "10000", account)

        fuse.light(step, after=False, instead=coupled)
        ran = await office.run(
            mode=SynchMode.FULL, direction=FROM, ctx=fused(office.ctx, fuse), create_uncoupled=True
        )
        (coupling,) = await office.couplings()
        if coupling.nav_key != "10000":  # the run was over before anybody came
            break
        assert await office.numbers() == ["10000"], f"step {step}"
        assert ran.from_crm.inserted == 0
        async with office.ctx.uow() as tx:
            await tx.couplings.delete(office.company.id, [coupling.id])
    assert step > 5


async def test_an_id_that_is_in_another_records_coupling_is_not_used_again(office: Office) -> None:
    """The customer that was made of an account has its id, and belongs to another account by now."""
    await office.account(name="First")
    await office.run(direction=FROM, create_uncoupled=True)
    (first,) = await office.couplings()
    async with office.ctx.uow() as tx:
        await tx.couplings.delete(office.company.id, [first.id])
    second = await office.account(name="First")
    await coupled_by_hand(office, first.nav_key, second)
    ran = await office.run(mode=SynchMode.FULL, direction=FROM, create_uncoupled=True)
    assert ran.from_crm.failed == 0
    assert len(await office.numbers()) == 2
    held = {c.crm_id: c.nav_key for c in await office.couplings()}
    assert held[second] == first.nav_key
    assert held[first.crm_id] not in ("", first.nav_key)
    assert (await office.run()).wrote_nothing


async def test_a_change_in_nav_that_comes_in_between_is_kept(office: Office) -> None:
    account = await office.account(name="A", address1_city="Bonn")
    await office.run(direction=FROM, create_uncoupled=True)
    (pair,) = await office.couplings()
    for step in range(1, STEPS):
        await office.change_crm("account", account, name=f"Name {step}")
        fuse = Fuse()

        async def phoned(step: int = step) -> None:
            await office.change_nav("customers", pair.nav_key, Phone_No=str(step))

        fuse.light(step, after=False, instead=phoned)
        await office.run(direction=FROM, ctx=fused(office.ctx, fuse))
        shown = await office.in_nav("customers", pair.nav_key)
        assert shown["Name"] == f"Name {step}"
        if shown["Phone_No"] != str(step):
            break
    assert step > 5
    await office.run()
    assert (await office.in_crm("account", account))["telephone1"] == str(step - 1)


async def test_a_record_whose_coupling_others_keep_writing_is_not_written_to_nav_either(
    office: Office,
) -> None:
    accounts = [await office.account(name=name) for name in ("A", "B")]
    await office.run(direction=FROM, create_uncoupled=True)
    keys = await office.numbers()
    for account in accounts:
        await office.change_crm("account", account, name="New")
    async with office.engine.begin() as connection:
        for statement in OTHERS_WRITE:
            await connection.execute(text(statement))
    with pytest.raises(Busy, match="was written by somebody else 5 times"):
        await office.run(direction=FROM)
    assert {(await office.in_nav("customers", key))["Name"] for key in keys} == {"A", "B"}
    async with office.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER others ON coupling"))
    assert (await office.run(direction=FROM)).from_crm == Counts(modified=2)
    assert [(await office.in_nav("customers", key))["Name"] for key in keys] == ["New", "New"]


REFUSES_BAD = (
    """CREATE FUNCTION refuses_bad() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF NEW.fields ->> 'Name' = 'Bad' THEN RAISE 'bad' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$""",
    "CREATE TRIGGER bad BEFORE INSERT ON nav_record FOR EACH ROW EXECUTE FUNCTION refuses_bad()",
)


async def test_who_synchronizes_what_somebody_uncouples_meanwhile_is_told(office: Office) -> None:
    account = await office.account(name="Old")
    await office.run(direction=FROM, create_uncoupled=True)
    (pair,) = await office.couplings()
    told = 0
    for step in range(1, STEPS):
        await office.change_crm("account", account, name=f"Name {step}")
        fuse = Fuse()

        async def uncoupled(pair: Coupling = pair) -> None:
            async with office.ctx.uow() as tx:
                await tx.couplings.delete(office.company.id, [pair.id])

        fuse.light(step, after=False, instead=uncoupled)
        now = fused(office.ctx, fuse)
        before = await office.in_nav("customers", pair.nav_key)
        try:
            await synchronize_record(now, office.company, "customers", pair.nav_key, direction="from_crm")
        except (NotCoupled, StaleRecord):
            told += 1
            assert await office.in_nav("customers", pair.nav_key) == before, f"step {step}"
        if await office.couplings():
            break  # it was over before anybody came
        pair = await coupled_by_hand(office, pair.nav_key, account)
    assert step > 3
    assert told > 2


async def test_a_record_that_the_database_refuses_takes_nothing_of_its_set_back(office: Office) -> None:
    async with office.engine.begin() as connection:
        for statement in REFUSES_BAD:
            await connection.execute(text(statement))
    for name in ("Good", "Bad", "Better"):
        await office.account(name=name)
    ran = await office.run(direction=FROM, create_uncoupled=True)
    assert ran.from_crm == Counts(inserted=2, failed=1)
    assert {(await office.in_nav("customers", no))["Name"] for no in await office.numbers()} == {
        "Good",
        "Better",
    }
    failed = [c for c in await office.couplings() if c.last_error is not None]
    assert [(c.status, c.last_error and c.last_error.code) for c in failed] == [
        (CouplingStatus.RESERVED, "nav-refused")
    ]
    async with office.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER bad ON nav_record"))
    assert (await office.run(direction=FROM)).from_crm == Counts(inserted=1)
    assert len(await office.numbers()) == 3


async def test_a_new_partner_takes_the_place_of_the_old_one_or_nothing_happened(office: Office) -> None:
    account = await office.account(name="A")
    await office.run(direction=FROM, create_uncoupled=True)
    made = 1

    async def attempt(ctx: Any) -> None:
        await create_in_nav(ctx, office.company, "accounts", account, replace_existing=True)

    async def check() -> None:
        nonlocal made
        (coupling,) = await office.couplings()
        numbers = await office.numbers()
        assert (coupling.status, coupling.replacing, coupling.intent) == (CouplingStatus.COUPLED, False, None)
        assert coupling.nav_key == numbers[-1]
        assert len(numbers) - made in (0, 1)
        made = len(numbers)

    assert await survives(office, attempt, check) > 3
