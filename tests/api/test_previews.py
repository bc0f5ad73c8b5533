"""`preview: true` on whatever writes: an answer as of the real call, and nothing is written anywhere."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from app.api.dependencies import Door
from app.db.engine import async_url
from tests.api.conftest import COMPANY, CONNECTION, Sandbox

pytestmark = pytest.mark.anyio

WITHOUT = {
    "create_api_key": "a key is shown once, when it is made",
    "delete_api_key": "it stops one key, by its id",
    "check_nav": "it only looks",
    "check_crm_connection": "it only looks",
    "cancel_synch_job": "it is about a job at work",
    "reset_synch_status": "it sets a count to 0",
    "run_job_queue_entry": "it starts what `synchronize_integration_table_mapping` previews",
    "hold_job_queue_entry": "it sets one status",
    "ready_job_queue_entry": "it sets one status",
}
"""Operations without a preview, and why."""

UNSEEN = ("api_key", "idempotency_key", "alembic_version", "crm_share", "crm_breaker")
"""Tables that a call may touch whatever it asks for: when a key was last used, how busy CRM is."""
SEEN_LATER = ("last_checked_at", "last_error", "status", "watched_at")
"""What is told of CRM from time to time, by whatever was last asked of it."""


@dataclass(frozen=True, slots=True)
class World:
    """What the previews are about."""

    client: httpx.AsyncClient
    account: UUID  # of the coupled customer C1
    other: UUID  # not coupled
    coupling: UUID
    skipped: UUID
    entry: UUID
    field: UUID


def operations(app: FastAPI) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation that writes, by its id."""
    return {
        described["operationId"]: (method, path, described)
        for path, methods in app.openapi()["paths"].items()
        for method, described in methods.items()
        if method in ("post", "put", "patch", "delete")
    }


def asked_how(app: FastAPI, described: dict[str, Any]) -> str | None:
    """Where an operation takes `preview`: in its body, its query, or nowhere."""
    if any(parameter["name"] == "preview" for parameter in described.get("parameters", [])):
        return "query"
    schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    names = [one.get("$ref", "").rpartition("/")[2] for one in (schema, *schema.get("anyOf", []))]
    schemas = app.openapi()["components"]["schemas"]
    return "body" if any("preview" in schemas.get(name, {}).get("properties", {}) for name in names) else None


def requests(world: World) -> dict[str, tuple[str, dict[str, Any]]]:
    """An address and a body for every operation that can be previewed."""
    mappings = f"{COMPANY}/integration-table-mappings"
    customer, row = f"{COMPANY}/nav/customers/C1", f"{COMPANY}/nav/customers/C2"
    field = f"{mappings}/CUSTOMER/fields"
    return {
        "create_company": ("/api/v1/companies", {"name": "other"}),
        "change_company": (COMPANY, {"display_name": "Other"}),
        "delete_company": (COMPANY, {}),
        "replace_crm_connection": (CONNECTION, {}),
        "change_crm_connection": (CONNECTION, {"is_enabled": False, "api_version": "v9.1"}),
        "delete_crm_connection": (CONNECTION, {}),
        "use_default_synchronization_setup": (
            f"{CONNECTION}/use-default-synchronization-setup",
            {"replace_existing": True},
        ),
        "generate_integration_ids": (f"{CONNECTION}/generate-integration-ids", {}),
        "create_integration_table_mapping": (
            mappings,
            {"name": "MINE", "nav_table": "customers", "crm_entity": "account"},
        ),
        "import_integration_table_mappings": (f"{mappings}/export", {}),
        "change_integration_table_mapping": (f"{mappings}/CUSTOMER", {"synch_only_coupled_records": False}),
        "delete_integration_table_mapping": (f"{mappings}/CUSTOMER", {}),
        "create_integration_field_mapping": (field, {"nav_field": "Name_2", "crm_attribute": "description"}),
        "change_integration_field_mapping": (f"{field}/{world.field}", {"not_null": True}),
        "delete_integration_field_mapping": (f"{field}/{world.field}", {}),
        "synchronize_integration_table_mapping": (
            f"{mappings}/CUSTOMER/synchronize",
            {"mode": "full", "create_uncoupled": True},
        ),
        "synchronize_company": (f"{COMPANY}/synchronize", {"mode": "full", "create_uncoupled": True}),
        "match_integration_table_mapping": (
            f"{mappings}/CUSTOMER/match",
            {"criteria": [{"nav_field": "Name", "crm_attribute": "name"}]},
        ),
        "uncouple_integration_table_mapping": (f"{mappings}/CUSTOMER/uncouple", {}),
        "create_nav_record": (f"{COMPANY}/nav/customers", {"fields": {"Name": "New"}}),
        "write_nav_records": (
            f"{COMPANY}/nav/customers/bulk",
            {"records": [{"no": "C1", "fields": {"City": "Leeds"}}, {"fields": {"Name": "New"}}]},
        ),
        "change_nav_record": (customer, {"fields": {"No": "C100", "Name": "Renamed"}}),
        "delete_nav_record": (customer, {}),
        "couple_record": (
            f"{row}/coupling",
            {"crm_id": str(world.other), "synchronize_after_coupling": "nav_data"},
        ),
        "uncouple_record": (f"{customer}/coupling", {}),
        "create_in_crm": (f"{row}/create-in-crm", {}),
        "synchronize_record": (f"{customer}/synchronize", {"direction": "to_crm"}),
        "synchronize_records": (
            f"{COMPANY}/nav/customers/synchronize",
            {"nos": ["C1", "C2"], "direction": "to_crm"},
        ),
        "update_account_statistics": (f"{customer}/update-account-statistics", {}),
        "create_in_nav": (f"{COMPANY}/crm/accounts/{world.other}/create-in-nav", {}),
        "create_many_in_nav": (f"{COMPANY}/crm/accounts/create-in-nav", {"ids": [str(world.other)]}),
        "couple_records": (
            f"{COMPANY}/couplings",
            {
                "pairs": [
                    {"nav_table": "customers", "nav_no": no, "crm_id": str(world.other)}
                    for no in ("C2", "C4")
                ]
            },
        ),
        "delete_coupling": (f"{COMPANY}/couplings/{world.coupling}", {}),
        "restore_coupling": (f"{COMPANY}/couplings/{world.skipped}/restore", {}),
        "restore_couplings": (f"{COMPANY}/couplings/restore", {"mapping": "CUSTOMER"}),
        "create_job_queue_entry": (
            f"{COMPANY}/job-queue-entries",
            {"description": "Mine", "mapping": "CUSTOMER"},
        ),
        "change_job_queue_entry": (
            f"{COMPANY}/job-queue-entries/{world.entry}",
            {"minutes_between_runs": 7},
        ),
        "delete_job_queue_entry": (f"{COMPANY}/job-queue-entries/{world.entry}", {}),
    }


@pytest.fixture
async def world(app: FastAPI, ready: httpx.AsyncClient, crm: Sandbox) -> World:
    """Customers with and without a partner, and one whose coupling is skipped."""
    for no in ("C1", "C2", "C3", "C4"):
        answer = await ready.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": no}})
        assert answer.status_code == 201, answer.text
    made = {}
    for no in ("C1", "C3", "C4"):
        answer = await ready.post(f"{COMPANY}/nav/customers/{no}/create-in-crm")
        assert answer.status_code == 201, answer.text
        made[no] = answer.json()["coupling"]
    await ready.delete(f"{COMPANY}/nav/customers/C4/coupling")
    await ready.patch(f"{COMPANY}/nav/customers/C1", json={"fields": {"City": "York"}})
    context = cast(Door, app.state.door).context
    async with context.uow() as tx:
        company = await tx.companies.get("cronus")
        coupling = await tx.couplings.get(company.id, UUID(made["C3"]["id"]))
        await tx.couplings.save(company.id, [replace(coupling, skipped=True)])
    entries = (await ready.get(f"{COMPANY}/job-queue-entries")).json()["items"]
    rows = (await ready.get(f"{COMPANY}/integration-table-mappings/CUSTOMER/fields")).json()["items"]
    return World(
        ready,
        account=UUID(made["C1"]["crm_id"]),
        other=UUID(made["C4"]["crm_id"]),
        coupling=UUID(made["C1"]["id"]),
        skipped=UUID(made["C3"]["id"]),
        entry=UUID(entries[0]["id"]),
        field=UUID(rows[0]["id"]),
    )


async def snapshot(database: str, crm: Sandbox) -> dict[str, tuple[int, str]]:
    """Rows and a checksum of every table of ours and of NAV, and of every entity of CRM."""
    engine = create_async_engine(async_url(database))
    taken: dict[str, tuple[int, str]] = {}
    async with engine.connect() as connection:
        found = await connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY 1")
        )
        for (table,) in found.all():
            if table in UNSEEN:
                continue
            row = "(to_jsonb(t) - CAST(:later AS text[]))::text"
            query = f"SELECT count(*), md5(coalesce(string_agg({row}, chr(10) ORDER BY {row}), '')) FROM \"{table}\" t"
            later = list(SEEN_LATER) if table == "crm_connection" else []
            number, checksum = (await connection.execute(text(query), {"later": later})).one()
            taken[table] = (number, checksum)
    await engine.dispose()
    for entity in sorted(crm.organization.metadata.tables):
        kept = crm.organization.rows(entity)
        digest = hashlib.md5(repr(sorted(kept.items())).encode(), usedforsecurity=False).hexdigest()
        taken[f"crm {entity}"] = (len(kept), digest)
    writes = [r for r in crm.organization.log if r.method in ("PATCH", "PUT", "DELETE")]
    taken["crm writes"] = (len(writes), "")
    return taken


async def test_every_operation_that_writes_records_or_configuration_can_be_previewed(app: FastAPI) -> None:
    without = {name for name, (_, _, each) in operations(app).items() if asked_how(app, each) is None}
    assert without == set(WITHOUT)


async def test_a_preview_answers_and_writes_nothing(
    app: FastAPI, world: World, crm: Sandbox, database: str
) -> None:
    known = operations(app)
    bodies = requests(world)
    bodies["replace_crm_connection"] = (CONNECTION, {**crm.setup(), "api_version": "v9.1"})
    document = (await world.client.get(f"{COMPANY}/integration-table-mappings/export")).json()
    document["mappings"][0]["synch_only_coupled_records"] = False
    bodies["import_integration_table_mappings"] = (bodies["import_integration_table_mappings"][0], document)
    assert set(bodies) == set(known) - set(WITHOUT)
    before = await snapshot(database, crm)
    for name, (address, body) in bodies.items():
        method, _, described = known[name]
        where = asked_how(app, described)
        answer = await world.client.request(
            method,
            address,
            params={"preview": "true"} if where == "query" else None,
            json=body | ({"preview": True} if where == "body" else {}) if method != "delete" else None,
        )
        assert answer.status_code == 200, (name, answer.text)
        after = await snapshot(database, crm)
        changed = {table for table in before if before[table] != after[table]}
        assert not changed, (name, changed)


async def test_a_preview_asked_for_in_another_place_is_refused_and_writes_nothing(
    app: FastAPI, world: World, crm: Sandbox, database: str
) -> None:
    bodies = requests(world) | {
        "replace_crm_connection": (CONNECTION, {**crm.setup(), "api_version": "v9.1"}),
        "run_job_queue_entry": (f"{COMPANY}/job-queue-entries/{world.entry}/run", {}),
        "hold_job_queue_entry": (f"{COMPANY}/job-queue-entries/{world.entry}/hold", {}),
        "reset_synch_status": (f"{COMPANY}/synch-status/reset", {}),
    }
    document = (await world.client.get(f"{COMPANY}/integration-table-mappings/export")).json()
    document["mappings"] = []
    bodies["import_integration_table_mappings"] = (bodies["import_integration_table_mappings"][0], document)
    before = await snapshot(database, crm)
    for name, (address, body) in bodies.items():
        method, _, described = operations(app)[name]
        elsewhere = {"query": "body", "body": "query"}.get(asked_how(app, described) or "", "body")
        answer = await world.client.request(
            method,
            address,
            params={"preview": "true"} if elsewhere == "query" else None,
            json=body | {"preview": True} if elsewhere == "body" else body,
        )
        pointer = "/preview" if elsewhere == "body" else "preview"
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), name
        assert await snapshot(database, crm) == before, name


async def test_a_preview_shows_the_number_that_the_record_then_gets(world: World) -> None:
    new = {"fields": {"Name": "New"}}
    shown = await world.client.post(f"{COMPANY}/nav/customers", json=new | {"preview": True})
    again = await world.client.post(f"{COMPANY}/nav/customers", json=new | {"preview": True})
    assert shown.status_code == 200
    assert shown.json()["integration_id"] is None
    assert "location" not in shown.headers
    made = await world.client.post(f"{COMPANY}/nav/customers", json=new)
    assert made.json()["no"] == shown.json()["no"] == again.json()["no"]
    written, foreseen = made.json()["fields"], shown.json()["fields"]
    assert {name for name in written if written[name] != foreseen[name]} <= {"Last_Modified_Date_Time"}


async def test_a_preview_of_several_pairs_knows_that_a_row_can_be_coupled_once(world: World) -> None:
    address, body = requests(world)["couple_records"]
    shown = (await world.client.post(address, json=body | {"preview": True})).json()["outcomes"]
    made = (await world.client.post(address, json=body)).json()["outcomes"]
    codes = [[outcome["error"] and outcome["error"]["code"] for outcome in each] for each in (shown, made)]
    assert codes == [[None, "already-coupled"]] * 2


async def test_coupling_shows_what_would_be_written_right_after_it(world: World) -> None:
    await world.client.patch(f"{COMPANY}/nav/customers/C2", json={"fields": {"City": "Leeds"}})
    address, body = requests(world)["couple_record"]
    shown = (await world.client.put(address, json=body | {"preview": True})).json()
    made = (await world.client.put(address, json=body)).json()
    assert shown["coupling"] is None
    assert shown["synchronization"]["action"] == made["synchronization"]["action"] == "modified"
    assert shown["synchronization"]["changes"] == made["synchronization"]["changes"]


async def test_a_change_that_would_be_refused_is_refused_in_a_preview(world: World) -> None:
    fields = {"fields": {"Salesperson_Code": "NOBODY"}, "preview": True}
    refused = await world.client.patch(f"{COMPANY}/nav/customers/C1", json=fields)
    assert refused.status_code == 422
    assert refused.json()["errors"]
