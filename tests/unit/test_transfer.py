"""One side's values in the other side's terms: lookups, options, constants, and the rules NAV keeps in code."""

from typing import Any
from uuid import UUID

import pytest

from app.domain.cell import Lookups, Shape
from app.domain.errors import (
    ContactWithoutAccount,
    ContactWithoutCompany,
    IntegrationError,
    InvalidMapping,
    LookupNotCoupled,
    SalespersonNotCoupled,
)
from app.domain.mapping import Direction, FieldMapping, TableMapping
from app.domain.records import FieldDefinition, FieldType, Option, Reference, TableDefinition, Value
from app.domain.transfer import Need, Translation, needs, translate

TO, FROM, BOTH = Direction.TO_CRM, Direction.FROM_CRM, Direction.BIDIRECTIONAL
ONE, TWO = UUID(int=1), UUID(int=2)
USER = Reference(ONE, "systemuser")
TERMS = ("payment-terms", "terms")
LOOKUPS = Lookups(
    crm_ids={
        ("salespeople", "JO"): ONE,
        ("customers", "10000"): ONE,
        ("currencies", ""): ONE,
        ("currencies", "EUR"): TWO,
    },
    nav_keys={
        ("salespeople", ONE): "JO",
        ("customers", ONE): "10000",
        ("currencies", ONE): "",
        ("currencies", TWO): "EUR",
    },
    options={TERMS: {"1M": 1, "2M": 2}},
    entities={
        "salespeople": "systemuser",
        "customers": "account",
        "contacts": "contact",
        "currencies": "transactioncurrency",
    },
    local_currency="GBP",
)

_NAV = TableDefinition(
    "customers",
    "Customer",
    {
        field.name: field
        for field in (
            FieldDefinition("Name", "Name", FieldType.TEXT, length=10),
            FieldDefinition("Code", "Code", FieldType.CODE, length=5),
            FieldDefinition("Blocked", "Blocked", FieldType.OPTION),
            FieldDefinition("Type", "Type", FieldType.OPTION, options=(Option(1, "Person", "Person"),)),
            FieldDefinition("Salesperson_Code", "Salesperson", FieldType.CODE, relation=("salespeople",)),
            FieldDefinition("Company", "Company", FieldType.CODE, relation=("customers",)),
            FieldDefinition("Contact", "Contact", FieldType.CODE, relation=("contacts",)),
            FieldDefinition("Currency", "Currency", FieldType.CODE, relation=("currencies",)),
            FieldDefinition("Terms", "Terms", FieldType.CODE, relation=("payment-terms",)),
            FieldDefinition("Item", "Item", FieldType.CODE, relation=("items",)),
        )
    },
    ("No",),
)
_CRM = TableDefinition(
    "account",
    "Account",
    {
        field.name: field
        for field in (
            FieldDefinition("name", "Account Name", FieldType.TEXT, length=8),
            FieldDefinition("statuscode", "Status Reason", FieldType.OPTION),
            FieldDefinition("ownerid", "Owner", FieldType.LOOKUP, relation=("systemuser", "team")),
            FieldDefinition("parentcustomerid", "Company", FieldType.LOOKUP, relation=("account",)),
            FieldDefinition("parentcustomeridtype", "Company Type", FieldType.ENTITY_NAME),
            FieldDefinition("primarycontactid", "Primary Contact", FieldType.LOOKUP, relation=("contact",)),
            FieldDefinition(
                "transactioncurrencyid", "Currency", FieldType.LOOKUP, relation=("transactioncurrency",)
            ),
            FieldDefinition("terms", "Payment Terms", FieldType.OPTION),
            FieldDefinition("productid", "Product", FieldType.LOOKUP, relation=("product",)),
            FieldDefinition(
                "industry", "Industry", FieldType.OPTION, options=(Option(7, "Retail", "Retail"),)
            ),
        )
    },
    ("accountid",),
)


def shape(row: FieldMapping) -> Shape:
    return Shape(TableMapping("CUSTOMER", "customers", "account", BOTH, fields=(row,)), _NAV, _CRM)


def carried(
    row: FieldMapping, run: Direction, value: Value, found: dict[str, Value] | None = None
) -> Translation:
    """The translation of a record with this one value."""
    name = row.name_on(run.source)
    return translate(shape(row), run, {name: value} if name else {}, found, LOOKUPS)


def outcome(row: FieldMapping, run: Direction, value: Value, found: dict[str, Value] | None = None) -> Any:
    """The one value that is wanted, `kept`, or the kind of error."""
    translation = carried(row, run, value, found)
    if translation.error is not None:
        return type(translation.error)
    return "kept" if translation.kept else translation.wanted[row.name_on(run.destination) or ""]


OWNER = FieldMapping("Salesperson_Code", "ownerid", BOTH, rule="owner")
PARENT = FieldMapping("Company", "parentcustomerid", BOTH, rule="parent_account")
BLOCKED = FieldMapping("Blocked", "statuscode", FROM, rule="blocked_when_inactive")
CONTACT = FieldMapping("Contact", "primarycontactid", BOTH)
CLEARED = FieldMapping("Contact", "primarycontactid", BOTH, clear_value_on_failed_synch=True)
CURRENCY = FieldMapping("Currency", "transactioncurrencyid", BOTH)
PAYMENT = FieldMapping("Terms", "terms", BOTH)
PAYMENT_CLEARED = FieldMapping("Terms", "terms", BOTH, clear_value_on_failed_synch=True)


@pytest.mark.parametrize(
    ("row", "run", "value", "expected"),
    [
        # owner and salesperson (nav-behaviour 8.3)
        (OWNER, TO, "JO", USER),
        (OWNER, TO, "", "kept"),
        (OWNER, TO, "XX", SalespersonNotCoupled),
        (OWNER, FROM, USER, "JO"),
        (OWNER, FROM, Reference(TWO), "kept"),
        (OWNER, FROM, None, "kept"),
        # the company of a contact (10.3)
        (PARENT, TO, "10000", Reference(ONE)),
        (PARENT, TO, "", ContactWithoutCompany),
        (PARENT, TO, "20000", LookupNotCoupled),
        (PARENT, FROM, Reference(ONE), "10000"),
        (PARENT, FROM, Reference(TWO), ContactWithoutAccount),
        (PARENT, FROM, None, ContactWithoutAccount),
        # lookups between coupled records (8.1)
        (CONTACT, TO, "", None),
        (CONTACT, FROM, None, ""),
        (CONTACT, TO, "CT1", LookupNotCoupled),
        (CONTACT, FROM, Reference(ONE), LookupNotCoupled),
        (CLEARED, TO, "CT1", None),
        (CLEARED, FROM, Reference(ONE), ""),
        (FieldMapping("Item", "productid", TO), TO, "1000", InvalidMapping),
        (FieldMapping("Item", "productid", TO), TO, "", None),  # nothing to look up, so no mapping is missed
        # a blank currency stands for the local one (8.2)
        (CURRENCY, TO, "", Reference(ONE)),
        (CURRENCY, TO, "EUR", Reference(TWO)),
        (CURRENCY, TO, "USD", LookupNotCoupled),
        (CURRENCY, FROM, Reference(ONE), ""),
        (CURRENCY, FROM, Reference(TWO), "EUR"),
        # options that NAV keeps as records (8.4, seed-checklist E-35)
        (PAYMENT, TO, "2M", 2),
        (PAYMENT, TO, "", None),
        (PAYMENT, TO, "9M", "kept"),
        (PAYMENT_CLEARED, TO, "9M", None),
        (PAYMENT, FROM, 1, "1M"),
        (PAYMENT, FROM, None, ""),
        (PAYMENT, FROM, 9, "kept"),
        # constants
        (FieldMapping("Type", None, FROM, constant_value="Person"), FROM, None, "Person"),
        (FieldMapping(None, "industry", TO, constant_value="retail"), TO, None, 7),
        (FieldMapping(None, "industry", TO, constant_value="7"), TO, None, 7),
        (FieldMapping(None, "parentcustomeridtype", TO, constant_value="account"), TO, None, "kept"),
        # plain values: text is cut, codes are trimmed and raised, blanks keep what not_null protects
        (FieldMapping("Name", "name", BOTH), TO, "Adatum Corporation", "Adatum C"),
        (FieldMapping("Name", "name", BOTH), FROM, "Adatum", "Adatum"),
        (FieldMapping("Name", "name", BOTH), TO, "", None),
        (FieldMapping("Name", "name", BOTH), FROM, None, ""),
        (FieldMapping("Code", "name", BOTH), FROM, " eur ", "EUR"),
        (FieldMapping("Name", "name", BOTH, not_null=True), TO, "", "kept"),
        (FieldMapping("Name", "name", BOTH, not_null=True), FROM, None, "kept"),
        (FieldMapping("Name", "name", BOTH, not_null=True), TO, "A", "A"),
        (FieldMapping("Contact", "primarycontactid", BOTH, not_null=True), TO, "", "kept"),
        # text rules change the source before it is converted
        (FieldMapping("Name", "name", TO, transformation="uppercase"), TO, "adatum", "ADATUM"),
        (FieldMapping("Name", "name", TO, transformation="digits"), TO, "+49 (0) 12", "49012"),
        (FieldMapping("Code", "name", TO, transformation="unit_group_name"), TO, "PCS", "NAV PCS"),
        # a field that is not there any more
        (FieldMapping("Gone", "name", BOTH), TO, "x", InvalidMapping),
    ],
)
def test_a_value_in_the_other_sides_terms(
    row: FieldMapping, run: Direction, value: Value, expected: object
) -> None:
    assert outcome(row, run, value) == expected


@pytest.mark.parametrize(
    ("status", "found", "expected"),
    [
        (2, {"Blocked": ""}, "All"),
        (2, {}, "All"),
        (2, None, "All"),
        (2, {"Blocked": "Ship"}, "kept"),
        (1, {"Blocked": "All"}, "kept"),
        (1, {"Blocked": ""}, "kept"),
        (None, None, "kept"),
    ],
)
def test_an_inactive_account_blocks_its_customer_and_nothing_unblocks_it(
    status: int | None, found: dict[str, Value] | None, expected: str
) -> None:
    assert outcome(BLOCKED, FROM, status, found) == expected


@pytest.mark.parametrize(
    ("row", "run", "value", "named"),
    [
        (OWNER, TO, "XX", "salespeople/XX/coupling"),
        (CONTACT, TO, "CT1", "contacts/CT1/coupling"),
        (CONTACT, TO, "K&M/01", "contacts/K%26M%2F01/coupling"),
        (CURRENCY, TO, "USD", "currencies/USD/coupling"),
        (PARENT, TO, "20000", "customers/20000/coupling"),
        (PARENT, FROM, Reference(TWO), str(TWO)),
        (CONTACT, FROM, Reference(ONE), str(ONE)),
    ],
)
def test_a_refusal_names_the_record_in_the_way_and_the_call_that_mends_it(
    row: FieldMapping, run: Direction, value: Value, named: str
) -> None:
    error = carried(row, run, value).error
    assert isinstance(error, IntegrationError)
    assert named in (error.fix or "")


def test_what_is_left_out_is_told() -> None:
    (told,) = carried(PAYMENT, TO, "9M").notes
    assert "9M" in told
    assert told.startswith("terms was left alone")  # as CRM calls the attribute
    assert "CT1" in carried(CLEARED, TO, "CT1").notes[0]
    assert carried(PAYMENT, TO, "1M").notes == ()


def test_without_a_mapping_of_salespeople_the_owner_is_left_alone() -> None:
    source = {"Salesperson_Code": "JO"}
    assert translate(shape(OWNER), TO, source, None, Lookups()).kept == {"ownerid"}


def test_the_first_row_that_cannot_be_transferred_decides() -> None:
    both = TableMapping("CUSTOMER", "customers", "account", BOTH, fields=(CONTACT, OWNER))
    source = {"Contact": "CT1", "Salesperson_Code": "XX"}
    translation = translate(Shape(both, _NAV, _CRM), TO, source, None, LOOKUPS)
    assert isinstance(translation.error, LookupNotCoupled)
    assert translation.wanted == {}


@pytest.mark.parametrize(
    ("row", "run", "value", "expected"),
    [
        (OWNER, TO, "JO", [Need("salespeople", key="JO")]),
        (OWNER, TO, "", []),
        (OWNER, FROM, USER, [Need("salespeople", crm_id=ONE)]),
        (CURRENCY, TO, "", [Need("currencies", key="")]),
        (CONTACT, FROM, None, []),
        (PAYMENT, TO, "1M", []),
        (FieldMapping("Name", "name", BOTH), TO, "A", []),
    ],
)
def test_what_a_translation_needs_to_know_of_other_records(
    row: FieldMapping, run: Direction, value: Value, expected: list[Need]
) -> None:
    assert list(needs(shape(row), run, {row.name_on(run.source) or "": value})) == expected
