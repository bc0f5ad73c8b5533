"""Mappings that are changed while records are coupled, and several mappings of one table: no edit is lost."""

from dataclasses import replace
from uuid import UUID

import pytest

from app.domain.job import SynchMode
from app.domain.mapping import (
    DeletionConflictResolution,
    Direction,
    FieldMapping,
    FieldStatus,
    UpdateConflictResolution,
)
from app.use_cases.default_setup import use_default_setup
from app.use_cases.mappings import (
    add_field,
    change_field,
    change_mapping,
    create_mapping,
    delete_field,
    delete_mapping,
)
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio

BOTH = Direction.BIDIRECTIONAL
ROW = FieldMapping("Name_2", "description", BOTH)
MODES = [SynchMode.MODIFIED, SynchMode.FULL]


async def a_pair(office: Office, no: str = "C0", **fields: str) -> UUID:
    """A coupled customer at rest; the id of its account."""
    await office.customer(no, **fields)
    await create_in_crm(office.ctx, office.company, "customers", no)
    await office.run()
    assert (await office.run()).wrote_nothing
    return (await office.coupled(no)).crm_id


async def row_of(office: Office, nav_field: str) -> FieldMapping:
    """A row of the mapping of customers."""
    async with office.ctx.uow() as tx:
        mapping = (await tx.mappings.get(office.company.id, "CUSTOMER")).mapping
    return next(row for row in mapping.fields if row.nav_field == nav_field)


@pytest.mark.parametrize("mode", MODES)
async def test_a_new_row_carries_what_is_there_already(office: Office, mode: SynchMode) -> None:
    first, second = await a_pair(office, Name_2="ours"), await a_pair(office, "C1")
    await office.change_crm("account", second, description="theirs")
    await office.run()
    await add_field(office.ctx, office.company, "CUSTOMER", ROW)
    await office.run(mode=mode)
    assert (await office.in_crm("account", first))["description"] == "ours"
    assert (await office.in_nav("customers", "C1"))["Name_2"] == "theirs"
    assert (await office.run(mode=mode)).wrote_nothing


async def test_a_new_row_overwrites_neither_side(office: Office) -> None:
    account = await a_pair(office, Name_2="ours")
    await office.change_crm("account", account, description="theirs")
    await office.run()
    await add_field(office.ctx, office.company, "CUSTOMER", ROW)
    await office.change_nav("customers", "C0", City="Berlin")
    await office.run()
    assert (await office.in_crm("account", account))["description"] == "theirs"
    assert (await office.in_nav("customers", "C0"))["Name_2"] == "ours"
    error = (await office.coupled("C0")).last_error
    assert error is not None
    assert error.code == "update-conflict"


async def test_a_new_constant_reaches_the_records_that_are_coupled(office: Office) -> None:
    account = await a_pair(office)
    constant = FieldMapping(None, "description", Direction.TO_CRM, constant_value="NAV")
    await add_field(office.ctx, office.company, "CUSTOMER", constant)
    await office.run()
    assert (await office.in_crm("account", account))["description"] == "NAV"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("crm_attribute", "constant", "brought"), [(None, "CRM", "CRM"), ("description", None, "")]
)
async def test_a_new_row_from_crm_reaches_the_records_that_are_coupled(
    office: Office, mode: SynchMode, crm_attribute: str | None, constant: str | None, brought: str
) -> None:
    await a_pair(office, Name_2="ours")
    row = FieldMapping("Name_2", crm_attribute, Direction.FROM_CRM, constant_value=constant)
    await add_field(office.ctx, office.company, "CUSTOMER", row)
    await office.run(mode=mode)
    assert (await office.in_nav("customers", "C0"))["Name_2"] == brought
    assert (await office.run(mode=SynchMode.FULL)).wrote_nothing


async def test_what_a_row_brings_from_crm_waits_for_its_direction_whatever_goes_the_other_way(
    office: Office,
) -> None:
    await a_pair(office)
    row = FieldMapping("Name_2", None, Direction.FROM_CRM, constant_value="CRM")
    await add_field(office.ctx, office.company, "CUSTOMER", row)
    for city in ("Berlin", "Rome"):
        await office.change_nav("customers", "C0", City=city)
        await office.run(direction=Direction.TO_CRM)
    await office.run(direction=Direction.FROM_CRM)
    assert (await office.in_nav("customers", "C0"))["Name_2"] == "CRM"


async def test_a_text_rule_of_a_row_from_crm_reaches_the_records_that_are_coupled(office: Office) -> None:
    account = await a_pair(office)
    await office.change_crm("account", account, description="theirs")
    new = FieldMapping("Name_2", "description", Direction.FROM_CRM)
    row = await add_field(office.ctx, office.company, "CUSTOMER", new)
    await office.run()
    assert row.id is not None
    await change_field(office.ctx, office.company, "CUSTOMER", row.id, {"transformation": "uppercase"})
    await office.run()
    assert (await office.in_nav("customers", "C0"))["Name_2"] == "THEIRS"


@pytest.mark.parametrize("mode", MODES)
async def test_a_row_that_is_enabled_again_carries_what_changed_meanwhile(
    office: Office, mode: SynchMode
) -> None:
    account, row = await a_pair(office), await row_of(office, "City")
    assert row.id is not None
    off, on = {"status": FieldStatus.DISABLED}, {"status": FieldStatus.ENABLED}
    await change_field(office.ctx, office.company, "CUSTOMER", row.id, off)
    await office.change_nav("customers", "C0", City="Berlin")
    await office.run()
    await change_field(office.ctx, office.company, "CUSTOMER", row.id, on)
    await office.run(mode=mode)
    assert (await office.in_crm("account", account))["address1_city"] == "Berlin"


async def test_a_row_that_the_default_setup_brings_back_overwrites_nothing(office: Office) -> None:
    account, row = await a_pair(office), await row_of(office, "City")
    assert row.id is not None
    await delete_field(office.ctx, office.company, "CUSTOMER", row.id)
    await office.change_nav("customers", "C0", City="Berlin")
    await office.run()
    await office.change_crm("account", account, address1_city="Rome")
    await office.run()
    await use_default_setup(office.ctx, office.company, mappings=["CUSTOMER"], replace_existing=True)
    await office.change_nav("customers", "C0", Name="New")
    await office.run()
    assert (await office.in_crm("account", account))["address1_city"] == "Rome"
    assert (await office.in_nav("customers", "C0"))["City"] == "Berlin"
    assert (await office.coupled("C0")).last_error is not None


async def call_the_mapping_otherwise(office: Office) -> None:
    """The mapping of customers is deleted and made again as KUNDEN."""
    async with office.ctx.uow() as tx:
        old = (await tx.mappings.get(office.company.id, "CUSTOMER")).mapping
    await delete_mapping(office.ctx, office.company, "CUSTOMER")
    rows = [replace(row, id=None) for row in old.fields]
    await create_mapping(office.ctx, office.company, replace(old, name="KUNDEN").with_fields(rows))


async def test_couplings_of_a_mapping_that_is_gone_belong_to_the_one_that_takes_its_place(
    office: Office,
) -> None:
    await a_pair(office)
    await call_the_mapping_otherwise(office)
    await office.run("KUNDEN")
    assert (await office.coupled("C0")).mapping == "KUNDEN"
    assert (await office.run("KUNDEN", SynchMode.FULL)).wrote_nothing
    async with office.statements() as seen:
        await office.run("KUNDEN", SynchMode.FULL)
    assert not [each for each in seen if each.startswith("UPDATE coupling")]  # nothing to look at any more


async def test_what_fails_under_the_mapping_that_takes_the_place_of_another_is_tried_again(
    office: Office,
) -> None:
    account = await a_pair(office)
    await office.change_nav("customers", "C0", City="Berlin")
    await office.change_crm("account", account, address1_city="Rome")
    await call_the_mapping_otherwise(office)
    assert (await office.run("KUNDEN")).to_crm.failed == 1
    prefer_nav = {"update_conflict_resolution": UpdateConflictResolution.SEND_TO_CRM}
    await change_mapping(office.ctx, office.company, "KUNDEN", prefer_nav)
    await office.run("KUNDEN")
    assert (await office.in_crm("account", account))["address1_city"] == "Berlin"


async def test_what_was_deleted_before_another_mapping_took_the_place_is_told(office: Office) -> None:
    await a_pair(office)
    await call_the_mapping_otherwise(office)
    await office.nav.remove("customers", "C0")
    await office.run("KUNDEN")
    (coupling,) = await office.couplings("KUNDEN")
    assert coupling.last_error is not None
    assert "mapping KUNDEN" in (coupling.last_error.fix or "")


async def test_what_was_entered_while_its_row_was_off_is_not_deleted_with_its_partner(office: Office) -> None:
    await office.set_up(deletion_conflict_resolution=DeletionConflictResolution.PROPAGATE)
    account, row = await a_pair(office), await row_of(office, "City")
    assert row.id is not None
    await change_field(office.ctx, office.company, "CUSTOMER", row.id, {"status": FieldStatus.DISABLED})
    await office.change_crm("account", account, address1_city="Rome")
    await office.run()
    await change_field(office.ctx, office.company, "CUSTOMER", row.id, {"status": FieldStatus.ENABLED})
    await office.nav.remove("customers", "C0")
    await office.run(direction=Direction.TO_CRM)
    assert [row["address1_city"] for row in office.accounts()] == ["Rome"]
