"""What is old goes, a bounded set at a time, and what something present refers to stays."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.access import ApiKey, Scope
from app.domain.coupling import Changes, Outcome, SynchAction
from app.domain.errors import WatermarkExpired
from app.domain.job import EntryStatus, JobQueueEntry, JobStatus, SynchJob, SynchMode
from app.domain.records import Side
from app.domain.retention import Retention
from app.jobs.retention import clean_up
from app.ports import JobFilter
from tests.integration.db.memory import a_coupling, as_a_request
from tests.integration.use_cases.house import House, a_house

pytestmark = pytest.mark.anyio
KEPT = Retention()
WORKER = UUID(int=1)
WRITTEN = Changes(Side.CRM, {"name": "Adatum Ltd."}, {"name": "Adatum"})


@pytest.fixture
async def house(engine: AsyncEngine) -> AsyncIterator[House]:
    """A company whose NAV changes are tracked."""
    async with a_house(engine, {}) as house:
        await house.connect()
        yield house


async def ran(house: House, *outcomes: Outcome, parent: UUID | None = None) -> SynchJob:
    """A job that ran to its end just now and logged this."""
    made = house.clock.now()
    job = SynchJob(uuid4(), "synchronize", None, SynchMode.MODIFIED, None, created_at=made, parent_id=parent)
    async with house.ctx.uow() as tx:
        await tx.jobs.add(house.company.id, [job])
        claimed = await tx.jobs.claim(job.id, WORKER, made)
        assert claimed is not None
        await tx.synch_log.add(house.company.id, job.id, list(outcomes), made)
        await tx.jobs.finish(claimed.job, JobStatus.SUCCEEDED, None, made)
    return job


async def jobs_left(house: House) -> list[UUID]:
    async with house.ctx.uow() as tx:
        return [job.id for job in await tx.jobs.page(house.company.id, JobFilter(), None, 1000)]


async def count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


async def test_jobs_go_with_their_log_and_the_history_of_a_coupling_outlives_them(
    house: House, engine: AsyncEngine
) -> None:
    coupling = uuid4()
    await ran(
        house,
        Outcome(SynchAction.MODIFIED, coupling_id=coupling, changes=WRITTEN),
        Outcome(SynchAction.SKIPPED, nav_key="10000"),
    )
    await clean_up(house.ctx, KEPT)
    assert (len(await jobs_left(house)), await count(engine, "synch_outcome")) == (1, 2)
    house.clock.pass_by(days=31)
    await clean_up(house.ctx, KEPT)
    assert await jobs_left(house) == []
    async with house.ctx.uow() as tx:
        history = await tx.synch_log.history(house.company.id, coupling, None, 10)
    assert [(write["old"], write["new"]) for write in history] == [("Adatum", "Adatum Ltd.")]
    assert await count(engine, "synch_outcome") == 1
    house.clock.pass_by(days=60)
    await clean_up(house.ctx, KEPT)
    assert await count(engine, "synch_outcome") == 0


async def test_what_explains_a_skipped_coupling_stays_and_so_does_the_last_job_of_an_entry(
    house: House, engine: AsyncEngine
) -> None:
    explains, last, other = [await ran(house, Outcome(SynchAction.FAILED)) for _ in range(3)]
    entry = JobQueueEntry(
        uuid4(), "Customers", "synchronize", None, 30, status=EntryStatus.ON_HOLD, last_job_id=last.id
    )
    async with house.ctx.uow() as tx:
        (coupling,) = await tx.couplings.reserve(house.company.id, [a_coupling()])
        await tx.couplings.save(house.company.id, [replace(coupling, skipped=True, last_job_id=explains.id)])
        await tx.job_queue.add(house.company.id, entry)
        await tx.synch_log.add(house.company.id, None, [Outcome(SynchAction.COUPLED)], house.clock.now())
    house.clock.pass_by(days=400)
    await clean_up(house.ctx, KEPT)
    assert set(await jobs_left(house)) == {explains.id, last.id}
    async with house.ctx.uow() as tx:
        assert len(await tx.synch_log.outcomes(house.company.id, explains.id, None, 0, 10)) == 1
        assert await tx.synch_log.outcomes(house.company.id, other.id, None, 0, 10) == []
    assert await count(engine, "synch_outcome") == 2


async def test_a_job_that_still_runs_keeps_what_it_logged(house: House, engine: AsyncEngine) -> None:
    job = SynchJob(uuid4(), "synchronize", None, SynchMode.FULL, None, created_at=house.clock.now())
    async with house.ctx.uow() as tx:
        await tx.jobs.add(house.company.id, [job])
        await tx.jobs.claim(job.id, WORKER, house.clock.now())
        await tx.synch_log.add(house.company.id, job.id, [Outcome(SynchAction.INSERTED)], house.clock.now())
    house.clock.pass_by(days=31)
    await clean_up(house.ctx, KEPT)
    assert (len(await jobs_left(house)), await count(engine, "synch_outcome")) == (1, 1)


async def test_no_transaction_deletes_more_than_a_set(house: House, engine: AsyncEngine) -> None:
    for _ in range(3):
        await ran(house, *[Outcome(SynchAction.INSERTED)] * 3)
    house.clock.pass_by(days=31)
    deleted: list[int] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "DELETE FROM synch" in statement:
            deleted.append(cursor.rowcount)

    event.listen(engine.sync_engine, "after_cursor_execute", note)
    await clean_up(house.ctx, KEPT, most=4)
    assert (await jobs_left(house), await count(engine, "synch_outcome")) == ([], 0)
    assert (max(deleted), sum(deleted)) == (4, 12)


@as_a_request
async def test_old_answers_workers_and_dead_keys_go(house: House, engine: AsyncEngine) -> None:
    now = house.clock.now()
    dead = {"revoked": {}, "expired": {"expires_at": now + timedelta(days=1)}, "alive": {}}
    keys: dict[str, ApiKey] = {}
    async with house.ctx.uow() as tx:
        await tx.idempotency.claim("caller", "key", b"1", now)
        await tx.workers.heartbeat(WORKER, "gone", now)
        for name, changes in dead.items():
            values: dict[str, Any] = {"created_at": now} | changes
            keys[name] = ApiKey(uuid4(), name, "nck_", frozenset({Scope.READ}), None, **values)
            await tx.api_keys.add(keys[name], name.encode())
        await tx.api_keys.revoke(keys["revoked"].id, now)
    house.clock.pass_by(days=2)
    await clean_up(house.ctx, KEPT)
    left = [await count(engine, table) for table in ("idempotency_key", "worker", "api_key")]
    assert left == [0, 0, 3]
    house.clock.pass_by(days=365)
    await clean_up(house.ctx, KEPT)
    async with house.ctx.uow() as tx:
        assert [key.name for key in await tx.api_keys.page(None, 10)] == ["alive"]
    assert await count(engine, "api_key") == 1


async def test_forgotten_deletions_are_missed_by_nobody(house: House, engine: AsyncEngine) -> None:
    nav = await house.nav()
    for no in ("10000", "20000"):
        await nav.create("customers", no, {"Name": no})
    await nav.ensure_ids("customers", ["10000", "20000"])
    early = [page async for page in nav.changes("customers", (), None)][-1].watermark
    await nav.remove("customers", "10000")
    late = [page async for page in nav.changes("customers", (), early)][-1].watermark
    await clean_up(house.ctx, KEPT)
    assert await count(engine, "nav_tombstone") >= 1
    async with engine.begin() as connection:  # the stamp is the server's own
        await connection.execute(text("ALTER TABLE nav_tombstone DISABLE TRIGGER nav_tombstone_stamp"))
        await connection.execute(
            text("UPDATE nav_tombstone SET deleted_at = deleted_at - interval '10 years'")
        )
    await clean_up(house.ctx, KEPT)
    assert await count(engine, "nav_tombstone") == 0
    assert [page async for page in nav.changes("customers", (), late)][-1].deleted == []
    assert await nav.changed({("customers", str(late))}) == set()
    assert await nav.changed({("customers", str(early))}) == {("customers", str(early))}
    with pytest.raises(WatermarkExpired):
        [page async for page in nav.changes("customers", (), early)]
