"""Items and resources become products, in the unit group of their base unit of measure (nav-behaviour 10.5, 10.6)."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.coupling import SynchAction
from app.domain.job import SynchMode
from app.domain.records import Reference
from app.use_cases.default_setup import use_default_setup
from app.use_cases.mappings import delete_mapping
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.house import a_house
from tests.integration.use_cases.office import Office, Ran

pytestmark = pytest.mark.anyio

MAPPINGS = (
    "CURRENCY", "UNIT OF MEASURE", "ITEM-PRODUCT", "RESOURCE-PRODUCT", "CUSTPRCGRP-PRICE", "SALESPRC-PRODPRICE",
)  # fmt: skip


@pytest.fixture
async def shop(engine: AsyncEngine) -> AsyncIterator[Office]:
    """A company that integrates what it sells."""
    async with a_house(engine, {}) as house:
        await house.connect()
        await use_default_setup(house.ctx, house.company, mappings=MAPPINGS)
        office = Office(house, engine)
        await office.open()
        await office.nav.create("units-of-measure", "PCS", {"Description": "Piece"})
        yield office


async def item(office: Office, no: str, **fields: Any) -> None:
    await office.nav.create("items", no, {"Description": no, "Base_Unit_of_Measure": "PCS"} | fields)


async def sent(office: Office, mapping: str = "ITEM-PRODUCT") -> Ran:
    return await office.run(mapping, SynchMode.FULL, create_uncoupled=True)


def rows(office: Office, entity: str, key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in office.house.organization.rows(entity).values()}


async def test_a_unit_of_measure_becomes_a_group_with_that_one_unit(shop: Office) -> None:
    assert (await sent(shop, "UNIT OF MEASURE")).to_crm.inserted == 1
    assert rows(shop, "uomschedule", "name")["NAV PCS"]["baseuomname"] == "PCS"
    assert rows(shop, "uom", "name")["PCS"]["quantity"] == 1


async def test_a_group_that_crm_knows_by_its_name_is_coupled(shop: Office) -> None:
    group = await shop.row("uomschedule", name="NAV PCS", baseuomname="PCS")
    assert (await sent(shop, "UNIT OF MEASURE")).to_crm.inserted == 0
    assert (await shop.coupled("PCS", "units-of-measure")).crm_id == group


async def test_an_item_becomes_an_active_product_in_the_local_currency(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price="1000.80", Unit_Cost="780.66")
    assert (await sent(shop)).to_crm.inserted == 1
    product = rows(shop, "product", "productnumber")["1896-S"]
    unit = rows(shop, "uom", "name")["PCS"]
    assert product["price"] == Decimal("1000.80")
    assert (product["producttypecode"], product["statecode"], product["quantitydecimal"]) == (1, 0, 2)
    assert product["transactioncurrencyid"] == shop.house.organization.base_currency
    assert (product["defaultuomid"], product["defaultuomscheduleid"]) == (
        unit["uomid"],
        unit["uomscheduleid"],
    )
    assert (await shop.run("ITEM-PRODUCT")).wrote_nothing


async def test_a_resource_becomes_a_service(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await shop.nav.create("resources", "LINDA", {"Name": "Linda", "Base_Unit_of_Measure": "PCS"})
    assert (await sent(shop, "RESOURCE-PRODUCT")).to_crm.inserted == 1
    assert rows(shop, "product", "productnumber")["LINDA"]["producttypecode"] == 3


async def test_the_unit_need_not_be_coupled(shop: Office) -> None:
    await shop.row("uomschedule", name="NAV PCS", baseuomname="PCS")
    await item(shop, "1896-S")
    assert (await sent(shop)).to_crm.inserted == 1


async def test_a_price_below_zero_is_sent_as_zero(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price=-5)
    await sent(shop)
    assert rows(shop, "product", "productnumber")["1896-S"]["price"] == 0
    assert (await shop.run("ITEM-PRODUCT")).wrote_nothing


async def test_blocking_an_item_retires_its_product_and_back(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S")
    await sent(shop)
    for blocked, state in ((True, 1), (False, 0)):
        await shop.change_nav("items", "1896-S", Blocked=blocked)
        assert (await shop.run("ITEM-PRODUCT")).to_crm.modified == 1
        assert rows(shop, "product", "productnumber")["1896-S"]["statecode"] == state


async def test_a_retired_product_blocks_its_item(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S")
    await sent(shop)
    coupling = await shop.coupled("1896-S", "items")
    await shop.change_crm("product", coupling.crm_id, statecode=1)
    assert (await shop.run("ITEM-PRODUCT")).from_crm.modified == 1
    assert (await shop.in_nav("items", "1896-S"))["Blocked"] is True


async def test_what_comes_back_of_a_product_needs_no_coupled_unit_either(shop: Office) -> None:
    await shop.row("uomschedule", name="NAV PCS", baseuomname="PCS")
    await item(shop, "1896-S")
    await sent(shop)
    coupling = await shop.coupled("1896-S", "items")
    await shop.change_crm("product", coupling.crm_id, statecode=1)
    ran = await shop.run("ITEM-PRODUCT")
    assert ran.told == [("from_crm", "1896-S", "modified", None)]
    assert (await shop.in_nav("items", "1896-S"))["Blocked"] is True
    assert await shop.coupling("PCS", "units-of-measure") is None


async def test_what_is_wrong_with_the_unit_is_said_record_by_record(shop: Office) -> None:
    for code in ("BOX", "SET", "CAN"):
        await shop.nav.create("units-of-measure", code, {"Description": code})
    box = await shop.row("uomschedule", name="NAV BOX", baseuomname="BOX")
    await shop.row("uom", name="SIX", quantity=Decimal(6), uomscheduleid=Reference(box, "uomschedule"))
    await shop.row("uomschedule", name="NAV SET", baseuomname="OTHER")
    for no, unit in (("BOXED", "BOX"), ("IN-SETS", "SET"), ("CANNED", "CAN"), ("BARE", "")):
        await item(shop, no, Base_Unit_of_Measure=unit)
    ran = await sent(shop)
    assert sorted(ran.told, key=str) == [
        ("to_crm", "BARE", "failed", "base-unit-missing"),
        ("to_crm", "BOXED", "failed", "unit-group-invalid"),
        ("to_crm", "CANNED", "failed", "lookup-not-coupled"),
        ("to_crm", "IN-SETS", "failed", "unit-group-invalid"),
    ]
    told = {each.nav_key: each.error.message for each in ran.outcomes if each.error}
    assert "NAV BOX in CRM has 2 units" in told["BOXED"]
    assert "NAV CAN" in told["CANNED"]
    assert "OTHER, not SET" in told["IN-SETS"]


async def test_the_cost_does_not_grow_with_the_items(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "FIRST")
    await sent(shop)
    costs = []
    for numbers in (range(2), range(2, 12)):
        for number in numbers:
            await item(shop, f"I{number:02}", Unit_Price=number)
        shop.forget_requests()
        assert (await sent(shop)).to_crm.inserted == len(numbers)
        costs.append(len(shop.requests))
    assert costs[0] == costs[1] <= 12, shop.requests


PRICE_LIST = "Dynamics NAV Default Price List"


def prices(office: Office) -> dict[str, Decimal]:
    """The amounts in the default price list, by product number."""
    (price_list,) = [
        row for row in office.house.organization.rows("pricelevel").values() if row["name"] == PRICE_LIST
    ]
    return {
        row["productnumber"]: row["amount"]
        for row in office.house.organization.rows("productpricelevel").values()
        if row["pricelevelid"] == price_list["pricelevelid"]
    }


async def test_a_product_has_its_price_in_the_default_price_list(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price="1000.80")
    await item(shop, "1900-S", Unit_Price="192.78")
    await sent(shop)
    assert prices(shop) == {"1896-S": Decimal("1000.80"), "1900-S": Decimal("192.78")}
    (price_list,) = shop.house.organization.rows("pricelevel")
    assert {row["pricelevelid"] for row in shop.house.organization.rows("product").values()} == {price_list}
    assert (await shop.run("ITEM-PRODUCT")).wrote_nothing


async def test_the_price_in_the_list_follows_the_item(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price=10)
    await sent(shop)
    await shop.change_nav("items", "1896-S", Unit_Price=12)
    ran = await shop.run("ITEM-PRODUCT")
    assert prices(shop) == {"1896-S": 12}
    assert ("productpricelevel.amount", 10, 12) in [
        (change.field, change.old, change.new) for each in ran.outcomes for change in each.changes
    ]


async def test_a_price_that_could_not_be_written_fails_the_item_and_is_made_up_for(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price=10)
    shop.house.organization.revoke("prvCreateProductPriceLevel")
    ran = await sent(shop)
    assert ("to_crm", "1896-S", "failed", "crm-permission-missing") in ran.told
    shop.house.organization.grant("prvCreateProductPriceLevel")
    await sent(shop)
    assert prices(shop) == {"1896-S": 10}
    assert len(shop.house.organization.rows("product")) == 1


async def test_a_renamed_unit_of_measure_renames_group_and_unit(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await shop.change_nav("units-of-measure", "PCS", Code="PIECE")
    assert (await shop.run("UNIT OF MEASURE")).to_crm.modified == 1
    assert sorted(rows(shop, "uomschedule", "name")) == ["NAV PIECE"]
    assert sorted(rows(shop, "uom", "name")) == ["PIECE"]


async def test_a_group_with_two_units_is_refused_by_its_name(shop: Office) -> None:
    group = await shop.row("uomschedule", name="NAV PCS", baseuomname="PCS")
    await shop.row("uom", name="DOZEN", quantity=Decimal(12), uomscheduleid=Reference(group, "uomschedule"))
    ran = await sent(shop, "UNIT OF MEASURE")
    assert ran.told == [("to_crm", "PCS", "failed", "unit-group-invalid")]
    assert "NAV PCS" in str(ran.outcomes[0].error)


async def test_a_preview_of_a_product_writes_no_price_either(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S", Unit_Price=10)
    shop.forget_requests()
    _, result = await create_in_crm(shop.ctx, shop.company, "items", "1896-S", preview=True)
    assert result.action is SynchAction.INSERTED
    for entity in ("product", "pricelevel", "productpricelevel"):
        assert shop.house.organization.rows(entity) == {}


# --- prices of customer price groups (nav-behaviour 10.7) -------------------------------------------


async def price(office: Office, group: str, **fields: Any) -> None:
    known = {"Sales_Type": "Customer Price Group", "Sales_Code": group, "Item_No": "1896-S", "Unit_Price": 9}
    await office.nav.create("sales-prices", None, known | fields)


async def price_group(office: Office, code: str) -> None:
    await office.nav.create("customer-price-groups", code, {"Description": code})


async def test_the_prices_of_a_group_are_the_lines_of_its_price_list(shop: Office) -> None:
    await sent(shop, "UNIT OF MEASURE")
    await item(shop, "1896-S")
    await sent(shop)
    await price_group(shop, "RETAIL")
    await price(shop, "RETAIL", Unit_of_Measure_Code="PCS", Unit_Price="8.50")
    await price(shop, "RETAIL", Minimum_Quantity=10)  # without a unit: the base unit of the item
    await sent(shop, "CUSTPRCGRP-PRICE")
    assert (await sent(shop, "SALESPRC-PRODPRICE")).to_crm.inserted == 2
    group = rows(shop, "pricelevel", "name")["RETAIL"]
    unit = rows(shop, "uom", "name")["PCS"]["uomid"]
    lines = shop.house.organization.rows("productpricelevel").values()
    told = {(row["amount"], row["uomid"]) for row in lines if row["pricelevelid"] == group["pricelevelid"]}
    assert told == {(Decimal("8.50"), unit), (9, unit)}
    assert group["transactioncurrencyid"] == shop.house.organization.base_currency
    assert (await shop.run("SALESPRC-PRODPRICE")).wrote_nothing


async def test_a_price_list_has_the_currency_of_its_prices(shop: Office) -> None:
    euro = await shop.row(
        "transactioncurrency",
        isocurrencycode="EUR",
        currencyname="Euro",
        currencysymbol="E",
        currencyprecision=2,
        exchangerate=Decimal(2),
    )
    await shop.nav.create("currencies", "EUR", {"Description": "Euro"})
    await item(shop, "1896-S")
    await price_group(shop, "EXPORT")
    await price(shop, "EXPORT", Currency_Code="EUR")
    assert (await sent(shop, "CUSTPRCGRP-PRICE")).to_crm.inserted == 1
    assert rows(shop, "pricelevel", "name")["EXPORT"]["transactioncurrencyid"] == str(euro)
    assert (await shop.run("CUSTPRCGRP-PRICE")).wrote_nothing


async def test_the_local_currency_is_found_though_currencies_are_not_mapped(shop: Office) -> None:
    """It was said that CRM lacks it."""
    await sent(shop, "UNIT OF MEASURE")
    await delete_mapping(shop.ctx, shop.company, "CURRENCY")
    await item(shop, "1896-S")
    await price_group(shop, "RETAIL")
    assert (await sent(shop)).to_crm.inserted == 1
    assert (await sent(shop, "CUSTPRCGRP-PRICE")).to_crm.inserted == 1
    group = rows(shop, "pricelevel", "name")["RETAIL"]
    assert group["transactioncurrencyid"] == shop.house.organization.base_currency


async def test_a_group_with_prices_in_several_currencies_is_not_sent(shop: Office) -> None:
    await shop.nav.create("currencies", "EUR", {"Description": "Euro"})
    await item(shop, "1896-S")
    await price_group(shop, "MIXED")
    for code in ("EUR", ""):
        await price(shop, "MIXED", Currency_Code=code)
    ran = await sent(shop, "CUSTPRCGRP-PRICE")
    assert ran.told == [("to_crm", "MIXED", "failed", "price-currencies-mixed")]
    assert shop.house.organization.rows("pricelevel") == {}


async def test_a_renamed_currency_leaves_what_is_worked_out_alone(shop: Office) -> None:
    await shop.nav.create("currencies", "EUR", {"Description": "Euro"})
    await item(shop, "1896-S")
    await price_group(shop, "EXPORT")
    await price(shop, "EXPORT", Currency_Code="EUR")
    await shop.change_nav("currencies", "EUR", Code="EURO")
    assert (await shop.in_nav("customer-price-groups", "EXPORT"))["Prices_Currency_Code"] == "EURO"
