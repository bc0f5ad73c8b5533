"""What a run holds in memory for every record of the table, and what a crash makes it do again."""

import asyncio.selector_events
import gc
import tracemalloc

import pytest

from app.crm.lanes import DEFAULT_LANES
from app.domain.job import SynchMode
from app.domain.mapping import Direction
from app.use_cases.reading import SET
from tests.integration.counts.plant import Plant, small_pages
from tests.integration.fuses import Crash
from tests.integration.use_cases.office import Quiet

pytestmark = pytest.mark.anyio
TO, FROM = Direction.TO_CRM, Direction.FROM_CRM
BYTES_A_ROW = 20
MORE = 1400
KEPT_BY_LIBRARIES = 64 * 1024
"""Caches that grow with use, not with rows; a set of the ids alone would be four times as much."""
WIRE = tracemalloc.Filter(inclusive=False, filename_pattern=asyncio.selector_events.__file__)
"""Without what a socket received last: up to 256 KiB of every connection, whatever the number of rows."""


async def held_at_the_end(plant: Plant, rows: int) -> int:
    """Bytes that a full run from CRM holds while its last page is recorded, which shows no record.

    The number of requests is the same for any number of rows: libraries keep something of each address.
    """
    held = 0

    def look(step: str) -> None:
        nonlocal held
        if step == "progress":
            gc.collect()
            seen = tracemalloc.take_snapshot().filter_traces([WIRE])
            held = sum(trace.size for trace in seen.traces)

    async with small_pages(plant, rows // 4):
        gc.collect()
        tracemalloc.start()
        try:
            await plant.office.run("CUSTOMER", SynchMode.FULL, FROM, report=Quiet(look))
        finally:
            tracemalloc.stop()
    return held


@pytest.mark.timeout(600)  # on a machine that does much else
async def test_a_full_run_holds_a_page_and_a_few_bytes_for_every_record(plant: Plant) -> None:
    await plant.load(600)
    few = [await held_at_the_end(plant, 600) for _ in range(3)]  # what is kept for good is made by the first
    await plant.load(MORE)
    many = [await held_at_the_end(plant, 600 + MORE) for _ in range(2)]
    assert min(many) - min(few) <= BYTES_A_ROW * MORE + KEPT_BY_LIBRARIES


@pytest.mark.parametrize("pages", [1, 2])
async def test_a_load_that_was_killed_does_at_most_one_page_again(plant: Plant, pages: int) -> None:
    left = 1 + pages + 1  # what is expected, the pages that are recorded, and the one that is not

    def die(step: str) -> None:
        nonlocal left
        left -= step == "progress"
        if left == 0:
            raise Crash

    office, total = plant.office, 3 * SET
    await plant.customers(total)
    report = Quiet(die)
    with pytest.raises(Crash):
        await office.run("CUSTOMER", SynchMode.FULL, TO, report=report, create_uncoupled=True)
    written = len(plant.account_ids())
    assert pages * SET < written <= total
    with plant.metered() as meter:
        ran = await office.run("CUSTOMER", SynchMode.FULL, TO, create_uncoupled=True)
    assert ran.to_crm.failed == 0
    assert len(plant.account_ids()) == total
    needed = (total - pages * SET) / SET * DEFAULT_LANES
    assert len(meter.requests) <= needed + DEFAULT_LANES, meter.told
