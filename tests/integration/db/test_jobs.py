"""Synch jobs: who may claim one, what its end sets free, and how families end."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company
from app.domain.coupling import Failure
from app.domain.errors import NotFound
from app.domain.job import Counts, JobStatus, Standing, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.ports import JobFilter, Transaction
from tests.integration.db.memory import NOON, a_connected_company, a_job, a_memory

pytestmark = pytest.mark.anyio
WORKER = UUID(int=1)


async def tickets(engine: AsyncEngine) -> list[UUID]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT payload FROM pgqueuer ORDER BY id"))
        return [UUID(bytes=payload) for payload in rows.scalars()]


async def claimed(memory: SqlUnitOfWork, job: SynchJob, minutes: float = 1) -> SynchJob:
    async with memory() as tx:
        found = await tx.jobs.claim(job.id, WORKER, NOON + timedelta(minutes=minutes))
    assert found is not None
    return found.job


async def end(memory: SqlUnitOfWork, job: SynchJob, status: JobStatus = JobStatus.SUCCEEDED) -> bool:
    async with memory() as tx:
        return await tx.jobs.finish(job, status, None, NOON + timedelta(minutes=2))


async def switch(tx: Transaction, company: Company, *, on: bool) -> None:
    setup = await tx.connections.find(company.id)
    assert setup is not None
    await tx.connections.save(company.id, replace(setup, is_enabled=on))


async def test_the_ticket_of_a_job_is_rolled_back_with_it(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()

    async def add_and_fail() -> None:
        async with memory() as tx:
            await tx.jobs.add(company.id, [job])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await add_and_fail()
    assert await tickets(engine) == []
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
    assert await tickets(engine) == [job.id]


async def test_a_job_comes_back_as_it_was_saved(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job(direction=Direction.TO_CRM, request={"create_uncoupled": True}, maximum_attempts=4)
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
        assert await tx.jobs.get(company.id, job.id) == job
        with pytest.raises(NotFound):
            await tx.jobs.get(company.id + 1, job.id)


async def test_one_job_of_a_mapping_runs_and_its_end_sends_the_next(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    first, second, other = a_job(), a_job(minutes=0.5), a_job("CONTACT")
    async with memory() as tx:
        await tx.jobs.add(company.id, [first, second, other])
    running = await claimed(memory, first)
    assert (running.status, running.attempt, running.fence) == (JobStatus.RUNNING, 1, 1)
    async with memory() as tx:
        assert await tx.jobs.claim(second.id, WORKER, NOON + timedelta(minutes=1)) is None
    await claimed(memory, other)
    before = await tickets(engine)
    assert await end(memory, running)
    assert await tickets(engine) == [*before, second.id]
    await claimed(memory, second)


async def test_what_waited_for_its_mapping_starts_at_once_though_it_is_old(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    first, second = a_job(), a_job(minutes=0.5, not_before=NOON + timedelta(minutes=1))
    async with memory() as tx:
        await tx.jobs.add(company.id, [first])
    running = await claimed(memory, first)
    async with memory() as tx:
        await tx.jobs.add(company.id, [second])
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM pgqueuer"))
    assert await end(memory, running)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT payload FROM pgqueuer WHERE execute_after <= now()"))
        assert [UUID(bytes=payload) for payload in found.scalars()] == [second.id]


async def test_twenty_who_claim_jobs_of_one_mapping_get_one(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    jobs = [a_job(minutes=number / 60) for number in range(20)]
    async with memory() as tx:
        await tx.jobs.add(company.id, jobs)

    async def claim(job: SynchJob) -> bool:
        async with memory() as tx:
            return await tx.jobs.claim(job.id, WORKER, NOON + timedelta(minutes=1)) is not None

    assert sum(await asyncio.gather(*(claim(job) for job in jobs))) == 1


async def test_those_that_have_started_are_found_behind_those_that_wait(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    first, second = a_job(), a_job(minutes=0.5)
    async with memory() as tx:
        await tx.jobs.add(company.id, [first, second])
    await claimed(memory, first)
    async with memory() as tx:
        (newest,) = await tx.jobs.page(company.id, JobFilter(), None, 1)
        (last_run,) = await tx.jobs.page(company.id, JobFilter(has_started=True), None, 1)
    assert (newest.id, last_run.id) == (second.id, first.id)


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_running_job_hears_that_its_connection_was_disabled_or_deleted(
    engine: AsyncEngine, deleted: bool
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
    running = await claimed(memory, job)
    async with memory() as tx:
        if deleted:
            await tx.connections.delete(company.id)
        else:
            await switch(tx, company, on=False)
    async with memory() as tx:
        assert await tx.jobs.heartbeat([running], NOON) == {job.id: Standing.TO_WAIT}
        assert await tx.jobs.progress(running, "to_crm", Counts()) is Standing.TO_WAIT


async def test_a_job_waits_while_the_connection_is_off_and_is_announced_anew(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job, later = a_job(), a_job("CONTACT", not_before=NOON + timedelta(hours=1))
    async with memory() as tx:
        await tx.jobs.add(company.id, [job, later])
        await switch(tx, company, on=False)
        assert await tx.jobs.claim(job.id, WORKER, NOON + timedelta(minutes=1)) is None
        assert await tx.jobs.send_missing_tickets(NOON + timedelta(minutes=1), timedelta()) == 0
    before = await tickets(engine)
    async with memory() as tx:
        await switch(tx, company, on=True)
        await tx.jobs.send_waiting(company.id, NOON + timedelta(minutes=2))
    assert await tickets(engine) == [*before, job.id]
    assert (await claimed(memory, job)).attempt == 1


async def test_a_worker_that_lost_its_job_can_write_nothing_for_it(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    job = a_job()
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
    stale = await claimed(memory, job)
    async with memory() as tx:
        assert await tx.jobs.progress(stale, "to_crm", Counts(inserted=3), 10) is Standing.OURS
        assert await tx.jobs.lost(NOON + timedelta(minutes=1)) == []
        (lost,) = await tx.jobs.lost(NOON + timedelta(minutes=2))
        assert (lost.company_id, lost.job.id) == (company.id, job.id)
        assert await tx.jobs.requeue(lost.job, None, NOON + timedelta(minutes=2))
    fresh = await claimed(memory, job, minutes=3)
    assert (fresh.fence, fresh.attempt, fresh.counts["to_crm"], fresh.expected) == (
        2,
        2,
        Counts(inserted=3),
        10,
    )
    async with memory() as tx:
        now = NOON + timedelta(minutes=3)
        assert await tx.jobs.progress(stale, "to_crm", Counts(inserted=9)) is Standing.LOST
        assert await tx.jobs.heartbeat([stale], now) == {job.id: Standing.LOST}
        assert await tx.jobs.heartbeat([fresh], now) == {job.id: Standing.OURS}
        assert not await tx.jobs.requeue(stale, None, now)
        assert not await tx.jobs.finish(stale, JobStatus.FAILED, "stale", now)
        assert (await tx.jobs.get(company.id, job.id)).counted == Counts(inserted=3)


async def test_a_job_that_waits_for_its_time_keeps_nobody_else_waiting(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    first, second = a_job(), a_job(minutes=0.5)
    async with memory() as tx:
        await tx.jobs.add(company.id, [first, second])
    running = await claimed(memory, first)
    later = NOON + timedelta(minutes=10)
    async with memory() as tx:
        await tx.jobs.requeue(
            replace(running, message="CRM asks to wait."), later, NOON + timedelta(minutes=1)
        )
        assert await tx.jobs.claim(first.id, WORKER, NOON + timedelta(minutes=2)) is None
    await claimed(memory, second)
    async with memory() as tx:
        waiting = await tx.jobs.get(company.id, first.id)
    assert (waiting.status, waiting.not_before, waiting.message) == (
        JobStatus.QUEUED, later, "CRM asks to wait.",
    )  # fmt: skip


def a_family() -> tuple[SynchJob, SynchJob, SynchJob, SynchJob]:
    parent = a_job(None, mode=SynchMode.FULL)
    people = a_job("SALESPEOPLE", parent_id=parent.id)
    customers = a_job("CUSTOMER", parent_id=parent.id, request={"depends_on": [str(people.id)]})
    contacts = a_job(
        "CONTACT", parent_id=parent.id, request={"depends_on": [str(customers.id), str(uuid4())]}
    )
    return parent, people, customers, contacts


async def test_children_start_when_those_they_depend_on_ended_and_the_parent_sums_them(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    parent, people, customers, contacts = a_family()
    async with memory() as tx:
        await tx.jobs.add(company.id, [contacts, customers, people, parent])
        assert await tx.jobs.claim(customers.id, WORKER, NOON) is None
        assert await tx.jobs.claim(parent.id, WORKER, NOON) is None
    assert await tickets(engine) == [people.id]
    for number, job in enumerate((people, customers, contacts), start=1):
        running = await claimed(memory, job)
        async with memory() as tx:
            assert (await tx.jobs.get(company.id, parent.id)).status is JobStatus.RUNNING
            await tx.jobs.progress(running, "from_crm", Counts(modified=number), 10)
        assert await end(memory, running, JobStatus.SUCCEEDED if number < 3 else JobStatus.PARTIAL)
        assert (await tickets(engine))[-1] == (people, customers, contacts, contacts)[number].id
    async with memory() as tx:
        ended = await tx.jobs.get(company.id, parent.id)
        (listed,) = await tx.jobs.page(company.id, JobFilter(status=JobStatus.PARTIAL), None, 1)
        assert [child.id for child in await tx.jobs.children([parent.id])] == sorted(
            (people.id, customers.id, contacts.id)
        )
    assert listed.id in (parent.id, contacts.id)
    assert (ended.status, ended.counts, ended.expected) == (
        JobStatus.PARTIAL, {"from_crm": Counts(modified=6)}, 30,
    )  # fmt: skip


async def test_a_parent_knows_how_much_there_is_once_each_of_its_children_does(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    parent, people, customers, contacts = a_family()
    async with memory() as tx:
        await tx.jobs.add(company.id, [parent, people, customers, contacts])
    told = []
    for job, expected in ((people, 5), (customers, None), (contacts, 7)):
        running = await claimed(memory, job)
        async with memory() as tx:
            await tx.jobs.progress(running, "to_crm", Counts(modified=5), expected)
            told.append((await tx.jobs.get(company.id, parent.id)).expected)
        assert await end(memory, running, JobStatus.SUCCEEDED)
    async with memory() as tx:
        told.append((await tx.jobs.get(company.id, parent.id)).expected)
    assert told == [None, None, 5 + 5 + 7, 5 + 5 + 7]


async def test_the_dependants_of_a_failed_child_fail_and_name_it(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    parent, people, customers, contacts = a_family()
    async with memory() as tx:
        await tx.jobs.add(company.id, [parent, people, customers, contacts])
    running = await claimed(memory, people)
    async with memory() as tx:
        why = Failure("crm-unavailable", "CRM cannot be reached.")
        await tx.jobs.finish(running, JobStatus.FAILED, why.message, NOON, why)
    async with memory() as tx:
        children = {child.id: child for child in await tx.jobs.children([parent.id])}
        ended = await tx.jobs.get(company.id, parent.id)
        failed, since = await tx.jobs.failed(company.id)
    assert children[people.id].error == why
    assert children[customers.id].message == "SALESPEOPLE failed, and CUSTOMER depends on it."
    assert children[contacts.id].message == "CUSTOMER failed, and CONTACT depends on it."
    assert {child.status for child in children.values()} == {ended.status} == {JobStatus.FAILED}
    assert (failed, since) == (3, None)
    async with memory() as tx:
        await tx.jobs.reset_failed(company.id, NOON + timedelta(minutes=5))
        assert await tx.jobs.failed(company.id) == (0, NOON + timedelta(minutes=5))


async def test_cancelling_a_parent_ends_what_waits_and_stops_what_runs(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    parent, people, customers, contacts = a_family()
    async with memory() as tx:
        await tx.jobs.add(company.id, [parent, people, customers, contacts])
    running = await claimed(memory, people)
    async with memory() as tx:
        asked = await tx.jobs.cancel(company.id, parent.id, NOON)
    assert (asked.status, asked.cancel_requested) == (JobStatus.RUNNING, True)
    async with memory() as tx:
        assert await tx.jobs.progress(running, "to_crm", Counts()) is Standing.TO_STOP
        await tx.jobs.finish(running, JobStatus.CANCELLED, None, NOON)
        family = [await tx.jobs.get(company.id, parent.id), *await tx.jobs.children([parent.id])]
        assert {job.status for job in family} == {JobStatus.CANCELLED}
        assert await tx.jobs.cancel(company.id, parent.id, NOON) == family[0]


async def test_a_request_for_what_waits_already_finds_it(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)

    async def ask() -> UUID:
        async with memory() as tx:
            waiting = await tx.jobs.waiting(company.id, "CUSTOMER", SynchMode.MODIFIED, None, "synchronize")
            if waiting is None:
                waiting = a_job()
                await tx.jobs.add(company.id, [waiting])
            return waiting.id

    assert len(set(await asyncio.gather(*(ask() for _ in range(8))))) == 1
    async with memory() as tx:
        assert await tx.jobs.waiting(company.id, "CUSTOMER", SynchMode.FULL, None, "synchronize") is None
        one_way = await tx.jobs.waiting(
            company.id, "CUSTOMER", SynchMode.MODIFIED, Direction.TO_CRM, "synchronize"
        )
        assert one_way is None


async def test_a_lost_ticket_is_sent_again_once(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    parent, people, customers, contacts = a_family()
    async with memory() as tx:
        await tx.jobs.add(company.id, [parent, people, customers, contacts])
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM pgqueuer"))
    older = timedelta(seconds=10)
    async with memory() as tx:
        assert await tx.jobs.send_missing_tickets(NOON, older) == 0
        assert await tx.jobs.send_missing_tickets(NOON + timedelta(minutes=1), older) == 1
        assert await tx.jobs.send_missing_tickets(NOON + timedelta(minutes=1), older) == 0
    assert await tickets(engine) == [people.id]


async def test_jobs_are_listed_newest_first_in_pages(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_connected_company(memory)
    jobs = [a_job("CUSTOMER" if number % 2 else "CONTACT", number) for number in range(6)]
    async with memory() as tx:
        await tx.jobs.add(company.id, jobs)
        first = await tx.jobs.page(company.id, JobFilter(), None, 4)
        last = first[-1]
        assert last.created_at is not None
        rest = await tx.jobs.page(company.id, JobFilter(), (last.created_at, last.id), 4)
        customers = await tx.jobs.page(company.id, JobFilter("CUSTOMER", JobStatus.QUEUED), None, 10)
    assert [job.id for job in first + rest] == [job.id for job in reversed(jobs)]
    assert [job.id for job in customers] == [jobs[number].id for number in (5, 3, 1)]
