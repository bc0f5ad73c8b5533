"""Writes of the synchronization, in sets."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import AlreadyExists, InvalidValues, NavRecordNotFound, StaleRecord
from app.nav.store import EmbeddedNav
from app.ports import Delete, Insert, Refused, Update, Write, Written

pytestmark = pytest.mark.anyio

MOST_STATEMENTS = 10


@contextmanager
def counted(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    statements: list[str] = []

    def note(*seen: object) -> None:
        statements.append(str(seen[2]))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def written(nav: EmbeddedNav, table: str, writes: list[Write]) -> list[Written]:
    """Writes that must succeed."""
    outcomes = await nav.write(table, writes)
    assert not [outcome.error for outcome in outcomes if isinstance(outcome, Refused)]
    return [outcome for outcome in outcomes if isinstance(outcome, Written)]


@pytest.mark.parametrize("table", ["customers", "contacts", "items", "salespeople"])
async def test_a_page_costs_a_handful_of_statements_however_many_rows(
    nav: EmbeddedNav, engine: AsyncEngine, table: str
) -> None:
    name = "Description" if table == "items" else "Name"
    await nav.create(table, None, {name: "first"})  # makes the number series

    async def cost(rows: int) -> tuple[int, int]:
        inserts: list[Write] = [Insert(uuid4(), {name: f"Name {n}"}) for n in range(rows)]
        with counted(engine) as inserting:
            done = await written(nav, table, inserts)
        updates: list[Write] = [
            Update(one.id, {name: f"Other {n}"}, one.snapshot.version if one.snapshot else None)
            for n, one in enumerate(done)
        ]
        with counted(engine) as updating:
            await written(nav, table, updates)
        return len(inserting), len(updating)

    few, many = await cost(3), await cost(1000)
    assert few == many
    assert max(many) <= MOST_STATEMENTS


async def test_a_contact_finds_its_company_by_the_customer_it_belongs_to(nav: EmbeddedNav) -> None:
    await nav.create("customers", "10000", {"Name": "Adatum"})
    values = {"First_Name": "Robert", "Surname": "Townes", "Type": "Person", "IntegrationCustomerNo": "10000"}
    good, bad = await nav.write(
        "contacts", [Insert(uuid4(), values), Insert(uuid4(), {**values, "IntegrationCustomerNo": "NONE"})]
    )
    assert isinstance(good, Written)
    assert good.snapshot
    seen = good.snapshot.values
    assert (seen["Name"], seen["Company_No"], seen["Company_Name"]) == ("Robert Townes", "CT000001", "Adatum")
    assert seen["IntegrationCustomerNo"] == "10000"
    assert isinstance(bad, Refused)
    assert isinstance(bad.error, InvalidValues)


async def test_each_row_gets_its_own_outcome(nav: EmbeddedNav) -> None:
    old = await nav.create("currencies", "EUR", {"Description": "Euro"})
    assert old.integration_id
    outcomes = await nav.write(
        "currencies",
        [
            Insert(uuid4(), {"Description": "x" * 31}, "AAA"),
            Insert(uuid4(), {}, "EUR"),
            Insert(uuid4(), {}),
            Update(uuid4(), {"Symbol": "x"}),
            Update(old.integration_id, {"Symbol": "x"}, "1"),
            Update(uuid4(), {}),
            Delete(uuid4()),
            Insert(uuid4(), {"Description": "Pound"}, "GBP"),
        ],
    )
    errors = [type(outcome.error) if isinstance(outcome, Refused) else None for outcome in outcomes]
    assert errors == [
        InvalidValues,
        AlreadyExists,
        InvalidValues,
        NavRecordNotFound,
        None,
        NavRecordNotFound,
        None,
        None,
    ]


async def test_two_writes_to_one_record_are_applied_in_order(nav: EmbeddedNav) -> None:
    record = uuid4()
    first, second, third = await nav.write(
        "currencies",
        [
            Insert(record, {"Symbol": "a"}, "EUR"),
            Update(record, {"Symbol": "b"}),
            Update(record, {"Symbol": "c"}, "1"),
        ],
    )
    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert second.snapshot
    assert second.snapshot.values["Symbol"] == "b"
    assert isinstance(third, Refused)
    assert isinstance(third.error, StaleRecord)


async def test_of_two_inserts_of_one_id_at_once_one_creates_and_one_finds(nav: EmbeddedNav) -> None:
    ids = [uuid4() for _ in range(20)]
    inserts: list[Write] = [Insert(record, {}, f"C{n}") for n, record in enumerate(ids)]
    answers = await asyncio.gather(*(written(nav, "currencies", inserts) for _ in range(4)))
    for position in range(len(ids)):
        assert sum(answer[position].created for answer in answers) == 1
    assert len((await nav.records("currencies"))[0]) == 20


async def test_writers_that_cross_each_other_all_succeed(nav: EmbeddedNav) -> None:
    ids = [uuid4() for _ in range(30)]
    await written(nav, "salespeople", [Insert(record, {}, f"S{n}") for n, record in enumerate(ids)])

    async def rewrite(name: str, order: list[UUID]) -> None:
        await written(nav, "salespeople", [Update(record, {"Name": name}) for record in order])

    await asyncio.gather(*(rewrite(f"N{n}", ids if n % 2 else ids[::-1]) for n in range(8)))
    names = {record.values["Name"] for record in (await nav.records("salespeople"))[0]}
    assert len(names) == 1, "a page is written as a whole"


async def test_a_write_that_changes_nothing_changes_no_version(nav: EmbeddedNav) -> None:
    old = await nav.create("currencies", "EUR", {"Description": "Euro"})
    assert old.integration_id
    [same] = await written(
        nav, "currencies", [Update(old.integration_id, {"Description": "Euro"}, old.version)]
    )
    assert same.snapshot
    assert same.snapshot.version == old.version


async def test_what_nav_sets_itself_cannot_be_written(nav: EmbeddedNav) -> None:
    old = await nav.create("customers", "10000", {"Name": "A"})
    assert old.integration_id
    for name in ("Balance_LCY", "Last_Date_Modified", "No_Such_Field"):
        [outcome] = await nav.write("customers", [Update(old.integration_id, {name: 1})])
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, InvalidValues)


async def test_fields_that_a_rule_emptied_come_back_empty(nav: EmbeddedNav) -> None:
    person = uuid4()
    inserts: list[Write] = [Insert(person, {"Type": "Person", "Name": "Robert L. Townes"})]
    await written(nav, "contacts", inserts)
    [renamed] = await written(nav, "contacts", [Update(person, {"Name": "Robert Townes"})])
    assert renamed.snapshot
    assert renamed.snapshot.values["Middle_Name"] == ""


async def test_records_are_matched_whatever_the_capitals(nav: EmbeddedNav) -> None:
    names = {"Straße": "straße", "ÅSE": "Åse", "Adatum": "ADATUM", "İstanbul": "İstanbul"}
    await written(nav, "customers", [Insert(uuid4(), {"Name": name, "Priority": 3}) for name in names])
    found = await nav.match("customers", "Name", list(names.values()))
    assert {asked: [one.values["Name"] for one in some] for asked, some in found.items()} == {
        asked: [name] for name, asked in names.items()
    }
    assert len((await nav.match("customers", "Priority", ["3", "x"]))["3"]) == 4
    assert await nav.match("customers", "City", [""]) == {}
