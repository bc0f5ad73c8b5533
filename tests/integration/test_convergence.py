"""Whatever people change and whatever breaks: both sides end up telling the same story, and no edit is lost.

People create, change, couple and delete records on both sides, choose between them and change the mappings; the
service runs in between, dies at any step, is overtaken by people and by another worker, and meets a CRM that loses
answers. After each of that, what it did must have been allowed (`stories`); once it is quiet, everything agrees but for
conflicts that people made and that are reported.
"""

import asyncio
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.domain.coupling import CouplingStatus
from app.domain.errors import IntegrationError
from app.domain.job import SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction, UpdateConflictResolution
from app.domain.records import Side
from app.ports import Context
from app.use_cases.couplings import couple, delete_coupling, restore
from app.use_cases.matching import Criterion, match
from app.use_cases.synchronize import create_in_crm, create_in_nav, synchronize_record
from tests.database import TestServer
from tests.integration.stories import CONTACTS, CUSTOMERS, KINDS, Kind, Rules, Story
from tests.integration.town import DEATHS, MISHAPS, NUMBERS, SIDES, SWITCHES, VALUES, Dies, Mishap, Town

RECORDS = 4
COMPANIES = count()
DIRECTIONS = st.sampled_from([None, None, Direction.TO_CRM, Direction.FROM_CRM])
CHOICES = st.sampled_from([Direction.TO_CRM, Direction.FROM_CRM])
MODES = st.sampled_from([SynchMode.MODIFIED, SynchMode.MODIFIED, SynchMode.FULL])
AFTER_COUPLING = st.sampled_from(["no", "nav_data", "crm_data", "match"])
QUIET_RUNS = 2
EXAMPLES = int(os.environ.get("CONVERGENCE_EXAMPLES", "5"))
# A failure is mostly short enough to read, and making it shorter takes minutes.
SHORTER = (Phase.shrink,) if "CONVERGENCE_SHRINK" in os.environ else ()
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, *SHORTER)


class Convergence(RuleBasedStateMachine):
    """A town, and what happens in it."""

    def __init__(self, runner: asyncio.Runner, engine: AsyncEngine) -> None:
        super().__init__()
        self.runner = runner
        self.engine = engine
        self.town = Town(Rules())

    @initialize(
        update=st.sampled_from(UpdateConflictResolution), deletion=st.sampled_from(DeletionConflictResolution)
    )
    def the_town_is_founded(
        self, update: UpdateConflictResolution, deletion: DeletionConflictResolution
    ) -> None:
        self.town = Town(Rules(update, deletion))
        self.runner.run(self._found())

    async def _found(self) -> None:
        await self.town.open(self.engine, f"company-{next(COMPANIES)}")
        for side in Side:
            await self.town.add(self._new(CUSTOMERS), side, Name="New")
        await self._runs()

    def teardown(self) -> None:
        """It becomes quiet, and all is well."""
        try:
            self.runner.run(self._quiet())
        finally:
            self.runner.run(self.town.close())

    def _new(self, kind: Kind, company: Story | None = None) -> Story:
        return Story(kind, f"{kind.mapping[0:2]}{len(self.town.stories)}", company=company)

    def _story(self, number: int) -> Story:
        return self.town.stories[number % len(self.town.stories)]

    # --- people ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.town.stories) < RECORDS)
    @rule(side=SIDES, name=VALUES)
    def somebody_creates_a_customer(self, side: Side, name: str) -> None:
        self.runner.run(self.town.add(self._new(CUSTOMERS), side, Name=name or "New"))

    @precondition(lambda self: len(self.town.stories) < RECORDS)
    @rule(number=NUMBERS, side=SIDES, value=VALUES)
    def somebody_creates_a_contact(self, number: int, side: Side, value: str) -> None:
        company = self._story(number)
        if company.kind is CUSTOMERS and company.shown[side] is not None and not company.deleted:
            company.needed = True
            self.runner.run(self.town.add(self._new(CONTACTS, company), side, Pager=value))

    @rule(number=NUMBERS, side=SIDES, field=st.integers(0, 2), value=VALUES)
    def somebody_changes_a_field(self, number: int, side: Side, field: int, value: str) -> None:
        story = self._story(number)
        names = sorted(story.kind.fields)
        self.runner.run(self.town.change(story, side, names[field % len(names)], value))

    @rule(number=NUMBERS, side=SIDES)
    def somebody_deletes_a_record(self, number: int, side: Side) -> None:
        self.runner.run(self.town.remove(self._story(number), side))

    @rule(name=SWITCHES, number=NUMBERS, side=SIDES, value=VALUES, on=st.booleans())
    def a_row_is_switched_off(self, name: str, number: int, side: Side, value: str, on: bool) -> None:
        self.runner.run(self._without(name, self._story(number), side, value, on))

    async def _without(self, name: str, story: Story, side: Side, value: str, on: bool) -> None:
        """What is entered meanwhile waits until it is on again, by and by or in the end."""
        if name not in self.town.rules.off:
            await self.town.switch(name)
        if name in story.kind.fields:
            await self.town.change(story, side, name, value)
            await self.town.run(story.kind)
        if on:
            await self.town.switch(name)

    # --- the service, asked for one record ----------------------------------------------------------------

    @rule(number=NUMBERS, direction=CHOICES, whole=st.booleans(), mishap=MISHAPS)
    def somebody_lets_one_side_win(
        self, number: int, direction: Direction, whole: bool, mishap: Mishap
    ) -> None:
        self.runner.run(self._choose(self._story(number), direction, mishap, as_job=whole))

    async def _choose(
        self, story: Story, direction: Direction, mishap: Mishap = None, *, as_job: bool = False
    ) -> None:
        record = (await self.town.records(story.kind, Side.NAV)).get(story.tag)
        if record is None:
            return
        story.chosen = direction.source

        async def act(ctx: Context) -> None:
            with suppress(IntegrationError):
                await synchronize_record(
                    ctx, self.town.office.company, story.kind.table, record.key, direction=direction.value
                )

        if as_job:
            await self.town.run(story.kind, SynchMode.SELECTION, direction, mishap, story, keys=[record.key])
        else:
            await self.town.do(act, mishap)
        if mishap is None:
            await self.town.agreed(story)
        story.chosen = None

    @rule(number=NUMBERS, mishap=MISHAPS)
    def somebody_merges_a_record(self, number: int, mishap: Mishap) -> None:
        self.runner.run(self._merge(self._story(number), mishap))

    async def _merge(self, story: Story, mishap: Mishap) -> None:
        record = (await self.town.records(story.kind, Side.NAV)).get(story.tag)

        async def act(ctx: Context) -> None:
            if record is not None:
                with suppress(IntegrationError):
                    await synchronize_record(
                        ctx, self.town.office.company, story.kind.table, record.key, direction="merge"
                    )

        await self.town.do(act, mishap)

    @rule(number=NUMBERS, mishap=MISHAPS, once_more=st.booleans())
    def somebody_creates_the_partner(self, number: int, mishap: Mishap, once_more: bool) -> None:
        story = self._story(number)
        self.runner.run(self._create(story, mishap))
        if once_more:
            self.runner.run(self._create(story, None))

    async def _create(self, story: Story, mishap: Mishap, *, replace: bool = False) -> None:
        side = Side.NAV if story.shown[Side.NAV] is not None else Side.CRM
        record = (await self.town.records(story.kind, side)).get(story.tag)
        company = self.town.office.company

        async def act(ctx: Context) -> None:
            if record is None:
                return
            with suppress(IntegrationError):
                if side is Side.NAV:
                    await create_in_crm(ctx, company, story.kind.table, record.key, replace_existing=replace)
                else:
                    await create_in_nav(ctx, company, f"{story.kind.entity}s", record.id)

        await self.town.do(act, mishap)

    # --- couplings by hand --------------------------------------------------------------------------------

    @precondition(lambda self: len(self.town.stories) < RECORDS)
    @rule(ours=VALUES, theirs=VALUES, then=AFTER_COUPLING, death=DEATHS)
    def somebody_couples_what_is_on_both_sides(self, ours: str, theirs: str, then: str, death: Dies) -> None:
        self.runner.run(self._couple_new(ours, theirs, then, death))

    async def _couple_new(self, ours: str, theirs: str, then: str, death: Dies) -> None:
        story = self._new(CUSTOMERS)
        await self.town.add(story, Side.NAV, Name="Same", City=ours)
        await self.town.add(story, Side.CRM, Name="Same", City=theirs)
        await self._couple(story, then, death)

    @rule(number=NUMBERS, then=AFTER_COUPLING, death=DEATHS)
    def somebody_uncouples_and_couples_again(self, number: int, then: str, death: Dies) -> None:
        self.runner.run(self._couple_again(self._story(number), then, death))

    async def _couple_again(self, story: Story, then: str, death: Dies) -> None:
        coupling = await self.town.coupling(story)
        if coupling is None or not story.paired or coupling.status is not CouplingStatus.COUPLED:
            return
        await delete_coupling(self.town.office.ctx, self.town.office.company, coupling.id)
        story.never_agreed()
        await self._couple(story, then, death)

    async def _couple(self, story: Story, then: str, death: Dies) -> None:
        """It is asked for until it is done; a copy would come of it otherwise."""
        ours = (await self.town.records(story.kind, Side.NAV))[story.tag]
        theirs = (await self.town.records(story.kind, Side.CRM))[story.tag]
        company, kind = self.town.office.company, story.kind
        story.chosen = {"nav_data": Side.NAV, "crm_data": Side.CRM}.get(then)

        async def act(ctx: Context) -> None:
            if then == "match":
                await match(ctx, company, kind.mapping, [Criterion(*kind.tag)])
            else:
                await couple(ctx, company, kind.table, ours.key, crm_id=theirs.id, then=then)

        for mishap in (death, None):
            await self.town.do(act, mishap)
        coupling = await self.town.coupling(story)
        assert coupling is not None
        assert (coupling.nav_id, coupling.crm_id) == (ours.id, theirs.id)
        await self.town.agreed(story)
        story.chosen = None

    @rule(number=NUMBERS, mishap=MISHAPS)
    def somebody_replaces_the_partner(self, number: int, mishap: Mishap) -> None:
        self.runner.run(self._replace(self._story(number), mishap))

    async def _replace(self, story: Story, mishap: Mishap) -> None:
        """Afterwards people clear the partner that was left behind away; until then it is no second one."""
        coupling = await self.town.coupling(story)
        if coupling is None or not story.paired or story.needed:
            return
        story.chosen = Side.NAV
        self.town.leaving.add(story.tag)
        await self._create(story, mishap, replace=True)
        await self.town.run(story.kind, SynchMode.MODIFIED, Direction.TO_CRM)
        now = await self.town.coupling(story)
        assert now is not None
        if now.crm_id != coupling.crm_id:
            await self.town.office.delete_crm(story.kind.entity, coupling.crm_id)
        self.town.leaving.remove(story.tag)
        await self.town.look()
        story.chosen = None

    # --- runs ---------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), mode=MODES, direction=DIRECTIONS, mishap=MISHAPS)
    def a_run(self, kind: Kind, mode: SynchMode, direction: Direction | None, mishap: Mishap) -> None:
        self.runner.run(self.town.run(kind, mode, direction, mishap))

    @precondition(lambda self: self.town.broken)
    @rule(mishap=MISHAPS)
    def a_run_goes_on_elsewhere(self, mishap: Mishap) -> None:
        self.runner.run(self.town.carry_out(self.town.broken.pop(0), mishap))

    @rule()
    def it_becomes_quiet(self) -> None:
        self.runner.run(self._quiet())

    # --- what must be true when it is quiet ----------------------------------------------------------------

    async def _runs(self) -> Iterable[Any]:
        return [await self.town.run(kind) for kind in KINDS]

    async def _quiet(self) -> None:
        while self.town.broken:
            await self.town.carry_out(self.town.broken.pop())
        for name in self.town.rules.off:
            await self.town.switch(name)
        await restore(self.town.office.ctx, self.town.office.company)
        for _ in range(QUIET_RUNS):
            await self._runs()
        for story in self.town.stories:
            await self._check(story)
        await self._settle()
        for ran in await self._runs():
            both = ran.to_crm + ran.from_crm
            assert (both.inserted, both.modified, both.deleted) == (0, 0, 0), f"it does not rest: {ran.told}"

    async def _check(self, story: Story) -> None:
        coupling, rules = await self.town.coupling(story), self.town.rules
        error = coupling.last_error if coupling else None
        if not story.paired:
            assert story.deleted, f"{story.tag} is missing on one side: {story.shown}, {error}"
            kept = coupling is not None and error is not None and error.code == "deletion-conflict"
            assert coupling is None or (kept and rules.deletion is DeletionConflictResolution.NONE), coupling
            return
        assert coupling is not None, f"{story.tag} is on both sides, but not coupled"
        assert coupling.status is CouplingStatus.COUPLED
        told = f"{story.tag}: {story.shown}, agreed on {story.agreed}: {error}"
        if error is None:
            known = coupling.base is not None  # a pair that was only coupled is left alone until it changes
            assert not (known and story.differing), f"they differ, and nobody says why: {told}"
        else:
            assert error.code == "update-conflict", told
            assert story.may_conflict(rules), f"a conflict that nobody made: {told}"

    async def _settle(self) -> None:
        """A person settles every conflict, and history begins anew."""
        for story in self.town.stories:
            coupling = await self.town.coupling(story)
            if coupling is not None and coupling.last_error is not None and story.paired:
                await self._choose(story, Direction.TO_CRM)
            await self.town.agreed(story)


@pytest.mark.timeout(900)  # on a machine that does much else
def test_both_sides_converge_whatever_happens(test_server: TestServer, template: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> AsyncEngine:
            engine = create_engine(await stack.enter_async_context(test_server.clone(template)), pool_size=5)
            stack.push_async_callback(engine.dispose)
            return engine

        engine = runner.run(opened())

        class Here(Convergence):
            def __init__(self) -> None:
                super().__init__(runner, engine)

        try:
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=14,
                    deadline=None,
                    derandomize="CONVERGENCE_EXAMPLES" not in os.environ,
                    suppress_health_check=list(HealthCheck),  # each step asks two real systems
                    phases=PHASES,
                ),
            )
        finally:
            runner.run(stack.aclose())
