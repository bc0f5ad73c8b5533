"""What Synchronize Now of one record costs, its log included."""

import pytest

from app.domain.mapping import Direction
from app.use_cases.synchronize import synchronize_record
from tests.integration.counts.plant import Meter, Plant

pytestmark = pytest.mark.anyio
TO, FROM = Direction.TO_CRM, Direction.FROM_CRM
STATEMENTS = 10
NAVS_OWN = 8
"""What the NAV side, in the same database, does for a customer: its contact and that one's people follow."""


async def now(plant: Plant, no: str, direction: Direction) -> Meter:
    """Synchronize Now of a customer; what it cost."""
    office = plant.office
    with plant.metered() as meter:
        result = await synchronize_record(
            office.ctx, office.company, "customers", no, direction=direction.value
        )
    assert result.action == "modified"
    return meter


async def test_to_crm_it_is_one_request_while_the_kept_version_holds(plant: Plant) -> None:
    await plant.load(20)
    await plant.rename(["K0000007"], "Changed")
    meter = await now(plant, "K0000007", TO)
    assert len(meter.requests) == 1, meter.told
    assert len(meter.statements) <= STATEMENTS, meter.statements


async def test_to_crm_it_is_one_request_more_for_a_look_after_a_412(plant: Plant) -> None:
    await plant.load(20)
    await plant.rename(["K0000007"], "Changed")
    plant.rename_accounts(plant.account_ids(), "Changed there")
    meter = await now(plant, "K0000007", TO)
    refused = [one for one in meter.requests if one.status == 412]
    assert len(refused) == 1, meter.told
    assert len(meter.requests) - len(refused) <= 2, meter.told
    assert len(meter.statements) <= STATEMENTS, meter.statements


async def test_from_crm_it_is_one_request(plant: Plant) -> None:
    await plant.load(20)
    plant.rename_accounts(plant.account_ids(), "Changed")
    meter = await now(plant, "K0000007", FROM)
    assert len(meter.requests) == 1, meter.told
    ours = [one for one in meter.statements if not _in_nav(one)]
    assert len(ours) <= STATEMENTS, ours
    assert len(meter.statements) - len(ours) <= NAVS_OWN, meter.statements


def _in_nav(statement: str) -> bool:
    return "nav_record" in statement or "advisory_xact_lock" in statement
