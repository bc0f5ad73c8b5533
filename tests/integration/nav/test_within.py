"""The NAV side as a part of a transaction of ours."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.domain.company import Company
from app.nav.definitions import nav_tables
from app.nav.numbers import draw
from app.nav.store import EmbeddedNav
from app.ports import Insert, NavRecord, Refused, Update, Written
from tests.integration.db.memory import a_memory

pytestmark = pytest.mark.anyio

CRONUS = Company(1, "cronus", "CRONUS", tracking=True)


def a_customer(name: str) -> Insert:
    return Insert(uuid4(), {"Name": name})


async def names(nav: EmbeddedNav) -> list[str]:
    records, _ = await nav.records("customers")
    return [str(record.values["Name"]) for record in records]


async def test_what_is_written_within_a_transaction_is_there_when_it_commits(engine: AsyncEngine) -> None:
    nav = EmbeddedNav(engine, CRONUS)
    async with a_memory(engine)() as tx:
        await nav.within(tx).write("customers", [a_customer("A")])
        assert await names(nav) == []
        assert await names(nav.within(tx)) == ["A"]
    assert await names(nav) == ["A"]


async def test_what_is_written_within_a_transaction_that_fails_never_was(engine: AsyncEngine) -> None:
    nav = EmbeddedNav(engine, CRONUS)

    async def fails() -> None:
        async with a_memory(engine)() as tx:
            await nav.within(tx).write("customers", [a_customer("A")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert await names(nav) == []
    assert (await nav.records("contacts"))[0] == []


async def test_a_write_that_is_refused_leaves_the_transaction_usable(engine: AsyncEngine) -> None:
    nav = EmbeddedNav(engine, CRONUS)
    async with a_memory(engine)() as tx:
        within = nav.within(tx)
        (refused,) = await within.write("customers", [Update(uuid4(), {"Name": "Nobody"})])
        assert isinstance(refused, Refused)
        await within.write("customers", [a_customer("A")])
    assert await names(nav) == ["A"]


@pytest.fixture
async def numbering(engine: AsyncEngine, database: str) -> AsyncIterator[EmbeddedNav]:
    """The NAV side as the service opens it: with a connection on which numbers are drawn."""
    apart = create_engine(database, pool_size=1)
    yield EmbeddedNav(engine, CRONUS, None, apart)
    await apart.dispose()


async def test_nobody_waits_for_numbers_until_a_transaction_ends(
    engine: AsyncEngine, numbering: EmbeddedNav
) -> None:
    """Two sets of a run are written at the same time, with a number series between them."""
    memory = a_memory(engine)
    async with asyncio.timeout(20), memory() as one, memory() as other:
        for tx, name in ((one, "A"), (other, "B")):
            await numbering.within(tx).write("customers", [a_customer(name)])
    assert sorted(await names(numbering)) == ["A", "B"]
    contacts, _ = await numbering.records("contacts")
    assert len({record.key for record in contacts}) == 2


async def test_a_series_that_fills_its_gaps_gives_no_number_twice(
    engine: AsyncEngine, numbering: EmbeddedNav
) -> None:
    """Salespeople: the first free number is known only within the transaction that takes it."""
    async with a_memory(engine)() as tx:
        within = numbering.within(tx)
        for _ in range(2):
            await within.write("salespeople", [Insert(uuid4(), {"Name": "Ann"})])
    records, _ = await numbering.records("salespeople")
    assert [record.key for record in records] == ["SP NO. 1", "SP NO. 2"]


async def test_a_set_that_holds_a_contact_and_a_load_that_holds_the_series_do_not_wait_for_each_other(
    engine: AsyncEngine, numbering: EmbeddedNav
) -> None:
    """The load takes numbers of contacts and wants a contact that the set has changed; the set wants numbers."""
    (made,) = await numbering.bulk("customers", [("X1", {"Name": "X"})])
    assert isinstance(made, NavRecord)
    ((company,), _) = await numbering.records("contacts")
    async with asyncio.timeout(20), engine.connect() as load, load.begin() as loading:
        drawn = await draw(load, CRONUS.id, nav_tables(CRONUS.defaults_generation)["contacts"], 5)
        async with a_memory(engine)() as tx:
            person = Insert(uuid4(), {"Type": "Person", "Name": "Ann", "Company_No": company.key})
            waiting = asyncio.create_task(numbering.within(tx).write("contacts", [person]))
            await asyncio.wait([waiting], timeout=1)
            assert not waiting.done()  # in its own transaction, where the server sees who waits for whom
            await loading.rollback()
            (answer,) = await waiting
    assert isinstance(answer, Written)
    contacts, _ = await numbering.records("contacts")
    assert {record.key for record in contacts} == {company.key, drawn[0]}
