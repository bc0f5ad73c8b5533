"""What a CRM unit group must hold to stand for a unit of measure (nav-behaviour 10.5)."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.errors import UnitGroupInvalid
from app.domain.records import Snapshot
from app.domain.units import base_unit

ID = UUID("9f0f4c5e-52a1-4f11-8a69-000d3a4b5c6d")


def a_unit(unit_id: UUID = ID, **values: Any) -> Snapshot:
    fitting: dict[str, Any] = {"name": "PCS", "quantity": Decimal(1), "isschedulebaseuom": True}
    return Snapshot(unit_id, str(unit_id), "1", fitting | values)


@pytest.mark.parametrize("name", ["PCS", "pcs"])
def test_the_one_unit_of_quantity_one_is_it(name: str) -> None:
    assert base_unit("PCS", [a_unit(name=name)]) == ID


@pytest.mark.parametrize(
    ("units", "what"),
    [
        ([], "has no unit"),
        ([a_unit(), a_unit(uuid4())], "has 2 units"),
        ([a_unit(name="BOX")], "the unit BOX, not PCS"),
        ([a_unit(isschedulebaseuom=False)], "not its base unit"),
        ([a_unit(quantity=Decimal(12))], "a quantity other than 1"),
    ],
)
def test_anything_else_is_told_with_the_name_of_the_group(units: list[Snapshot], what: str) -> None:
    with pytest.raises(UnitGroupInvalid, match="NAV PCS") as raised:
        base_unit("PCS", units)
    assert what in raised.value.detail
