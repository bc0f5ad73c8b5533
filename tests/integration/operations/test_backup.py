"""An older backup is put back while both sides have moved on: a full synchronization brings everything together
again, and nothing is there twice (docs/operating.md)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.job import JobStatus, SynchJob, SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction
from app.jobs.schedule import take_back_lost
from tests.integration.operations.backups import back_up, put_back
from tests.integration.use_cases.office import Office, an_office

pytestmark = pytest.mark.anyio
FULL = SynchMode.FULL


@pytest.fixture
async def office(engine: AsyncEngine) -> AsyncIterator[Office]:
    """Two customers with their accounts; whatever is on one side alone gets a partner on the other."""
    async with an_office(engine) as office:
        for no in ("10000", "20000"):
            await office.customer(no)
        await office.set_up(
            synch_only_coupled_records=False,
            deletion_conflict_resolution=DeletionConflictResolution.PROPAGATE,
        )
        await office.run(mode=FULL)
        yield office


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup of everything that is ours: our memory and the NAV records that we keep."""

    address: str
    engine: AsyncEngine
    file: Path

    @asynccontextmanager
    async def put_back_after(self) -> AsyncIterator[None]:
        """Made now; what happens inside is forgotten by us and by NAV afterwards, and not by CRM."""
        await back_up(self.address, self.file)
        yield
        await self.engine.dispose()
        await put_back(self.address, self.file)


@pytest.fixture
def backup(database: str, engine: AsyncEngine, tmp_path: Path) -> Backup:
    """A backup of the test's database."""
    return Backup(database, engine, tmp_path / "backup")


async def names(office: Office) -> tuple[list[str], list[str]]:
    """The names of the customers and of the accounts."""
    customers = [str((await office.in_nav("customers", no))["Name"]) for no in await office.numbers()]
    return sorted(customers), sorted(str(row["name"]) for row in office.accounts())


async def converged(office: Office) -> None:
    """Nothing is left to do, and nothing failed."""
    for mode in (FULL, SynchMode.MODIFIED):
        ran = await office.run(mode=mode)
        assert ran.wrote_nothing, ran.told


async def account_of(office: Office, no: str) -> UUID:
    """The id of a customer's account."""
    return (await office.coupled(no)).crm_id


async def test_what_was_created_since_the_backup_is_found_again(office: Office, backup: Backup) -> None:
    await office.customer("30000")  # in NAV at the time of the backup, in CRM only afterwards
    await office.account(name="Fourth")  # in CRM at the time, in NAV only afterwards
    async with backup.put_back_after():
        await office.run(mode=FULL)
        await office.customer("50000")
        await office.run(mode=FULL)
        expected = await names(office)
        assert expected[0] == expected[1]
    await office.run(mode=FULL)
    assert await names(office) == expected
    await converged(office)


async def test_what_was_changed_since_the_backup_comes_back_from_crm(office: Office, backup: Backup) -> None:
    one, two = await account_of(office, "10000"), await account_of(office, "20000")
    async with backup.put_back_after():
        await office.change_nav("customers", "10000", City="Oslo")
        await office.change_crm("account", two, telephone1="555")
        await office.run()
    assert (
        "City" not in await office.in_nav("customers", "10000")
        or not (await office.in_nav("customers", "10000"))["City"]
    )
    await office.run(mode=FULL)
    assert (await office.in_nav("customers", "10000"))["City"] == "Oslo"
    assert (await office.in_nav("customers", "20000"))["Phone_No"] == "555"
    assert (await office.in_crm("account", one))["address1_city"] == "Oslo"
    await converged(office)


async def test_what_both_sides_changed_differently_is_a_conflict_and_nothing_is_lost(
    office: Office, backup: Backup
) -> None:
    one = await account_of(office, "10000")
    async with backup.put_back_after():
        await office.change_nav("customers", "10000", City="Oslo")
        await office.run()
    await office.change_nav("customers", "10000", City="Bergen")
    await office.run(mode=FULL)
    assert (await office.in_nav("customers", "10000"))["City"] == "Bergen"
    assert (await office.in_crm("account", one))["address1_city"] == "Oslo"
    error = (await office.coupled("10000")).last_error
    assert error is not None
    assert error.code == "update-conflict"


async def test_what_was_deleted_since_the_backup_is_deleted_again(office: Office, backup: Backup) -> None:
    async with backup.put_back_after():
        await office.nav.remove("customers", "20000")
        await office.run()
        expected = await names(office)
    await office.run(mode=FULL)
    assert await names(office) == expected == (["Customer 10000"], ["Customer 10000"])
    await converged(office)


async def test_a_crm_that_no_longer_knows_what_changed_since_the_backup_is_read_whole(
    office: Office, backup: Backup
) -> None:
    await office.customer("30000")
    async with backup.put_back_after():
        await office.run(mode=FULL)
        await office.change_crm("account", await account_of(office, "30000"), telephone1="555")
        await office.run()
        await office.delete_crm("account", await account_of(office, "20000"))
        await office.run()
        expected = await names(office)
    office.house.organization.expire_delta_tokens()
    await office.run()
    await office.run(mode=FULL)
    assert await names(office) == expected
    assert (await office.in_nav("customers", "30000"))["Phone_No"] == "555"
    await converged(office)


async def test_a_job_that_ran_at_the_time_of_the_backup_is_taken_up_again(
    office: Office, backup: Backup
) -> None:
    job = SynchJob(
        uuid4(), "synchronize", "CUSTOMER", FULL, maximum_attempts=3, created_at=office.ctx.clock.now()
    )
    async with office.ctx.uow() as tx:
        await tx.jobs.add(office.company.id, [job])
        assert await tx.jobs.claim(job.id, uuid4(), office.ctx.clock.now()) is not None
    async with backup.put_back_after():
        pass
    office.house.clock.pass_by(minutes=5)
    assert await take_back_lost(office.ctx, timedelta(seconds=30)) == 1
    async with office.ctx.uow() as tx:
        assert (await tx.jobs.get(office.company.id, job.id)).status is JobStatus.QUEUED


async def test_a_forgotten_pair_that_conflicts_is_found_by_the_number_of_its_customer(
    office: Office, backup: Backup
) -> None:
    await office.customer("30000")
    async with backup.put_back_after():
        await office.run(mode=FULL)
    await office.change_nav("customers", "30000", City="Bergen")
    (made,) = [row for row in office.accounts() if row["name"] == "Customer 30000"]
    await office.change_crm("account", UUID(str(made["accountid"])), address1_city="Oslo")
    await office.run(mode=FULL, direction=Direction.FROM_CRM)
    (forgotten,) = [pair for pair in await office.couplings() if pair.crm_id == UUID(str(made["accountid"]))]
    assert forgotten.nav_key == "30000"
    assert forgotten.last_error is not None
    assert forgotten.last_error.code == "update-conflict"
