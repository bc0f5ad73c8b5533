"""Mappings and field rows, checked against an embedded NAV and the sandbox."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.errors import (
    AlreadyExists,
    ConnectionDisabled,
    FieldProblem,
    IntegrationError,
    InvalidFilter,
    InvalidMapping,
    MappingNotFound,
    NotFound,
    PreconditionFailed,
)
from app.domain.mapping import Direction, FieldMapping, FieldStatus, TableMapping
from app.domain.records import Side
from app.use_cases.connection import disable_connection
from app.use_cases.default_setup import use_default_setup
from app.use_cases.mappings import (
    add_field,
    change_field,
    change_mapping,
    create_mapping,
    delete_field,
    delete_mapping,
    export_mappings,
    import_mappings,
)
from tests.integration.use_cases.house import House, a_house

pytestmark = pytest.mark.anyio

BOTH, TO, FROM = Direction.BIDIRECTIONAL, Direction.TO_CRM, Direction.FROM_CRM
NAME = FieldMapping("Name", "name", BOTH)


def a_mapping(**changes: Any) -> TableMapping:
    return replace(TableMapping("MINE", "customers", "account", BOTH, fields=(NAME,)), **changes)


def pointers(error: IntegrationError) -> Mapping[str, Any]:
    return {problem.pointer: problem.suggestion for problem in error.errors}


@pytest.mark.parametrize(
    "changes, wrong",
    [
        ({"nav_table": "customer"}, {"/nav_table": "customers"}),
        ({"crm_entity": "accounts"}, {"/crm_entity": "account"}),
        ({"crm_entity": "nothing"}, {"/crm_entity": None}),
        ({"fields": (FieldMapping("Nmae", "name", BOTH),)}, {"/fields/0/nav_field": "Name"}),
        ({"fields": (NAME, FieldMapping("City", "address1_cty", TO))}, {"/fields/1/crm_attribute": "address1_city"}),
        ({"fields": (FieldMapping("Name", "creditlimit", TO),)}, {"/fields/0": None}),
        ({"fields": (FieldMapping("Balance_LCY", "creditlimit", FROM),)}, {"/fields/0": None}),
        ({"fields": (FieldMapping("Name", "primarycontactid", TO),)}, {"/fields/0": None}),
        ({"fields": (FieldMapping("Primary_Contact_No", "primarycontactid", TO),)}, {"/fields/0": None}),
        ({"fields": (FieldMapping(None, None, TO),)}, {"/fields/0": None}),
        ({"fields": (FieldMapping("Blocked", None, FROM),)}, {"/fields/0/constant_value": None}),
        ({"fields": (FieldMapping("Blocked", None, FROM, "Alle"),)}, {"/fields/0/constant_value": "All"}),
        ({"fields": (FieldMapping("Blocked", None, BOTH, "All"),)}, {"/fields/0/direction": FROM}),
        ({"fields": (FieldMapping("Name", "name", TO, "x"),)}, {"/fields/0/constant_value": None}),
        ({"fields": (replace(NAME, transformation="upper"),)}, {"/fields/0/transformation": "uppercase"}),
        (
            {"fields": (replace(NAME, not_null=True, clear_value_on_failed_synch=True),)},
            {"/fields/0/not_null": None},
        ),
        ({"fields": (NAME, FieldMapping("Name_2", "name", TO))}, {"/fields/1": None}),
        ({"direction": TO, "fields": (replace(NAME, direction=FROM),)}, {"/fields/0/direction": TO}),
        ({"nav_filter": "Blokced eq ''"}, {"/nav_filter": "Blocked"}),
        ({"crm_filter": "statecod eq 0"}, {"/crm_filter": "statecode"}),
        ({"crm_template": "CRMACOUNT"}, {"/crm_template": None}),
        ({"nav_template": '{"Cuntry_Region_Code": "GB"}'}, {"/nav_template": "Country_Region_Code"}),
        ({"depends_on": ("SALESPEOPEL",)}, {"/depends_on/0": None}),
        ({"depends_on": ("MINE",)}, {"/depends_on": None}),
        ({"name": "a/b"}, {"/name": None}),
        ({"name": "export"}, {"/name": None}),
        ({"name": ".."}, {"/name": None}),  # its address would be that of the company, DELETE included
        ({"name": "."}, {"/name": None}),
    ],
)  # fmt: skip
async def test_a_mapping_that_cannot_work_is_refused_with_what_is_wrong(
    connected: House, changes: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidMapping) as refused:
        await create_mapping(connected.ctx, connected.company, a_mapping(**changes))
    assert pointers(refused.value) == wrong


@pytest.mark.parametrize(
    ("side", "text"),
    [
        ("nav", "Name eq 'A' or Name eq 5"),
        ("nav", "Blocked eq 0"),
        ("nav", "Credit_Limit_LCY in (1,'x')"),
        ("nav", "Last_Date_Modified gt 'x'"),
        ("crm", "statecode eq 'x'"),
        ("crm", "accountid eq 'x'"),
        ("crm", "_ownerid_value eq 5"),
        ("crm", "createdon gt 'x'"),
    ],
)
async def test_a_filter_with_a_value_that_its_field_never_has_is_refused(
    connected: House, side: str, text: str
) -> None:
    """Runs would end with it, and so would everything that shows a record."""
    with pytest.raises(InvalidFilter, match="does not fit") as refused:
        await create_mapping(connected.ctx, connected.company, a_mapping(**{f"{side}_filter": text}))
    assert refused.value.errors[0].pointer == f"/{side}_filter"


async def test_a_filter_with_values_of_all_kinds_is_accepted(connected: House) -> None:
    nav = "Blocked eq '' and Credit_Limit_LCY gt 5.5 and Last_Date_Modified gt 2020-01-01 and Name ne null"
    crm = (
        "statecode eq 0 and creditlimit gt 5 and createdon gt 2020-01-01T00:00:00Z and donotphone eq true "
        f"and _ownerid_value ne {UUID(int=1)} and contains(name,'A') and createdon gt 2020-01-01"
    )
    made = await create_mapping(connected.ctx, connected.company, a_mapping(nav_filter=nav, crm_filter=crm))
    assert (made.mapping.nav_filter, made.mapping.crm_filter) == (nav, crm)


@pytest.mark.parametrize("text", ["Name eq", "Name eq 'a", "year(Name) eq 1", ""])
async def test_a_filter_that_cannot_be_read_is_refused(connected: House, text: str) -> None:
    with pytest.raises(InvalidFilter) as refused:
        await create_mapping(connected.ctx, connected.company, a_mapping(nav_filter=text))
    assert refused.value.errors[0].pointer == "/nav_filter"


async def test_a_lookup_can_be_mapped_once_its_tables_are(connected: House) -> None:
    mapping = a_mapping(fields=(FieldMapping("Salesperson_Code", "ownerid", BOTH),))
    with pytest.raises(InvalidMapping, match="must be mapped"):
        await create_mapping(connected.ctx, connected.company, mapping)
    users = TableMapping("USERS", "salespeople", "systemuser", FROM)
    await create_mapping(connected.ctx, connected.company, users)
    saved = await create_mapping(connected.ctx, connected.company, mapping)
    assert saved.mapping.fields[0].id is not None


async def test_a_mapping_needs_crm_to_say_what_there_is(connected: House) -> None:
    await disable_connection(connected.ctx, connected.company)
    with pytest.raises(ConnectionDisabled):
        await create_mapping(connected.ctx, connected.company, a_mapping())


async def test_a_name_is_taken_once(connected: House) -> None:
    await create_mapping(connected.ctx, connected.company, a_mapping())
    with pytest.raises(AlreadyExists):
        await create_mapping(connected.ctx, connected.company, a_mapping())


async def test_a_changed_filter_makes_the_next_run_read_everything(connected: House) -> None:
    made = await create_mapping(connected.ctx, connected.company, a_mapping(nav_filter="Blocked eq ''"))
    async with connected.ctx.uow() as tx:
        await tx.mappings.set_watermark(connected.company.id, "MINE", Side.NAV, "17", connected.clock.now())
    kept = await change_mapping(connected.ctx, connected.company, "MINE", {"depends_on": []}, made.revision)
    assert kept.nav_watermark == "17"
    changed = await change_mapping(connected.ctx, connected.company, "MINE", {"nav_filter": None})
    assert changed.mapping.nav_filter is None
    assert (changed.nav_watermark, changed.nav_synched_until) == (None, None)


async def test_table_and_entity_of_a_mapping_stay(connected: House) -> None:
    await create_mapping(connected.ctx, connected.company, a_mapping())
    with pytest.raises(InvalidMapping) as refused:
        await change_mapping(connected.ctx, connected.company, "MINE", {"crm_entity": "contact"})
    assert set(pointers(refused.value)) == {"/crm_entity"}


async def test_a_direction_needs_a_row_that_goes_there(connected: House) -> None:
    await create_mapping(connected.ctx, connected.company, a_mapping(fields=(replace(NAME, direction=TO),)))
    with pytest.raises(InvalidMapping) as refused:
        await change_mapping(connected.ctx, connected.company, "MINE", {"direction": FROM})
    assert "/direction" in pointers(refused.value)


async def test_who_read_an_older_mapping_cannot_change_it(connected: House) -> None:
    made = await create_mapping(connected.ctx, connected.company, a_mapping())
    await change_mapping(connected.ctx, connected.company, "MINE", {"synch_only_coupled_records": False})
    for change in (
        change_mapping(connected.ctx, connected.company, "MINE", {"nav_filter": None}, made.revision),
        delete_mapping(connected.ctx, connected.company, "MINE", made.revision),
    ):
        with pytest.raises(PreconditionFailed):
            await change


async def test_deleting_a_mapping_takes_its_job_and_what_waited_for_it(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    await delete_mapping(connected.ctx, connected.company, "CUSTOMER")
    async with connected.ctx.uow() as tx:
        mappings = {
            stored.mapping.name: stored.mapping for stored in await tx.mappings.all(connected.company.id)
        }
        entries = {entry.mapping for entry in await tx.job_queue.all(connected.company.id)}
    assert "CUSTOMER" not in mappings
    assert mappings["CONTACT"].depends_on == ()
    assert "CUSTOMER" not in entries
    with pytest.raises(MappingNotFound):
        await delete_mapping(connected.ctx, connected.company, "CUSTOMER")


async def test_a_row_comes_changes_and_goes_and_the_others_keep_their_ids(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    ctx, company = connected.ctx, connected.company
    before = await rows_of(connected)
    added = await add_field(ctx, company, "CUSTOMER", FieldMapping("Name_2", "description", BOTH))
    assert added.id is not None
    with pytest.raises(InvalidMapping):
        await change_field(ctx, company, "CUSTOMER", added.id, {"crm_attribute": "creditlimit"})
    changed = await change_field(
        ctx, company, "CUSTOMER", added.id, {"direction": TO, "clear_value_on_failed_synch": True}
    )
    assert (changed.direction, changed.id) == (TO, added.id)
    changed = await change_field(ctx, company, "CUSTOMER", added.id, {"not_null": True})
    assert (changed.not_null, changed.clear_value_on_failed_synch) == (True, False)
    assert await rows_of(connected) == before | {added.id: changed}
    await delete_field(ctx, company, "CUSTOMER", added.id)
    assert await rows_of(connected) == before
    with pytest.raises(NotFound):
        await delete_field(ctx, company, "CUSTOMER", uuid4())


async def test_two_rows_may_not_write_one_field_unless_one_is_disabled(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    rival = FieldMapping("Name_2", "name", TO)
    with pytest.raises(InvalidMapping):
        await add_field(connected.ctx, connected.company, "CUSTOMER", rival)
    off = replace(rival, status=FieldStatus.DISABLED)
    assert (await add_field(connected.ctx, connected.company, "CUSTOMER", off)).id is not None


async def test_rows_that_are_added_at_once_are_all_there(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    pairs = (("Name_2", "description"), ("Territory_Code", "tickersymbol"), ("Search_Name", "address1_name"))
    new = [FieldMapping(field, attribute, BOTH) for field, attribute in pairs]
    added = [add_field(connected.ctx, connected.company, "CUSTOMER", row) for row in new]
    assert {row.id for row in await asyncio.gather(*added)} <= set(await rows_of(connected))
    same = FieldMapping("Address_2", "description", TO)
    with pytest.raises(InvalidMapping):
        await add_field(connected.ctx, connected.company, "CUSTOMER", same)


async def rows_of(house: House, name: str = "CUSTOMER") -> dict[Any, FieldMapping]:
    async with house.ctx.uow() as tx:
        return {row.id: row for row in (await tx.mappings.get(house.company.id, name)).mapping.fields}


async def test_the_default_mappings_pass_every_check_and_travel_as_one_document(
    connected: House, engine: AsyncEngine
) -> None:
    await use_default_setup(connected.ctx, connected.company)
    document = await export_mappings(connected.ctx, connected.company)
    assert json.dumps(document) == json.dumps(await export_mappings(connected.ctx, connected.company))
    async with a_house(engine, {"name": "second"}) as second:
        await second.connect()
        shown = await import_mappings(second.ctx, second.company, document, preview=True)
        assert len(shown.added) == 15
        assert (await export_mappings(second.ctx, second.company))["mappings"] == []
        assert await import_mappings(second.ctx, second.company, document) == shown
        assert await export_mappings(second.ctx, second.company) == document
        again = await import_mappings(second.ctx, second.company, json.loads(json.dumps(document)))
        assert (again.added, again.changed, len(again.unchanged), again.removed) == ((), (), 15, ())


async def test_an_import_keeps_what_says_the_same_and_rows_keep_their_ids(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    document = await export_mappings(connected.ctx, connected.company)
    before = await rows_of(connected)
    mappings = [
        m for m in document["mappings"] if m["name"] != "OPPORTUNITY" and m["name"] != "POSTEDSALESINV-INV"
    ]
    mappings = [m for m in mappings if m["name"] != "POSTEDSALESLINE-INV"]
    customer = next(m for m in mappings if m["name"] == "CUSTOMER")
    customer["fields"] = customer["fields"][1:]
    customer["crm_filter"] = "statecode eq 0"
    done = await import_mappings(connected.ctx, connected.company, document | {"mappings": mappings})
    assert done.changed == ("CUSTOMER",)
    assert done.removed == ("OPPORTUNITY", "POSTEDSALESINV-INV", "POSTEDSALESLINE-INV")
    assert set(await rows_of(connected)) == set(before) - {next(iter(before))}


async def test_an_import_with_a_mistake_changes_nothing(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    document = await export_mappings(connected.ctx, connected.company)
    wrong = json.loads(json.dumps(document))
    wrong["mappings"][1]["fields"][0]["nav_field"] = "Nmae"
    wrong["mappings"][2]["direction"] = "sideways"
    with pytest.raises(InvalidMapping) as refused:
        await import_mappings(connected.ctx, connected.company, wrong)
    assert set(pointers(refused.value)) == {"/mappings/2/direction"}
    wrong["mappings"][2]["direction"] = "bidirectional"
    with pytest.raises(InvalidMapping) as refused:
        await import_mappings(connected.ctx, connected.company, wrong)
    assert (
        FieldProblem("/mappings/1/fields/0/nav_field", refused.value.errors[0].message, "Name")
        in refused.value.errors
    )
    assert await export_mappings(connected.ctx, connected.company) == document


async def test_of_two_imports_at_once_one_is_there_at_the_end(connected: House) -> None:
    """Neither leaves what it knew to be there to be taken away by the other."""
    await use_default_setup(connected.ctx, connected.company)
    whole = await export_mappings(connected.ctx, connected.company)
    alone = [m | {"depends_on": []} for m in whole["mappings"]]
    first, second = whole | {"mappings": alone[:4]}, whole | {"mappings": alone[4:8]}
    for _ in range(5):
        await import_mappings(connected.ctx, connected.company, whole)
        await asyncio.gather(
            *(import_mappings(connected.ctx, connected.company, each) for each in (first, second))
        )
        left = [m["name"] for m in (await export_mappings(connected.ctx, connected.company))["mappings"]]
        assert left in ([m["name"] for m in each["mappings"]] for each in (first, second))
