"""Reading changes: none is missed, none is guessed."""

import asyncio
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Company
from app.domain.errors import InvalidValues, WatermarkExpired
from app.nav import changes
from app.nav.definitions import nav_tables
from app.nav.rows import Projection
from app.nav.store import EmbeddedNav
from app.ports import Delete, Insert, Page, Update

pytestmark = pytest.mark.anyio

COMPANY = Company(1, "cronus", "CRONUS", tracking=True)
INSERT = text(
    """
    INSERT INTO nav_record (company_id, nav_table, key, integration_id, fields)
    VALUES (1, 'currencies', :key, gen_random_uuid(), jsonb_build_object('Code', CAST(:key AS text)))
    """
)


async def keys_since(nav: EmbeddedNav, since: str | None) -> tuple[list[str], str]:
    """The changed keys in order, and the last watermark."""
    keys = []
    watermark = ""
    async for page in nav.changes("currencies", ["Code"], since):
        keys += [record.key for record in page.records]
        watermark = page.watermark or watermark
    return keys, watermark


async def test_a_change_that_is_committed_late_is_not_missed(nav: EmbeddedNav, engine: AsyncEngine) -> None:
    async with engine.connect() as slow:
        await slow.execute(INSERT, {"key": "EARLY"})  # draws the smaller version, commits last
        await nav.create("currencies", "LATE", {})
        reading = asyncio.create_task(keys_since(nav, None))
        await asyncio.sleep(0.1)
        assert not reading.done(), "the reader waits for the writer that has a smaller version"
        await slow.commit()
    keys, watermark = await asyncio.wait_for(reading, 60)
    assert keys == ["EARLY", "LATE"]
    assert await keys_since(nav, watermark) == ([], watermark)


async def test_a_writer_of_another_company_keeps_nobody_waiting(
    nav: EmbeddedNav, engine: AsyncEngine
) -> None:
    async with engine.connect() as slow:
        await slow.execute(text(INSERT.text.replace("(1,", "(2,")), {"key": "OTHER"})
        await nav.create("currencies", "OURS", {})
        assert (await asyncio.wait_for(keys_since(nav, None), 60))[0] == ["OURS"]


async def test_many_writers_and_one_reader_that_follows_them(nav: EmbeddedNav) -> None:
    async def writer(number: int) -> None:
        for step in range(10):
            await nav.create("currencies", f"C{number}X{step}", {})

    writing = asyncio.gather(*(writer(number) for number in range(5)))
    seen: list[str] = []
    watermark: str | None = None
    while not writing.done():
        keys, watermark = await keys_since(nav, watermark)
        seen += keys
        await asyncio.sleep(0.005)
    await writing
    seen += (await keys_since(nav, watermark))[0]
    assert sorted(seen) == sorted(f"C{number}X{step}" for number in range(5) for step in range(10))


async def test_every_page_can_be_continued_from(nav: EmbeddedNav, engine: AsyncEngine) -> None:
    for number in range(7):
        await nav.create("currencies", f"C{number}", {})
    first = {record.key: record.id for record in (await nav.listing("currencies", [])).records}
    _, watermark = await keys_since(nav, None)
    await nav.write("currencies", [Update(first["C3"], {"Symbol": "x"}), Delete(first["C5"])])
    await nav.create("currencies", "NEW", {})
    projection = Projection(nav_tables(COMPANY.defaults_generation)["currencies"], ["Code"])

    async def pages(since: str | None) -> list[Page]:
        return [page async for page in changes.changed_pages(engine, 1, projection, since, page_size=2)]

    found = await pages(watermark)
    assert [len(page.records) + len(page.deleted) for page in found] == [2, 1]
    assert {record.key for page in found for record in page.records} == {"C3", "NEW"}
    assert [gone for page in found for gone in page.deleted] == [first["C5"]]
    for done, page in enumerate(found, 1):
        rest = await pages(page.watermark)
        assert [record.key for one in rest for record in one.records] == [
            record.key for one in found[done:] for record in one.records
        ]
    everything = [record.key for page in await pages(None) for record in page.records]
    assert everything == ["C0", "C1", "C2", "C4", "C6", "C3", "NEW"]


async def test_a_record_that_comes_back_under_its_id_is_no_longer_deleted(nav: EmbeddedNav) -> None:
    created = await nav.create("currencies", "EUR", {})
    assert created.integration_id
    _, watermark = await keys_since(nav, None)
    await nav.remove("currencies", "EUR")
    await nav.write("currencies", [Insert(created.integration_id, {}, "EUR")])
    [page] = [page async for page in nav.changes("currencies", ["Code"], watermark)]
    assert [record.id for record in page.records] == [created.integration_id]
    assert page.deleted == []


@pytest.mark.parametrize("watermark", ["999999", "yesterday"])
async def test_a_watermark_of_another_life_has_expired(nav: EmbeddedNav, watermark: str) -> None:
    await nav.create("currencies", "EUR", {})
    with pytest.raises(WatermarkExpired):
        await keys_since(nav, watermark)


async def test_an_unknown_field_is_named(nav: EmbeddedNav) -> None:
    with pytest.raises(InvalidValues) as refused:
        await nav.get("currencies", [uuid4()], ["Descripton"])
    assert refused.value.errors[0].suggestion == "Description"


async def test_nothing_changed_costs_the_same_however_many_records_there_are(
    nav: EmbeddedNav, engine: AsyncEngine
) -> None:
    inserts = [Insert(UUID(int=number + 1), {}, f"C{number}") for number in range(1000)]
    await nav.write("currencies", inserts)
    _, watermark = await keys_since(nav, None)
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
    assert await keys_since(nav, watermark) == ([], watermark)
    assert len(statements) == 2
