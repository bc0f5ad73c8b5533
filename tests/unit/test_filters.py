"""Filters: what can be read, what matches, and what is said about the rest."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app import filters
from app.filters import FilterError

ID = "9f0f4c5e-52a1-ef11-8a69-000d3a4b5c6d"
CUSTOMER: dict[str, Any] = {
    "no": "10000",
    "name": "Cannon Group PLC",
    "note": "O'Neill",
    "blocked": 0,
    "credit_limit": Decimal("25000.50"),
    "privacy_blocked": False,
    "allowed": True,
    "id": UUID(ID),
    "last_modified": dt.datetime(2026, 1, 31, 7, 15, tzinfo=dt.UTC),
    "started": dt.date(2026, 1, 31),
    "e_mail": None,
    "contact/name": "Doyle",
}


def matches(text: str) -> bool | None:
    return filters.matches(filters.parse(text), CUSTOMER.get)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("name eq 'cannon group plc'", True),
        ("name ne 'Adatum'", True),
        ("note eq 'O''Neill'", True),
        ("blocked eq 0 and credit_limit gt 25000.5", False),
        ("credit_limit ge 25000.5", True),
        ("25000 lt credit_limit", True),
        ("allowed eq true", True),
        ("allowed and not privacy_blocked", True),
        (f"id eq {ID}", True),
        (f"id eq {ID.upper()}", True),
        ("last_modified ge 2026-01-31T07:15:00Z", True),
        ("last_modified lt 2026-01-31T09:00:00+02:00", False),
        ("last_modified gt 2026-01-30", True),
        ("started eq 2026-01-31", True),
        ("contains(name,'GROUP')", True),
        ("startswith(name,'Cannon') and endswith(name,'plc')", True),
        ("no in ('20000','10000')", True),
        ("no in ('10000')", True),
        ("contact/name eq 'doyle'", True),
        ("name eq name", True),
        ("  no eq '10000'  ", True),
        ("(no eq '1' or (no eq '10000'))", True),
        ("Microsoft.Dynamics.CRM.In(PropertyName='no',PropertyValues=['10000'])", True),
        ("Microsoft.Dynamics.CRM.In(PropertyName='note',PropertyValues=['x',\"O'Neill\"])", True),
        ("Microsoft.Dynamics.CRM.NotIn(PropertyName='no',PropertyValues=['1','2'])", True),
        ('Microsoft.Dynamics.CRM.Between(PropertyName=\'credit_limit\',PropertyValues=["5","30000"])', True),
        (f"Microsoft.Dynamics.CRM.In(PropertyName='id',PropertyValues=['{ID}'])", True),
    ],
)
def test_a_record_matches(text: str, expected: bool) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("e_mail eq 'x'", None),
        ("e_mail ne 'x'", None),
        ("not (e_mail eq 'x')", None),
        ("contains(e_mail,'x')", None),
        ("e_mail eq null", True),
        ("e_mail ne null", False),
        ("e_mail eq 'x' or no eq '10000'", True),
        ("e_mail eq 'x' and no eq '10000'", None),
        ("e_mail eq 'x' and no eq '1'", False),
        ("e_mail in ('x','y')", None),
    ],
)
def test_an_empty_field_leaves_it_unknown(text: str, expected: bool | None) -> None:
    assert matches(text) is expected


@pytest.mark.parametrize(
    "text, position",
    [
        ("", 0),
        ("name eq 'Cannon", 8),
        ("name eq", 4),
        ("name eq 'a' and", 11),
        ("name has 'a'", 4),
        ("name eq 'a' b", 11),
        ("name eq @p1", 8),
    ],
)
def test_a_filter_that_cannot_be_read_says_where(text: str, position: int) -> None:
    with pytest.raises(FilterError) as refused:
        filters.parse(text)
    assert refused.value.position == position
    assert refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "unknown(name)",
        "contains(name)",
        "tolower(name) eq 'x'",
        "name eq 5",
        "credit_limit eq 'x'",
        "id eq 'no guid'",
        "name",
        "'a' eq",
        "started eq 2026-02-31",
        "name eq 'a' eq 'b'",
        "contains(name,5)",
        "credit_limit add 5 gt 3",
        "(" * 300 + "no eq '1'" + ")" * 299,
        "not " * 300 + "(no eq '1')",
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FilterError):
        matches(text)


def test_names_that_begin_with_a_keyword_are_names() -> None:
    text = "anything eq 1 and allowed eq true and nullable eq null and trueness ne false and internal eq 2"
    assert filters.names(filters.parse(text)) == {"anything", "allowed", "nullable", "trueness", "internal"}


def test_the_names_of_a_filter_are_the_paths_it_uses() -> None:
    text = (
        "primarycontactid/fullname eq 'x' and contacts/any(c:c/emailaddress1 eq 'a@b.example') "
        "and Microsoft.Dynamics.CRM.In(PropertyName='no',PropertyValues=['1']) and orders/any()"
    )
    found = filters.names(filters.parse(text))
    assert found == {"primarycontactid/fullname", "contacts/emailaddress1", "no", "orders"}


def test_a_long_chain_is_no_deep_nesting() -> None:
    text = " or ".join(f"no eq '{number}'" for number in range(5000, 10001))
    assert matches(text) is True
    assert filters.names(filters.parse(text)) == {"no"}


@pytest.mark.parametrize(
    "text",
    [
        "not " * 1900 + "(no eq '1')",
        "".join("no eq '1' and (no eq '1' or (" for _ in range(250)) + "no eq '1'" + "))" * 250,
        "a/" * 3900 + "b eq 1",
        "no eq " + "-" * 7000 + "1",
        "concat('a'," * 700 + "'b'" + ")" * 700 + " eq 'x'",
        "orders/any(a:" * 600 + "a eq 1" + ")" * 600,
    ],
    ids=["not", "alternating", "path", "minus", "functions", "any"],
)
def test_deep_nesting_is_refused_as_such(text: str) -> None:
    with pytest.raises(filters.FilterError, match="nested deeper than 100 levels"):
        filters.parse(text)


def test_nesting_that_is_just_accepted_can_be_walked() -> None:
    text = "".join("no eq '1' and (no eq '10000' or (" for _ in range(49)) + "no eq '1'" + "))" * 49
    node = filters.parse(text)
    assert filters.matches(node, CUSTOMER.get) is False
    assert filters.names(node) == {"no"}
    assert len(filters.conjuncts(node)) == 2


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("[[]a%", "[abc", True),
        ("[%]", "%", True),
        ("[%]", "x", False),
        ("[a-c]x", "bx", True),
        ("[^a]x", "bx", True),
        ("[^a]x", "ax", False),
        ("[z-a]", "m", False),
        ("[&&||]", "&", True),
        ("a\\", "a\\", True),
    ],
)
def test_a_pattern_means_what_it_means_in_sql(pattern: str, text: str, matched: bool) -> None:
    assert bool(re.fullmatch(filters.like_pattern(pattern), text)) is matched
