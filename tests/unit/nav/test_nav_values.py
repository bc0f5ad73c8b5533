"""What fits a NAV field, and what comes back."""

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.company import Generation
from app.domain.records import FieldDefinition, FieldType
from app.nav.definitions import nav_tables
from app.nav.validation import checked
from app.nav.values import Unfit, blank, from_stored, to_stored, writer

CUSTOMERS = nav_tables(Generation.NAV2018)["customers"]


def a_field(kind: FieldType, length: int | None = None) -> FieldDefinition:
    options = CUSTOMERS.fields["Blocked"].options if kind is FieldType.OPTION else ()
    return FieldDefinition("Field", "Field", kind, length=length, options=options)


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (FieldType.TEXT, "  two  blanks ", "  two  blanks "),
        (FieldType.TEXT, "", ""),
        (FieldType.TEXT, None, ""),
        (FieldType.CODE, " jo ", "JO"),
        (FieldType.CODE, "åø", "ÅØ"),
        (FieldType.CODE, "große", "GROßE"),
        (FieldType.INTEGER, 7, 7),
        (FieldType.INTEGER, "7", 7),
        (FieldType.INTEGER, 7.0, 7),
        (FieldType.DECIMAL, 9876543210.99, Decimal("9876543210.99")),
        (FieldType.DECIMAL, "10.50", Decimal("10.5")),
        (FieldType.DECIMAL, 0, Decimal(0)),
        (FieldType.BOOLEAN, True, True),
        (FieldType.BOOLEAN, None, False),
        (FieldType.OPTION, "all", "All"),
        (FieldType.OPTION, " ", ""),
        (FieldType.DATE, "2026-11-30", dt.date(2026, 11, 30)),
        (FieldType.DATE, "0001-01-01", None),
        (FieldType.DATE, "", None),
        (FieldType.DATETIME, "2026-11-30T10:00:00+02:00", dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC)),
        (FieldType.TIME, "08:00:00", "08:00:00"),
        (FieldType.GUID, str(UUID(int=7)), UUID(int=7)),
        (FieldType.GUID, str(UUID(int=0)), None),
    ],
)
def test_a_value_is_kept_in_nav_s_form(kind: FieldType, value: Any, kept: Any) -> None:
    field = a_field(kind)
    assert from_stored(field, to_stored(field, value)) == kept


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FieldType.TEXT, 7),
        (FieldType.TEXT, "nul\0"),
        (FieldType.TEXT, "half \ud83d"),
        (FieldType.INTEGER, 7.5),
        (FieldType.INTEGER, 2**31),
        (FieldType.INTEGER, True),
        (FieldType.DECIMAL, "ten"),
        (FieldType.DECIMAL, float("nan")),
        (FieldType.DECIMAL, "Infinity"),
        (FieldType.DECIMAL, "1e400"),
        (FieldType.BOOLEAN, "true"),
        (FieldType.OPTION, "Sometimes"),
        (FieldType.OPTION, 3),
        (FieldType.DATE, "30.11.2026"),
        (FieldType.DATETIME, "yesterday"),
        (FieldType.TIME, "late"),
        (FieldType.GUID, "no guid"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: FieldType, value: Any) -> None:
    with pytest.raises(Unfit):
        to_stored(a_field(kind), value)


def test_length_counts_utf_16_units() -> None:
    assert to_stored(a_field(FieldType.TEXT, 4), "ab\U0001f600") == "ab\U0001f600"
    with pytest.raises(Unfit) as refused:
        to_stored(a_field(FieldType.TEXT, 4), "abc\U0001f600")
    assert refused.value.suggestion == "abc"


@given(
    st.one_of(
        st.text(st.characters(), max_size=8), st.sampled_from(["\0", " a\0 ", "\ud800", " ", None, 7, True])
    ),
    st.sampled_from([FieldType.TEXT, FieldType.CODE, FieldType.MEMO]),
    st.sampled_from([None, 4]),
)
def test_a_field_s_own_writer_does_what_is_done_to_one_value(
    value: Any, kind: FieldType, length: int | None
) -> None:
    field = a_field(kind, length)

    def outcome(write: Callable[[], Any]) -> Any:
        try:
            return write()
        except Unfit as error:
            return error.message, error.suggestion

    assert outcome(lambda: writer(field)(value)) == outcome(lambda: to_stored(field, value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**15), max_value=10**15))
def test_equal_numbers_have_equal_texts(number: Decimal) -> None:
    field = a_field(FieldType.DECIMAL)
    assert to_stored(field, number) == to_stored(field, number.normalize())
    assert from_stored(field, to_stored(field, number)) == number


@pytest.mark.parametrize("name", CUSTOMERS.fields)
def test_a_blank_is_not_stored(name: str) -> None:
    field = CUSTOMERS.fields[name]
    assert to_stored(field, blank(field)) is None


def test_every_problem_is_told_at_once() -> None:
    outcome = checked(
        CUSTOMERS,
        {
            "Nmae": "Adatum",
            "E-Mail": "a@b.example",
            "Name": "x" * 51,
            "Blocked": "Al",
            "Last_Date_Modified": "2026-11-30",
            "Credit_Limit_LCY": "much",
            "City": "London",
        },
        new=True,
        figures=True,
    )
    assert outcome.given == {"City": "London"}
    assert {problem.pointer: problem.suggestion for problem in outcome.problems} == {
        "/fields/Nmae": "Name",
        "/fields/E-Mail": "E_Mail",
        "/fields/Name": "x" * 50,
        "/fields/Blocked": "All",
        "/fields/Last_Date_Modified": None,
        "/fields/Credit_Limit_LCY": None,
    }


@pytest.mark.parametrize(("figures", "problems"), [(True, 0), (False, 1)])
def test_figures_are_taken_only_from_those_who_stand_for_the_ledgers(figures: bool, problems: int) -> None:
    outcome = checked(CUSTOMERS, {"Balance_LCY": "12.50"}, new=False, figures=figures)
    assert len(outcome.problems) == problems
