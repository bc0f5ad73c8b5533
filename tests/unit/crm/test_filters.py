"""Filters that people write, as CRM takes them."""

import pytest

from app.crm.filters import crm_filter
from app.domain.errors import InvalidFilter
from tests.unit.crm.tables import CONTACT


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("parentcustomerid eq null", "_parentcustomerid_value eq null"),
        ("_parentcustomerid_value eq null", "_parentcustomerid_value eq null"),
        ("lastname eq 'ownerid' and ownerid ne null", "lastname eq 'ownerid' and _ownerid_value ne null"),
        ("lastname eq 'it''s ownerid'", "lastname eq 'it''s ownerid'"),
        (
            "Microsoft.Dynamics.CRM.EqualUserId(PropertyName='ownerid')",
            "Microsoft.Dynamics.CRM.EqualUserId(PropertyName='ownerid')",
        ),
        (" statecode eq 0 ", "statecode eq 0"),
        (
            "contains(lastname,'x') or not(donotphone eq true)",
            "contains(lastname,'x') or not(donotphone eq true)",
        ),
        (
            "parentcustomerid_account/name eq 'x' and parentcustomerid ne null",
            "parentcustomerid_account/name eq 'x' and _parentcustomerid_value ne null",
        ),
    ],
)
def test_lookups_go_by_their_logical_names(written: str, sent: str) -> None:
    assert crm_filter(CONTACT, written) == sent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("surname eq 'x'", "surname"),
        ("lastname eq 'x", "unterminated"),
        ("lastname eq", "Syntax error"),
        ("", "empty"),
    ],
)
def test_a_filter_that_makes_no_sense_says_why(text: str, said: str) -> None:
    with pytest.raises(InvalidFilter, match=said) as refused:
        crm_filter(CONTACT, text)
    assert refused.value.errors[0].pointer == "filter"
