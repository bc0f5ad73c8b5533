"""Couplings are reserved once, saved in sets, and never overwritten by who read them earlier."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import ARRAY, Uuid, bindparam, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.coupling import Base, Coupling, CouplingStatus, Failure, SynchAction, SynchResult
from app.domain.errors import NoCoupling
from app.domain.records import Reference
from tests.integration.db.memory import NOON, Statements, a_company, a_coupling, a_memory

pytestmark = pytest.mark.anyio

BASE = Base(
    nav={"Name": "Adatum", "Credit_Limit_LCY": Decimal("1000.50"), "Blocked": False},
    crm={"name": "Adatum", "ownerid": Reference(UUID(int=7), "systemuser"), "since": date(2026, 1, 31)},
    nav_version="17",
    crm_version='W/"4711"',
)


async def test_fifty_who_reserve_the_same_record_at_once_get_one_coupling(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)

    async def reserve() -> Coupling:
        async with memory() as tx:
            return (await tx.couplings.reserve(company.id, [a_coupling(1)]))[0]

    held = await asyncio.gather(*(reserve() for _ in range(50)))

    assert len({one.id for one in held}) == 1
    assert len({one.crm_id for one in held}) == 1
    async with memory() as tx:
        assert await tx.couplings.count(company.id) == 1


async def test_sets_that_overlap_are_reserved_and_saved_at_once_without_waiting_for_each_other(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)

    async def one_set(seed: int) -> set[UUID]:
        numbers = list(range(200))
        random.Random(seed).shuffle(numbers)
        async with memory() as tx:
            held = await tx.couplings.reserve(company.id, [a_coupling(number) for number in numbers])
        agreed = [one.agreed(BASE, SynchAction.INSERTED, NOON) for one in held]
        async with memory() as tx:
            return await tx.couplings.save(company.id, agreed)

    saves = Counter(
        one for saved in await asyncio.gather(*(one_set(seed) for seed in range(8))) for one in saved
    )

    async with memory() as tx:
        found = await tx.couplings.page(company.id, limit=1000)
    assert len(found) == 200
    assert {one.id: one.revision for one in found} == saves


async def test_a_reservation_answers_in_order_who_holds_each_record(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    by_nav, by_crm = a_coupling(1), a_coupling(2)
    async with memory() as tx:
        await tx.couplings.reserve(company.id, [by_nav, by_crm])

    fresh, again, taken = a_coupling(3), a_coupling(1), a_coupling(4, crm_id=by_crm.crm_id)
    async with memory() as tx:
        held = await tx.couplings.reserve(company.id, [fresh, again, taken])

    assert [one.id for one in held] == [fresh.id, by_nav.id, by_crm.id]


async def test_a_crm_row_may_stand_for_records_of_two_tables(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    item = a_coupling(1, nav_table="items", crm_entity="product")
    resource = a_coupling(1, nav_table="resources", crm_entity="product", crm_id=item.crm_id)
    async with memory() as tx:
        held = await tx.couplings.reserve(company.id, [item, resource])
        found = await tx.couplings.of_entity(company.id, "product", [item.crm_id, uuid4()])

    assert held == [item, resource]
    assert {one.id for one in found[item.crm_id]} == {item.id, resource.id}


async def test_what_was_agreed_comes_back_as_it_was(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    job_id = uuid4()
    async with memory() as tx:
        (reserved,) = await tx.couplings.reserve(company.id, [a_coupling()])
    agreed = reserved.agreed(BASE, SynchAction.INSERTED, NOON, job_id)
    async with memory() as tx:
        assert await tx.couplings.save(company.id, [agreed]) == {reserved.id}
    async with memory() as tx:
        assert await tx.couplings.get(company.id, reserved.id) == replace(agreed, revision=1)
        assert await tx.couplings.of_nav(company.id, "customers", [reserved.nav_id, uuid4()]) == {
            reserved.nav_id: replace(agreed, revision=1)
        }
        assert list(await tx.couplings.of_crm(company.id, "customers", [reserved.crm_id])) == [
            reserved.crm_id
        ]


async def test_who_read_a_coupling_earlier_leaves_it_alone(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        mine, other = await tx.couplings.reserve(company.id, [a_coupling(1), a_coupling(2)])
        await tx.couplings.save(company.id, [mine.agreed(BASE, SynchAction.INSERTED, NOON)])

    failure = Failure("crm-refused", "No\x00 more.")
    async with memory() as tx:
        saved = await tx.couplings.save(company.id, [mine.failed(failure, NOON), other.failed(failure, NOON)])
        kept, changed = (
            await tx.couplings.get(company.id, mine.id),
            await tx.couplings.get(company.id, other.id),
        )

    assert saved == {other.id}
    assert (kept.last_synch_result, kept.base) == (SynchResult.SUCCESS, BASE)
    assert changed.last_error == Failure("crm-refused", "No more.")


async def test_which_records_a_coupling_couples_never_changes(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        one, other = await tx.couplings.reserve(company.id, [a_coupling(1), a_coupling(2)])
    async with memory() as tx:
        moved = replace(one, crm_id=other.crm_id, nav_id=other.nav_id, nav_key="NEW")
        assert await tx.couplings.save(company.id, [moved]) == {one.id}
        kept = await tx.couplings.get(company.id, one.id)
    assert (kept.nav_id, kept.crm_id, kept.nav_key) == (one.nav_id, one.crm_id, "NEW")


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_set_costs_as_many_statements_as_one_record(engine: AsyncEngine, size: int) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    statements = Statements(engine)
    async with memory() as tx:
        reserved = await tx.couplings.reserve(company.id, [a_coupling(number) for number in range(size)])
        assert statements.count == 1
        again = await tx.couplings.reserve(company.id, [a_coupling(number) for number in range(size)])
        assert statements.count == 3
        assert again == reserved
        agreed = [one.agreed(BASE, SynchAction.INSERTED, NOON) for one in reserved]
        assert len(await tx.couplings.save(company.id, agreed)) == size
        assert statements.count == 4
        assert len(await tx.couplings.of_nav(company.id, "customers", [one.nav_id for one in agreed])) == size
        assert statements.count == 5


async def test_couplings_are_listed_in_pages(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    failure = Failure("crm-refused", "No.")
    async with memory() as tx:
        reserved = await tx.couplings.reserve(company.id, [a_coupling(number) for number in range(5)])
        failing = [
            replace(reserved[0].failed(failure, NOON), skipped=True),
            reserved[1].failed(failure, NOON),
        ]
        await tx.couplings.save(company.id, failing)
    in_order = sorted(reserved, key=lambda one: one.id)
    async with memory() as tx:
        first = await tx.couplings.page(company.id, limit=3)
        rest = await tx.couplings.page(company.id, after=first[-1].id, limit=3)
        skipped = await tx.couplings.page(company.id, mapping="CUSTOMER", skipped=True)
        failed = await tx.couplings.page(company.id, skipped=False, last_synch_result="failure")
        counts = [await tx.couplings.count(company.id, "CUSTOMER", flag) for flag in (None, True, False)]
        elsewhere = await tx.couplings.page(company.id, mapping="CONTACT")
    assert [one.id for one in first + rest] == [one.id for one in in_order]
    assert [one.id for one in skipped] == [reserved[0].id]
    assert [one.id for one in failed] == [reserved[1].id]
    assert counts == [5, 1, 4]
    assert elsewhere == []


async def test_companies_do_not_see_each_others_couplings(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    ours, theirs = await a_company(memory), await a_company(memory, "fabrikam")
    async with memory() as tx:
        (coupling,) = await tx.couplings.reserve(ours.id, [a_coupling()])
        (same,) = await tx.couplings.reserve(theirs.id, [a_coupling(crm_id=coupling.crm_id)])
        assert same.id != coupling.id
        assert await tx.couplings.delete(theirs.id, [coupling.id]) == 0
        with pytest.raises(NoCoupling):
            await tx.couplings.get(theirs.id, coupling.id)
        stolen = replace(coupling, status=CouplingStatus.COUPLED, last_synch_at=NOON + timedelta(1))
        assert await tx.couplings.save(theirs.id, [stolen]) == set()
        assert await tx.couplings.delete(ours.id, [coupling.id]) == 1


async def test_a_set_is_found_by_its_ids_as_soon_as_the_database_knows_how_many_there_are(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        held = await tx.couplings.reserve(company.id, [a_coupling(number) for number in range(2000)])
    async with memory() as tx:
        await tx.couplings.take_stock()
    query = text(
        "EXPLAIN SELECT * FROM coupling WHERE company_id = :company AND nav_table = :table AND nav_id = ANY(:ids)"
    ).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
    given = {"company": company.id, "table": held[0].nav_table, "ids": [one.nav_id for one in held[:50]]}
    async with engine.connect() as connection:
        plan = (await connection.execute(query, given)).scalars().all()
    assert any("Index Cond" in line and "nav_id = ANY" in line for line in plan), plan


async def test_who_holds_a_record_already_is_found_by_its_whole_key(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    asked: list[tuple[str, tuple[object, ...]]] = []

    def note(*about: Any) -> None:
        asked.append((about[2], about[3]))

    async with memory() as tx:
        held = await tx.couplings.reserve(company.id, [a_coupling(number) for number in range(2000)])
        await tx.couplings.take_stock()
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    async with memory() as tx:
        again = [replace(one, id=uuid4()) for one in held[:50]]
        assert await tx.couplings.reserve(company.id, again) == held[:50]
    statement, given = asked[-1]
    async with engine.connect() as connection:
        for way in ("seqscan", "hashjoin", "mergejoin"):  # nobody goes there where there are many more
            await connection.execute(text(f"SET LOCAL enable_{way} = off"))
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        plan = [str(line[0]) for line in await driver.fetch(f"EXPLAIN {statement}", *given)]
    conditions = [line for line in plan if "Cond" in line]
    assert conditions, plan
    assert all("company_id" in line and "nav_table" in line for line in conditions), plan


async def test_a_page_of_a_company_does_not_walk_through_the_couplings_of_others(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    large, small = await a_company(memory, "large"), await a_company(memory, "small")
    async with memory() as tx:
        await tx.couplings.reserve(large.id, [a_coupling(number) for number in range(2000)])
        await tx.couplings.reserve(small.id, [a_coupling(number) for number in range(2000, 2600)])
        await tx.couplings.take_stock()
    query = text("EXPLAIN ANALYZE SELECT * FROM coupling WHERE company_id = :company ORDER BY id LIMIT 100")
    async with engine.connect() as connection:
        plan = (await connection.execute(query, {"company": small.id})).scalars().all()
    assert not any("Removed" in line or "Sort" in line for line in plan), plan
