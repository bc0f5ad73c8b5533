"""The NAV tables that can be held and mapped, per generation.

The facts are in `data/nav-tables.json`: a field's properties as in Business Central; under `nav` what NAV
2016 to 2018 have instead (shorter names, other options), under `not_in` the generations without the field.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from app.domain.company import Generation
from app.domain.records import FieldDefinition, FieldType, Option, TableDefinition, Value
from app.nav.values import Reader, StoredValues, Writer, blank, reader, writer

TYPES = {
    "Text": FieldType.TEXT,
    "Code": FieldType.CODE,
    "BLOB": FieldType.MEMO,
    "Integer": FieldType.INTEGER,
    "Decimal": FieldType.DECIMAL,
    "Boolean": FieldType.BOOLEAN,
    "Option": FieldType.OPTION,
    "Date": FieldType.DATE,
    "Time": FieldType.TIME,
    "DateTime": FieldType.DATETIME,
    "DateFormula": FieldType.TEXT,
    "GUID": FieldType.GUID,
    "Guid": FieldType.GUID,
}
DATE_FORMULA_LENGTH = 32

# Set by the database whenever a value changes.
STAMPS = frozenset(
    {"Last_Date_Modified", "Last_Time_Modified", "Last_Modified_Date_Time", "Last_DateTime_Modified"}
)

# FlowFields that look one field up in another table: the field that holds the key, the table, the field there.
LOOKUPS: dict[tuple[str, str], tuple[str, str, str]] = {
    ("opportunities", "Contact_Name"): ("Contact_No", "contacts", "Name"),
    ("opportunities", "Contact_Company_Name"): ("Contact_Company_No", "contacts", "Name"),
    ("opportunities", "Salesperson_Name"): ("Salesperson_Code", "salespeople", "Name"),
    ("contact-business-relations", "Contact_Name"): ("Contact_No", "contacts", "Name"),
}

# Worked out of other tables in a way of their own.
CURRENCY_FACTOR = ("currencies", "Currency_Factor")
# What NAV's code finds out about prices when it sends them to CRM (nav-behaviour 10.7).
PRICED_UNIT = ("sales-prices", "Priced_Unit_of_Measure")
PRICES_CURRENCY = ("customer-price-groups", "Prices_Currency_Code")
WORKED_OUT = frozenset({CURRENCY_FACTOR, PRICED_UNIT, PRICES_CURRENCY})

# NAV 2018's contact card shows the customer behind the contact's company under this name (page 5050).
INTEGRATION_CUSTOMER = "IntegrationCustomerNo"

# Which tables get integration ids (nav-behaviour 2.2). Business Central gives every record its system id.
INTEGRATED_2017 = frozenset(
    {
        "resources",
        "payment-terms",
        "shipment-methods",
        "shipping-agents",
        "currencies",
        "salespeople",
        "customers",
        "items",
        "sales-headers",
        "sales-invoice-headers",
        "units-of-measure",
        "contacts",
        "countries",
        "customer-price-groups",
    }
)
INTEGRATED_2018 = INTEGRATED_2017 | {
    "vendors",
    "company-information",
    "sales-prices",
    "opportunities",
    "payment-methods",
}


@dataclass(frozen=True, slots=True)
class Relation:
    """A field refers to a record of `table`; with a condition, only while another field has that option."""

    table: str
    when_field: str | None = None
    when_option: str | None = None


@dataclass(frozen=True)
class NavTable:
    """A NAV table as this store needs it; what it does with values is worked out once.

    `figures` are sums over ledgers (FlowFields) that the embedded company keeps beside the record because
    it has no ledgers; they never change a record's version.
    """

    name: str
    definition: TableDefinition
    relations: Mapping[str, tuple[Relation, ...]]
    defaults: StoredValues = field(default_factory=dict)
    figures: frozenset[str] = frozenset()
    integrated: bool = False

    @cached_property
    def fields(self) -> Mapping[str, FieldDefinition]:
        """The fields by their OData names."""
        return self.definition.fields

    @cached_property
    def primary_key(self) -> tuple[str, ...]:
        """The names of the key fields."""
        return self.definition.primary_key

    @cached_property
    def blanks(self) -> Mapping[str, Value]:
        """The fields that lie in the record itself, each with its blank; the others have to be worked out."""
        return {
            name: blank(field)
            for name, field in self.fields.items()
            if not field.computed and not (self.name == "contacts" and name == INTEGRATION_CUSTOMER)
        }

    @cached_property
    def no_figures(self) -> Mapping[str, Value]:
        """The figures of a record without any."""
        return {name: blank(self.fields[name]) for name in self.fields if name in self.figures}

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """Of the fields in the record: those whose stored form is not the value yet."""
        return {name: read for name in self.blanks if (read := reader(self.fields[name])) is not None}

    @cached_property
    def writers(self) -> Mapping[str, Writer]:
        """What brings a value of a field into its stored form. Raises Unfit."""
        return {name: writer(field) for name, field in self.fields.items()}

    @cached_property
    def insertable(self) -> Mapping[str, Writer]:
        """The writers of the fields that can be written when a record is created."""
        return {name: write for name, write in self.writers.items() if self.fields[name].insertable}

    @cached_property
    def updatable(self) -> Mapping[str, Writer]:
        """The writers of the fields of a record that can be changed."""
        return {name: write for name, write in self.writers.items() if self.fields[name].updatable}


def odata_name(name: str) -> str:
    """The name that NAV's OData service gives a field: `E-Mail` is `E_Mail`, `No.` is `No`."""
    spelled = name.replace("%", " Percent ").replace(".", "")
    return re.sub(r"[^0-9A-Za-z]+", "_", spelled).strip("_")


@cache
def nav_tables(generation: Generation) -> Mapping[str, NavTable]:
    """Every table of that generation, by the word in our URLs."""
    return {
        name: _table(name, facts, generation)
        for name, facts in _facts().items()
        if generation not in facts.get("not_in", ())
    }


@dataclass(frozen=True, slots=True)
class Reference:
    """A field of a table that refers to some table."""

    table: str
    field: str
    relation: Relation


@cache
def references_to(generation: Generation, table: str) -> tuple[Reference, ...]:
    """Every stored field that refers to that table: what a renamed key has to be carried into."""
    return tuple(
        Reference(name, field_name, relation)
        for name, nav_table in nav_tables(generation).items()
        for field_name, relations in nav_table.relations.items()
        for relation in relations
        if relation.table == table
        and field_name != INTEGRATION_CUSTOMER
        and not nav_table.fields[field_name].computed
    )


@cache
def _facts() -> dict[str, Any]:
    text = files("app.nav").joinpath("data/nav-tables.json").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads(text)
    return facts


def _table(name: str, facts: Mapping[str, Any], generation: Generation) -> NavTable:
    key = tuple(odata_name(part) for part in facts["primary_key"])
    held = [
        _of_generation(row, generation) for row in facts["fields"] if generation not in row.get("not_in", ())
    ]
    fields = {odata_name(row["name"]): _field(row, key, name) for row in held}
    integrated = _is_integrated(name, generation)
    definition = TableDefinition(
        name=name,
        label=facts["label"],
        fields=fields,
        primary_key=key,
        name_field=odata_name(facts["name_field"]) if "name_field" in facts else None,
        number=facts["number"],
        tracks_changes=integrated,
    )
    return NavTable(
        name=name,
        definition=definition,
        relations={odata_name(row["name"]): _relations(row) for row in held if row.get("relations")},
        defaults={odata_name(row["name"]): row["default"] for row in held if "default" in row},
        figures=frozenset(
            field_name
            for field_name, held_field in fields.items()
            if held_field.computed
            and field_name not in STAMPS
            and (name, field_name) not in LOOKUPS
            and (name, field_name) not in WORKED_OUT
        ),
        integrated=integrated,
    )


def _of_generation(row: Mapping[str, Any], generation: Generation) -> dict[str, Any]:
    differs = {} if generation is Generation.BC else row.get("nav", {})
    return {**row, **differs}


def _is_integrated(name: str, generation: Generation) -> bool:
    match generation:
        case Generation.NAV2017:
            return name in INTEGRATED_2017
        case Generation.NAV2018:
            return name in INTEGRATED_2018
        case Generation.BC:
            return True


def _field(row: Mapping[str, Any], primary_key: tuple[str, ...], table: str) -> FieldDefinition:
    name = odata_name(row["name"])
    computed = bool(row.get("computed")) or name in STAMPS
    # "Not editable" speaks of pages. Here only a number series stays closed: postings and sales cycles, which
    # fill the other such fields, do not exist in an embedded company.
    writable = not computed and name != "No_Series"
    length = DATE_FORMULA_LENGTH if row["type"] == "DateFormula" else row.get("length")
    return FieldDefinition(
        name=name,
        label=row["name"],
        type=TYPES[row["type"]],
        length=length,
        options=tuple(Option(value, option, option or " ") for value, option in row.get("options", ())),
        relation=tuple(relation["table"] for relation in row.get("relations", ())),
        key=name in primary_key,
        required=name in primary_key and table not in KEYLESS,
        computed=computed,
        insertable=writable,
        updatable=writable,
        number=row.get("number"),  # what NAV works out in code has none
    )


# Setup tables hold one record, whose key is blank.
KEYLESS = frozenset({"general-ledger-setup", "marketing-setup", "company-information"})


def _relations(row: Mapping[str, Any]) -> tuple[Relation, ...]:
    relations = []
    for facts in row["relations"]:
        condition = facts.get("when")
        if condition is None:
            relations.append(Relation(facts["table"]))
        else:
            relations.append(Relation(facts["table"], odata_name(condition[0]), condition[1]))
    return tuple(relations)
