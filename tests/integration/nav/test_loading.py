"""The demo company goes in as it is."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import pytest

from app.domain.company import Generation
from app.domain.errors import IntegrationError
from app.domain.records import Value
from app.nav.definitions import STAMPS, nav_tables, odata_name
from app.nav.keys import SEPARATOR
from app.nav.store import EmbeddedNav

pytestmark = pytest.mark.anyio

# What refers comes after what is referred to; companies before their persons, contacts before customers.
ORDER = (
    "Currency",
    "Payment Terms",
    "Shipment Method",
    "Payment Method",
    "Country/Region",
    "Language",
    "Territory",
    "Unit of Measure",
    "Salutation",
    "Salesperson/Purchaser",
    "Contact",
    "Customer",
    "Contact Business Relation",
    "Item",
    "Opportunity",
)
Rows = Sequence[tuple[str, Mapping[str, Any]]]


def cronus() -> dict[str, Any]:
    """The demo company."""
    text = files("app.demo").joinpath("data/cronus.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def rows_of(label: str) -> tuple[str, Rows]:
    """The table and the records of a NAV table of the demo company."""
    tables = nav_tables(Generation.NAV2018)
    table = next(table for table in tables.values() if table.definition.label == label)
    rows = []
    for record in cronus()[label]:
        fields = {odata_name(name): value for name, value in record.items() if odata_name(name) not in STAMPS}
        rows.append((SEPARATOR.join(str(fields[name]) for name in table.primary_key), fields))
    return table.name, rows


def as_json(seen: Value, given: Any) -> Any:
    """A value of a record as the demo company writes it."""
    return type(given)(str(seen)) if not isinstance(given, bool) else seen


async def test_every_record_of_the_demo_company_is_taken_as_it_is(nav: EmbeddedNav) -> None:
    for label in ORDER:
        table, rows = rows_of(label)
        outcomes = await nav.bulk(table, rows)
        assert not [outcome.detail for outcome in outcomes if isinstance(outcome, IntegrationError)], label
        found = await nav.by_key(table, [key for key, _ in rows])
        for key, fields in rows:
            seen = found[key].values
            assert {name: as_json(seen[name], value) for name, value in fields.items()} == fields, (
                label,
                key,
            )
    assert (await nav.test())["records"] == {rows_of(label)[0]: len(rows_of(label)[1]) for label in ORDER}


async def test_the_figures_of_the_demo_company_are_kept(nav: EmbeddedNav) -> None:
    rows = cronus()["Customer Statistics"]
    await nav.bulk("customers", [(row["No."], {"Name": row["No."]}) for row in rows])
    figures = {
        row["No."]: {odata_name(name): value for name, value in row.items() if name != "No."} for row in rows
    }
    await nav.bulk("customers", list(figures.items()))
    seen = await nav.figures(figures)
    for customer, values in figures.items():
        assert {name: as_json(seen[customer][name], value) for name, value in values.items()} == values
