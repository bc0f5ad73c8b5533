"""The company of the convergence test: people who change records, the service that carries them over, and what may
befall it on the way."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, get_args
from uuid import uuid4

from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.coupling import Coupling, SynchAction
from app.domain.defaults import default_mappings
from app.domain.errors import CrmUnavailable, IntegrationError
from app.domain.job import Counts, JobStatus, SynchJob, SynchMode
from app.domain.mapping import Direction, FieldStatus
from app.domain.records import Reference, Side, Snapshot
from app.jobs.report import JobReport
from app.ports import Context
from app.sandbox import Fault
from app.use_cases.mappings import change_field
from app.use_cases.run import run_job
from app.use_cases.synchronize import synchronize_record
from tests.integration.fuses import Crash, Fuse, FusedWire, fused
from tests.integration.stories import CUSTOMERS, KINDS, SHOWN, Kind, Rules, Story
from tests.integration.use_cases.house import a_house
from tests.integration.use_cases.office import CUSTOMER_TYPE, Office, Ran

LEFT_OVER_SECONDS = 60
LOGGED = (
    SynchAction.INSERTED,
    SynchAction.MODIFIED,
    SynchAction.DELETED,
    SynchAction.FAILED,
    SynchAction.SKIPPED,
)
"""What is counted has a line in the log, but for records that were left as they were."""


# --- what may befall the service ----------------------------------------------------------------------


@dataclass(frozen=True)
class Dies:
    """The process dies at the n-th step."""

    step: int
    after: bool


@dataclass(frozen=True)
class Overtaken:
    """At the n-th step a person changes a field."""

    step: int
    after: bool
    number: int
    side: Side
    value: str


@dataclass(frozen=True)
class Unheard:
    """CRM's answers get lost."""

    kind: Any
    every: int


@dataclass(frozen=True)
class Switched:
    """At the n-th step somebody switches a row of a mapping on or off."""

    step: int
    after: bool
    name: str


@dataclass(frozen=True)
class Crossed:
    """At the n-th step somebody synchronizes a record, and changes it; so many steps later the process dies, or not."""

    step: int
    after: bool
    number: int
    direction: str
    side: Side
    value: str
    left: int


Mishap = Dies | Overtaken | Unheard | Switched | Crossed | None
STEPS = st.integers(1, 40)
VALUES = st.sampled_from(["", "A", "B", "C"])
NUMBERS = st.integers(0, 4)
SIDES = st.sampled_from(Side)
WINS = {"to_crm": Side.NAV, "from_crm": Side.CRM}
WAYS = ["merge", *WINS]
SWITCHES = st.sampled_from(["City", "Phone_No", "Pager"])
ANSWERS = ("reset_after_commit", "reset_before_commit", "503", "truncated")
DEATHS = st.builds(Dies, STEPS, st.booleans())
MISHAPS: st.SearchStrategy[Mishap] = st.one_of(
    st.none(),
    DEATHS,
    DEATHS,
    st.builds(Overtaken, STEPS, st.booleans(), NUMBERS, SIDES, VALUES),
    st.builds(Unheard, st.sampled_from(ANSWERS), st.integers(1, 3)),
    st.builds(Switched, STEPS, st.booleans(), SWITCHES),
    st.builds(
        Crossed, STEPS, st.booleans(), NUMBERS, st.sampled_from(WAYS), SIDES, VALUES, st.integers(0, 9)
    ),
)
assert get_args(Mishap)[:5] == (Dies, Overtaken, Unheard, Switched, Crossed)


@dataclass
class Broken:
    """A synch job whose worker died; it is back in the queue."""

    job: SynchJob
    kind: Kind
    story: Story | None = None  # the record for which a person chose the side it comes from


class Town:
    """Both sides, the service between them, and the story of every record."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.stories: list[Story] = []
        self.broken: list[Broken] = []
        self.leaving: set[str] = set()  # records that are about to leave their partner for a new one
        self.fuse = Fuse()
        self._off_before: frozenset[str] = frozenset()  # when what is being done began
        self._stack = AsyncExitStack()

    async def open(self, engine: AsyncEngine, name: str) -> None:
        """Sets the company up."""
        house = await self._stack.enter_async_context(
            a_house(engine, {"name": name}, wire=lambda crm: FusedWire(crm, self.fuse))
        )
        await house.connect()
        self.office = Office(house, engine)
        await self.office.open()
        self.ctx = fused(house.ctx, self.fuse)
        for mapping in default_mappings(house.company.defaults_generation):
            for kind in KINDS:
                if kind.mapping == mapping.name:
                    async with house.ctx.uow() as tx:
                        await tx.mappings.add(house.company.id, mapping)
                    wanted = {*kind.names(Side.NAV), *kind.implied, None}
                    await self.office.set_up(
                        mapping.name,
                        synch_only_coupled_records=False,
                        update_conflict_resolution=self.rules.update,
                        deletion_conflict_resolution=self.rules.deletion,
                        fields=[row for row in mapping.fields if row.nav_field in wanted],
                    )

    async def close(self) -> None:
        """Closes everything."""
        await self._stack.aclose()

    # --- people ------------------------------------------------------------------------------------------

    async def add(self, story: Story, side: Side, **values: str) -> None:
        """A person creates the record."""
        if story not in self.stories:
            self.stories.append(story)
        name = {
            side: {
                n if side is Side.NAV else c: values[n] for n, c in story.kind.fields.items() if n in values
            }
        }
        fields: dict[str, Any] = name[side] | {story.kind.tag_on(side): story.tag}
        if side is Side.NAV:
            await self._add_to_nav(story, fields)
        else:
            await self._add_to_crm(story, fields)
        record = (await self.records(story.kind, side))[story.tag]
        story.entered(side, story.kind.shown(record, side))

    async def _add_to_nav(self, story: Story, fields: dict[str, Any]) -> None:
        if story.company is not None:
            company = (await self.records(CUSTOMERS, Side.NAV))[story.company.tag]
            fields |= {"Name": story.tag, "Type": "Person", "IntegrationCustomerNo": company.key}
        await self.office.nav.create(story.kind.table, None, fields)

    async def _add_to_crm(self, story: Story, fields: dict[str, Any]) -> None:
        if story.company is not None:
            company = (await self.records(CUSTOMERS, Side.CRM))[story.company.tag]
            fields |= {"lastname": story.tag, "parentcustomerid": Reference(company.id, "account")}
        else:
            fields |= {"customertypecode": CUSTOMER_TYPE}
        await self.office.row(story.kind.entity, **fields)

    async def change(self, story: Story, side: Side, name: str, value: str) -> None:
        """A person changes a field of the record, if it is there."""
        value = value or ("blank" if name == "Name" else "")  # accounts must have a name
        shown = story.shown[side]
        if shown is None or shown[name] == value:
            return
        record = (await self.records(story.kind, side))[story.tag]
        if side is Side.NAV:
            await self.office.change_nav(story.kind.table, record.key, **{name: value})
        else:
            await self.office.change_crm(
                story.kind.entity, record.id, **{story.kind.fields[name]: value or None}
            )
        story.entered(side, {**shown, name: value})

    async def remove(self, story: Story, side: Side) -> None:
        """A person deletes the record, if it is there."""
        if story.shown[side] is None or story.needed:
            return
        record = (await self.records(story.kind, side))[story.tag]
        if side is Side.NAV:
            await self.office.nav.remove(story.kind.table, record.key)
        else:
            await self.office.delete_crm(story.kind.entity, record.id)
        story.removed(side)

    async def switch(self, name: str) -> None:
        """A person switches the row of that field on or off."""
        await self.look()
        kind = next(kind for kind in KINDS if name in kind.fields)
        ctx, company = self.office.ctx, self.office.company
        async with ctx.uow() as tx:
            mapping = (await tx.mappings.get(company.id, kind.mapping)).mapping
        row = next(row for row in mapping.fields if row.nav_field == name)
        assert row.id is not None
        off = row.status is FieldStatus.ENABLED
        status = FieldStatus.DISABLED if off else FieldStatus.ENABLED
        await change_field(ctx, company, kind.mapping, row.id, {"status": status})
        self.rules = replace(self.rules, off=self.rules.off ^ {name})

    # --- the service -------------------------------------------------------------------------------------

    async def do(self, act: Callable[[Context], Awaitable[object]], mishap: Mishap = None) -> bool:
        """The service does something, and something may befall it. Whether it came to its end undisturbed."""
        for story in self.stories:
            story.begin()
        self._off_before = self.rules.off
        self._prepare(mishap)
        try:
            await act(self.ctx)
        except (Crash, CrmUnavailable):
            if mishap is None:
                raise
            return False
        else:
            return mishap is None
        finally:
            await _left_over()
            self.fuse.put_out()
            self.office.faults()
            await self.look()

    def _prepare(self, mishap: Mishap) -> None:
        match mishap:
            case Dies(step, after):
                self.fuse.light(step, after=after)
            case Overtaken(step, after, number, side, value):
                self.fuse.light(step, after=after, instead=lambda: self._overtake(number, side, value))
            case Unheard(kind, every):
                self.office.faults(Fault("(PATCH|POST|DELETE|GET) .*", kind, every=every, retry_after=0))
            case Crossed(step, after):
                self.fuse.light(step, after=after, instead=lambda: self._cross(mishap))
            case Switched(step, after, name):
                self.fuse.light(step, after=after, instead=lambda: self.switch(name))

    async def _overtake(self, number: int, side: Side, value: str) -> None:
        if number < len(self.stories):
            await self.look()
            story = self.stories[number]
            await self.change(story, side, next(iter(story.kind.fields)), value)

    async def _cross(self, mishap: Crossed) -> None:
        if mishap.number < len(self.stories):
            await self.look()
            story = self.stories[mishap.number]
            record = (await self.records(story.kind, Side.NAV)).get(story.tag)
            chosen, story.chosen = story.chosen, WINS.get(mishap.direction, story.chosen)
            if record is not None:
                with suppress(IntegrationError):
                    await synchronize_record(
                        self.office.ctx,
                        self.office.company,
                        story.kind.table,
                        record.key,
                        direction=mishap.direction,
                    )
            await self.look()
            story.chosen = chosen
            await self.change(story, mishap.side, next(iter(story.kind.fields)), mishap.value)
        if mishap.left:
            self.fuse.light(mishap.left, after=mishap.after)

    async def run(
        self,
        kind: Kind,
        mode: SynchMode = SynchMode.MODIFIED,
        direction: Direction | None = None,
        mishap: Mishap = None,
        story: Story | None = None,
        **request: Any,
    ) -> Ran | None:
        """A synch job; what it did, or nothing when its worker died."""
        now = self.office.ctx.clock.now()
        job = SynchJob(uuid4(), "synchronize", kind.mapping, mode, direction, request=request, created_at=now)
        async with self.office.ctx.uow() as tx:
            await tx.jobs.add(self.office.company.id, [job])
        return await self.carry_out(Broken(job, kind, story), mishap)

    async def carry_out(self, broken: Broken, mishap: Mishap = None) -> Ran | None:
        """A worker takes the job; one that dies leaves it to another."""
        ctx, company, now = self.office.ctx, self.office.company, self.office.ctx.clock.now()
        async with ctx.uow() as tx:
            claimed = await tx.jobs.claim(broken.job.id, uuid4(), now)
        assert claimed is not None
        job, ended = claimed.job, False

        async def act(fused_ctx: Context) -> None:
            nonlocal ended
            await run_job(fused_ctx, company, job, JobReport(fused_ctx.uow, job))
            ended = True

        if broken.story is not None and job.direction is not None:
            broken.story.chosen = job.direction.source
        undisturbed = await self.do(act, mishap)
        if broken.story is not None:
            broken.story.chosen = None
        if not ended:
            async with ctx.uow() as tx:
                await tx.jobs.requeue(job, None, now)
            self.broken.append(replace(broken, job=job))
            return None
        async with ctx.uow() as tx:
            await tx.jobs.finish(job, JobStatus.SUCCEEDED, None, now)
        if undisturbed and job.mode is not SynchMode.SELECTION and job.direction is None:
            await self._agreed(broken.kind)
        return await self._ran(job)

    async def _ran(self, job: SynchJob) -> Ran:
        """What the job did; what it counted is what it logged."""
        async with self.office.ctx.uow() as tx:
            counts = (await tx.jobs.get(self.office.company.id, job.id)).counts
            logged = await tx.synch_log.outcomes(self.office.company.id, job.id, None, 0, 1000)
        ran = Ran(job, dict(counts), logged)
        if job.mode is SynchMode.MODIFIED or job.attempt == 1:  # a full run begins to count again
            told = Counter(each.action for each in ran.outcomes)
            counted = sum(counts.values(), Counts())
            for action in LOGGED:
                assert getattr(counted, action.value) == told[action], f"{action}: {counted}, {told}"
        return ran

    async def _agreed(self, kind: Kind) -> None:
        for story in self.stories:
            if story.kind is kind:
                await self.agreed(story)

    async def agreed(self, story: Story) -> None:
        """Something that concerns the record came to its end undisturbed."""
        coupling = await self.coupling(story)
        done = coupling is not None and coupling.last_error is None and coupling.base is not None
        story.equal(self.rules, surely=done)

    # --- looking -----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Looks at both sides, and at whether the service was allowed what it did."""
        rules = replace(self.rules, off=self.rules.off | self._off_before)
        for kind in KINDS:
            found = {side: await self.records(kind, side) for side in Side}
            for story in self.stories:
                if story.kind is kind:
                    now = {side: _shown(kind, found[side].get(story.tag), side) for side in Side}
                    story.seen(now, rules)
            tags = {side: {record.id: tag for tag, record in found[side].items()} for side in Side}
            for coupling in await self.office.couplings(kind.mapping):
                ours, theirs = tags[Side.NAV].get(coupling.nav_id), tags[Side.CRM].get(coupling.crm_id)
                told = f"{ours} is coupled with {theirs}"
                assert ours is None or theirs is None or ours == theirs, told

    async def records(self, kind: Kind, side: Side) -> dict[str, Snapshot]:
        """The records of a side by tag; none may be there twice."""
        store = self.office.nav if side is Side.NAV else self.office.crm
        listing = await store.listing(kind.place(side), kind.names(side))
        tags = kind.tag_on(side)
        tagged = [(str(tag), record) for record in listing.records if (tag := record.values[tags])]
        if side is Side.CRM:
            tagged = await self._without_other(kind, tagged)
        assert len(dict(tagged)) == len(tagged), f"twice in {side}: {sorted(tag for tag, _ in tagged)}"
        return dict(tagged)

    async def _without_other(
        self, kind: Kind, tagged: list[tuple[str, Snapshot]]
    ) -> list[tuple[str, Snapshot]]:
        """Of a record that is about to get a new partner, the one it is coupled with; the other one may be there."""
        if not self.leaving:
            return tagged
        coupled = {coupling.crm_id for coupling in await self.office.couplings(kind.mapping)}
        return [(tag, record) for tag, record in tagged if tag not in self.leaving or record.id in coupled]

    async def coupling(self, story: Story) -> Coupling | None:
        """The coupling of the record."""
        for side in Side:
            record = (await self.records(story.kind, side)).get(story.tag)
            for coupling in await self.office.couplings(story.kind.mapping) if record else ():
                if record is not None and coupling.id_on(side) == record.id:
                    return coupling
        return None


def _shown(kind: Kind, record: Snapshot | None, side: Side) -> SHOWN | None:
    return None if record is None else kind.shown(record, side)


async def _left_over() -> None:
    """What a crash left running comes to its next step, and dies there."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, pending = await asyncio.wait(others, timeout=LEFT_OVER_SECONDS)
        assert not pending
