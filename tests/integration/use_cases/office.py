"""A company that is set up, and the people who work in it: they change records here and there and synchronize."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.coupling import Coupling
from app.domain.job import Counts, SynchJob, SynchMode
from app.domain.mapping import Direction, TableMapping
from app.domain.records import Values
from app.ports import Context, CrmSide, Insert, LoggedOutcome, NavSide, Refused, Transaction, Update
from app.ports import Delete as Deletion
from app.sandbox import Fault
from app.use_cases.default_setup import use_default_setup
from app.use_cases.run import run_job
from tests.integration.use_cases.house import House, a_house

MAPPINGS = ("CURRENCY", "SALESPEOPLE", "CUSTOMER", "CONTACT")
ENTITIES = ("transactioncurrency", "systemuser", "account", "contact")
CUSTOMER_TYPE = 3


class Quiet:
    """A report nobody listens to. `interrupt` may raise at every step, as a worker that dies."""

    def __init__(self, interrupt: Callable[[str], None] = lambda step: None) -> None:
        self.counts: dict[str, Counts] = {}
        self._interrupt = interrupt

    async def progress(
        self, direction: str, counts: Counts, expected: int | None = None, tx: Transaction | None = None
    ) -> None:
        """Notes how far the job came."""
        self._interrupt("progress")
        self.counts[direction] = counts

    def go_on(self) -> None:
        """On it goes."""
        self._interrupt("go_on")


class Office:
    """What a test of the synchronization works with."""

    def __init__(self, house: House, engine: AsyncEngine) -> None:
        self.house = house
        self.engine = engine
        self.ctx = house.ctx
        self.company = house.company
        self._sides: tuple[NavSide, CrmSide] | None = None

    # --- both sides, as people see them -----------------------------------------------------------

    async def open(self) -> None:
        """Opens both sides."""
        async with self.ctx.uow() as tx:
            connection = await tx.connections.find(self.company.id)
        assert connection is not None
        self._sides = self.ctx.sides.nav(self.company), self.ctx.sides.crm(self.company, connection)

    @property
    def nav(self) -> NavSide:
        """The NAV side."""
        assert self._sides is not None
        return self._sides[0]

    @property
    def crm(self) -> CrmSide:
        """The CRM side; what is written through it is what a person writes."""
        assert self._sides is not None
        return self._sides[1]

    async def customer(self, no: str, **fields: Any) -> str:
        """A new customer."""
        return (await self.nav.create("customers", no, {"Name": f"Customer {no}"} | fields)).key

    async def account(self, **fields: Any) -> UUID:
        """A new account of type Customer."""
        return await self.row("account", **{"name": "Account", "customertypecode": CUSTOMER_TYPE} | fields)

    async def row(self, entity: str, **fields: Any) -> UUID:
        """A new CRM row."""
        (made,) = await self.crm.write(entity, [Insert(uuid4(), fields)])
        assert not isinstance(made, Refused), made.error
        return made.id

    async def salesperson(self, code: str, email: str | None = None) -> UUID:
        """A salesperson and the CRM user who is the same person, not coupled yet."""
        await self.nav.create("salespeople", code, {"Name": code})
        return await self.row("systemuser", lastname=code, internalemailaddress=email, islicensed=True)

    async def change_nav(self, table: str, no: str, **fields: Any) -> None:
        """A person changes a NAV record."""
        await self.nav.change(table, no, fields)

    async def change_crm(self, entity: str, crm_id: UUID, **fields: Any) -> None:
        """A person changes a CRM row."""
        (answer,) = await self.crm.write(entity, [Update(crm_id, fields)])
        assert not isinstance(answer, Refused), answer.error

    async def delete_crm(self, entity: str, *ids: UUID) -> None:
        """A person deletes CRM rows."""
        for answer in await self.crm.write(entity, [Deletion(one) for one in ids]):
            assert not isinstance(answer, Refused), answer.error

    async def in_nav(self, table: str, no: str) -> Values:
        """What NAV shows."""
        return (await self.nav.by_key(table, [no]))[no].values

    async def in_crm(self, entity: str, crm_id: UUID) -> Values:
        """What CRM shows."""
        fields = (await self.crm.definition(entity)).fields
        return (await self.crm.get(entity, [crm_id], fields))[crm_id].values

    def accounts(self) -> list[dict[str, Any]]:
        """All accounts in CRM."""
        return list(self.house.organization.rows("account").values())

    async def numbers(self, table: str = "customers") -> list[str]:
        """The keys of all records of a NAV table."""
        records, _ = await self.nav.records(table, limit=1000)
        return [record.key for record in records]

    # --- our memory -------------------------------------------------------------------------------

    async def coupling(self, no: str, table: str = "customers") -> Coupling | None:
        """The coupling of a NAV record."""
        found = (await self.nav.by_key(table, [no])).get(no)
        if found is None or found.integration_id is None:
            return None
        async with self.ctx.uow() as tx:
            couplings = await tx.couplings.of_nav(self.company.id, table, [found.integration_id])
        return couplings.get(found.integration_id)

    async def coupled(self, no: str, table: str = "customers") -> Coupling:
        """The coupling, where there must be one."""
        coupling = await self.coupling(no, table)
        assert coupling is not None, f"{no} is not coupled"
        return coupling

    async def couplings(self, mapping: str = "CUSTOMER") -> list[Coupling]:
        """All couplings of a mapping, reserved ones too."""
        async with self.ctx.uow() as tx:
            return await tx.couplings.page(self.company.id, mapping=mapping, limit=1000)

    async def set_up(self, mapping: str = "CUSTOMER", **changes: Any) -> TableMapping:
        """Changes a mapping."""
        async with self.ctx.uow() as tx:
            stored = await tx.mappings.get(self.company.id, mapping)
            changed = replace(stored.mapping, **changes)
            await tx.mappings.save(self.company.id, changed)
        return changed

    # --- synchronizing ----------------------------------------------------------------------------

    async def run(
        self,
        mapping: str = "CUSTOMER",
        mode: SynchMode = SynchMode.MODIFIED,
        direction: Direction | None = None,
        *,
        report: Quiet | None = None,
        job: SynchJob | None = None,
        ctx: Context | None = None,
        **request: Any,
    ) -> "Ran":
        """Runs a synch job; `job` again runs one that was interrupted."""
        if job is None:
            job = SynchJob(
                uuid4(),
                "synchronize",
                mapping,
                mode,
                direction,
                request=request,
                created_at=self.ctx.clock.now(),
            )
            async with self.ctx.uow() as tx:
                await tx.jobs.add(self.company.id, [job])
        report = report or Quiet()
        await run_job(ctx or self.ctx, self.company, job, report)
        return await self.ran(job, report)

    async def ran(self, job: SynchJob, report: Quiet) -> "Ran":
        """What a job did."""
        async with self.ctx.uow() as tx:
            outcomes = await tx.synch_log.outcomes(self.company.id, job.id, None, 0, 1000)
        return Ran(job, report.counts, outcomes)

    # --- what it cost -----------------------------------------------------------------------------

    def faults(self, *faults: Fault) -> None:
        """What goes wrong in CRM from now on."""
        self.house.organization.faults[:] = faults

    def forget_requests(self) -> None:
        """Counts requests from here on."""
        self.house.organization.log.clear()

    @property
    def requests(self) -> list[str]:
        """What was asked of CRM: `PATCH accounts`."""
        root = "/api/data/v9.2/"
        return [
            f"{each.method} {each.path.removeprefix(root).split('?')[0].split('(')[0]}"
            for each in self.house.organization.log
            if each.path.startswith(root)
        ]

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[list[str]]:
        """The statements that reach the database meanwhile."""
        seen: list[str] = []

        def note(*args: Any) -> None:
            seen.append(" ".join(str(args[2]).split()))

        event.listen(self.engine.sync_engine, "before_cursor_execute", note)
        try:
            yield seen
        finally:
            event.remove(self.engine.sync_engine, "before_cursor_execute", note)


class Ran:
    """What a synch job did, as the log shows it."""

    def __init__(self, job: SynchJob, counts: dict[str, Counts], outcomes: list[LoggedOutcome]) -> None:
        self.job = job
        self.to_crm = counts.get(Direction.TO_CRM.value, Counts())
        self.from_crm = counts.get(Direction.FROM_CRM.value, Counts())
        self.outcomes = [logged.outcome for logged in outcomes]

    @property
    def told(self) -> list[tuple[str | None, str, str | None, str | None]]:
        """Direction, record, action, reason or error code of every outcome."""
        return [
            (
                each.direction,
                str(each.nav_key or each.crm_id),
                each.action.value,
                each.reason or (each.error.code if each.error else None),
            )
            for each in self.outcomes
        ]

    @property
    def wrote_nothing(self) -> bool:
        """Whether neither side was written to."""
        both = self.to_crm + self.from_crm
        return (both.inserted, both.modified, both.deleted, both.failed) == (0, 0, 0, 0)


@asynccontextmanager
async def the_office(engine: AsyncEngine) -> AsyncIterator[Office]:
    """The company that was set up in this database by `an_office`; what CRM has is known, as after a setup."""
    async with a_house(engine, None) as house:
        office = Office(house, engine)
        await office.open()
        await asyncio.gather(*(office.crm.definition(entity) for entity in ENTITIES))
        yield office


@asynccontextmanager
async def an_office(
    engine: AsyncEngine, company: dict[str, Any] | None = None, **sandbox: Any
) -> AsyncIterator[Office]:
    """A company with the default setup."""
    async with a_house(engine, company or {}, **sandbox) as house:
        await house.connect()
        await use_default_setup(house.ctx, house.company, mappings=MAPPINGS)
        office = Office(house, engine)
        await office.open()
        yield office
