"""Values survive their way through our memory: equal, and of the same type."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asyncpg.pgproto import pgproto
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from app.db.values import clean, decode, encode, encode_value
from app.domain.records import Reference

zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), None])
texts = st.text(st.characters(exclude_categories=()))  # with NUL and halves of surrogate pairs
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    texts,
    st.decimals(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(timezones=zones),
    st.uuids(),
    st.builds(Reference, st.uuids(), st.none() | st.sampled_from(["account", "systemuser"])),
)


def typed(value: Any) -> tuple[Any, ...]:
    """The value with what an equality of Python overlooks."""
    digits = value.as_tuple() if isinstance(value, Decimal) else None
    entity = value.entity if isinstance(value, Reference) else None
    offset = value.utcoffset() if isinstance(value, datetime) else None
    return (type(value), value, digits, entity, offset)


def test_an_id_as_the_driver_of_the_database_gives_it_is_kept_like_any_other() -> None:
    id_ = UUID(int=7)
    assert encode_value(pgproto.UUID(str(id_))) == encode_value(id_)


@given(st.dictionaries(st.text(max_size=5), values, max_size=8))
def test_every_value_comes_back_equal_and_of_its_type(record: dict[str, Any]) -> None:
    stored = to_json(encode(record))
    assert {name: typed(value) for name, value in decode(from_json(stored)).items()} == {
        name: typed(value) for name, value in record.items()
    }


@given(values)
def test_what_is_stored_has_no_character_that_postgresql_refuses(value: Any) -> None:
    text = json.dumps(encode_value(value), ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode()


def test_common_values_stay_readable() -> None:
    record: dict[str, Any] = {
        "Name": "Adatum",
        "Blocked": False,
        "Credit_Limit_LCY": Decimal("1000.50"),
        "since": date(2026, 1, 31),
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "ownerid": Reference(UUID(int=7), "systemuser"),
        "statecode": 0,
        "none": None,
    }
    assert encode(record) == {
        "Name": "Adatum",
        "Blocked": False,
        "Credit_Limit_LCY": ["n", "1000.50"],
        "since": ["d", "2026-01-31"],
        "at": ["t", "2026-01-31T12:00:00+00:00"],
        "ownerid": ["r", "00000000000000000000000000000007", "systemuser"],
        "statecode": 0,
        "none": None,
    }


def test_a_float_is_no_value_of_a_record() -> None:
    with pytest.raises(TypeError, match="float"):
        encode_value(0.1)


@given(texts)
def test_messages_lose_what_cannot_be_kept_and_nothing_else(text: str) -> None:
    kept = clean(text) or ""
    assert "\0" not in kept
    kept.encode()
    assert kept == text or "\0" in text or any("\ud800" <= character <= "\udfff" for character in text)
