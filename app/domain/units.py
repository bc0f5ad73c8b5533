"""Unit groups in CRM: NAV expects one group per unit of measure, with just that unit in it (nav-behaviour 10.5)."""

from collections.abc import Sequence
from uuid import UUID

from app.domain.conversion import unit_group_name
from app.domain.errors import UnitGroupInvalid
from app.domain.records import Snapshot

UNIT_FIELDS = ("name", "quantity", "isschedulebaseuom", "uomscheduleid")
GROUP_ACTIVE = 0


def only_unit(code: str, units: Sequence[Snapshot]) -> Snapshot:
    """The one unit of a group. Raises UnitGroupInvalid where there is none, or another besides."""
    if len(units) != 1:
        raise _invalid(code, "has no unit" if not units else f"has {len(units)} units, where NAV knows one")
    return units[0]


def base_unit(code: str, units: Sequence[Snapshot]) -> UUID:
    """The CRM unit of a unit of measure, out of all units of its group, which were read with UNIT_FIELDS.

    Raises UnitGroupInvalid saying what is wrong with the group.
    """
    unit = only_unit(code, units)
    name = str(unit.values.get("name") or "")
    if name.upper() != code.upper():
        raise _invalid(code, f"has the unit {name}, not {code}")
    if unit.values.get("isschedulebaseuom") is False:
        raise _invalid(code, f"has the unit {name}, which is not its base unit")
    if unit.values.get("quantity") != 1:
        raise _invalid(code, f"has the unit {name} with a quantity other than 1")
    return unit.id


def _invalid(code: str, what: str) -> UnitGroupInvalid:
    return UnitGroupInvalid(
        f"The unit group {unit_group_name(code)} in CRM {what}.",
        fix=f"Leave the unit {code}, of quantity 1, as the only unit of that group in CRM.",
    )
