"""The life of an integration id, row by row of nav-behaviour 2."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest

from app.domain.company import Generation
from app.nav.store import EmbeddedNav
from app.ports import Page

pytestmark = pytest.mark.anyio

Make = Callable[..., EmbeddedNav]


async def all_of(pages: AsyncIterator[Page]) -> tuple[set[str], set[UUID], str]:
    """Keys, deleted ids and the last watermark."""
    keys: set[str] = set()
    deleted: set[UUID] = set()
    watermark = ""
    async for page in pages:
        keys |= {record.key for record in page.records}
        deleted |= set(page.deleted)
        watermark = page.watermark or watermark
    return keys, deleted, watermark


async def test_while_enabled_a_new_record_gets_an_id_and_keeps_it(nav_of: Make) -> None:
    nav = nav_of(tracking=True)
    created = await nav.create("customers", "10000", {"Name": "A"})
    changed = await nav.change("customers", "10000", {"Name": "B"})
    renamed = await nav.change("customers", "10000", {"No": "20000"})
    assert created.integration_id
    assert {changed.integration_id, renamed.integration_id} == {created.integration_id}


async def test_while_disabled_a_new_record_gets_none_and_changes_are_not_detected(nav_of: Make) -> None:
    nav = nav_of(tracking=False)
    created = await nav.create("customers", "10000", {"Name": "A"})
    changed = await nav.change("customers", "10000", {"Name": "B"})
    assert created.integration_id is changed.integration_id is None
    assert (await all_of(nav.changes("customers", ["Name"], None)))[0] == set()


async def test_once_enabled_a_change_gives_a_record_its_id(nav_of: Make) -> None:
    await nav_of(tracking=False).create("customers", "10000", {"Name": "A"})
    changed = await nav_of(tracking=True).change("customers", "10000", {"Name": "B"})
    assert changed.integration_id


async def test_a_rename_while_disabled_keeps_the_id_too(nav_of: Make) -> None:
    created = await nav_of(tracking=True).create("customers", "10000", {"Name": "A"})
    renamed = await nav_of(tracking=False).change("customers", "10000", {"No": "20000"})
    assert renamed.integration_id == created.integration_id


@pytest.mark.parametrize("tracking", [True, False])
async def test_a_deleted_record_leaves_its_id_in_a_tombstone(nav_of: Make, tracking: bool) -> None:
    created = await nav_of(tracking=True).create("customers", "10000", {"Name": "A"})
    nav = nav_of(tracking=tracking)
    _, _, watermark = await all_of(nav.changes("customers", ["Name"], None))
    await nav.remove("customers", "10000")
    assert (await all_of(nav.changes("customers", ["Name"], watermark)))[1] == {created.integration_id}


async def test_records_of_a_table_that_is_not_integrated_get_an_id_only_when_asked_for(nav_of: Make) -> None:
    nav = nav_of(tracking=True)
    assert (await nav.create("territories", "N", {"Name": "North"})).integration_id is None
    assert await nav.without_ids(["territories"]) == {"territories": 0}
    assert await nav.generate_ids(["territories"]) == {"territories": 0}
    assert set(await nav.ensure_ids("territories", ["N"])) == {"N"}


async def test_in_nav_2017_company_contacts_have_no_id_and_a_person_turned_company_loses_it(
    nav_of: Make,
) -> None:
    nav = nav_of(tracking=True, defaults_generation=Generation.NAV2017)
    company = await nav.create("contacts", "CO", {"Name": "Adatum"})
    person = await nav.create("contacts", "PE", {"Type": "Person", "Name": "A B"})
    assert company.integration_id is None
    assert person.integration_id
    _, _, watermark = await all_of(nav.changes("contacts", ["Name"], None))
    turned = await nav.change("contacts", "PE", {"Type": "Company"})
    assert turned.integration_id is None
    assert await all_of(nav.changes("contacts", ["Name"], watermark)) == (
        set(),
        {person.integration_id},
        str(int(watermark) + 2),
    )
    assert await nav.generate_ids(["contacts"]) == {"contacts": 0}


async def test_a_change_of_a_line_counts_as_a_change_of_its_parent(nav_of: Make) -> None:
    await nav_of(tracking=False).create("currencies", "EUR", {"Description": "Euro"})
    nav = nav_of(tracking=True)
    rate = "EUR,2026-01-01"
    await nav.create("currency-exchange-rates", rate, {"Exchange_Rate_Amount": 100})
    keys, _, watermark = await all_of(nav.changes("currencies", ["Code"], None))
    assert keys == {"EUR"}
    await nav.change("currency-exchange-rates", rate, {"Exchange_Rate_Amount": 90})
    keys, _, watermark = await all_of(nav.changes("currencies", ["Code"], watermark))
    assert keys == {"EUR"}
    await nav.remove("currency-exchange-rates", rate)
    assert (await all_of(nav.changes("currencies", ["Code"], watermark)))[0] == {"EUR"}


async def test_generating_gives_ids_to_those_without_and_never_changes_one(nav_of: Make) -> None:
    tracked = await nav_of(tracking=True).create("customers", "10000", {"Name": "A"})
    nav = nav_of(tracking=False)
    for number in range(3):
        await nav.create("customers", f"2000{number}", {"Name": "B"})
    assert await nav.without_ids(["customers", "items"]) == {"customers": 3, "items": 0}
    assert await nav.generate_ids(["customers", "items"]) == {"customers": 3, "items": 0}
    assert await nav.generate_ids(["customers", "items"]) == {"customers": 0, "items": 0}
    assert await nav.without_ids(["customers"]) == {"customers": 0}
    assert (await nav.by_key("customers", ["10000"]))["10000"].integration_id == tracked.integration_id


async def test_after_generating_every_record_counts_as_changed_but_not_as_modified(nav_of: Make) -> None:
    nav = nav_of(tracking=False)
    before = await nav.create("customers", "10000", {"Name": "A"})
    _, _, watermark = await all_of(nav.changes("customers", ["Name"], None))
    await nav.generate_ids(["customers"])
    assert (await all_of(nav.changes("customers", ["Name"], watermark)))[0] == {"10000"}
    after = (await nav.by_key("customers", ["10000"]))["10000"]
    assert after.modified_at == before.modified_at


async def test_an_id_is_made_on_the_way_when_a_record_is_coupled(nav_of: Make) -> None:
    nav = nav_of(tracking=False)
    await nav.create("customers", "10000", {"Name": "A"})
    first = await nav.ensure_ids("customers", ["10000", "none"])
    assert set(first) == {"10000"}
    assert await nav.ensure_ids("customers", ["10000"]) == first


async def test_company_and_person_contacts_change_when_their_company_becomes_a_customer(nav_of: Make) -> None:
    nav = nav_of(tracking=True)
    await nav.create("contacts", "CO", {"Name": "Adatum"})
    await nav.create("contacts", "PE", {"Type": "Person", "Name": "A B", "Company_No": "CO"})
    _, _, watermark = await all_of(nav.changes("contacts", ["Name"], None))
    await nav.create("customers", "10000", {"Name": "Adatum", "Primary_Contact_No": "PE"})
    assert (await all_of(nav.changes("contacts", ["Name"], watermark)))[0] == {"CO", "PE"}
