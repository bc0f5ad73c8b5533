"""A preview of a synch job says what the job then does, and leaves everything as it is."""

from typing import Any

import pytest

from app.domain.coupling import SynchAction
from app.domain.job import SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction, UpdateConflictResolution
from app.use_cases.previews import JobPreview, preview_mapping, preview_selection, preview_uncouple
from tests.integration.use_cases.office import Office, Ran

pytestmark = pytest.mark.anyio


async def preview(office: Office, mode: SynchMode = SynchMode.MODIFIED, **asked: Any) -> JobPreview:
    """A preview of the customers, of which CRM hears nothing but questions."""
    office.forget_requests()
    found = await preview_mapping(office.ctx, office.company, "CUSTOMER", mode=mode, **asked)
    assert not [asked for asked in office.requests if asked.split()[0] in ("PATCH", "PUT", "DELETE")]
    return found


def agree(found: JobPreview, ran: Ran) -> None:
    """The job did what the preview said."""
    said = [(o.direction, o.action.value, o.error.code if o.error else o.reason) for o in found.outcomes]
    did = [(direction, action, code) for direction, _, action, code in ran.told if action != "unmodified"]
    assert sorted(map(str, said)) == sorted(map(str, did))


async def pairs(office: Office, number: int) -> None:
    """So many pairs that agree."""
    for position in range(number):
        await office.customer(f"C{position:02}")
    await office.run(mode=SynchMode.FULL, create_uncoupled=True)
    await office.run()


async def test_what_is_new_and_what_changed_is_told_before_it_is_written(office: Office) -> None:
    await pairs(office, 3)
    await office.change_nav("customers", "C00", City="Leeds")
    await office.change_crm("account", (await office.coupled("C01")).crm_id, address1_city="York")
    await office.customer("C09")
    found = await preview(office, create_uncoupled=True)
    assert found.directions["to_crm"].inserted == 1
    assert found.directions["to_crm"].modified == 1
    assert found.directions["from_crm"].modified == 1
    changed = next(outcome for outcome in found.outcomes if outcome.nav_key == "C00")
    assert [(change.field, change.old, change.new) for change in changed.changes] == [
        ("address1_city", None, "Leeds")
    ]
    agree(found, await office.run(create_uncoupled=True))


async def test_the_same_field_changed_on_both_sides_is_a_conflict_before_as_after(office: Office) -> None:
    await pairs(office, 1)
    await office.set_up(update_conflict_resolution=UpdateConflictResolution.NONE)
    await office.change_nav("customers", "C00", City="Leeds")
    await office.change_crm("account", (await office.coupled("C00")).crm_id, address1_city="York")
    found = await preview(office)
    assert found.outcomes[0].action is SynchAction.FAILED
    agree(found, await office.run())


@pytest.mark.parametrize("side", ["NAV", "CRM"])
@pytest.mark.parametrize("resolution", DeletionConflictResolution)
async def test_deletions_are_told_by_the_rule_of_the_mapping(
    office: Office, side: str, resolution: DeletionConflictResolution
) -> None:
    await pairs(office, 2)
    await office.set_up(deletion_conflict_resolution=resolution)
    if side == "NAV":
        await office.nav.remove("customers", "C00")
    else:
        await office.delete_crm("account", (await office.coupled("C00")).crm_id)
    direction = Direction.TO_CRM if side == "NAV" else Direction.FROM_CRM
    found = await preview(office, direction=direction)
    assert len(await office.couplings()) == 2
    assert len(found.outcomes) == 1
    agree(found, await office.run(direction=direction))


async def test_an_unusual_number_of_deletions_would_stop_the_job(office: Office) -> None:
    await pairs(office, 21)
    await office.set_up(deletion_conflict_resolution=DeletionConflictResolution.UNCOUPLE)
    for number in await office.numbers():
        await office.nav.remove("customers", number)
    found = await preview(office)
    assert found.error is not None
    assert found.error.code == "too-many-deletions"
    assert not found.outcomes
    allowed = await preview(office, direction=Direction.TO_CRM, allow_deletions=True, limit=5)
    assert allowed.error is None
    assert (len(allowed.outcomes), allowed.further) == (5, 16)


async def test_a_selection_and_an_uncoupling_are_told_too(office: Office) -> None:
    await pairs(office, 2)
    await office.change_nav("customers", "C00", City="Leeds")
    chosen = await preview_selection(office.ctx, office.company, "customers", ["C00", "C77"], "to_crm")
    assert [(o.nav_key, o.action.value) for o in chosen.outcomes] == [("C00", "modified"), ("C77", "failed")]
    gone = await preview_uncouple(office.ctx, office.company, "CUSTOMER", limit=1)
    assert gone.directions["to_crm"].uncoupled == 2
    assert (len(gone.outcomes), gone.further) == (1, 1)
    assert len(await office.couplings()) == 2
