"""Records that were deleted on one side: what becomes of their partners and couplings, and the brake."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.crm.store import Dataverse
from app.domain.coupling import Coupling, Failure
from app.domain.errors import CrmRefused, TooManyDeletions
from app.domain.job import SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction
from app.use_cases.couplings import restore
from app.use_cases.deleted import follow, gone
from app.use_cases.setting import open_setting
from tests.integration.use_cases.office import Office, Quiet

pytestmark = pytest.mark.anyio

NONE, RESTORE = DeletionConflictResolution.NONE, DeletionConflictResolution.RESTORE
UNCOUPLE, PROPAGATE = DeletionConflictResolution.UNCOUPLE, DeletionConflictResolution.PROPAGATE
NAV, CRM = "NAV", "CRM"
SIDES = pytest.mark.parametrize("side", [NAV, CRM])
MODES = pytest.mark.parametrize("mode", [SynchMode.MODIFIED, SynchMode.FULL])


async def pairs(office: Office, number: int, resolution: DeletionConflictResolution) -> list[Coupling]:
    """So many pairs that agree, and a rule about deletions."""
    for position in range(number):
        await office.customer(f"C{position:02}", Name=f"Name {position}")
    await office.run(mode=SynchMode.FULL, create_uncoupled=True)
    await office.run()
    await office.set_up(deletion_conflict_resolution=resolution)
    return [await office.coupled(f"C{position:02}") for position in range(number)]


async def delete(office: Office, side: str, *couplings: Coupling) -> None:
    """A person deletes one half of each pair."""
    if side == CRM:
        await office.delete_crm("account", *(coupling.crm_id for coupling in couplings))
        return
    for coupling in couplings:
        await office.nav.remove("customers", coupling.nav_key)


async def counted(office: Office) -> tuple[int, int, int]:
    """NAV records, CRM rows, couplings."""
    return len(await office.numbers()), len(office.accounts()), len(await office.couplings())


@SIDES
@MODES
async def test_without_a_rule_it_is_an_error_that_stays_until_somebody_decides(
    office: Office, side: str, mode: SynchMode
) -> None:
    first, _ = await pairs(office, 2, NONE)
    await delete(office, side, first)
    ran = await office.run(mode=mode)
    assert [told for told in ran.told if told[2] != "unmodified"]
    assert {told[3] for told in ran.told} == {"deletion-conflict"}
    assert sum(await counted(office)) == 5
    failed = next(c for c in await office.couplings() if c.id == first.id)
    assert failed.last_error is not None
    assert failed.last_error.code == "deletion-conflict"


@SIDES
@MODES
async def test_uncouple_removes_the_coupling_and_the_other_half_stays(
    office: Office, side: str, mode: SynchMode
) -> None:
    first, _ = await pairs(office, 2, UNCOUPLE)
    await delete(office, side, first)
    await office.run(mode=mode)
    assert await counted(office) == ((1, 2, 1) if side == NAV else (2, 1, 1))
    assert (await office.run()).wrote_nothing


@SIDES
@MODES
async def test_propagate_deletes_the_other_half_too(office: Office, side: str, mode: SynchMode) -> None:
    first, _ = await pairs(office, 2, PROPAGATE)
    await delete(office, side, first)
    ran = await office.run(mode=mode)
    assert (ran.to_crm + ran.from_crm).deleted == 1
    assert await counted(office) == (1, 1, 1)
    assert (await office.run()).wrote_nothing


@SIDES
async def test_propagate_never_takes_a_newer_edit_with_it(office: Office, side: str) -> None:
    (pair,) = await pairs(office, 1, PROPAGATE)
    await delete(office, side, pair)
    if side == NAV:
        await office.change_crm("account", pair.crm_id, name="Newer")
    else:
        await office.change_nav("customers", "C00", Name="Newer")
    for _ in range(3):
        await office.run()
    assert await counted(office) == ((0, 1, 0) if side == NAV else (1, 0, 0))


@SIDES
async def test_propagate_spares_an_edit_that_a_conflict_holds_back(office: Office, side: str) -> None:
    (pair,) = await pairs(office, 1, PROPAGATE)
    await office.change_nav("customers", "C00", Name="Of NAV")
    await office.change_crm("account", pair.crm_id, name="Of CRM")
    await office.run()
    await delete(office, side, pair)
    await office.run()
    nav, crm, _ = await counted(office)
    assert (nav, crm) == ((0, 1) if side == NAV else (1, 0))


@SIDES
@MODES
async def test_restore_creates_the_deleted_half_again(office: Office, side: str, mode: SynchMode) -> None:
    first, _ = await pairs(office, 2, RESTORE)
    await delete(office, side, first)
    await office.run(mode=mode)
    assert await counted(office) == (2, 2, 2)
    names: list[Any] = [(await office.in_nav("customers", no))["Name"] for no in await office.numbers()]
    assert sorted(names) == sorted(row["name"] for row in office.accounts()) == ["Name 0", "Name 1"]
    for _ in range(2):
        assert (await office.run()).wrote_nothing
    assert await counted(office) == (2, 2, 2)


@SIDES
async def test_a_restoration_that_was_interrupted_is_continued_and_not_taken_for_a_new_record(
    office: Office, side: str
) -> None:
    (pair,) = await pairs(office, 1, RESTORE)
    await office.run()
    await office.set_up(synch_only_coupled_records=False)
    await delete(office, side, pair)
    setting = await open_setting(office.ctx, office.company, mapping="CUSTOMER")
    run = Direction.TO_CRM if side == NAV else Direction.FROM_CRM
    lost = await gone(office.ctx, setting, run, [pair.nav_id if side == NAV else pair.crm_id])
    await follow(office.ctx, setting, run, lost, job_id=None)  # and dies before it is noted
    for _ in range(3):
        await office.run()
    assert await counted(office) == (1, 1, 1)


@SIDES
async def test_a_deletion_and_an_edit_of_the_other_half_end_in_one_restored_pair(
    office: Office, side: str
) -> None:
    """What was restored under its id is reported as deleted all the same: no second copy may come of it."""
    (pair,) = await pairs(office, 1, RESTORE)
    await delete(office, side, pair)
    if side == CRM:
        await office.change_nav("customers", "C00", Name="Newer")
    else:
        await office.change_crm("account", pair.crm_id, name="Newer")
    for _ in range(3):
        await office.run()
    assert await counted(office) == (1, 1, 1)
    (no,) = await office.numbers()
    assert (await office.in_nav("customers", no))["Name"] == "Newer"
    assert office.accounts()[0]["name"] == "Newer"


async def test_when_both_halves_are_gone_so_is_the_coupling_in_the_end(office: Office) -> None:
    (pair,) = await pairs(office, 1, PROPAGATE)
    await delete(office, NAV, pair)
    await delete(office, CRM, pair)
    for _ in range(2):
        await office.run()
    assert await counted(office) == (0, 0, 0)


async def asks_first(office: Office, told: str) -> None:
    """Runs stop before they follow so many deletions, again and again."""
    before = await counted(office)
    for _ in range(2):
        with pytest.raises(TooManyDeletions, match=told):
            await office.run()
        assert await counted(office) == before


@SIDES
@pytest.mark.parametrize("resolution", [UNCOUPLE, PROPAGATE, RESTORE])
async def test_so_many_deletions_that_it_looks_like_an_accident_stop_the_run(
    office: Office, side: str, resolution: DeletionConflictResolution
) -> None:
    couplings = await pairs(office, 25, resolution)
    await delete(office, side, *couplings[:20])
    await asks_first(office, "20 of 25")
    await office.run(allow_deletions=True)
    after = await counted(office)
    assert after[2] == (25 if resolution is RESTORE else 5)


async def test_the_brake_counts_the_deletions_of_a_whole_run(office: Office) -> None:
    """They come in pages, of which none would brake by itself."""
    couplings = await pairs(office, 40, UNCOUPLE)
    await delete(office, CRM, *couplings[:25])
    assert isinstance(office.crm, Dataverse)
    office.crm._page_size = 10
    before = await counted(office)
    with pytest.raises(TooManyDeletions, match="of 40"):
        await office.run()
    assert await counted(office) == before
    await office.run(allow_deletions=True)
    assert await counted(office) == (40, 15, 15)


@SIDES
@pytest.mark.parametrize("resolution", [UNCOUPLE, PROPAGATE, RESTORE])
@pytest.mark.parametrize("step", [1, 2, 3, 4])
async def test_a_worker_that_dies_meanwhile_follows_each_deletion_once(
    office: Office, side: str, resolution: DeletionConflictResolution, step: int
) -> None:
    first, _ = await pairs(office, 2, resolution)
    await delete(office, side, first)
    taken = 0

    def dies(_: str) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            raise RuntimeError("dead")

    try:
        await office.run(report=Quiet(dies))
    except RuntimeError:
        await office.run()
    for _ in range(2):
        assert (await office.run()).wrote_nothing
    expected = {RESTORE: (2, 2, 2), PROPAGATE: (1, 1, 1)}
    assert await counted(office) == expected.get(resolution, (1, 2, 1) if side == NAV else (2, 1, 1))


async def skip(office: Office, coupling: Coupling) -> None:
    """It failed twice in the same way."""
    failed = coupling.failed(Failure.of(CrmRefused("No.")), office.ctx.clock.now())
    async with office.ctx.uow() as tx:
        await tx.couplings.save(office.company.id, [failed])
        await tx.couplings.save(
            office.company.id, [replace(failed, skipped=True, revision=failed.revision + 1)]
        )


@SIDES
@pytest.mark.parametrize("resolution", [UNCOUPLE, PROPAGATE, RESTORE])
async def test_the_deletion_of_a_skipped_record_is_told_and_followed_once_it_is_restored(
    office: Office, side: str, resolution: DeletionConflictResolution
) -> None:
    first, _ = await pairs(office, 2, resolution)
    await skip(office, first)
    await delete(office, side, first)
    ran = await office.run()
    assert [(told[2], told[3]) for told in ran.told] == [("skipped", "skipped")]
    assert (ran.to_crm + ran.from_crm).skipped == 1
    assert sum(await counted(office)) == 5
    held = next(c for c in await office.couplings() if c.id == first.id)
    assert held.skipped
    assert held.last_error is not None
    assert f"was deleted in {side}" in held.last_error.message
    assert (await office.run()).told == []

    await restore(office.ctx, office.company)
    await office.run()
    expected = {RESTORE: (2, 2, 2), PROPAGATE: (1, 1, 1)}
    assert await counted(office) == expected.get(resolution, (1, 2, 1) if side == NAV else (2, 1, 1))
    assert (await office.run()).wrote_nothing


@SIDES
async def test_a_rule_that_is_set_later_is_applied_to_the_deletions_that_were_told(
    office: Office, side: str
) -> None:
    first, _ = await pairs(office, 2, NONE)
    await delete(office, side, first)
    await office.run()
    await office.set_up(deletion_conflict_resolution=PROPAGATE)
    await office.run()
    assert await counted(office) == (1, 1, 1)


@SIDES
async def test_a_rule_that_is_set_later_asks_before_it_is_applied_to_many(office: Office, side: str) -> None:
    couplings = await pairs(office, 25, NONE)
    await delete(office, side, *couplings[:20])
    await office.run(allow_deletions=True)
    await office.set_up(deletion_conflict_resolution=PROPAGATE)
    await asks_first(office, "20 of 25")
    await office.run(allow_deletions=True)
    assert await counted(office) == (5, 5, 5)


async def test_a_record_that_fails_does_not_keep_the_couplings_of_the_gone_ones(office: Office) -> None:
    couplings = await pairs(office, 3, UNCOUPLE)
    await delete(office, CRM, couplings[0])
    await delete(office, NAV, couplings[1])
    await office.run()
    left: set[UUID] = {coupling.id for coupling in await office.couplings()}
    assert left == {couplings[2].id}
