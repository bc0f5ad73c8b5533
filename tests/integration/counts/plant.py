"""A company of any size, and the meter on what synchronizing it costs."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.domain.job import Counts, JobStatus, SynchJob, SynchMode
from app.domain.mapping import Direction
from app.jobs.runner import Runner
from app.sandbox import rows
from app.sandbox.addresses import Context as Caller
from app.sandbox.organization import Requested
from app.use_cases.records import nav_bulk
from app.use_cases.run import run_job
from tests.integration.use_cases.office import Office

API = "/api/data/v9.2/"
BULK = 5000


@dataclass
class Meter:
    """What went to CRM and to PostgreSQL."""

    requests: list[Requested] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bodies both ways, and the addresses."""
        return sum(len(one.path) + one.sent + one.received for one in self.requests)

    @property
    def told(self) -> list[str]:
        """The requests, as a failing test shows them."""
        return [f"{one.method} {one.status} {one.path.removeprefix(API)[:60]}" for one in self.requests]


class Plant:
    """An office where records come by the thousand. CRM's clock stands unless it is moved."""

    def __init__(self, office: Office, clock: "CrmClock") -> None:
        self.office = office
        self.clock = clock
        self._made = 0

    # --- people at work ---------------------------------------------------------------------------

    async def customers(self, count: int) -> list[str]:
        """So many new customers in NAV."""
        numbers = [f"K{self._made + n:07}" for n in range(count)]
        self._made += count
        for start in range(0, count, BULK):
            await self._bulk([(no, _customer(no)) for no in numbers[start : start + BULK]])
        return numbers

    async def rename(self, numbers: list[str], name: str) -> None:
        """One field of each of these customers changes."""
        await self._bulk([(no, {"Name": f"{name} {no}"}) for no in numbers])

    async def _bulk(self, records: list[tuple[str | None, dict[str, Any]]]) -> None:
        for answer in await nav_bulk(self.office.ctx, self.office.company, "customers", records):
            assert not isinstance(answer, Exception), answer

    def accounts(self, count: int) -> list[str]:
        """So many new accounts in CRM."""
        table = self.organization.metadata.tables["account"]
        made = [rows.create(self._person(), table, _account(self._made + n)) for n in range(count)]
        self._made += count
        return made

    def rename_accounts(self, ids: list[str], name: str) -> None:
        """One column of each of these accounts changes."""
        table = self.organization.metadata.tables["account"]
        for row_id in ids:
            rows.update(self._person(), table, row_id, {"name": f"{name} {row_id[:8]}"})

    def account_ids(self) -> list[str]:
        """All accounts."""
        return list(self.organization.rows("account"))

    def _person(self) -> Caller:
        return Caller(self.organization, f"http://localhost:8089{API}", self.organization.user)

    @property
    def organization(self) -> Any:
        """The organization behind the sandbox."""
        return self.office.house.organization

    # --- synchronizing ----------------------------------------------------------------------------

    async def run(
        self, direction: Direction, mode: SynchMode = SynchMode.MODIFIED, **request: Any
    ) -> tuple[Counts, Meter]:
        """A synch job of CUSTOMER as a worker carries it out, from its claim to its end; what it did and cost."""
        job = SynchJob(
            uuid4(), "synchronize", "CUSTOMER", mode, direction, request=request, created_at=self.now()
        )
        async with self.office.ctx.uow() as tx:
            await tx.jobs.add(self.office.company.id, [job])
        with self.metered() as meter:
            await Runner(self.office.ctx, {"synchronize": run_job}, uuid4()).execute(job.id)
        async with self.office.ctx.uow() as tx:
            ended = await tx.jobs.get(self.office.company.id, job.id)
        assert ended.status is JobStatus.SUCCEEDED, ended.message
        return ended.counts.get(direction.value, Counts()), meter

    async def load(self, count: int) -> None:
        """So many more customers in NAV, coupled with accounts in CRM; both sides have been read to the end."""
        await self.customers(count)
        await self.run(Direction.TO_CRM, SynchMode.FULL, create_uncoupled=True)
        self.clock.pass_by(hours=1)
        await self.run(Direction.FROM_CRM)

    @contextmanager
    def metered(self) -> Iterator[Meter]:
        """What goes to CRM and to PostgreSQL meanwhile."""
        meter = Meter()
        before = len(self.organization.log)

        def note(*args: Any) -> None:
            meter.statements.append(" ".join(str(args[2]).split()))

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield meter
        finally:
            event.remove(Engine, "before_cursor_execute", note)
            meter.requests = [one for one in list(self.organization.log)[before:] if one.path.startswith(API)]

    def now(self) -> datetime:
        """Our time."""
        return self.office.ctx.clock.now()

    def writes_in_crm(self) -> int:
        """How many rows CRM wrote so far."""
        return int(self.organization.storage.rows_written)


class CrmClock:
    """The time in CRM, as a test sets it."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, **duration: float) -> None:
        """Lets time pass."""
        self.time += timedelta(**duration)


@asynccontextmanager
async def small_pages(plant: Plant, size: int) -> AsyncIterator[None]:
    """CRM is read in pages of that size meanwhile."""
    store: Any = plant.office.crm
    usual, store._page_size = store._page_size, size
    try:
        yield
    finally:
        store._page_size = usual


def _customer(no: str) -> dict[str, Any]:
    """Eleven fields, as a customer has them."""
    return {
        "Name": f"Customer {no}",
        "Address": f"{no} High Street",
        "Address_2": "Floor 2",
        "City": "London",
        "Phone_No": "020 7946 0000",
        "E_Mail": f"{no.lower()}@adatum.example",
        "Fax_No": "020 7946 0001",
        "Home_Page": "adatum.example",
        "Post_Code": "W1 3AL",
        "County": "Greater London",
        "Credit_Limit_LCY": 25000,
    }


def _account(number: int) -> dict[str, Any]:
    return {
        "name": f"Account {number:07}",
        "customertypecode": 3,
        "address1_line1": f"{number} High Street",
        "address1_city": "London",
        "telephone1": "020 7946 0000",
        "emailaddress1": f"a{number}@adatum.example",
    }
