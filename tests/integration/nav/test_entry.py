"""What NAV does with records that people enter."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import AlreadyExists, Invalid, InvalidValues, NavRecordNotFound, StaleRecord
from app.nav.store import EmbeddedNav
from app.ports import NavRecord

pytestmark = pytest.mark.anyio


async def shown(nav: EmbeddedNav, table: str, key: str) -> Any:
    """The values of a record."""
    return (await nav.by_key(table, [key]))[key].values


async def test_a_new_customer_makes_its_company_contact_and_business_relation(nav: EmbeddedNav) -> None:
    customer = await nav.create("customers", None, {"Name": "Adatum", "Phone_No": "1", "City": "Cambridge"})
    assert customer.key == "C00010"
    [contact], _ = await nav.records("contacts")
    assert contact.key == "CT000001"
    assert {name: contact.values[name] for name in ("Type", "Name", "Phone_No", "City", "Company_No")} == {
        "Type": "Company",
        "Name": "Adatum",
        "Phone_No": "1",
        "City": "Cambridge",
        "Company_No": "CT000001",
    }
    [relation], _ = await nav.records("contact-business-relations")
    assert relation.key == "CT000001,CUST"
    assert (relation.values["Link_to_Table"], relation.values["No"]) == ("Customer", "C00010")
    assert relation.values["Contact_Name"] == "Adatum"


async def test_a_customer_whose_primary_contact_has_a_company_is_that_company(nav: EmbeddedNav) -> None:
    await nav.create("contacts", "CO", {"Name": "Adatum"})
    await nav.create("contacts", "PE", {"Type": "Person", "Name": "Robert Townes", "Company_No": "CO"})
    await nav.create("customers", "10000", {"Name": "Adatum", "Primary_Contact_No": "PE"})
    assert len((await nav.records("contacts"))[0]) == 2
    assert [r.key for r in (await nav.records("contact-business-relations"))[0]] == ["CO,CUST"]
    assert (await shown(nav, "contacts", "PE"))["IntegrationCustomerNo"] == "10000"


async def test_a_changed_customer_changes_its_company_contact_and_its_persons(nav: EmbeddedNav) -> None:
    await nav.create("customers", "10000", {"Name": "Adatum"})
    person = await nav.create(
        "contacts", None, {"Type": "Person", "Name": "Robert Townes", "IntegrationCustomerNo": "10000"}
    )
    assert (person.values["Company_No"], person.values["Company_Name"]) == ("CT000001", "Adatum")
    await nav.change("customers", "10000", {"Name": "Adatum Ltd.", "Credit_Limit_LCY": 5})
    assert (await shown(nav, "contacts", "CT000001"))["Name"] == "Adatum Ltd."
    assert (await shown(nav, "contacts", person.key))["Company_Name"] == "Adatum Ltd."


async def test_deleting_a_customer_removes_its_business_relation(nav: EmbeddedNav) -> None:
    await nav.create("customers", "10000", {"Name": "Adatum"})
    await nav.remove("customers", "10000")
    assert (await nav.records("contact-business-relations"))[0] == []
    assert (await shown(nav, "contacts", "CT000001"))["IntegrationCustomerNo"] == ""
    with pytest.raises(NavRecordNotFound):
        await nav.remove("customers", "10000")


@pytest.mark.parametrize(
    ("values", "name", "parts"),
    [
        ({"Name": "Robert Townes"}, "Robert Townes", ("Robert", "", "Townes")),
        ({"Name": "Anna Maria Louise Berg"}, "Anna Maria Louise Berg", ("Anna", "Maria Louise", "Berg")),
        ({"Name": "Cher"}, "Cher", ("", "", "Cher")),
        ({"First_Name": "Jan", "Surname": "van der Berg"}, "Jan van der Berg", ("Jan", "", "van der Berg")),
        (
            {"Name": "Jan van der Berg", "First_Name": "Jan", "Surname": "van der Berg"},
            "Jan van der Berg",
            ("Jan", "", "van der Berg"),
        ),
    ],
)
async def test_a_person_s_name_and_its_parts_agree(
    nav: EmbeddedNav, values: dict[str, str], name: str, parts: tuple[str, str, str]
) -> None:
    person = await nav.create("contacts", None, {"Type": "Person", **values})
    found = person.values
    assert (found["Name"], (found["First_Name"], found["Middle_Name"], found["Surname"])) == (name, parts)
    assert found["Search_Name"] == name.upper()


async def test_writing_one_part_of_a_name_keeps_the_others(nav: EmbeddedNav) -> None:
    person = await nav.create("contacts", None, {"Type": "Person", "Name": "Robert L. Townes"})
    changed = await nav.change("contacts", person.key, {"Surname": "Smith"})
    assert changed.values["Name"] == "Robert L. Smith"


async def test_privacy_blocked_customers_are_blocked_for_everything(nav: EmbeddedNav) -> None:
    customer = await nav.create("customers", None, {"Name": "A", "Privacy_Blocked": True})
    assert customer.values["Blocked"] == "All"
    with pytest.raises(InvalidValues):
        await nav.change("customers", customer.key, {"Blocked": "Ship"})


async def test_every_relation_is_checked(nav: EmbeddedNav) -> None:
    with pytest.raises(InvalidValues) as refused:
        await nav.create("customers", None, {"Name": "A", "Salesperson_Code": "JO"})
    [problem] = refused.value.errors
    assert problem.pointer == "/fields/Salesperson_Code"
    assert "Salesperson/Purchaser" in problem.message
    assert (await nav.records("customers"))[0] == []


async def test_a_relation_with_a_condition_is_checked_while_the_condition_holds(nav: EmbeddedNav) -> None:
    await nav.create("contacts", "CO", {"Name": "A"})
    relation = {"Link_to_Table": "Vendor", "No": "V1"}
    with pytest.raises(InvalidValues):
        await nav.create("contact-business-relations", "CO,VEND", relation)
    await nav.create("contact-business-relations", "CO,BANK", {"Link_to_Table": "Bank Account", "No": "B"})


async def test_a_person_belongs_to_a_company_not_to_a_person(nav: EmbeddedNav) -> None:
    await nav.create("contacts", "PE", {"Type": "Person", "Name": "A B"})
    with pytest.raises(InvalidValues):
        await nav.create("contacts", None, {"Type": "Person", "Name": "C D", "Company_No": "PE"})
    with pytest.raises(InvalidValues):
        await nav.create("contacts", None, {"Type": "Person", "Name": "C D", "IntegrationCustomerNo": "1"})


async def test_a_key_with_a_letter_that_has_no_capital_keeps_it(nav: EmbeddedNav) -> None:
    for key in ("masse", "maße", "a2345678901234567890"[:19] + "ß"):
        await nav.create("customers", key, {"Name": key})
    assert set(await nav.by_key("customers", ["Masse", "MAßE", "A234567890123456789ß"])) == {
        "Masse",
        "MAßE",
        "A234567890123456789ß",
    }
    records, _ = await nav.records("customers", filter="contains(No, 'aß')", limit=10)
    assert [record.key for record in records] == ["MAßE"]


async def test_keys_are_trimmed_and_upper_cased_and_addressed_in_any_case(nav: EmbeddedNav) -> None:
    created = await nav.create("currencies", " eur ", {"Description": "Euro"})
    assert (created.key, created.values["Code"]) == ("EUR", "EUR")
    assert set(await nav.by_key("currencies", ["eur", "EUR ", "usd"])) == {"eur", "EUR "}
    with pytest.raises(AlreadyExists):
        await nav.create("currencies", "Eur", {})


async def test_a_table_without_a_number_series_needs_a_key(nav: EmbeddedNav) -> None:
    with pytest.raises(InvalidValues):
        await nav.create("currencies", None, {"Description": "Euro"})
    with pytest.raises(InvalidValues):
        await nav.create("currencies", "EUR", {"Code": "USD"})
    with pytest.raises(InvalidValues):
        await nav.create("contact-business-relations", "ONE", {})


async def test_a_stale_change_is_refused(nav: EmbeddedNav) -> None:
    old = await nav.create("currencies", "EUR", {"Description": "Euro"})
    await nav.change("currencies", "EUR", {"Description": "Euros"}, old.version)
    with pytest.raises(StaleRecord):
        await nav.change("currencies", "EUR", {"Description": "Euro"}, old.version)


async def test_a_change_that_changes_nothing_keeps_version_and_time(nav: EmbeddedNav) -> None:
    old = await nav.create("currencies", "EUR", {"Description": "Euro"})
    same = await nav.change("currencies", "EUR", {"Description": "Euro", "Symbol": ""})
    assert (same.version, same.modified_at) == (old.version, old.modified_at)


async def test_the_database_stamps_changes(nav: EmbeddedNav) -> None:
    old = await nav.create("customers", "10000", {"Name": "A"})
    new = await nav.change("customers", "10000", {"Name": "B"})
    assert old.modified_at
    assert new.modified_at
    assert new.modified_at > old.modified_at
    assert int(new.version) > int(old.version)
    assert new.values["Last_Date_Modified"] == new.modified_at.date()
    assert new.values["Last_Modified_Date_Time"] == new.modified_at


async def test_a_new_key_renames_and_is_carried_into_everything_that_refers_to_it(nav: EmbeddedNav) -> None:
    await nav.create("salespeople", "JO", {"Name": "Jim Olive"})
    old = await nav.create(
        "customers", "10000", {"Name": "Adatum", "Salesperson_Code": "JO", "Balance_LCY": 7}
    )
    new = await nav.change("customers", "10000", {"No": "20000"})
    assert (new.key, new.integration_id) == ("20000", old.integration_id)
    assert new.values["Balance_LCY"] == 7
    assert (await nav.by_key("customers", ["10000"])) == {}
    assert (await shown(nav, "contact-business-relations", "CT000001,CUST"))["No"] == "20000"
    await nav.change("salespeople", "JO", {"Code": "JIM"})
    assert (await shown(nav, "customers", "20000"))["Salesperson_Code"] == "JIM"
    assert (await shown(nav, "contacts", "CT000001"))["Salesperson_Code"] == "JIM"
    await nav.change("contacts", "CT000001", {"No": "CO"})
    assert (await shown(nav, "contacts", "CO"))["Company_No"] == "CO"
    assert [r.key for r in (await nav.records("contact-business-relations"))[0]] == ["CO,CUST"]


async def test_a_record_is_not_renamed_over_another(nav: EmbeddedNav) -> None:
    await nav.create("currencies", "EUR", {})
    await nav.create("currencies", "USD", {})
    with pytest.raises(AlreadyExists):
        await nav.change("currencies", "EUR", {"Code": "USD"})


async def test_figures_are_kept_beside_the_customer_and_change_no_version(nav: EmbeddedNav) -> None:
    old = await nav.create("customers", "10000", {"Name": "A", "Balance_LCY": 12.5})
    new = await nav.change("customers", "10000", {"Sales_LCY": "9876543210.99"})
    assert new.version == old.version
    await nav.change("customers", "10000", {"Outstanding_Orders_LCY": 3})
    figures = (await nav.figures(["10000", "none"]))["10000"]
    assert (figures["Balance_LCY"], figures["Sales_LCY"]) == (Decimal("12.5"), Decimal("9876543210.99"))
    assert (figures["Outstanding_Orders_LCY"], figures["Balance_Due_LCY"]) == (Decimal(3), Decimal(0))


async def test_fifty_records_at_once_get_fifty_numbers(nav: EmbeddedNav) -> None:
    created = await asyncio.gather(*(nav.create("customers", None, {"Name": str(n)}) for n in range(50)))
    assert len({record.key for record in created}) == 50
    assert len((await nav.records("contacts", limit=200))[0]) == 50


@pytest.mark.parametrize(
    ("table", "taken", "next_number"),
    [
        ("contacts", ["CT000007", "CT900012"], "CT900013"),
        ("customers", ["10000", "C00030"], "C00040"),
        ("customers", ["C99990"], "C100000"),
        ("items", ["1896-S"], "1000"),
        ("salespeople", ["SP NO. 1", "SP NO. 3", "JO"], "SP NO. 2"),
        ("opportunities", [], "OP000001"),
    ],
)
async def test_a_number_series_goes_on_where_numbers_are_free(
    nav: EmbeddedNav, table: str, taken: list[str], next_number: str
) -> None:
    for key in taken:
        await nav.create(table, key, {})
    assert (await nav.create(table, None, {})).key == next_number


async def test_numbers_that_were_taken_by_hand_are_passed_over(nav: EmbeddedNav) -> None:
    assert (await nav.create("customers", None, {})).key == "C00010"
    await nav.create("customers", "C00020", {})
    assert (await nav.create("customers", None, {})).key == "C00030"


async def test_numbers_are_passed_over_where_they_become_longer(nav: EmbeddedNav) -> None:
    for key in ("C99980", "C100000"):
        await nav.create("customers", key, {})
    drawn = await nav.bulk("customers", [(None, {}), (None, {})])
    assert [one.key for one in drawn if isinstance(one, NavRecord)] == ["C100010", "C100020"]
    await nav.create("customers", "C1000300", {})  # neither between the next ones nor one of them
    drawn = await nav.bulk("customers", [(None, {}), (None, {})])
    assert [one.key for one in drawn if isinstance(one, NavRecord)] == ["C100030", "C100040"]


async def test_in_bulk_one_bad_record_harms_no_other(nav: EmbeddedNav) -> None:
    await nav.create("currencies", "EUR", {"Description": "Euro"})
    outcomes = await nav.bulk(
        "currencies",
        [
            ("eur", {"Symbol": "E"}),
            ("USD", {"Description": "x" * 31}),
            ("GBP", {"Description": "Pound"}),
            ("GBP", {"Description": "twice"}),
            (None, {"Description": "no code"}),
        ],
    )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [NavRecord, InvalidValues, NavRecord, AlreadyExists, InvalidValues]
    assert isinstance(outcomes[0], NavRecord)
    assert (outcomes[0].key, outcomes[0].values["Symbol"]) == ("EUR", "E")
    assert outcomes[0].version == (await nav.by_key("currencies", ["EUR"]))["EUR"].version
    assert (await shown(nav, "currencies", "EUR"))["Description"] == "Euro"


async def test_a_bulk_may_refer_to_records_that_come_with_it(nav: EmbeddedNav) -> None:
    outcomes = await nav.bulk(
        "contacts",
        [
            ("PE", {"Type": "Person", "Name": "A B", "Company_No": "CO"}),
            ("CO", {"Name": "Adatum"}),
        ],
    )
    assert all(isinstance(outcome, NavRecord) for outcome in outcomes)
    assert (await shown(nav, "contacts", "PE"))["Company_Name"] == "Adatum"


async def test_a_bulk_has_a_limit(nav: EmbeddedNav) -> None:
    with pytest.raises(Invalid):
        await nav.bulk("currencies", [(None, {})] * 5001)


async def test_a_number_that_somebody_takes_at_the_same_moment_is_drawn_anew(
    nav: EmbeddedNav, engine: AsyncEngine
) -> None:
    taking = text(
        "INSERT INTO nav_record (company_id, nav_table, key, fields) VALUES (1, 'contacts', 'CT000001', '{}')"
    )
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'transactionid'"
    )
    async with engine.connect() as other, engine.connect() as watching:
        await other.execute(taking)
        creating = asyncio.create_task(nav.create("customers", None, {"Name": "Adatum"}))
        async with asyncio.timeout(60):
            while not await watching.scalar(waiting):
                await asyncio.sleep(0.01)
                await watching.rollback()  # the activity is seen as it was when a transaction began
        await other.commit()
        assert (await creating).key == "C00010"
    [relation], _ = await nav.records("contact-business-relations")
    assert relation.key == "CT000002,CUST"


async def test_companies_do_not_see_each_other(nav_of: Callable[..., EmbeddedNav]) -> None:
    one, other = nav_of(id=1), nav_of(id=2)
    await one.create("customers", "10000", {"Name": "A"})
    await other.create("customers", "10000", {"Name": "B"})
    await one.clear()
    assert (await one.records("customers"))[0] == []
    assert (await other.test())["records"] == {
        "customers": 1,
        "contacts": 1,
        "contact-business-relations": 1,
    }


async def test_a_setup_table_holds_one_record_with_a_blank_key(nav: EmbeddedNav) -> None:
    created = await nav.create("company-information", None, {"Name": "CRONUS", "City": "London"})
    assert created.key == ""
    changed = await nav.change("company-information", "", {"City": "Leeds"})
    assert (changed.values["Name"], changed.values["City"]) == ("CRONUS", "Leeds")
    with pytest.raises(AlreadyExists):
        await nav.create("company-information", None, {"Name": "Other"})


async def test_keys_of_several_parts_hold_dates_numbers_and_options(nav: EmbeddedNav) -> None:
    await nav.create("currencies", "EUR", {})
    rate = await nav.create("currency-exchange-rates", "eur,2026-01-31", {"Exchange_Rate_Amount": 100})
    assert rate.key == "EUR,2026-01-31"
    await nav.create("customers", "10000", {"Name": "A"})
    await nav.create("sales-headers", "order,SO1", {"Sell_to_Customer_No": "10000"})
    line = await nav.create("sales-lines", "Order,SO1,10000", {"Quantity": "2.50"})
    assert (line.key, line.values["Line_No"], line.values["Quantity"]) == (
        "Order,SO1,10000",
        10000,
        Decimal("2.5"),
    )
    assert set(await nav.by_key("sales-lines", ["order,so1,10000", "Order,SO1,x", "SO1"])) == {
        "order,so1,10000"
    }
