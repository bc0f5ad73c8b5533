"""Which fields can be paired, and what becomes of a value on its way to the other side."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.conversion import (
    TRANSFORMATIONS,
    constant,
    cut,
    equal,
    to_crm,
    to_nav,
    transformed,
)
from app.domain.errors import InvalidValues
from app.domain.mapping import Direction
from app.domain.pairing import convertible
from app.domain.records import FieldDefinition, FieldType, Option, Reference, Side, Value


def nav(kind: FieldType, length: int | None = None, **more: object) -> FieldDefinition:
    return replace(FieldDefinition("Nav_Field", "NAV field", kind, length, number=1), **more)  # type: ignore[arg-type]  # any field of the definition


def crm(kind: FieldType, length: int | None = None, **more: object) -> FieldDefinition:
    return replace(FieldDefinition("attribute", "Attribute", kind, length), **more)  # type: ignore[arg-type]  # any field of the definition


TEXT, CODE, MEMO = nav(FieldType.TEXT, 50), nav(FieldType.CODE, 10), nav(FieldType.MEMO)
STRING = crm(FieldType.TEXT, 100)
BLOCKED = nav(
    FieldType.OPTION,
    options=(Option(0, "", ""), Option(1, "Ship", "Ship"), Option(3, "All", "All")),
    number=39,
)
PRICING = crm(
    FieldType.OPTION, options=(Option(1, "CurrencyAmount", "Currency Amount"), Option(2, "All", "Everything"))
)
CURRENCY = nav(FieldType.CODE, 10, relation=("currencies",))
CURRENCY_LOOKUP = crm(FieldType.LOOKUP, relation=("transactioncurrency",))
PAIR = ("currencies", "transactioncurrency")
BOTH, TO, FROM = Direction.BIDIRECTIONAL, Direction.TO_CRM, Direction.FROM_CRM


@pytest.mark.parametrize(
    "ours, theirs, direction, possible",
    [
        (TEXT, STRING, BOTH, True),
        (CODE, STRING, BOTH, True),
        (MEMO, crm(FieldType.MEMO), BOTH, True),
        (TEXT, crm(FieldType.MONEY), TO, False),
        (TEXT, crm(FieldType.MONEY), FROM, True),
        (TEXT, crm(FieldType.MONEY), BOTH, False),
        (TEXT, crm(FieldType.BOOLEAN), TO, False),
        (TEXT, crm(FieldType.DATETIME), TO, False),
        (nav(FieldType.DECIMAL), crm(FieldType.MONEY), BOTH, True),
        (nav(FieldType.DECIMAL), crm(FieldType.DECIMAL), BOTH, True),
        (nav(FieldType.DECIMAL), crm(FieldType.INTEGER), TO, False),
        (nav(FieldType.DECIMAL), crm(FieldType.INTEGER), FROM, True),
        (nav(FieldType.INTEGER), crm(FieldType.DECIMAL), TO, True),
        (nav(FieldType.INTEGER), crm(FieldType.INTEGER), BOTH, True),
        (nav(FieldType.BIG_INTEGER), crm(FieldType.INTEGER), TO, False),
        (nav(FieldType.BOOLEAN), crm(FieldType.BOOLEAN), BOTH, True),
        (nav(FieldType.BOOLEAN), crm(FieldType.MONEY), TO, False),
        (nav(FieldType.DATE), crm(FieldType.DATETIME), BOTH, True),
        (nav(FieldType.DATE), crm(FieldType.DATE), BOTH, True),
        (nav(FieldType.DATE), crm(FieldType.MONEY), TO, False),
        (BLOCKED, PRICING, BOTH, True),
        (CODE, PRICING, BOTH, True),
        (nav(FieldType.DECIMAL), PRICING, TO, False),
        (nav(FieldType.GUID), crm(FieldType.GUID), BOTH, True),
        (nav(FieldType.GUID), crm(FieldType.LOOKUP, relation=("account",)), FROM, True),
        (TEXT, crm(FieldType.GUID), TO, False),
        (CURRENCY, CURRENCY_LOOKUP, BOTH, True),
        (TEXT, CURRENCY_LOOKUP, BOTH, False),
        (nav(FieldType.DECIMAL, computed=True), crm(FieldType.DECIMAL), TO, True),
        (nav(FieldType.DECIMAL, computed=True), crm(FieldType.DECIMAL), FROM, False),
        (TEXT, crm(FieldType.TEXT, insertable=False, updatable=False), TO, False),
        (TEXT, crm(FieldType.TEXT, insertable=False, updatable=False), FROM, True),
        (TEXT, crm(FieldType.TEXT, updatable=False), TO, True),
    ],
)
def test_fields_can_be_paired_when_values_of_one_fit_the_other(
    ours: FieldDefinition, theirs: FieldDefinition, direction: Direction, possible: bool
) -> None:
    problem = convertible(ours, theirs, direction, {PAIR})
    assert (problem is None) is possible, problem


def test_a_lookup_is_paired_only_when_the_tables_are_mapped() -> None:
    assert convertible(CURRENCY, CURRENCY_LOOKUP, BOTH, {PAIR}) is None
    assert "currencies must be mapped" in (convertible(CURRENCY, CURRENCY_LOOKUP, BOTH) or "")


@pytest.mark.parametrize(
    "value, ours, theirs, expected",
    [
        ("", TEXT, STRING, None),
        ("Adatum", TEXT, STRING, "Adatum"),
        (" adatum ", TEXT, STRING, " adatum "),
        ("x" * 50, TEXT, crm(FieldType.TEXT, 20), "x" * 20),
        ("", BLOCKED, PRICING, None),
        ("All", BLOCKED, PRICING, 2),
        (Decimal("1.005"), nav(FieldType.DECIMAL), crm(FieldType.MONEY, precision=2), Decimal("1.01")),
        (Decimal("-1.005"), nav(FieldType.DECIMAL), crm(FieldType.MONEY, precision=2), Decimal("-1.01")),
        (Decimal("12.5"), nav(FieldType.DECIMAL), STRING, "12.5"),
        (7, nav(FieldType.INTEGER), crm(FieldType.DECIMAL), Decimal(7)),
        (True, nav(FieldType.BOOLEAN), crm(FieldType.BOOLEAN), True),
        (
            date(2026, 11, 22),
            nav(FieldType.DATE),
            crm(FieldType.DATETIME),
            datetime(2026, 11, 22, tzinfo=UTC),
        ),
        (None, nav(FieldType.DATE), crm(FieldType.DATETIME), None),
        (date(2026, 11, 22), nav(FieldType.DATE), STRING, "2026-11-22"),
        ("Currency Amount", TEXT, PRICING, 1),
    ],
)
def test_a_nav_value_in_the_terms_of_crm(
    value: Value, ours: FieldDefinition, theirs: FieldDefinition, expected: Value
) -> None:
    assert to_crm(value, ours, theirs) == expected


@pytest.mark.parametrize(
    "value, theirs, ours, expected",
    [
        (None, STRING, TEXT, ""),
        (None, crm(FieldType.MONEY), nav(FieldType.DECIMAL), Decimal(0)),
        (None, crm(FieldType.INTEGER), nav(FieldType.INTEGER), 0),
        (None, crm(FieldType.BOOLEAN), nav(FieldType.BOOLEAN), False),
        (None, PRICING, BLOCKED, ""),
        (None, crm(FieldType.DATETIME), nav(FieldType.DATE), None),
        (" red ", STRING, CODE, "RED"),
        ("abcdefghijkl", STRING, CODE, "ABCDEFGHIJ"),
        (2, PRICING, BLOCKED, "All"),
        (1, PRICING, TEXT, "Currency Amount"),
        (Decimal("1.25"), crm(FieldType.MONEY), nav(FieldType.DECIMAL), Decimal("1.25")),
        (
            datetime(2026, 11, 22, 23, tzinfo=timezone(timedelta(hours=-3))),
            crm(FieldType.DATETIME),
            nav(FieldType.DATE),
            date(2026, 11, 23),
        ),
    ],
)
def test_a_crm_value_in_the_terms_of_nav(
    value: Value, theirs: FieldDefinition, ours: FieldDefinition, expected: Value
) -> None:
    found = to_nav(value, theirs, ours)
    assert found == expected
    assert type(found) is type(expected)


def test_a_lookup_stored_as_an_id_keeps_its_id() -> None:
    account = uuid4()
    lookup = crm(FieldType.LOOKUP, relation=("account",))
    assert to_nav(Reference(account, "account"), lookup, nav(FieldType.GUID)) == account
    assert to_crm(account, nav(FieldType.GUID), lookup) == Reference(account)


@pytest.mark.parametrize(
    "value, ours, theirs",
    [
        ("Ship", BLOCKED, PRICING),
        ("Weekly", TEXT, PRICING),
        (Decimal("1000"), nav(FieldType.DECIMAL), crm(FieldType.MONEY, maximum=Decimal(999))),
        (Decimal("NaN"), nav(FieldType.DECIMAL), crm(FieldType.MONEY)),
        (2**40, nav(FieldType.BIG_INTEGER), crm(FieldType.INTEGER)),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    value: Value, ours: FieldDefinition, theirs: FieldDefinition
) -> None:
    with pytest.raises(InvalidValues) as refused:
        to_crm(value, ours, theirs)
    assert refused.value.errors[0].pointer == "/attribute"
    assert "attribute" in refused.value.detail


def test_no_option_of_crm_is_the_option_of_number_zero_in_nav() -> None:
    method = nav(FieldType.OPTION, options=(Option(0, "FIFO", "FIFO"), Option(1, "LIFO", "LIFO")))
    assert to_nav(None, crm(FieldType.OPTION), method) == "FIFO"
    assert to_nav(None, crm(FieldType.OPTION), BLOCKED) == ""


def test_an_option_of_crm_that_nav_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidValues):
        to_nav(1, PRICING, BLOCKED)


@pytest.mark.parametrize(
    "text, target, side, expected",
    [
        ("Currency Amount", PRICING, Side.CRM, 1),
        ("1", PRICING, Side.CRM, 1),
        ("all", BLOCKED, Side.NAV, "All"),
        ("3", BLOCKED, Side.NAV, "All"),
        ("1", crm(FieldType.BOOLEAN), Side.CRM, True),
        ("No", crm(FieldType.BOOLEAN), Side.CRM, False),
        ("2", crm(FieldType.INTEGER), Side.CRM, 2),
        ("", TEXT, Side.NAV, ""),
        ("", STRING, Side.CRM, None),
        ("2026-11-22", nav(FieldType.DATE), Side.NAV, date(2026, 11, 22)),
        ("account", crm(FieldType.ENTITY_NAME), Side.CRM, "account"),
    ],
)
def test_a_constant_takes_the_type_of_its_destination(
    text: str, target: FieldDefinition, side: Side, expected: Value
) -> None:
    assert constant(text, target, side) == expected


@pytest.mark.parametrize(
    "text, kind", [("maybe", FieldType.BOOLEAN), ("x", FieldType.INTEGER), ("1.5", FieldType.INTEGER)]
)
def test_a_constant_that_does_not_fit_is_refused(text: str, kind: FieldType) -> None:
    with pytest.raises(InvalidValues):
        constant(text, crm(kind), Side.CRM)


@given(st.text(max_size=60), st.integers(0, 40))
def test_cut_text_is_the_beginning_of_the_text_and_fits(text: str, length: int) -> None:
    found = cut(text, length)
    assert text.startswith(found)
    units = len(found.encode("utf-16-le")) // 2
    assert units <= length
    if found != text:
        following = text[len(found)]
        assert units + len(following.encode("utf-16-le")) // 2 > length


def test_a_character_of_two_units_is_never_cut_in_half() -> None:
    assert cut("ab😀", 3) == "ab"
    assert cut("ab😀", 4) == "ab😀"


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80)


@given(TEXTS)
def test_what_crm_stored_of_a_text_is_no_change(text: str) -> None:
    stored = to_crm(cut(text, 50), TEXT, crm(FieldType.TEXT, 20))
    assert equal(to_nav(stored, crm(FieldType.TEXT, 20), TEXT), cut(text, 50), TEXT, crm(FieldType.TEXT, 20))


@given(TEXTS)
def test_a_text_that_fits_comes_back_as_it_was(text: str) -> None:
    text = cut(text, 50)
    assert to_nav(to_crm(text, TEXT, STRING), STRING, TEXT) == text


@given(st.decimals(-(10**9), 10**9, places=5))
def test_what_crm_stored_of_an_amount_is_no_change(amount: Decimal) -> None:
    money, decimal = crm(FieldType.MONEY, precision=2), nav(FieldType.DECIMAL, precision=5)
    stored = to_crm(amount, decimal, money)
    assert equal(to_nav(stored, money, decimal), amount, decimal, money)
    assert equal(to_crm(to_nav(stored, money, decimal), decimal, money), stored, money, decimal)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_crm_stored_of_a_moment_is_no_change(moment: datetime) -> None:
    ours, theirs = nav(FieldType.DATETIME), crm(FieldType.DATETIME)
    stored = to_crm(moment, ours, theirs)
    assert isinstance(stored, datetime)
    assert stored.microsecond == 0
    assert equal(to_nav(stored, theirs, ours), moment, ours, theirs)


@given(st.dates())
def test_a_day_comes_back_as_the_same_day(day: date) -> None:
    moment = crm(FieldType.DATETIME)
    assert to_nav(to_crm(day, nav(FieldType.DATE), moment), moment, nav(FieldType.DATE)) == day


@given(st.sampled_from(["", "Ship", "All"]))
def test_options_of_the_same_names_come_back(name: str) -> None:
    theirs = crm(FieldType.OPTION, options=(Option(10, "All", "All"), Option(11, "ship", "Ship it")))
    assert to_nav(to_crm(name, BLOCKED, theirs), theirs, BLOCKED) == name


@pytest.mark.parametrize(
    "a, b, definition, other, same",
    [
        (None, "", TEXT, None, True),
        ("a", "A", TEXT, None, False),
        (" a ", "A", CODE, None, True),
        ("x" * 30, "x" * 20, TEXT, crm(FieldType.TEXT, 20), True),
        ("x" * 30, "x" * 19, TEXT, crm(FieldType.TEXT, 20), False),
        (Decimal("1.50"), Decimal("1.5"), nav(FieldType.DECIMAL), None, True),
        (None, Decimal(0), crm(FieldType.MONEY), None, True),
        (None, Decimal(1), crm(FieldType.MONEY), None, False),
        (None, False, crm(FieldType.BOOLEAN), None, True),
        (None, "", BLOCKED, None, True),
        (0, None, PRICING, None, False),
        (
            date(2026, 1, 1),
            datetime(2026, 1, 1, tzinfo=UTC),
            crm(FieldType.DATETIME),
            nav(FieldType.DATE),
            True,
        ),
        (
            datetime(2026, 1, 1, 9, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC),
            crm(FieldType.DATETIME),
            nav(FieldType.DATE),
            True,
        ),
        (
            datetime(2026, 1, 1, 9, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC),
            crm(FieldType.DATETIME),
            None,
            False,
        ),
        (Reference(UUID(int=1), "account"), Reference(UUID(int=1)), CURRENCY_LOOKUP, None, True),
        (Reference(UUID(int=1)), Reference(UUID(int=2)), CURRENCY_LOOKUP, None, False),
        (Reference(UUID(int=1)), None, CURRENCY_LOOKUP, None, False),
    ],
)
def test_values_are_the_same_when_a_synchronization_would_not_change_them(
    a: Value, b: Value, definition: FieldDefinition, other: FieldDefinition | None, same: bool
) -> None:
    assert equal(a, b, definition, other) is same
    assert equal(b, a, definition, other) is same


@pytest.mark.parametrize(
    "rule, text, expected",
    [
        ("uppercase", "ab", "AB"),
        ("uppercase", "Großmaß", "GROßMAß"),
        ("lowercase", "AB", "ab"),
        ("titlecase", "john smith", "John Smith"),
        ("trim", " a b ", "a b"),
        ("remove_spaces", "SW1A 1AA", "SW1A1AA"),
        ("alphanumeric", "(0)20-7946", "0207946"),
        ("digits", "+44 20", "4420"),
        ("unit_group_name", "PCS", "NAV PCS"),
    ],
)
def test_a_text_rule_changes_the_source_text(rule: str, text: str, expected: str) -> None:
    assert transformed(text, rule) == expected
    assert transformed(5, rule) == 5
    assert rule in TRANSFORMATIONS
