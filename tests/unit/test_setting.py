"""Which mapping serves a NAV table unless one is named."""

import pytest

from app.domain.mapping import Direction, TableMapping
from app.ports import StoredMapping
from app.use_cases.setting import entities_of, is_default_for


@pytest.mark.parametrize("turned", [False, True])
def test_all_questions_for_the_default_mapping_have_one_answer(turned: bool) -> None:
    named = {"A": "account", "Z": "contact"}
    stored = [
        StoredMapping(TableMapping(name, "vendors", entity, Direction.TO_CRM))
        for name, entity in sorted(named.items(), reverse=turned)
    ]
    default = is_default_for(stored, "vendors")
    assert default is not None
    assert entities_of(stored) == (
        {"vendors": named[default.mapping.name]},
        {"vendors": default.mapping.name},
    )
