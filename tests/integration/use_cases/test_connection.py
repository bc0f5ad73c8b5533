"""Saving, testing, enabling and disabling the connection."""

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import ConnectionSetup, ConnectionStatus
from app.domain.errors import ConnectionTestFailed, Invalid, InvalidServerUrl, NotFound, PreconditionFailed
from app.sandbox import DEFAULT_SECRET
from app.use_cases.connection import (
    delete_connection,
    disable_connection,
    enable_connection,
    save_connection,
    test_connection,
)
from app.use_cases.default_setup import use_default_setup
from tests.integration.db.memory import a_job
from tests.integration.use_cases.house import CRM, House, a_connection

pytestmark = pytest.mark.anyio
test_connection.__test__ = False  # type: ignore[attr-defined]  # a use case, no test


async def stored(house: House) -> ConnectionSetup | None:
    async with house.ctx.uow() as tx:
        return await tx.connections.find(house.company.id)


async def test_a_saved_connection_is_not_enabled(house: House) -> None:
    saved = await save_connection(house.ctx, house.company, a_connection(), whole=True)
    assert (saved.server_url, saved.api_version, saved.is_enabled) == (CRM, "v9.2", False)
    assert saved.status is ConnectionStatus.DISABLED
    assert saved.credentials.client_secret == DEFAULT_SECRET


async def test_what_is_read_from_crm_cannot_be_written(house: House) -> None:
    with pytest.raises(Invalid) as refused:
        await save_connection(
            house.ctx,
            house.company,
            a_connection(is_enabled=True, integration_solution_installed=True),
            whole=True,
        )
    assert {problem.pointer for problem in refused.value.errors} == {
        "/is_enabled",
        "/integration_solution_installed",
    }


async def test_a_connection_needs_an_address_and_a_login(house: House) -> None:
    with pytest.raises(Invalid) as refused:
        await save_connection(house.ctx, house.company, {}, whole=True)
    assert [problem.pointer for problem in refused.value.errors] == ["/server_url", "/authentication"]
    with pytest.raises(NotFound):
        await save_connection(house.ctx, house.company, {"server_url": CRM})
    with pytest.raises(InvalidServerUrl):
        await save_connection(
            house.ctx, house.company, a_connection(server_url=f"{CRM}/main.aspx"), whole=True
        )


@pytest.mark.parametrize("whole", [True, False])
async def test_a_secret_left_out_stays_for_the_same_client_only(house: House, whole: bool) -> None:
    await save_connection(house.ctx, house.company, a_connection(), whole=True)
    login = {k: v for k, v in a_connection()["authentication"].items() if k != "client_secret"}
    same = await save_connection(
        house.ctx, house.company, a_connection() | {"authentication": login}, whole=whole
    )
    assert same.credentials.client_secret == DEFAULT_SECRET
    for other in ({"client_id": "another"}, {"tenant_id": "another"}, {"authority": "https://login.example"}):
        await save_connection(house.ctx, house.company, a_connection(), whole=True)
        changed = a_connection() | {"authentication": login | other}
        saved = await save_connection(house.ctx, house.company, changed, whole=whole)
        assert saved.credentials.client_secret is None


async def test_a_test_says_every_step_and_changes_nothing(house: House) -> None:
    before = await save_connection(house.ctx, house.company, a_connection(), whole=True)
    report = await test_connection(house.ctx, house.company)
    assert report.ok
    assert report.user_id is not None
    assert await stored(house) == before


async def test_enabling_tests_and_remembers_what_crm_said(house: House) -> None:
    await save_connection(house.ctx, house.company, a_connection(), whole=True)
    enabled = await enable_connection(house.ctx, house.company)
    connection = enabled.connection
    assert connection.is_enabled
    assert connection.status is ConnectionStatus.CONNECTED
    assert connection.last_checked_at == house.clock.now()
    assert connection.organization_id is not None
    assert connection.user_id == enabled.report.user_id
    assert connection.base_currency == "GBP"
    assert enabled.default_setup_needed
    assert (await house.reload()).tracking
    async with house.ctx.uow() as tx:
        assert await tx.mappings.all(house.company.id) == []


async def test_enabling_with_a_wrong_secret_names_the_step_and_leaves_it_disabled(house: House) -> None:
    wrong = a_connection(authentication={"client_secret": "wrong"})
    before = await save_connection(house.ctx, house.company, wrong, whole=True)
    with pytest.raises(ConnectionTestFailed) as refused:
        await enable_connection(house.ctx, house.company)
    assert refused.value.extra["failed_step"]
    assert refused.value.fix
    assert "wrong" not in refused.value.detail
    assert await stored(house) == before


async def test_enabling_without_a_secret_says_what_is_missing(house: House) -> None:
    nothing = a_connection(authentication={"client_secret": None})
    await save_connection(house.ctx, house.company, nothing, whole=True)
    with pytest.raises(Invalid) as refused:
        await enable_connection(house.ctx, house.company)
    assert refused.value.errors[0].pointer == "/authentication/client_secret"


async def test_an_enabled_connection_takes_new_credentials_only_if_they_work(connected: House) -> None:
    before = await stored(connected)
    with pytest.raises(ConnectionTestFailed):
        await save_connection(
            connected.ctx, connected.company, {"authentication": {"client_secret": "wrong"}}
        )
    assert await stored(connected) == before
    again = await save_connection(
        connected.ctx,
        connected.company,
        {"authentication": {"client_secret": DEFAULT_SECRET}, "api_version": "v9.1"},
    )
    assert again.is_enabled
    assert again.api_version == "v9.1"


async def test_disabling_keeps_the_setup_and_says_why(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    disabled = await disable_connection(connected.ctx, connected.company, "Maintenance")
    assert (disabled.is_enabled, disabled.status) == (False, ConnectionStatus.DISABLED)
    assert disabled.disabled_reason == "Maintenance"
    assert disabled.credentials.client_secret == DEFAULT_SECRET
    async with connected.ctx.uow() as tx:
        assert len(await tx.mappings.all(connected.company.id)) == 15
        assert await tx.job_queue.all(connected.company.id)
    assert not (await enable_connection(connected.ctx, connected.company)).default_setup_needed


async def test_enabling_announces_the_jobs_that_waited(connected: House, engine: AsyncEngine) -> None:
    job = a_job(created_at=connected.clock.now())
    async with connected.ctx.uow() as tx:
        await tx.jobs.add(connected.company.id, [job])
    await disable_connection(connected.ctx, connected.company)
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "DELETE FROM pgqueuer"
        )  # a worker took the ticket, and could not run it
    await enable_connection(connected.ctx, connected.company)
    async with engine.connect() as connection:
        sent = await connection.scalars(text("SELECT payload FROM pgqueuer"))
        assert [UUID(bytes=payload) for payload in sent] == [job.id]


async def test_records_added_while_disabled_are_counted_when_it_is_enabled_again(connected: House) -> None:
    await use_default_setup(connected.ctx, connected.company)
    await disable_connection(connected.ctx, connected.company)
    nav = await connected.nav()
    for number in ("10000", "20000", "30000"):
        assert (await nav.create("customers", number, {"Name": f"Customer {number}"})).integration_id is None
    enabled = await enable_connection(connected.ctx, connected.company)
    counts = enabled.records_without_integration_id or {}
    assert counts["customers"] == 3


async def test_who_read_an_older_connection_cannot_change_it(house: House) -> None:
    first = await save_connection(house.ctx, house.company, a_connection(), whole=True)
    await save_connection(house.ctx, house.company, {"api_version": "v9.1"}, revision=first.revision)
    for change in (
        save_connection(house.ctx, house.company, {"api_version": "v9.0"}, revision=first.revision),
        disable_connection(house.ctx, house.company, revision=first.revision),
        delete_connection(house.ctx, house.company, revision=first.revision),
    ):
        with pytest.raises(PreconditionFailed):
            await change


async def test_a_deleted_connection_is_gone(connected: House) -> None:
    await delete_connection(connected.ctx, connected.company)
    assert await stored(connected) is None
    with pytest.raises(NotFound):
        await enable_connection(connected.ctx, connected.company)


async def test_another_address_forgets_what_was_read_from_the_first(connected: House) -> None:
    await disable_connection(connected.ctx, connected.company)
    moved = await save_connection(connected.ctx, connected.company, {"server_url": "https://other.example"})
    assert (moved.organization_id, moved.crm_version, moved.base_currency) == (None, None, None)
    assert replace(moved, server_url=CRM).credentials.client_secret == DEFAULT_SECRET
