"""Currencies go to CRM with an exchange rate worked out of NAV's rates (nav-behaviour 10.4)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.job import SynchMode
from app.domain.records import Reference
from app.use_cases.default_setup import use_default_setup
from app.use_cases.mappings import delete_mapping
from tests.integration.use_cases.house import a_house
from tests.integration.use_cases.office import Office, Ran

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def a_bank(engine: AsyncEngine, base: str = "GBP", *mappings: str) -> AsyncIterator[Office]:
    """A company that integrates its currencies, and what else is named, with a CRM whose base currency is this."""
    async with a_house(engine, {}, base_currency=base) as house:
        if base != "GBP":
            organization, key = house.organization, str(uuid4())
            local = {"transactioncurrencyid": key, "isocurrencycode": "GBP", "exchangerate": Decimal(7)}
            row = organization.rows("transactioncurrency")[organization.base_currency] | local
            organization.storage.put("transactioncurrency", key, row)
        await house.connect()
        await use_default_setup(house.ctx, house.company, mappings=["CURRENCY", *mappings])
        office = Office(house, engine)
        await office.open()
        yield office


@pytest.fixture
async def bank(engine: AsyncEngine) -> AsyncIterator[Office]:
    async with a_bank(engine) as office:
        yield office


async def currency(office: Office, code: str, **fields: Any) -> None:
    await office.nav.create("currencies", code, {"Description": code} | fields)


async def rate(
    office: Office, code: str, day: str, amount: object, relational: object, **fields: Any
) -> None:
    values = {"Exchange_Rate_Amount": amount, "Relational_Exch_Rate_Amount": relational} | fields
    await office.nav.create("currency-exchange-rates", f"{code},{day}", values)


async def sent(office: Office) -> Ran:
    return await office.run("CURRENCY", SynchMode.FULL, create_uncoupled=True)


def rates(office: Office) -> dict[str, Decimal]:
    rows = office.house.organization.rows("transactioncurrency").values()
    return {row["isocurrencycode"]: row["exchangerate"] for row in rows}


async def test_the_factor_is_that_of_the_newest_rate_that_holds_today(bank: Office) -> None:
    await currency(bank, "EUR")
    assert (await bank.in_nav("currencies", "EUR"))["Currency_Factor"] == 0
    await rate(bank, "EUR", "2018-01-01", 100, 80)
    await rate(bank, "EUR", "2019-01-01", 100, "64.46")
    await rate(bank, "EUR", "2999-01-01", 100, 1)
    assert (await bank.in_nav("currencies", "EUR"))["Currency_Factor"] == Decimal("1.5513496742")


async def test_a_rate_may_be_given_in_another_currency(bank: Office) -> None:
    for code in ("EUR", "DKK", "SEK"):
        await currency(bank, code)
    await rate(bank, "EUR", "2019-01-01", 100, 80)
    await rate(bank, "DKK", "2019-01-01", 750, 100, Relational_Currency_Code="EUR")
    await rate(bank, "SEK", "2019-01-01", 100, 0)
    assert (await bank.in_nav("currencies", "DKK"))["Currency_Factor"] == Decimal("9.375")
    assert (await bank.in_nav("currencies", "SEK"))["Currency_Factor"] == 0


async def test_a_new_currency_brings_its_rate_and_its_decimals(bank: Office) -> None:
    await currency(bank, "EUR")
    await currency(bank, "JPY", Amount_Decimal_Places="0:0")
    await rate(bank, "EUR", "2019-01-01", 100, "64.46")
    await rate(bank, "JPY", "2019-01-01", 100, "0.5")
    assert (await sent(bank)).to_crm.inserted == 2
    assert rates(bank) == {"GBP": 1, "EUR": Decimal("1.5513496742"), "JPY": 200}
    places = {
        row["isocurrencycode"]: row["currencyprecision"]
        for row in bank.house.organization.rows("transactioncurrency").values()
    }
    assert (places["EUR"], places["JPY"]) == (2, 0)


async def test_a_currency_without_a_rate_fails_alone_and_says_which_call_adds_it(bank: Office) -> None:
    await currency(bank, "AED")
    await currency(bank, "EUR")
    await rate(bank, "EUR", "2019-01-01", 1, 1)
    ran = await sent(bank)
    assert sorted(ran.told, key=str) == [
        ("to_crm", "AED", "failed", "exchange-rate-missing"),
        ("to_crm", "EUR", "inserted", None),
    ]
    (failed,) = [each.error for each in ran.outcomes if each.error]
    assert "POST …/nav/currency-exchange-rates" in str(failed.fix)
    await rate(bank, "AED", "2019-01-01", 1, 4)
    ran = await bank.run("CURRENCY", create_uncoupled=True)
    assert ran.told == [("to_crm", "AED", "inserted", None)]


async def test_a_new_rate_is_a_change_of_its_currency(bank: Office) -> None:
    await currency(bank, "EUR")
    await rate(bank, "EUR", "2019-01-01", 1, 1)
    await sent(bank)
    assert (await bank.run("CURRENCY")).wrote_nothing
    await rate(bank, "EUR", "2020-01-01", 2, 1)
    assert (await bank.run("CURRENCY")).to_crm.modified == 1
    assert rates(bank)["EUR"] == 2
    await bank.nav.remove("currency-exchange-rates", "EUR,2020-01-01")
    await bank.nav.remove("currency-exchange-rates", "EUR,2019-01-01")
    assert (await bank.run("CURRENCY")).wrote_nothing  # CRM keeps its rate where NAV has none
    assert rates(bank)["EUR"] == 2


async def test_a_base_currency_other_than_the_local_one_is_converted_through_its_rate(
    engine: AsyncEngine,
) -> None:
    async with a_bank(engine, base="EUR") as bank:
        for code in ("EUR", "USD", "GBP"):
            await currency(bank, code)
        await rate(bank, "USD", "2019-01-01", 150, 100)
        assert (
            await sent(bank)
        ).to_crm.failed == 1  # no rate of the euro: that of the dollar cannot be stated
        await rate(bank, "EUR", "2019-01-01", 120, 100)
        await sent(bank)
        assert rates(bank) == {"EUR": 1, "USD": Decimal("1.25"), "GBP": Decimal("0.8333333333")}


async def test_a_currency_that_crm_knows_by_its_code_is_coupled_instead_of_created(bank: Office) -> None:
    await bank.row(
        "transactioncurrency",
        isocurrencycode="EUR",
        currencyname="Old name",
        currencysymbol="€",
        currencyprecision=3,
        exchangerate=Decimal(5),
    )
    await currency(bank, "EUR")
    await currency(bank, "GBP")
    ran = await sent(bank)
    assert (ran.to_crm.inserted, ran.to_crm.failed) == (0, 0), [each.error for each in ran.outcomes]
    assert sorted(rates(bank)) == ["EUR", "GBP"]
    assert rates(bank)["EUR"] == 5  # NAV has no rate to offer
    coupling = await bank.coupled("EUR", "currencies")
    row = await bank.in_crm("transactioncurrency", coupling.crm_id)
    assert (row["currencyname"], row["currencyprecision"]) == ("EUR", 3)
    bank.forget_requests()
    assert (await sent(bank)).wrote_nothing


async def test_a_currency_without_an_iso_code_is_left_out_with_the_reason(bank: Office) -> None:
    async with bank.ctx.uow() as tx:
        mapping = (await tx.mappings.get(bank.company.id, "CURRENCY")).mapping
    rows = [row for row in mapping.fields if row.crm_attribute != "isocurrencycode"]
    iso = next(row for row in mapping.fields if row.crm_attribute == "isocurrencycode")
    await bank.set_up("CURRENCY", fields=(*rows, replace(iso, nav_field="ISO_Code")))
    await currency(bank, "POINTS")
    await currency(bank, "EURO", ISO_Code="EUR")
    await rate(bank, "EURO", "2019-01-01", 1, 1)
    ran = await sent(bank)
    assert sorted(ran.told, key=str) == [
        ("to_crm", "EURO", "inserted", None),
        ("to_crm", "POINTS", "skipped", "currency-without-iso"),
    ]


async def test_a_whole_table_costs_a_handful_of_requests(bank: Office) -> None:
    for number in range(30):
        await currency(bank, f"C{number:02}")
        await rate(bank, f"C{number:02}", "2019-01-01", 1, 2)
    bank.forget_requests()
    assert (await sent(bank)).to_crm.inserted == 30
    written = [each for each in bank.requests if each != "GET EntityDefinitions"]
    assert len(written) <= 5, written


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "unmapped"])
async def test_the_amounts_of_a_new_account_are_in_the_local_currency_where_crm_counts_in_another(
    engine: AsyncEngine, mapped: bool
) -> None:
    async with a_bank(engine, "USD", "CUSTOMER") as bank:
        if not mapped:
            await delete_mapping(bank.ctx, bank.company, "CURRENCY")
        await bank.customer("10000", Credit_Limit_LCY=Decimal(70))
        await bank.run(mode=SynchMode.FULL, create_uncoupled=True)
        (account,) = bank.accounts()
        pounds = account["transactioncurrencyid"]
        assert pounds != bank.house.organization.base_currency
        assert (account["creditlimit"], account["creditlimit_base"]) == (70, 10)
        assert (await bank.run(mode=SynchMode.FULL)).wrote_nothing
        # Afterwards the currency belongs to CRM.
        dollars = Reference(UUID(bank.house.organization.base_currency), "transactioncurrency")
        await bank.change_crm("account", UUID(account["accountid"]), transactioncurrencyid=dollars)
        await bank.change_nav("customers", "10000", Name="New")
        await bank.run()
        assert [row["transactioncurrencyid"] for row in bank.accounts()] == [str(dollars.id)]
