"""Whatever people change and whatever breaks: both sides end up telling the same story, and no edit is lost.

People create, change and delete records on both sides, runs happen in between, break off after any call at a
port, and meet a CRM that loses answers. Once it is quiet, everything must agree, except conflicts that are
reported.
"""

import asyncio
import os
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.engine import create_engine
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.defaults import default_mappings
from app.domain.errors import CrmUnavailable, IntegrationError
from app.domain.job import SynchMode
from app.domain.mapping import DeletionConflictResolution, Direction
from app.domain.records import Snapshot
from app.sandbox import Fault
from app.use_cases.couplings import restore
from app.use_cases.synchronize import synchronize_record
from tests.database import TestServer
from tests.integration.fuses import Crash, Fuse, fused
from tests.integration.use_cases.house import a_house
from tests.integration.use_cases.office import Office

NAV, CRM = "nav", "crm"
FIELDS = {"Name": "name", "City": "address1_city", "Phone_No": "telephone1"}
TAG = ("Fax_No", "fax")  # which record it is: nobody ever changes it
RECORDS = 3
AT_FIRST = 2
QUIET_RUNS = 2
COMPANIES = count()

SIDES = st.sampled_from([NAV, CRM])
CHANGED = st.sampled_from(sorted(FIELDS))
VALUES = st.sampled_from(["", "A", "B", "C"])
NUMBERS = st.integers(0, RECORDS - 1)
DIRECTIONS = st.sampled_from([None, None, Direction.TO_CRM, Direction.FROM_CRM])
MODES = st.sampled_from([SynchMode.MODIFIED, SynchMode.MODIFIED, SynchMode.FULL])
KINDS = st.sampled_from(["reset_after_commit", "reset_before_commit", "503", "truncated"])


@dataclass
class Story:
    """What people did to one record since it was last quiet."""

    tag: str
    deleted: bool = False
    before: dict[str, str] = field(default_factory=lambda: {"Name": "New"})  # what both sides agreed on
    edits: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def sides(self) -> set[str]:
        """Who changed something."""
        return {side for edits in self.edits.values() for side, _ in edits}


class Convergence(RuleBasedStateMachine):
    """The company, and what is known about it."""

    def __init__(
        self, runner: asyncio.Runner, engine: AsyncEngine, resolution: DeletionConflictResolution
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.runner = runner
        self.stack = AsyncExitStack()
        self.stories: list[Story] = []
        self.trouble = False
        self.office: Office = runner.run(self._open(engine))

    async def _open(self, engine: AsyncEngine) -> Office:
        name = {"name": f"company-{next(COMPANIES)}"}
        house = await self.stack.enter_async_context(a_house(engine, name))
        await house.connect()
        mapping = next(m for m in default_mappings(house.company.defaults_generation) if m.name == "CUSTOMER")
        async with house.ctx.uow() as tx:
            await tx.mappings.add(house.company.id, mapping)
        office = Office(house, engine)
        await office.open()
        await office.set_up(
            synch_only_coupled_records=False,
            deletion_conflict_resolution=self.resolution,
            fields=[row for row in mapping.fields if row.nav_field in (*FIELDS, TAG[0])],
        )
        for _ in range(AT_FIRST):
            story = Story(f"R{len(self.stories)}")
            self.stories.append(story)
            await office.nav.create("customers", None, {"Name": "New", TAG[0]: story.tag})
        await office.run()
        return office

    def teardown(self) -> None:
        """It becomes quiet, and all is well."""
        try:
            self.runner.run(self._quiet())
        finally:
            self.runner.run(self.stack.aclose())

    # --- people ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.stories) < RECORDS)
    @rule(side=SIDES)
    def somebody_creates_a_record(self, side: str) -> None:
        story = Story(f"R{len(self.stories)}")
        self.stories.append(story)
        self.runner.run(self._create(side, story))

    async def _create(self, side: str, story: Story) -> None:
        if side == NAV:
            await self.office.nav.create("customers", None, {"Name": "New", TAG[0]: story.tag})
        else:
            await self.office.account(name="New", **{TAG[1]: story.tag})

    @rule(number=NUMBERS, side=SIDES, name=CHANGED, value=VALUES)
    def somebody_changes_a_field(self, number: int, side: str, name: str, value: str) -> None:
        if number < len(self.stories):
            self.runner.run(self._change(self.stories[number], side, name, value))

    async def _change(self, story: Story, side: str, name: str, value: str) -> None:
        value = value or ("blank" if name == "Name" else "")  # accounts must have a name
        record = (await self._records(side)).get(story.tag)
        if record is None or _value(record, side, name) == value:
            return
        if side == NAV:
            await self.office.change_nav("customers", record.key, **{name: value})
        else:
            await self.office.change_crm("account", record.id, **{FIELDS[name]: value or None})
        story.edits[name].append((side, value))

    @rule(number=NUMBERS, side=SIDES)
    def somebody_deletes_a_record(self, number: int, side: str) -> None:
        if number < len(self.stories):
            self.runner.run(self._delete(self.stories[number], side))

    async def _delete(self, story: Story, side: str) -> None:
        record = (await self._records(side)).get(story.tag)
        if record is None:
            return
        story.deleted = True
        if side == NAV:
            await self.office.nav.remove("customers", record.key)
        else:
            await self.office.delete_crm("account", record.id)

    @rule(number=NUMBERS, direction=st.sampled_from([Direction.TO_CRM, Direction.FROM_CRM]))
    def somebody_lets_one_side_win(self, number: int, direction: Direction) -> None:
        if number < len(self.stories):
            self.runner.run(self._choose(self.stories[number], direction))

    async def _choose(self, story: Story, direction: Direction) -> None:
        record = (await self._records(NAV)).get(story.tag)
        if record is None:
            return
        try:
            await synchronize_record(
                self.office.ctx, self.office.company, "customers", record.key, direction=direction.value
            )
        except IntegrationError:
            return
        winner = direction.source.value
        shown = (await self._records(winner))[story.tag]
        for name in FIELDS:
            story.edits[name] = [(winner, _value(shown, winner, name))]

    # --- runs and what befalls them ------------------------------------------------------------------------

    @rule(mode=MODES, direction=DIRECTIONS)
    def a_run(self, mode: SynchMode, direction: Direction | None) -> None:
        self.runner.run(self.office.run(mode=mode, direction=direction))

    @rule(mode=MODES, direction=DIRECTIONS, calls=st.integers(1, 25), after=st.booleans())
    def a_run_that_breaks_off(
        self, mode: SynchMode, direction: Direction | None, calls: int, after: bool
    ) -> None:
        ctx = fused(self.office.ctx, Fuse(calls, after=after))
        self.trouble = True
        with suppress(Crash):
            self.runner.run(self.office.run(mode=mode, direction=direction, ctx=ctx))

    @rule(mode=MODES, direction=DIRECTIONS, kind=KINDS, every=st.integers(1, 3))
    def a_run_with_a_crm_that_loses_answers(
        self, mode: SynchMode, direction: Direction | None, kind: Any, every: int
    ) -> None:
        self.office.faults(Fault("(PATCH|POST|DELETE|GET) .*", kind, every=every, retry_after=0))
        self.trouble = True
        with suppress(CrmUnavailable):
            self.runner.run(self.office.run(mode=mode, direction=direction))
        self.office.faults()

    @rule()
    def it_becomes_quiet(self) -> None:
        self.runner.run(self._quiet())

    # --- what must be true when it is quiet ----------------------------------------------------------------

    async def _quiet(self) -> None:
        self.office.faults()
        await restore(self.office.ctx, self.office.company)
        for _ in range(QUIET_RUNS):
            await self.office.run()
        nav, crm = await self._records(NAV), await self._records(CRM)
        couplings = {coupling.nav_id: coupling for coupling in await self.office.couplings()}
        assert len({coupling.crm_id for coupling in couplings.values()}) == len(couplings)
        for story in self.stories:
            ours, theirs = nav.get(story.tag), crm.get(story.tag)
            coupling = couplings.pop(ours.id, None) if ours else None
            if ours is None or theirs is None:
                story.edits.clear()
                assert story.deleted, f"{story.tag} is missing on one side"
                assert coupling is None, f"{story.tag} is coupled with nothing"
                continue
            assert coupling is not None, f"{story.tag} is on both sides, but not coupled"
            assert coupling.crm_id == theirs.id
            assert coupling.status is CouplingStatus.COUPLED
            self._check(story, ours, theirs, coupling)
            story.before = {name: _value(ours, NAV, name) for name in FIELDS}
        assert couplings == {}
        await self._settle(nav)
        assert (await self.office.run()).wrote_nothing
        self.trouble = False

    def _check(self, story: Story, ours: Snapshot, theirs: Snapshot, coupling: Coupling) -> None:
        code = coupling.last_error.code if coupling.last_error else None
        assert code in (None, "update-conflict"), coupling.last_error
        if code is not None:
            assert self.trouble or story.sides == {NAV, CRM}, f"{story.tag}: a conflict that nobody made"
        for name in FIELDS:
            shown = {NAV: _value(ours, NAV, name), CRM: _value(theirs, CRM, name)}
            edits = story.edits[name]
            last = dict(edits)  # by side, the last one
            if code is None:
                assert shown[NAV] == shown[CRM], f"{story.tag}.{name}: {shown}"
            if edits and not story.deleted:
                told = f"{story.tag}.{name}: {edits} became {shown}"
                # Whoever puts back what both agreed on has changed nothing: the other side's edit stands.
                taken_back = edits[-1][1] == story.before.get(name, "")
                assert taken_back or edits[-1][1] in shown.values(), f"the last edit is lost: {told}"
                assert set(shown.values()) <= {*last.values()} or code is not None, told

    async def _settle(self, nav: dict[str, Snapshot]) -> None:
        """A person settles every conflict, and history begins anew."""
        for coupling in await self.office.couplings():
            if coupling.last_error is not None:
                await synchronize_record(
                    self.office.ctx, self.office.company, "customers", coupling.nav_key, direction="to_crm"
                )
        for story in self.stories:
            story.edits.clear()

    async def _records(self, side: str) -> dict[str, Snapshot]:
        """The records of a side by tag; none may be there twice."""
        if side == NAV:
            listing = await self.office.nav.listing("customers", [*FIELDS, TAG[0]])
            tagged = [(str(record.values[TAG[0]]), record) for record in listing.records]
        else:
            names = [*FIELDS.values(), TAG[1]]
            listing = await self.office.crm.listing("account", names)
            tagged = [(str(record.values[TAG[1]]), record) for record in listing.records]
        assert len(dict(tagged)) == len(tagged), f"twice in {side}: {sorted(tag for tag, _ in tagged)}"
        return dict(tagged)


def _value(record: Snapshot, side: str, name: str) -> str:
    return str(record.values.get(name if side == NAV else FIELDS[name]) or "")


@pytest.mark.parametrize(
    "resolution",
    [
        DeletionConflictResolution.PROPAGATE,
        DeletionConflictResolution.RESTORE,
        DeletionConflictResolution.UNCOUPLE,
    ],
)
def test_both_sides_converge_whatever_happens(
    test_server: TestServer, template: str, resolution: DeletionConflictResolution
) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def opened() -> AsyncEngine:
            engine = create_engine(await stack.enter_async_context(test_server.clone(template)), pool_size=5)
            stack.push_async_callback(engine.dispose)
            return engine

        engine = runner.run(opened())

        class Here(Convergence):
            def __init__(self) -> None:
                super().__init__(runner, engine, resolution)

        try:
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=int(os.environ.get("CONVERGENCE_EXAMPLES", "6")),
                    stateful_step_count=14,
                    deadline=None,
                    derandomize="CI" in os.environ,
                    suppress_health_check=list(HealthCheck),
                    # A failure is short enough to read, and making it shorter takes minutes.
                    phases=(Phase.explicit, Phase.reuse, Phase.generate),
                ),
            )
        finally:
            runner.run(stack.aclose())
