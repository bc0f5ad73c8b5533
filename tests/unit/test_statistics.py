"""Account statistics out of customer figures (nav-behaviour 15)."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from app.domain.company import Generation
from app.domain.records import FieldDefinition, FieldType, Value
from app.domain.solution import installed
from app.domain.statistics import DEDUCTED, FIGURES, StatisticsTable
from app.nav.definitions import nav_tables

ACCOUNT = UUID("9f0f4c5e-52a1-4f11-8a69-000d3a4b5c6d")
POUND = UUID("9f0f4c5e-52a1-4f11-8a69-000000000001")
NOON = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
TABLE = StatisticsTable("nav")
TOTAL, AS_OF = "nav_totallcy", "nav_overdueamountsasof"
AMOUNTS = (*(f"nav_{attribute}" for attribute in FIGURES), TOTAL)
FIELDS = {name: FieldDefinition(name, name, FieldType.MONEY, precision=2) for name in AMOUNTS} | {
    AS_OF: FieldDefinition(AS_OF, AS_OF, FieldType.DATETIME)
}


def row(**figures: Value) -> dict[str, Value]:
    return TABLE.row("10000", figures, NOON, POUND)


@pytest.mark.parametrize("figure", sorted({*FIGURES.values(), *DEDUCTED}))
def test_every_figure_is_one_that_nav_keeps(figure: str) -> None:
    assert figure in nav_tables(Generation.NAV2018)["customers"].fields


@pytest.mark.parametrize(("attribute", "figure"), FIGURES.items())
def test_every_figure_has_its_attribute(attribute: str, figure: str) -> None:
    assert row(**{figure: Decimal("12.34")})[f"nav_{attribute}"] == Decimal("12.34")
    assert row()[f"nav_{attribute}"] == 0


@pytest.mark.parametrize(
    ("figures", "total"),
    [
        ({}, 0),
        ({"Balance_LCY": 1, "Outstanding_Orders_LCY": 2, "Shipped_Not_Invoiced_LCY": 4}, 7),
        ({"Outstanding_Invoices_LCY": 8, "Outstanding_Serv_Orders_LCY": 16}, 24),
        ({"Serv_Shipped_Not_Invoiced_LCY": 32, "Outstanding_ServInvoices_LCY": 64}, 96),
        ({"Balance_LCY": 10, "Invoiced_Prepayment_Amount_LCY": 3}, 7),
        ({"Shipped_Not_Invoiced_LCY": 9, "Outstanding_Invoices_from_Shipment_LCY": 4}, 5),
        ({"Balance_LCY": 9, "Returns_Received_Not_Invoiced_LCY": 2}, 7),
        ({"Credit_Limit_LCY": 5, "Sales_LCY": 6, "Balance_Due_LCY": 7}, 0),
    ],
)
def test_the_total_is_what_the_customer_owes_or_is_about_to(figures: dict[str, Value], total: int) -> None:
    assert row(**figures)[TOTAL] == total


def test_amounts_are_as_of_the_day() -> None:
    assert row()[AS_OF] == datetime(2026, 11, 22, tzinfo=UTC)


def test_the_day_alone_is_no_change() -> None:
    shown = row(Balance_LCY=Decimal(5)) | {AS_OF: datetime(2026, 11, 21, tzinfo=UTC)}
    assert TABLE.changes(row(Balance_LCY=Decimal("5.001")), shown, FIELDS) == {}
    changed = TABLE.changes(row(Balance_LCY=Decimal(6)), shown, FIELDS)
    assert changed.keys() == {"nav_balancelcy", TOTAL, AS_OF}


def test_the_row_of_an_account_always_has_the_same_id() -> None:
    assert TABLE.row_id(ACCOUNT) == TABLE.row_id(UUID(str(ACCOUNT)))
    assert TABLE.row_id(ACCOUNT) != TABLE.row_id(POUND)


def test_the_table_of_another_solution_differs_in_its_prefix_alone() -> None:
    ours = StatisticsTable("navcrm")
    assert (ours.entity, ours.link) == ("navcrm_accountstatistics", "navcrm_accountstatisticsid")
    assert [name.removeprefix("navcrm_") for name in ours.read] == [
        name.removeprefix("nav_") for name in TABLE.read
    ]


@pytest.mark.parametrize(
    ("tables", "prefix"),
    [
        ({"account"}, None),
        ({"nav_accountstatistics"}, None),
        ({"nav_accountstatistics", "nav_connection"}, "nav"),
        ({"navcrm_accountstatistics", "navcrm_connection"}, "navcrm"),
        ({p + t for p in ("nav_", "navcrm_") for t in ("accountstatistics", "connection")}, "navcrm"),
    ],
)
def test_a_solution_is_installed_when_both_its_tables_are_there(tables: set[str], prefix: str | None) -> None:
    assert installed(tables) == prefix
