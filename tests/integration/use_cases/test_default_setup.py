"""Use Default Synchronization Setup and Generate Integration IDs."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Generation
from app.domain.defaults import default_mappings, implied_fields
from app.domain.errors import ConnectionDisabled, IntegrationError, InvalidMapping, SetupExists
from app.domain.mapping import Direction, TableMapping
from app.use_cases.connection import disable_connection
from app.use_cases.default_setup import content, use_default_setup
from app.use_cases.integration_ids import generate_integration_ids
from tests.integration.use_cases.house import House, a_house

pytestmark = pytest.mark.anyio


async def mappings_of(house: House) -> dict[str, TableMapping]:
    async with house.ctx.uow() as tx:
        return {stored.mapping.name: stored.mapping for stored in await tx.mappings.all(house.company.id)}


async def test_the_connection_must_be_enabled_first(house: House) -> None:
    with pytest.raises(ConnectionDisabled):
        await use_default_setup(house.ctx, house.company)


async def test_it_makes_mappings_rows_jobs_and_integration_ids(connected: House) -> None:
    nav = connected.ctx.sides.nav(replace(connected.company, tracking=False))
    await nav.create("customers", "10000", {"Name": "Adatum"})
    made = await use_default_setup(connected.ctx, connected.company)
    assert (made.integration_table_mappings, made.integration_field_mappings) == (15, 105)
    assert made.left_out == ()
    assert made.disabled_rows == ("SALESPRC-PRODPRICE.productnumber",)  # CRM copies it from the product
    assert made.integration_ids_generated["customers"] == 1
    assert (made.removed.integration_table_mappings, made.removed.job_queue_entries) == (0, 0)
    async with connected.ctx.uow() as tx:
        entries = await tx.job_queue.all(connected.company.id)
    assert len(entries) == made.job_queue_entries
    assert {entry.kind for entry in entries} == {"synchronize", "account_statistics", "timeline_posts"}
    assert set(await mappings_of(connected)) == set(made.mappings)


@pytest.mark.parametrize(
    "generation, mappings, rows", [(Generation.NAV2017, 14, 91), (Generation.BC, 16, None)]
)
async def test_the_company_says_which_generation(
    engine: AsyncEngine, generation: Generation, mappings: int, rows: int | None
) -> None:
    async with a_house(engine, {"defaults_generation": generation}) as house:
        await house.connect()
        made = await use_default_setup(house.ctx, house.company)
        assert made.integration_table_mappings == mappings
        assert rows is None or made.integration_field_mappings == rows
        assert made.left_out == ()
        assert set(made.disabled_rows) <= {"SALESPRC-PRODPRICE.productnumber"}


@pytest.mark.parametrize("generation", Generation)
async def test_what_nav_keeps_in_code_names_fields_that_both_sides_have(
    engine: AsyncEngine, generation: Generation
) -> None:
    async with a_house(engine, {"defaults_generation": generation}) as house:
        await house.connect()
        async with house.ctx.uow() as tx:
            connection = await tx.connections.find(house.company.id)
        assert connection is not None
        nav, crm = await house.nav(), house.ctx.sides.crm(house.company, connection)
        for mapping in default_mappings(generation):
            ours = await nav.definition(mapping.nav_table)
            theirs = await crm.definition(mapping.crm_entity)
            for row in implied_fields(mapping):
                assert row.nav_field is None or row.nav_field in ours.fields
                assert row.crm_attribute is None or row.crm_attribute in theirs.fields


async def test_option_mappings_are_synchronized_on_the_spot(connected: House) -> None:
    made = await use_default_setup(connected.ctx, connected.company)
    nav = await connected.nav()
    found = await nav.by_key("payment-terms", ["NET30", "2%10NET30"], ["Code", "Description"])
    assert set(found) == {"NET30", "2%10NET30"}
    assert "NET30" in (made.option_records_created or {})["payment-terms"]
    async with connected.ctx.uow() as tx:
        options = await tx.option_mappings.all(connected.company.id)
    assert options["payment-terms", "paymenttermscode"]["NET30"] == 1
    assert options["shipment-methods", "address1_freighttermscode"]["FOB"] == 1
    again = await use_default_setup(connected.ctx, connected.company, replace_existing=True)
    assert not any((again.option_records_created or {}).values())


async def test_without_consent_it_lists_what_would_be_lost_and_changes_nothing(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    async with connected.ctx.uow() as tx:
        customer = (await tx.mappings.get(connected.company.id, "CUSTOMER")).mapping
        await tx.mappings.save(connected.company.id, replace(customer, crm_filter=None))
        custom = TableMapping("MINE", "customers", "account", Direction.TO_CRM)
        await tx.mappings.add(connected.company.id, custom)
    before = await mappings_of(connected)
    with pytest.raises(SetupExists) as refused:
        await use_default_setup(connected.ctx, connected.company)
    lost = refused.value.extra["would_be_lost"]
    assert set(lost["customized"]) == {"MINE", "CUSTOMER"}
    assert len(lost["integration_table_mappings"]) == 16
    assert lost["job_queue_entries"]
    assert await mappings_of(connected) == before


async def test_it_reverts_everything_to_the_defaults(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    fresh = {name: content(mapping) for name, mapping in (await mappings_of(connected)).items()}
    async with connected.ctx.uow() as tx:
        customer = (await tx.mappings.get(connected.company.id, "CUSTOMER")).mapping
        await tx.mappings.save(
            connected.company.id, replace(customer, fields=customer.fields[:3], crm_template=None)
        )
        await tx.mappings.add(
            connected.company.id, TableMapping("MINE", "items", "product", Direction.TO_CRM)
        )
        [entry, *_] = await tx.job_queue.all(connected.company.id)
        await tx.job_queue.save(connected.company.id, replace(entry, minutes_between_runs=999))
    made = await use_default_setup(connected.ctx, connected.company, replace_existing=True)
    assert made.removed.integration_table_mappings == 16
    assert {name: content(mapping) for name, mapping in (await mappings_of(connected)).items()} == fresh
    async with connected.ctx.uow() as tx:
        entries = await tx.job_queue.all(connected.company.id)
    assert 999 not in {entry.minutes_between_runs for entry in entries}
    assert len(entries) == made.job_queue_entries


@pytest.mark.parametrize("before", [False, True])
async def test_two_who_ask_at_once_leave_one_setup(connected: House, before: bool) -> None:
    if before:
        await use_default_setup(connected.ctx, connected.company)
    asked = [use_default_setup(connected.ctx, connected.company, replace_existing=True) for _ in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    made = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert made
    assert all(isinstance(answer, IntegrationError) for answer in answers if answer not in made)
    assert len(await mappings_of(connected)) == 15
    async with connected.ctx.uow() as tx:
        assert len(await tx.job_queue.all(connected.company.id)) == made[0].job_queue_entries


async def test_some_mappings_can_be_reset_alone(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    async with connected.ctx.uow() as tx:
        for name in ("CUSTOMER", "CONTACT"):
            mapping = (await tx.mappings.get(connected.company.id, name)).mapping
            await tx.mappings.save(connected.company.id, replace(mapping, crm_filter=None))
    made = await use_default_setup(
        connected.ctx, connected.company, mappings=["CUSTOMER"], replace_existing=True
    )
    assert (made.integration_table_mappings, made.job_queue_entries) == (1, 1)
    present = await mappings_of(connected)
    assert present["CUSTOMER"].crm_filter is not None
    assert present["CUSTOMER"].depends_on == ("SALESPEOPLE", "CURRENCY")
    assert present["CONTACT"].crm_filter is None
    assert len(present) == 15


async def test_an_unknown_default_mapping_is_named_with_the_nearest(connected: House) -> None:
    with pytest.raises(InvalidMapping) as refused:
        await use_default_setup(connected.ctx, connected.company, mappings=["CUSTOMERS"])
    assert refused.value.errors[0].suggestion == "CUSTOMER"


async def test_a_preview_tells_and_changes_nothing(connected: House) -> None:
    shown = await use_default_setup(connected.ctx, connected.company, preview=True)
    assert (shown.integration_table_mappings, shown.preview) == (15, True)
    assert await mappings_of(connected) == {}
    nav = await connected.nav()
    assert await nav.by_key("payment-terms", ["NET30"]) == {}


async def test_integration_ids_are_generated_once(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    await disable_connection(connected.ctx, connected.company)
    nav = await connected.nav()
    for number in ("10000", "20000", "30000"):
        await nav.create("customers", number, {"Name": f"Customer {number}"})
    first = await generate_integration_ids(connected.ctx, connected.company)
    assert first.generated["customers"] == 3
    assert first.generated["contacts"] == 3  # NAV makes a company contact for every new customer
    assert first.total == 6
    ids = {key: record.integration_id for key, record in (await nav.by_key("customers", ["10000"])).items()}
    assert (await generate_integration_ids(connected.ctx, connected.company)).total == 0
    assert {k: r.integration_id for k, r in (await nav.by_key("customers", ["10000"])).items()} == ids
