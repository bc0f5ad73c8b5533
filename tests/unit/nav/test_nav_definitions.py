"""The NAV tables as each generation has them."""

import pytest

from app.domain.company import Generation
from app.domain.records import FieldType
from app.nav.definitions import nav_tables, odata_name, references_to
from app.nav.values import to_stored

SPOKEN_OF_IN_THE_CONTRACT = {
    "customers": "Customer",
    "contacts": "Contact",
    "salespeople": "Salesperson/Purchaser",
    "currencies": "Currency",
    "payment-terms": "Payment Terms",
    "shipment-methods": "Shipment Method",
    "shipping-agents": "Shipping Agent",
    "units-of-measure": "Unit of Measure",
    "items": "Item",
    "resources": "Resource",
    "customer-price-groups": "Customer Price Group",
    "opportunities": "Opportunity",
    "contact-business-relations": "Contact Business Relation",
    "countries": "Country/Region",
    "territories": "Territory",
    "languages": "Language",
    "salutations": "Salutation",
    "payment-methods": "Payment Method",
}


@pytest.mark.parametrize("generation", list(Generation))
def test_every_generation_has_the_tables_of_the_contract(generation: Generation) -> None:
    tables = nav_tables(generation)
    labels = {name: tables[name].definition.label for name in SPOKEN_OF_IN_THE_CONTRACT}
    assert labels == SPOKEN_OF_IN_THE_CONTRACT


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("No.", "No"),
        ("Name 2", "Name_2"),
        ("E-Mail", "E_Mail"),
        ("Phone No.", "Phone_No"),
        ("Credit Limit (LCY)", "Credit_Limit_LCY"),
        ("Country/Region Code", "Country_Region_Code"),
        ("Commission %", "Commission_Percent"),
        ("Chances of Success %", "Chances_of_Success_Percent"),
        ("Calc. Pmt. Disc. on Cr. Memos", "Calc_Pmt_Disc_on_Cr_Memos"),
        ("Bill-to Customer No.", "Bill_to_Customer_No"),
        ("IntegrationCustomerNo", "IntegrationCustomerNo"),
    ],
)
def test_fields_carry_the_names_of_nav_s_odata_service(label: str, name: str) -> None:
    assert odata_name(label) == name


@pytest.mark.parametrize(
    ("table", "field", "nav2018", "bc"),
    [
        ("customers", "Name", 50, 100),
        ("customers", "Home_Page", 80, 255),
        ("customers", "No", 20, 20),
        ("contacts", "Name", 50, 100),
        ("payment-terms", "Description", 50, 100),
        ("salespeople", "Code", 20, 20),
        ("salespeople", "Name", 50, 50),
        ("items", "Vendor_Item_No", 20, 50),
        ("currencies", "Description", 30, 30),
    ],
)
def test_lengths_differ_between_generations(table: str, field: str, nav2018: int, bc: int) -> None:
    found = [nav_tables(generation)[table].fields[field].length for generation in Generation]
    assert found == [nav2018, nav2018, bc]


def test_fields_that_came_with_business_central_do_not_exist_before() -> None:
    assert "Mobile_Phone_No" not in nav_tables(Generation.NAV2018)["customers"].fields
    assert "Mobile_Phone_No" in nav_tables(Generation.BC)["customers"].fields
    assert "unit-groups" not in nav_tables(Generation.NAV2017)


def test_options_differ_between_generations() -> None:
    def options(generation: Generation) -> list[str]:
        return [option.name for option in nav_tables(generation)["items"].fields["Type"].options]

    assert options(Generation.NAV2018) == ["Inventory", "Service"]
    assert options(Generation.BC) == ["Inventory", "Service", "Non-Inventory"]


def test_a_blank_option_goes_by_an_empty_name() -> None:
    blocked = nav_tables(Generation.NAV2018)["customers"].fields["Blocked"]
    assert [(option.value, option.name) for option in blocked.options] == [
        (0, ""),
        (1, "Ship"),
        (2, "Invoice"),
        (3, "All"),
    ]
    assert blocked.type is FieldType.OPTION


def test_which_tables_get_integration_ids() -> None:
    def integrated(generation: Generation) -> set[str]:
        return {name for name, table in nav_tables(generation).items() if table.definition.tracks_changes}

    assert "opportunities" in integrated(Generation.NAV2018) - integrated(Generation.NAV2017)
    assert "customers" in integrated(Generation.NAV2017)
    assert "contact-business-relations" not in integrated(Generation.NAV2018)
    assert integrated(Generation.BC) == set(nav_tables(Generation.BC))


def test_a_salesperson_is_referred_to_from_these_tables() -> None:
    references = references_to(Generation.NAV2018, "salespeople")
    referring = {(reference.table, reference.field) for reference in references}
    assert {
        ("customers", "Salesperson_Code"),
        ("contacts", "Salesperson_Code"),
        ("opportunities", "Salesperson_Code"),
        ("vendors", "Purchaser_Code"),
    } <= referring


def test_sums_over_ledgers_are_figures_and_cannot_be_mapped_to() -> None:
    customers = nav_tables(Generation.NAV2018)["customers"]
    assert {"Balance_LCY", "Sales_LCY", "Outstanding_Orders_LCY", "Inv_Amounts_LCY"} <= customers.figures
    assert all(customers.fields[name].computed for name in customers.figures)
    assert not customers.fields["Last_Date_Modified"].updatable


def test_what_new_records_begin_with_are_values_of_their_fields() -> None:
    for table in nav_tables(Generation.BC).values():
        for name, default in table.defaults.items():
            assert to_stored(table.fields[name], default) == default, f"{table.name}.{name}"
    assert nav_tables(Generation.BC)["currencies"].defaults["Amount_Decimal_Places"] == "2:2"


def test_what_is_worked_out_refers_to_no_record_that_a_rename_would_change() -> None:
    referring = {(each.table, each.field) for each in references_to(Generation.NAV2018, "currencies")}
    assert ("sales-prices", "Currency_Code") in referring
    assert ("customer-price-groups", "Prices_Currency_Code") not in referring
