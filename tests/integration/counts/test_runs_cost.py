"""What a run costs follows the changes, not the table: requests, statements, bytes, writes."""

import re
from math import ceil

import pytest

from app.crm.lanes import DEFAULT_LANES
from app.domain.job import SynchMode
from app.domain.mapping import Direction
from app.use_cases.reading import SET
from tests.integration.counts.plant import Meter, Plant, small_pages

pytestmark = pytest.mark.anyio
TO, FROM = Direction.TO_CRM, Direction.FROM_CRM
SIZES = (200, 3000)
CRM_PAGE = 5000
ADDRESS = 550  # bytes around the values of a row in a batch
ANSWERED = 150  # bytes of a written row in the answer to a batch, compressed
NAV_WRITES = re.compile(
    r"(INSERT INTO|UPDATE|DELETE FROM) (nav_record|nav_tombstone|coupling|synch_outcome)\b"
)


def writes_in_memory(meter: Meter) -> list[str]:
    """The statements that write records, couplings or outcomes."""
    return [statement for statement in meter.statements if NAV_WRITES.search(statement)]


def rows_a_request(count: int) -> int:
    """B: what so many rows make of the lanes."""
    return min(max(ceil(count / DEFAULT_LANES), 10), 1000)


async def test_a_run_without_changes_costs_the_same_whatever_the_size(plant: Plant) -> None:
    bills: dict[Direction, set[tuple[int, int]]] = {TO: set(), FROM: set()}
    loaded = 0
    for size in SIZES:
        await plant.load(size - loaded)
        loaded = size
        await plant.run(TO)
        for direction, seen in bills.items():
            _, meter = await plant.run(direction)
            seen.add((len(meter.requests), len(meter.statements)))
            assert len(meter.requests) <= 1, meter.told
            assert sum(one.sent + one.received for one in meter.requests) <= 1024
            assert len(meter.statements) <= 30, meter.statements
    assert [len(seen) for seen in bills.values()] == [1, 1], bills


async def test_the_run_after_a_run_writes_nothing_on_either_side(plant: Plant) -> None:
    await plant.load(300)
    await plant.rename(["K0000001", "K0000002"], "Of NAV")
    plant.rename_accounts(plant.account_ids()[100:102], "Of CRM")
    for direction in (TO, FROM, TO, FROM):
        await plant.run(direction)
    before = plant.writes_in_crm()
    for direction in (TO, FROM):
        counts, meter = await plant.run(direction)
        assert (counts.inserted, counts.modified, counts.failed) == (0, 0, 0)
        assert writes_in_memory(meter) == []
    assert plant.writes_in_crm() == before


async def test_changes_in_nav_cost_as_many_requests_as_they_fill(plant: Plant) -> None:
    await plant.load(1200)
    for count in (1, 60, 1000):
        await plant.rename([f"K{n:07}" for n in range(count)], f"New {count}")
        counts, meter = await plant.run(TO)
        assert counts.modified == count
        assert len(meter.requests) <= count / rows_a_request(count) + 1, meter.told
        await plant.run(FROM)


async def test_changes_in_crm_cost_a_request_for_every_full_page(plant: Plant) -> None:
    await plant.load(1200)
    for count in (1, 150, 1000):
        plant.rename_accounts(plant.account_ids()[:count], f"New {count}")
        counts, meter = await plant.run(FROM)
        assert counts.modified == count
        assert len(meter.requests) <= count // CRM_PAGE + 1, meter.told
        await plant.run(TO)


async def test_a_first_load_into_crm_takes_the_requests_that_its_rows_fill(plant: Plant) -> None:
    await plant.customers(2000)
    counts, meter = await plant.run(TO, SynchMode.FULL, create_uncoupled=True)
    assert counts.inserted == 2000
    assert len(meter.requests) <= 2000 / rows_a_request(SET) + 2, meter.told


async def test_a_first_load_from_crm_takes_its_pages_and_one_request(plant: Plant) -> None:
    plant.accounts(1100)
    plant.clock.pass_by(minutes=5)
    async with small_pages(plant, 500):
        counts, meter = await plant.run(FROM, SynchMode.FULL, create_uncoupled=True)
        assert counts.inserted == 1100
        assert len(meter.requests) <= ceil(1100 / 500) + 1, meter.told
    counted = [statement.split(")")[1].split()[0] for statement in meter.statements if "ANALYZE" in statement]
    assert sorted(counted) == ["coupling", "nav_record"]  # once, after so many new ones


async def test_only_changed_columns_are_sent(plant: Plant) -> None:
    await plant.load(150)
    await plant.rename(["K0000007"], "Changed")
    _, meter = await plant.run(TO)
    [alone] = meter.requests
    assert (alone.method, alone.sent <= 200) == ("PATCH", True), alone
    await plant.rename([f"K{n:07}" for n in range(100)], "All changed")
    _, meter = await plant.run(TO)
    # The address of the row, the columns it is to answer with and its condition come with every part of a batch.
    assert sum(one.sent for one in meter.requests) <= 100 * (ADDRESS + 200), meter.requests
    assert sum(one.received for one in meter.requests) <= 100 * ANSWERED, meter.requests
