"""Several mappings of one table: what one of them carries is not taken for carried by the other."""

from dataclasses import replace
from uuid import UUID

import pytest

from app.domain.job import SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction, FieldMapping, TableMapping
from app.use_cases.mappings import create_mapping, delete_mapping
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio

ROW = FieldMapping("Name_2", "description", Direction.BIDIRECTIONAL)
EXTRA = TableMapping("EXTRA", "customers", "account", Direction.BIDIRECTIONAL, fields=(ROW,))


async def a_pair(office: Office) -> UUID:
    """A coupled customer at rest, and a second mapping of customers; the id of the account."""
    await office.customer("C0")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await create_mapping(office.ctx, office.company, EXTRA)
    for mapping in ("CUSTOMER", "EXTRA", "CUSTOMER"):
        await office.run(mapping)
    return (await office.coupled("C0")).crm_id


@pytest.mark.parametrize("order", [("CUSTOMER", "EXTRA"), ("EXTRA", "CUSTOMER")])
async def test_edits_for_both_mappings_arrive_whichever_runs_first(
    office: Office, order: tuple[str, str]
) -> None:
    account = await a_pair(office)
    await office.change_nav("customers", "C0", Name="New", Name_2="ours")
    for mapping in order:
        await office.run(mapping)
    row = await office.in_crm("account", account)
    assert (row["name"], row["description"]) == ("New", "ours")
    await office.change_crm("account", account, name="Newer", description="theirs")
    for mapping in order:
        await office.run(mapping)
    record = await office.in_nav("customers", "C0")
    assert (record["Name"], record["Name_2"]) == ("Newer", "theirs")
    for mapping in (*order, *order):
        assert (await office.run(mapping)).wrote_nothing
        assert (await office.run(mapping, SynchMode.FULL)).wrote_nothing


async def test_a_failure_is_told_under_the_mapping_in_whose_run_it_happened(office: Office) -> None:
    account = await a_pair(office)
    await office.set_up("EXTRA", deletion_conflict_resolution=DeletionConflictResolution.NONE)
    await office.change_nav("customers", "C0", Name_2="ours")
    await office.change_crm("account", account, description="theirs")
    await office.run("EXTRA")
    await office.delete_crm("account", account)
    await office.run("EXTRA")
    async with office.ctx.uow() as tx:
        company = office.company.id
        found = await tx.synch_log.errors(company, mapping="EXTRA")
        assert not await tx.synch_log.errors(company, mapping="CUSTOMER")
    errors = {(each.mapping, failure.code): failure for each in found if (failure := each.outcome.error)}
    assert errors.keys() == {("EXTRA", "update-conflict"), ("EXTRA", "deletion-conflict")}
    assert "of mapping EXTRA says" in str(errors["EXTRA", "deletion-conflict"].fix)


PEOPLE = TableMapping(
    "PEOPLE",
    "customers",
    "contact",
    Direction.BIDIRECTIONAL,
    fields=(FieldMapping("Name", "lastname", Direction.BIDIRECTIONAL),),
)


@pytest.mark.parametrize("resolution", DeletionConflictResolution)
@pytest.mark.parametrize("gone", [False, True])
async def test_a_mapping_to_another_entity_leaves_the_couplings_alone(
    office: Office, resolution: DeletionConflictResolution, gone: bool
) -> None:
    await office.customer("C0")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    before = await office.coupled("C0")
    await create_mapping(office.ctx, office.company, replace(PEOPLE, deletion_conflict_resolution=resolution))
    if gone:
        await delete_mapping(office.ctx, office.company, "CUSTOMER")
    await office.change_nav("customers", "C0", Name="New")
    for mode in (SynchMode.MODIFIED, SynchMode.FULL):
        ran = await office.run("PEOPLE", mode)
        assert ran.told == [("to_crm", "C0", "skipped", "already-coupled")]
    assert await office.coupled("C0") == before
    assert office.house.organization.rows("contact") == {}


@pytest.mark.parametrize("mode", [SynchMode.MODIFIED, SynchMode.FULL])
async def test_a_deletion_is_no_business_of_a_mapping_to_another_entity(
    office: Office, mode: SynchMode
) -> None:
    propagating = DeletionConflictResolution.PROPAGATE
    await office.set_up(deletion_conflict_resolution=propagating)
    await office.customer("C0")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    await office.run()
    await create_mapping(
        office.ctx, office.company, replace(PEOPLE, deletion_conflict_resolution=propagating)
    )
    await office.run("PEOPLE")
    await office.nav.remove("customers", "C0")
    await office.run("PEOPLE", mode)
    assert len(office.accounts()) == 1
    await office.run(mode=mode)
    assert office.accounts() == []
