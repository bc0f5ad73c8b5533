"""The watch: a change on either side starts the scheduled job of its mapping, and nothing else does."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.job import EntryStatus, JobQueueEntry, JobStatus, SynchMode
from app.domain.mapping import DeletionConflictResolution
from app.jobs.handlers import HANDLERS
from app.jobs.runner import Runner
from app.jobs.schedule import tick
from app.jobs.watch import QUIET, watch
from app.ports import JobFilter
from app.sandbox import Fault
from app.use_cases.batch import start
from app.use_cases.connection import disable_connection, enable_connection
from app.use_cases.couplings import couple, restore
from app.use_cases.mappings import change_mapping
from tests.integration.use_cases.office import Office, an_office

pytestmark = pytest.mark.anyio
EVERY = timedelta(seconds=5)


@dataclass(slots=True)
class Queue:
    """The job queue of an office, with a worker that works when it is told to."""

    office: Office

    async def entry(self, mapping: str = "CUSTOMER") -> JobQueueEntry:
        """The entry of a mapping."""
        async with self.office.ctx.uow() as tx:
            entries = await tx.job_queue.all(self.office.company.id)
        return next(each for each in entries if each.mapping == mapping)

    async def set(self, mapping: str = "CUSTOMER", **changes: Any) -> None:
        """Changes an entry."""
        async with self.office.ctx.uow() as tx:
            entry = await tx.job_queue.locked(self.office.company.id, (await self.entry(mapping)).id)
            assert entry is not None
            await tx.job_queue.save(self.office.company.id, replace(entry, **changes))

    async def work(self) -> list[str]:
        """Runs what is queued; the mappings, in their order."""
        ctx = self.office.ctx
        async with ctx.uow() as tx:
            queued = await tx.jobs.page(self.office.company.id, JobFilter(status=JobStatus.QUEUED), None, 100)
        runner = Runner(ctx, HANDLERS, uuid4())
        for job in queued:
            await runner.execute(job.id)
        return sorted(str(job.mapping) for job in queued)

    async def look(self, seconds: float = 5, every: timedelta = EVERY) -> list[str]:
        """After so many seconds a worker watches; the mappings whose jobs that started, run to their end."""
        self.office.house.clock.pass_by(seconds=seconds)
        await watch(self.office.ctx, every)
        return await self.work()

    async def tick(self) -> list[str]:
        """What is due runs; the mappings."""
        await tick(self.office.ctx, timedelta(minutes=1))
        return await self.work()

    async def run_all(self) -> None:
        """Every scheduled job runs once, and once more after what the first ones wrote."""
        self.office.house.clock.pass_by(hours=1)
        await self.tick()
        for _ in range(3):
            if not await self.look():
                return
        raise AssertionError("The jobs wake each other for ever.")


@pytest.fixture
async def queue(engine: AsyncEngine) -> AsyncIterator[Queue]:
    """The queue of an office whose jobs have all run, and sleep."""
    async with an_office(engine) as office:
        queue = Queue(office)
        await queue.run_all()
        yield queue


async def coupled(office: Office, no: str = "C1") -> UUID:
    """A customer and an account that are coupled and alike."""
    await office.customer(no)
    account = await office.account(name=f"Customer {no}")
    await couple(office.ctx, office.company, "customers", no, crm_id=account)
    return account


async def test_entries_sleep_after_a_run_without_anything_to_do(queue: Queue) -> None:
    entry = await queue.entry()
    assert (entry.status, entry.last_run_at is not None) == (EntryStatus.ON_HOLD_INACTIVITY, True)
    assert entry.last_run_at is not None
    assert entry.earliest_start_at == entry.last_run_at + timedelta(
        minutes=entry.inactivity_timeout_minutes or 0
    )


async def test_a_record_that_waited_is_taken_along_when_what_it_needed_is_coupled(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    user = await office.salesperson("JO")
    await office.change_nav("customers", "C1", Phone_No="0123", Salesperson_Code="JO")
    await queue.run_all()
    assert (await office.in_crm("account", account))["telephone1"] is None
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    assert "CUSTOMER" in await queue.look(seconds=60)
    assert (await office.in_crm("account", account))["telephone1"] == "0123"
    await queue.run_all()


async def test_an_uncoupled_record_that_waited_wakes_only_a_mapping_that_creates(queue: Queue) -> None:
    office = queue.office
    user = await office.salesperson("JO")
    await office.customer("C1", Salesperson_Code="JO")
    await office.run(create_uncoupled=True)
    await queue.run_all()
    await couple(office.ctx, office.company, "salespeople", "JO", crm_id=user)
    await queue.run_all()
    assert await queue.look(seconds=60) == []
    await office.set_up(synch_only_coupled_records=False)
    assert await queue.look(seconds=60) == ["CUSTOMER"]
    assert await office.coupling("C1") is not None
    await queue.run_all()


async def test_a_change_in_nav_arrives_in_crm_and_does_not_echo_for_ever(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    await office.change_nav("customers", "C1", Phone_No="0123")
    assert "CUSTOMER" in await queue.look()
    assert (await office.in_crm("account", account))["telephone1"] == "0123"
    assert (await queue.entry()).status is EntryStatus.READY
    looks = [await queue.look() for _ in range(4)]  # what the runs themselves wrote is looked at once
    assert looks[2:] == [[], []]
    await queue.run_all()
    assert (await queue.entry()).status is EntryStatus.ON_HOLD_INACTIVITY


async def test_a_change_in_crm_arrives_in_nav(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    await office.change_crm("account", account, telephone1="0456")
    assert await queue.look() == ["CUSTOMER"]
    assert (await office.in_nav("customers", "C1"))["Phone_No"] == "0456"
    assert [await queue.look() for _ in range(4)][2:] == [[], []]


async def test_a_deleted_record_is_a_change(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    await office.delete_crm("account", account)
    assert await queue.look() == ["CUSTOMER"]


async def test_a_mapping_that_never_ran_is_started_by_its_first_coupling(engine: AsyncEngine) -> None:
    async with an_office(engine) as office:
        queue = Queue(office)
        assert await queue.look() == []  # the first run is left to the schedule
        account = await coupled(office)
        await office.change_nav("customers", "C1", Phone_No="0123")
        assert "CUSTOMER" in await queue.look()
        assert (await office.in_crm("account", account))["telephone1"] == "0123"


async def test_held_entries_and_entries_in_error_are_not_started(queue: Queue) -> None:
    await coupled(queue.office)
    await queue.run_all()
    for status in (EntryStatus.ON_HOLD, EntryStatus.ERROR):
        await queue.set(status=status)
        await queue.office.change_nav("customers", "C1", Name=f"While {status}")
        assert "CUSTOMER" not in await queue.look()
        assert (await queue.entry()).status is status


async def test_a_mapping_is_left_alone_just_after_its_run_and_while_it_runs(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    await office.change_crm("account", account, name="One")
    office.house.clock.pass_by(seconds=5)
    await watch(office.ctx, EVERY)
    office.house.clock.pass_by(seconds=5)
    assert await watch(office.ctx, EVERY) == 0  # its job waits
    assert await queue.work() == ["CUSTOMER"]
    await office.change_crm("account", account, name="Two")
    second = timedelta(seconds=1)
    assert "CUSTOMER" not in await queue.look(QUIET.total_seconds() - 1, second)
    assert "CUSTOMER" in await queue.look(2, second)


async def test_changes_are_seen_after_the_clock_was_set_back(queue: Queue) -> None:
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    office.house.clock.pass_by(hours=-3)
    await queue.tick()
    await office.change_crm("account", account, name="One")
    assert "CUSTOMER" in await queue.look()


async def test_a_skipped_record_that_is_restored_wakes_its_entry(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    held = replace(await office.coupled("C1"), skipped=True)
    async with office.ctx.uow() as tx:
        await tx.couplings.save(office.company.id, [held])
    assert (await queue.entry()).status is EntryStatus.ON_HOLD_INACTIVITY
    await restore(office.ctx, office.company)
    assert await queue.tick() == ["CUSTOMER"]


async def test_a_deletion_rule_that_is_set_later_wakes_the_entry_of_its_mapping(queue: Queue) -> None:
    """A run by hand told of the deletion, so no change is left that would."""
    office = queue.office
    account = await coupled(office)
    await queue.run_all()
    await office.delete_crm("account", account)
    await start(office.ctx, office.company, "CUSTOMER", mode=SynchMode.MODIFIED)
    assert await queue.work() == ["CUSTOMER"]
    await queue.look()
    assert (await queue.entry()).status is EntryStatus.ON_HOLD_INACTIVITY
    rule = {"deletion_conflict_resolution": DeletionConflictResolution.UNCOUPLE}
    await change_mapping(office.ctx, office.company, "CUSTOMER", rule)
    assert await queue.tick() == ["CUSTOMER"]
    assert await office.couplings() == []


async def test_two_workers_look_at_a_company_once(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    office.house.clock.pass_by(seconds=6)
    office.forget_requests()
    await watch(office.ctx, EVERY)
    await watch(office.ctx, EVERY)
    assert office.requests == ["POST $batch"]


async def test_looking_at_a_quiet_company_takes_one_request_and_five_statements(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    office.house.clock.pass_by(seconds=6)
    office.forget_requests()
    async with office.statements() as statements:
        assert await watch(office.ctx, EVERY) == 0
    assert office.requests == ["POST $batch"]
    assert len(statements) == 5


async def test_a_company_whose_connection_is_disabled_is_left_alone_until_it_is_enabled(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    await office.change_nav("customers", "C1", Name="Meanwhile")
    await disable_connection(office.ctx, office.company)
    office.forget_requests()
    assert await queue.look() == []
    assert office.requests == []
    await enable_connection(office.ctx, office.company)
    assert "CUSTOMER" in await queue.tick()


async def test_a_crm_that_does_not_answer_starts_nothing_and_is_asked_again(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    await office.change_nav("customers", "C1", Name="Meanwhile")
    office.faults(Fault(r"POST .*\$batch", kind="503"))
    assert await queue.look() == []
    office.faults()
    assert await queue.look() == ["CONTACT", "CUSTOMER"]


async def test_a_watermark_that_crm_forgot_is_read_anew(queue: Queue) -> None:
    office = queue.office
    await coupled(office)
    await queue.run_all()
    office.house.organization.expire_delta_tokens()
    assert "CUSTOMER" in await queue.look()
    assert [await queue.look() for _ in range(2)][-1] == []
