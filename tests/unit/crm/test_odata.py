"""Text for the wire and values from it."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.crm import odata
from app.crm.bodies import Bodies
from app.crm.rows import columns_of
from app.domain.errors import CrmRefused, InvalidMapping, InvalidValues
from app.domain.records import Reference, Value, Values
from tests.unit.crm.tables import CONTACT

ID = UUID("9f0f4c5e-52a1-4f11-8a69-000d3a4b5c6d")


def body(values: Values, *, creating: bool = False) -> str:
    return Bodies(CONTACT).of(values, creating=creating).decode()


@pytest.mark.parametrize(
    ("field", "value", "written"),
    [
        ("lastname", 'O\'Reilly "x" \\', '{"lastname":"O\'Reilly \\"x\\" \\\\"}'),
        ("lastname", "さくら 🚲", '{"lastname":"さくら 🚲"}'),
        ("lastname", "", '{"lastname":null}'),
        ("lastname", None, '{"lastname":null}'),
        ("creditlimit", Decimal("0.10"), '{"creditlimit":0.10}'),
        ("creditlimit", Decimal("1E+3"), '{"creditlimit":1000}'),
        ("creditlimit", Decimal("99999999999999.9999"), '{"creditlimit":99999999999999.9999}'),
        ("creditlimit", 7, '{"creditlimit":7}'),
        ("numberofchildren", 3, '{"numberofchildren":3}'),
        ("numberofchildren", Decimal("3.00"), '{"numberofchildren":3}'),
        ("donotphone", False, '{"donotphone":false}'),
        ("birthdate", date(1970, 2, 28), '{"birthdate":"1970-02-28"}'),
        ("birthdate", datetime(1970, 2, 28, 23, tzinfo=UTC), '{"birthdate":"1970-02-28"}'),
        (
            "lastusedon",
            datetime(2026, 1, 31, 8, 15, 9, 999, tzinfo=timezone(timedelta(hours=1))),
            '{"lastusedon":"2026-01-31T07:15:09Z"}',
        ),
        ("lastusedon", date(2026, 1, 31), '{"lastusedon":"2026-01-31T00:00:00Z"}'),
        ("statecode", 1, '{"statecode":1}'),
        ("ownerid", Reference(ID, "team"), f'{{"ownerid@odata.bind":"/teams({ID})"}}'),
        ("new_levelid", Reference(ID), f'{{"new_LevelId@odata.bind":"/new_levels({ID})"}}'),
        (
            "parentcustomerid",
            Reference(ID, "account"),
            f'{{"parentcustomerid_account@odata.bind":"/accounts({ID})"}}',
        ),
        ("parentcustomerid", None, '{"parentcustomerid_account@odata.bind":null}'),
        ("owneridtype", "systemuser", "{}"),
    ],
)
def test_a_value_is_written_as_crm_takes_it(field: str, value: Value, written: str) -> None:
    assert body({field: value}) == written


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonsense", "x"),
        ("creditlimit", "12"),
        ("creditlimit", Decimal("NaN")),
        ("numberofchildren", Decimal("3.5")),
        ("numberofchildren", True),
        ("donotphone", 1),
        ("birthdate", "1970-02-28"),
        ("ownerid", Reference(ID)),
        ("ownerid", Reference(ID, "account")),
        ("ownerid", "somebody"),
        ("lastname", 5),
        ("lastname", "\ud800"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(field: str, value: Value) -> None:
    with pytest.raises(InvalidValues) as refused:
        body({field: value})
    assert [problem.pointer for problem in refused.value.errors] in ([f"/{field}"], [])


def test_a_create_leaves_out_what_is_empty() -> None:
    assert (
        body({"lastname": "Doyle", "emailaddress1": "", "ownerid": None}, creating=True)
        == '{"lastname":"Doyle"}'
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_any_text_survives_both_ways(text: str) -> None:
    row = json.loads(body({"lastname": text}))
    columns = columns_of(CONTACT, ["lastname"])
    shown = columns.snapshot(row | {"contactid": str(ID), "@odata.etag": 'W/"1"'})
    assert shown.values == {"lastname": text}


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**14), max_value=10**14))
def test_any_amount_survives_both_ways(amount: Decimal) -> None:
    row = json.loads(body({"creditlimit": amount}), parse_float=Decimal)
    shown = columns_of(CONTACT, ["creditlimit"]).snapshot(row | {"contactid": str(ID)})
    assert shown.values == {"creditlimit": amount}


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_a_query_option_arrives_as_it_was_meant(text: str) -> None:
    path = odata.query("contacts", {"$filter": odata.any_of("lastname", [text]), "$orderby": None})
    parts = urlsplit(f"https://crm.example/{path}")
    assert parts.fragment == ""
    [(name, value)] = parse_qsl(parts.query, keep_blank_values=True)
    assert name == "$filter"
    assert json.loads(value.partition("PropertyValues=")[2].removesuffix(")")) == [text]


def test_a_row_is_read_by_type() -> None:
    fields = [
        "creditlimit",
        "birthdate",
        "ownerid",
        "owneridtype",
        "new_levelid",
        "numberofchildren",
        "lastname",
    ]
    columns = columns_of(CONTACT, fields)
    assert columns.select == (
        "contactid,creditlimit,birthdate,_ownerid_value,_new_levelid_value,numberofchildren,lastname,modifiedon"
    )
    assert columns.annotated
    shown = columns.snapshot(
        {
            "@odata.etag": 'W/"7"',
            "contactid": str(ID),
            "creditlimit": 5,
            "birthdate": "1970-02-28",
            "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "team",
            "_ownerid_value": str(ID),
            "_new_levelid_value": str(ID),
            "numberofchildren": None,
            "modifiedon": "2026-01-31T07:15:09Z",
        }
    )
    assert (shown.id, shown.version) == (ID, 'W/"7"')
    assert shown.modified_at == datetime(2026, 1, 31, 7, 15, 9, tzinfo=UTC)
    assert shown.values == {
        "creditlimit": Decimal(5),
        "birthdate": date(1970, 2, 28),
        "ownerid": Reference(ID),
        "owneridtype": "team",
        "new_levelid": Reference(ID),
        "numberofchildren": None,
        "lastname": None,
    }
    level = shown.values["new_levelid"]
    assert isinstance(level, Reference)
    assert level.entity == "new_level"


def test_a_value_that_does_not_fit_leaves_the_rest_of_the_row_and_is_named() -> None:
    row = {
        "contactid": str(ID),
        "lastname": "Doyle",
        "birthdate": "yesterday",
        "_ownerid_value": "navcrm",
        "creditlimit": "much",
        "lastusedon": 7,
    }
    shown = columns_of(CONTACT, [*row.keys() - {"_ownerid_value"}, "ownerid"]).snapshot(row)
    assert shown.values == {"contactid": ID, "lastname": "Doyle"}
    with pytest.raises(CrmRefused) as refused:
        columns_of(CONTACT, ["lastname", "ownerid"]).snapshot(row).readable()
    assert refused.value.detail == f"CRM shows 'navcrm' in ownerid of contact {ID}, which is no lookup."
    with pytest.raises(CrmRefused, match="contactid of contact"):
        columns_of(CONTACT, ["lastname"]).snapshot({"contactid": "navcrm", "lastname": "Doyle"})


def test_a_row_need_not_name_itself_where_it_is_known_whose_it_is() -> None:
    columns = columns_of(CONTACT, ["lastname"])
    answered = columns.snapshot({"lastname": "Hansen"}, ID)
    assert (answered.id, answered.key, answered.values) == (ID, str(ID), {"lastname": "Hansen"})
    with pytest.raises(CrmRefused):
        columns.snapshot({"lastname": "Hansen"})


def test_unknown_attributes_are_all_named() -> None:
    with pytest.raises(InvalidMapping, match=r"one, two"):
        columns_of(CONTACT, ["lastname", "one", "two"])


def test_chunks_fit_into_one_query_each() -> None:
    values = [f"value {n} č" * 20 for n in range(1000)]
    chunks = list(odata.chunks(values))
    assert [value for chunk in chunks for value in chunk] == values
    assert all(len(odata.query("x", {"$filter": odata.any_of("n", chunk)})) < 30_000 for chunk in chunks)
    assert [len(chunk) for chunk in odata.chunks([str(n) for n in range(1100)])] == [500, 500, 100]


def test_search_text_is_never_a_pattern() -> None:
    assert odata.contains("name", "50%_[x]'") == "contains(name,'50[%][_][[]x]''')"


def test_a_cursor_is_the_place_alone() -> None:
    token = "%3ccookie%20pagenumber%3d%222%22%20%2f%3e"
    link = f"https://contoso.crm4.dynamics.com/api/data/v9.2/contacts?$select=x&$skiptoken={token}"
    cursor = odata.cursor_of(link)
    assert cursor is not None
    assert "contoso" not in cursor
    assert odata.with_cursor("contacts?$select=y", cursor) == f"contacts?$select=y&$skiptoken={token}"
    assert odata.cursor_of(None) is None


@pytest.mark.parametrize("cursor", ["&$filter=x", "a b", "é", ""])
def test_a_cursor_that_is_not_ours_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError):
        odata.with_cursor("contacts?$select=x", cursor)
