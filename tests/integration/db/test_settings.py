"""Companies, connections, mappings and option mappings: what is saved comes back, and nobody overwrites unseen."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.domain.company import ConnectionStatus, Credentials
from app.domain.errors import (
    AlreadyExists,
    CompanyNotFound,
    DatabaseUnavailable,
    Invalid,
    MappingNotFound,
    NotFound,
    PreconditionFailed,
)
from app.domain.mapping import Direction, FieldMapping, TableMapping, UpdateConflictResolution
from app.domain.records import Side
from app.ports import StoredMapping
from tests.integration.db.memory import NOON, a_company, a_job, a_memory, a_setup

pytestmark = pytest.mark.anyio

NAV = {
    "kind": "nav_odata",
    "base_url": "https://nav.example",
    "authentication": {"type": "basic", "user_name": "sync", "password": "open sesame"},
}
CUSTOMER = TableMapping(
    "CUSTOMER",
    "customers",
    "account",
    Direction.BIDIRECTIONAL,
    nav_filter="Blocked eq ''",
    update_conflict_resolution=UpdateConflictResolution.SEND_TO_CRM,
    depends_on=("SALESPEOPLE", "CURRENCY"),
    position=3,
    fields=(
        FieldMapping("Name", "name", Direction.BIDIRECTIONAL, id=UUID(int=1)),
        FieldMapping(None, "customertypecode", Direction.TO_CRM, constant_value="3", id=UUID(int=2)),
    ),
)


async def test_a_company_comes_back_with_its_secrets_which_are_stored_encrypted(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory, nav=NAV)
    async with memory() as tx:
        assert await tx.companies.get("cronus") == company
    assert company.nav == NAV
    async with engine.connect() as connection:
        stored = (await connection.execute(text("SELECT nav, nav_secrets FROM company"))).one()
    assert stored.nav["authentication"] == {"type": "basic", "user_name": "sync"}
    assert b"sesame" not in bytes(stored.nav_secrets)


async def test_a_company_is_changed_by_who_read_it_last(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company, other = await a_company(memory), await a_company(memory, "fabrikam")
    async with memory() as tx:
        changed = await tx.companies.save(replace(company, display_name="CRONUS"))
    assert (changed.display_name, changed.revision) == ("CRONUS", company.revision + 1)
    async with memory() as tx:
        with pytest.raises(PreconditionFailed):
            await tx.companies.save(replace(company, display_name="Cronos"))
    async with memory() as tx:
        with pytest.raises(AlreadyExists):
            await tx.companies.save(replace(other, name="cronus"))
    async with memory() as tx:
        await tx.companies.delete(company.id)
    async with memory() as tx:
        with pytest.raises(CompanyNotFound):
            await tx.companies.get("cronus")


async def test_text_that_cannot_be_stored_is_the_callers_fault(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    with pytest.raises(Invalid, match="NUL"):
        await a_company(memory, "cro\0nus")
    with pytest.raises(Invalid, match="NUL"):
        await a_company(memory, nav={"kind": "nav_odata", "base_url": "\0"})


async def test_a_database_that_is_not_there_is_said_so() -> None:
    nowhere = create_engine("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable):
        await a_company(a_memory(nowhere))
    await nowhere.dispose()


async def test_companies_are_listed_by_name(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    for name in ("contoso", "adatum", "fabrikam"):
        await a_company(memory, name)
    async with memory() as tx:
        first = await tx.companies.page(2, None, None)
        rest = await tx.companies.page(2, first[-1].name, None)
        mine = await tx.companies.page(9, None, ["fabrikam", "adatum"])
    assert [one.name for one in (*first, *rest)] == ["adatum", "contoso", "fabrikam"]
    assert [one.name for one in mine] == ["adatum", "fabrikam"]


async def test_a_company_tracks_records_while_its_connection_is_enabled(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    assert not company.tracking
    async with memory() as tx:
        setup = await tx.connections.save(company.id, a_setup())
        assert not (await tx.companies.by_id(company.id)).tracking
        await tx.connections.save(company.id, replace(setup, is_enabled=True))
        assert (await tx.companies.by_id(company.id)).tracking


async def test_whatever_crm_said_last_can_be_kept(engine: AsyncEngine) -> None:
    """What one connection was told must not keep the others from being noted with it."""
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        await tx.connections.save(company.id, replace(a_setup(), is_enabled=True))
        await tx.connections.contacted(company.id, "No \0such user Zo\ud83d", NOON)
        kept = await tx.connections.find(company.id)
    assert kept is not None
    assert (kept.status, kept.last_error) == (ConnectionStatus.FAILED, "No such user Zo?")


async def test_a_connection_comes_back_with_its_secrets_which_are_stored_encrypted(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    pem = "CERTIFICATE and its PRIVATE KEY"
    login = Credentials("client_certificate", "tenant", "client", certificate=pem, private_key="hush")
    setup = a_setup(
        credentials=login,
        organization_id=uuid4(),
        status=ConnectionStatus.CONNECTED,
        last_checked_at=NOON,
        integration_solution_installed=False,
    )
    async with memory() as tx:
        assert await tx.connections.find(company.id) is None
        saved = await tx.connections.save(company.id, setup)
        assert replace(saved, revision=setup.revision) == setup
    async with memory() as tx:
        assert await tx.connections.find(company.id) == saved
    async with engine.connect() as connection:
        row = (
            await connection.execute(text("SELECT crm_connection::text AS whole FROM crm_connection"))
        ).one()
    assert "hush" not in row.whole
    assert "PRIVATE" not in row.whole


async def test_a_connection_is_changed_by_who_read_it_last(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        saved = await tx.connections.save(company.id, a_setup())
        changed = await tx.connections.save(company.id, replace(saved, api_version="v9.1"))
        assert changed.revision == saved.revision + 1
        with pytest.raises(PreconditionFailed):
            await tx.connections.save(company.id, replace(saved, api_version="v9.0"))
        assert await tx.connections.find(company.id) == changed
        await tx.connections.delete(company.id)
        with pytest.raises(PreconditionFailed):
            await tx.connections.save(company.id, changed)


async def test_a_connection_belongs_to_a_company(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    async with memory() as tx:
        with pytest.raises(NotFound):
            await tx.connections.save(4711, a_setup())


async def test_of_two_who_create_a_connection_one_is_told(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)

    async def create() -> bool:
        async with memory() as tx:
            try:
                await tx.connections.save(company.id, a_setup())
            except PreconditionFailed:
                return False
            return True

    assert (await asyncio.gather(*(create() for _ in range(5)))).count(True) >= 1
    async with memory() as tx:
        assert await tx.connections.find(company.id) is not None


async def test_a_mapping_comes_back_as_it_was_saved(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        added = await tx.mappings.add(company.id, CUSTOMER)
        assert replace(added, revision=0, edition=0) == StoredMapping(CUSTOMER)
        assert await tx.mappings.all(company.id) == [added]
    async with memory() as tx:
        with pytest.raises(AlreadyExists):
            await tx.mappings.add(company.id, CUSTOMER)


async def test_a_mapping_is_replaced_with_its_rows_which_keep_their_ids(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    implied = FieldMapping("Salesperson_Code", "ownerid", Direction.BIDIRECTIONAL, rule="owner")
    fresh = FieldMapping("City", "address1_city", Direction.TO_CRM)
    async with memory() as tx:
        added = await tx.mappings.add(company.id, CUSTOMER)
        changed = CUSTOMER.with_fields([fresh, implied, CUSTOMER.fields[1]])
        saved = await tx.mappings.save(company.id, changed, added.revision)
        with pytest.raises(PreconditionFailed):
            await tx.mappings.save(company.id, CUSTOMER, added.revision)
        with pytest.raises(MappingNotFound):
            await tx.mappings.save(company.id, replace(CUSTOMER, name="VENDOR"))
    city, constant = saved.mapping.fields
    assert (saved.revision, constant) == (added.revision + 1, CUSTOMER.fields[1])
    assert replace(city, id=None) == fresh
    assert city.id is not None


async def test_a_watermark_moves_without_changing_the_mapping(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        added = await tx.mappings.add(company.id, CUSTOMER)
        await tx.mappings.set_watermark(company.id, "CUSTOMER", Side.NAV, "17", NOON)
        await tx.mappings.set_watermark(company.id, "CUSTOMER", Side.CRM, "token", None)
        stored = await tx.mappings.get(company.id, "CUSTOMER")
        with pytest.raises(MappingNotFound):
            await tx.mappings.set_watermark(company.id, "VENDOR", Side.NAV, "17", NOON)
    assert stored == replace(added, nav_watermark="17", crm_watermark="token", nav_synched_until=NOON)


async def test_a_mapping_that_is_to_be_read_again_is_of_another_edition(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        added = await tx.mappings.add(company.id, CUSTOMER)
        for side in Side:
            await tx.mappings.set_watermark(company.id, "CUSTOMER", side, "17", NOON, edition=added.edition)
        await tx.mappings.read_again(company.id, "CUSTOMER", [Side.NAV])
        for side in Side:
            await tx.mappings.set_watermark(company.id, "CUSTOMER", side, "18", NOON, edition=added.edition)
        stored = await tx.mappings.get(company.id, "CUSTOMER")
    assert (stored.nav_watermark, stored.crm_watermark) == (None, "17")
    assert (stored.revision, stored.edition) == (added.revision, added.edition + 1)


async def test_mappings_are_listed_in_their_order_and_deleted_with_their_rows(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    names = {"SALESPEOPLE": 1, "CURRENCY": 2, "CUSTOMER": 3, "CONTACT": 3}
    async with memory() as tx:
        for name, position in reversed(names.items()):
            rows = [replace(row, id=None) for row in CUSTOMER.fields]
            await tx.mappings.add(
                company.id, replace(CUSTOMER, name=name, position=position, fields=tuple(rows))
            )
        listed = [one.mapping.name for one in await tx.mappings.all(company.id)]
        assert listed == ["SALESPEOPLE", "CURRENCY", "CONTACT", "CUSTOMER"]
        await tx.mappings.delete(company.id, ["CONTACT", "VENDOR"])
        kept = await tx.mappings.all(company.id)
        assert [one.mapping.name for one in kept] == ["SALESPEOPLE", "CURRENCY", "CUSTOMER"]
        again = await tx.mappings.add(company.id, replace(CUSTOMER, name="CONTACT", fields=()))
        assert again.mapping.fields == ()


async def test_option_mappings_are_replaced_one_attribute_at_a_time(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    terms = ("payment-terms", "paymenttermscode")
    async with memory() as tx:
        await tx.option_mappings.replace(company.id, *terms, {"14 DAYS": 1, "1M(8D)": 2})
        await tx.option_mappings.replace(
            company.id, "shipment-methods", "address1_freighttermscode", {"CIF": 1}
        )
        await tx.option_mappings.replace(company.id, *terms, {"30 DAYS": 4})
        assert await tx.option_mappings.all(company.id) == {
            terms: {"30 DAYS": 4},
            ("shipment-methods", "address1_freighttermscode"): {"CIF": 1},
        }


async def test_everything_below_a_company_goes_with_it(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        await tx.connections.save(company.id, a_setup())
        await tx.mappings.add(company.id, CUSTOMER)
        await tx.jobs.add(company.id, [a_job()])
        await tx.companies.delete(company.id)
        assert await tx.connections.find(company.id) is None
        assert await tx.mappings.all(company.id) == []
