"""NAV's currency factor in terms of CRM's base currency (nav-behaviour 10.4)."""

from decimal import Decimal

import pytest

from app.domain.cell import Lookups, Shape
from app.domain.company import Generation
from app.domain.defaults import default_mappings, implied_fields
from app.domain.errors import CurrencyWithoutIso, ExchangeRateMissing
from app.domain.mapping import Direction
from app.domain.records import FieldDefinition, FieldType, TableDefinition, Value
from app.domain.transfer import Translation, translate
from app.nav.definitions import nav_tables

MAPPING = next(m for m in default_mappings(Generation.NAV2018) if m.name == "CURRENCY")
ATTRIBUTES = {
    "isocurrencycode": FieldDefinition("isocurrencycode", "", FieldType.TEXT, length=5),
    "currencysymbol": FieldDefinition("currencysymbol", "", FieldType.TEXT, length=10),
    "currencyname": FieldDefinition("currencyname", "", FieldType.TEXT, length=100),
    "currencyprecision": FieldDefinition("currencyprecision", "", FieldType.INTEGER, maximum=Decimal(4)),
    "exchangerate": FieldDefinition("exchangerate", "", FieldType.DECIMAL, precision=10),
}
SHAPE = Shape(
    MAPPING.with_fields((*MAPPING.fields, *implied_fields(MAPPING))),
    nav_tables(Generation.NAV2018)["currencies"].definition,
    TableDefinition("transactioncurrency", "Currency", ATTRIBUTES, ("transactioncurrencyid",)),
)


def sent(
    code: str,
    factor: str,
    base: str | None = "GBP",
    base_factor: str | None = None,
    *,
    exists: bool = False,
    places: str = "2:2",
) -> Translation:
    source: dict[str, Value] = {
        "Code": code,
        "Description": code,
        "Currency_Factor": Decimal(factor),
        "Amount_Decimal_Places": places,
    }
    known = Lookups(
        local_currency="GBP",
        base_currency=base,
        base_factor=Decimal(base_factor) if base_factor else None,
    )
    return translate(SHAPE, Direction.TO_CRM, source, {} if exists else None, known)


@pytest.mark.parametrize(
    ("code", "factor", "base", "base_factor", "rate"),
    [
        ("EUR", "1.25", "GBP", None, "1.25"),  # CRM counts in the local currency
        ("GBP", "0", "GBP", None, "1"),
        ("EUR", "1.25", "EUR", "1.25", "1"),  # CRM counts in euros
        ("GBP", "0", "EUR", "1.25", "0.8"),
        ("USD", "1.5", "EUR", "1.2", "1.25"),
        ("USD", "1", "EUR", "3", "0.3333333333"),
    ],
)
def test_the_rate_is_units_of_the_currency_per_unit_of_the_base(
    code: str, factor: str, base: str, base_factor: str | None, rate: str
) -> None:
    assert sent(code, factor, base, base_factor).wanted["exchangerate"] == Decimal(rate)


@pytest.mark.parametrize(
    ("base", "base_factor", "named"), [("GBP", None, "USD"), ("EUR", None, "EUR"), (None, None, "base")]
)
def test_a_rate_that_nobody_knows_keeps_a_new_currency_out(
    base: str | None, base_factor: str | None, named: str
) -> None:
    error = sent("USD", "0", base, base_factor).error
    assert isinstance(error, ExchangeRateMissing)
    assert named in error.detail
    existing = sent("USD", "0", base, base_factor, exists=True)
    assert (existing.error, "exchangerate" in existing.kept) == (None, True)


def test_a_currency_without_a_code_is_none_that_crm_could_know() -> None:
    assert isinstance(sent("", "1").error, CurrencyWithoutIso)


@pytest.mark.parametrize(
    ("places", "precision"), [("2:2", 2), ("0:0", 0), ("2:5", 4), ("", 2), ("3", 3), ("x", 2)]
)
def test_decimals_are_given_to_new_currencies_only(places: str, precision: int) -> None:
    assert sent("EUR", "1", places=places).wanted["currencyprecision"] == precision
    assert "currencyprecision" in sent("EUR", "1", places=places, exists=True).kept
