"""OData filters over NAV records."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Company
from app.domain.errors import InvalidFilter
from app.filters import matches, parse
from app.nav.store import EmbeddedNav

pytestmark = pytest.mark.anyio

CUSTOMERS: dict[str, dict[str, Any]] = {
    "10000": {"Name": "Adatum", "Credit_Limit_LCY": 10.5, "Blocked": "All", "E_Mail": "a@b.example"},
    "20000": {"Name": "100% _Cotton_", "Credit_Limit_LCY": 9, "Priority": 3, "Balance_LCY": 7},
    "K&M/01": {"Name": "O'Brien", "Prices_Including_VAT": True, "Blocked": "Ship"},
    "LOWER": {"Name": "adatum ltd.", "City": "Adatum"},
}


@pytest.fixture
async def filled(nav: EmbeddedNav) -> EmbeddedNav:
    """A company with a few customers."""
    await nav.bulk("customers", list(CUSTOMERS.items()))
    await nav.create("contacts", "PE", {"Type": "Person", "Name": "A B", "IntegrationCustomerNo": "10000"})
    return nav


FOUND: list[tuple[str, set[str]]] = [
    ("Name eq 'Adatum'", {"10000"}),
    ("'Adatum' eq Name", {"10000"}),
    ("Name eq 'adatum'", set()),
    ("tolower(Name) eq 'adatum'", {"10000"}),
    ("contains(toupper(Name),'ADATUM')", {"10000", "LOWER"}),
    ("No eq 'k&m/01'", {"K&M/01"}),
    ("No eq ' lower '", {"LOWER"}),
    ("No in ('10000','lower','none')", {"10000", "LOWER"}),
    ("Name eq 'O''Brien'", {"K&M/01"}),
    ("contains(Name,'%')", {"20000"}),
    ("contains(Name,'_Cotton')", {"20000"}),
    ("startswith(Name,'A')", {"10000"}),
    ("startswith(No,'k')", {"K&M/01"}),
    ("endswith(Name,'.') eq true", {"LOWER"}),
    ("startswith(Name,'A') eq false and No ne 'LOWER'", {"20000", "K&M/01"}),
    ("E_Mail eq ''", {"20000", "K&M/01", "LOWER"}),
    ("E_Mail ne ''", {"10000"}),
    ("Credit_Limit_LCY eq 10.5", {"10000"}),
    ("Credit_Limit_LCY gt 9.5", {"10000"}),
    ("10 lt Credit_Limit_LCY", {"10000"}),
    ("Credit_Limit_LCY eq 0", {"K&M/01", "LOWER"}),
    ("Credit_Limit_LCY in (9,10.5)", {"10000", "20000"}),
    ("Credit_Limit_LCY gt -1 and Priority ge 3", {"20000"}),
    ("Blocked eq 'All'", {"10000"}),
    ("Blocked eq ''", {"20000", "LOWER"}),
    ("Blocked eq ' '", {"20000", "LOWER"}),
    ("Blocked ne 'all'", {"20000", "LOWER", "K&M/01"}),
    ("Blocked in ('All','Ship')", {"10000", "K&M/01"}),
    ("Blocked ge 'Ship'", {"10000", "K&M/01"}),
    ("Prices_Including_VAT eq true", {"K&M/01"}),
    ("Prices_Including_VAT", {"K&M/01"}),
    ("not Prices_Including_VAT", {"10000", "20000", "LOWER"}),
    ("Prices_Including_VAT eq false and Blocked eq 'All'", {"10000"}),
    ("Balance_LCY gt 5", {"20000"}),
    ("Last_Date_Modified gt 2020-01-01", set(CUSTOMERS)),
    ("Last_Modified_Date_Time lt 2020-01-01T00:00:00Z", set()),
    ("Last_Date_Modified eq null", set()),
    ("Name eq City", set()),
    ("City eq 'Adatum' or Name eq 'Adatum'", {"10000", "LOWER"}),
    ("Name lt 'a'", {"10000", "20000", "K&M/01"}),
    ("Name eq '" + "x" * 300 + "'", set()),
    ("true", set(CUSTOMERS)),
    (" or ".join(f"No eq '{n}'" for n in range(1500)) + " or No eq '10000'", {"10000"}),
]


async def test_a_filter_finds(filled: EmbeddedNav) -> None:
    for text, keys in FOUND:
        found, _ = await filled.records("customers", filter=text)
        assert {record.key for record in found} == keys, text


async def test_contacts_can_be_filtered_by_their_customer(filled: EmbeddedNav) -> None:
    found, _ = await filled.records(
        "contacts", filter="IntegrationCustomerNo eq '10000' and Type eq 'Person'"
    )
    assert [record.key for record in found] == ["PE"]


REFUSED: list[tuple[str, str | None]] = [
    ("Nmae eq 'x'", "Name"),
    ("E_mail eq 'x'", "E_Mail"),
    ("Blocked eq 'Al'", "All"),
    ("Name eq", None),
    ("Name eq 5", None),
    ("Credit_Limit_LCY eq 'much'", None),
    ("Credit_Limit_LCY eq true", None),
    ("Last_Date_Modified gt 'soon'", None),
    ("Prices_Including_VAT eq 'yes'", None),
    ("Name", None),
    ("Name gt null", None),
    ("contains(Credit_Limit_LCY,'1')", None),
    ("length(Name) gt 3", None),
    ("Name eq Credit_Limit_LCY", None),
    ("1 eq 1", None),
    ("No/Name eq 'x'", "Name"),
]


async def test_a_filter_that_makes_no_sense_says_why(filled: EmbeddedNav) -> None:
    for text, suggestion in REFUSED:
        with pytest.raises(InvalidFilter) as refused:
            await filled.records("customers", filter=text)
        assert refused.value.errors[0].suggestion == suggestion, text


SEARCHED: list[tuple[str, set[str]]] = [
    ("adatum", {"10000", "LOWER"}),
    ("k&m", {"K&M/01"}),
    ("B.EXAMPLE", {"10000"}),
    ("%", {"20000"}),
    ("none", set()),
]


async def test_searching_looks_at_number_name_and_e_mail(filled: EmbeddedNav) -> None:
    for search, keys in SEARCHED:
        found, _ = await filled.records("customers", search=search)
        assert {record.key for record in found} == keys, search


async def test_pages_follow_each_other_and_a_cursor_that_nobody_gave_out_does_no_harm(
    filled: EmbeddedNav,
) -> None:
    keys: list[str] = []
    cursor = None
    for _ in range(4):
        page, cursor = await filled.records("customers", limit=1, cursor=cursor)
        keys += [record.key for record in page]
    assert (keys, cursor) == (sorted(CUSTOMERS), None)
    assert await filled.records("customers", cursor="Ä\0") == ([], None)


TEXTS = st.text("ab%_'\\ ", max_size=3)
AMOUNTS = st.decimals(min_value=-3, max_value=3, places=1)
VALUES = st.fixed_dictionaries(
    {
        "Name": TEXTS,
        "City": TEXTS,
        "Credit_Limit_LCY": AMOUNTS,
        "Priority": st.integers(-2, 2),
        "Prices_Including_VAT": st.booleans(),
        "Blocked": st.sampled_from(["", "Ship", "All"]),
    }
)
COMPARISON = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
EQUALITY = st.sampled_from(["eq", "ne"])


def quoted(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("'", "''") + "'"


ATOMS = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(["Name", "City"]), COMPARISON, TEXTS.map(quoted)),
    st.builds(
        "{}({},{})".format,
        st.sampled_from(["contains", "startswith", "endswith"]),
        st.sampled_from(["Name", "City"]),
        TEXTS.map(quoted),
    ),
    st.builds("Name in ({},{})".format, TEXTS.map(quoted), TEXTS.map(quoted)),
    st.builds("{} {} {}".format, st.sampled_from(["Credit_Limit_LCY", "Priority"]), COMPARISON, AMOUNTS),
    st.builds("Prices_Including_VAT {} {}".format, EQUALITY, st.sampled_from(["true", "false"])),
    st.builds("Blocked {} {}".format, EQUALITY, st.sampled_from(["''", "'Ship'", "'All'"])),
    st.builds("Name {} City".format, EQUALITY),
)
FILTERS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=4,
)


# One database serves all examples: each puts its own records there.
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(VALUES, min_size=1, max_size=4), st.lists(FILTERS, min_size=1, max_size=5))
async def test_the_database_finds_what_a_look_at_the_records_finds(
    engine: AsyncEngine, records: list[dict[str, Any]], filters: list[str]
) -> None:
    nav = EmbeddedNav(engine, Company(1, "cronus", "CRONUS"))
    await nav.clear()
    await nav.bulk("customers", [(f"C{number}", values) for number, values in enumerate(records)])
    stored, _ = await nav.records("customers")
    for text in filters:
        found = {record.key for record in (await nav.records("customers", filter=text))[0]}
        expected = {record.key for record in stored if matches(parse(text), record.values.get)}
        assert found == expected, text
