"""What synchronizing one record would do: by table, and by law."""

from dataclasses import replace
from typing import assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.coupling import Base
from app.domain.errors import ContactWithoutAccount, LookupNotCoupled
from app.domain.mapping import Direction, FieldMapping, UpdateConflictResolution
from app.domain.plan import (
    AlreadyEqual,
    Conflict,
    Create,
    Fail,
    Modify,
    Plan,
    Skip,
    Unchanged,
    covers,
    decide,
    rebase,
)
from app.domain.records import Side, Snapshot
from app.domain.transfer import Translation
from tests.unit.pairs import (
    BOTH,
    FROM,
    PAIRS,
    TO,
    TWO_WAY,
    a_shape,
    planned,
    rebased,
    shown,
    translated,
    written,
)

NONE, MERGE = UpdateConflictResolution.NONE, UpdateConflictResolution.MERGE
SEND, GET = UpdateConflictResolution.SEND_TO_CRM, UpdateConflictResolution.GET_FROM_CRM
CONFLICT, NOTHING, SAME, MISSING = "conflict", "unchanged", "equal", "create"


def word(plan: Plan) -> object:
    """A plan in a word, a change as what is written."""
    match plan:
        case Create():
            return MISSING
        case Modify(changes):
            return dict(changes)
        case AlreadyEqual():
            return SAME
        case Unchanged():
            return NOTHING
        case Skip():
            return "skip"
        case Conflict():
            return CONFLICT
        case Fail():
            return "fail"
        case _:
            assert_never(plan)


def decided(
    row: FieldMapping,
    run: Direction,
    policy: UpdateConflictResolution,
    nav: str,
    crm: str,
    agreed: str | None,
    force: bool = False,
) -> object:
    """What happens to a record with one field, given both values and the one last agreed on."""
    shape = a_shape(policy, (row,))
    here, there = shown(Side.NAV, {"Name": nav}), shown(Side.CRM, {"name": crm})
    base = Base({"Name": agreed}, {"name": agreed or None}) if agreed is not None else None
    source, found = (here, there) if run is TO else (there, here)
    return word(planned(shape, run, source, found, base, force))


TWO_WAY_ROW = FieldMapping("Name", "name", BOTH)
TO_ROW = FieldMapping("Name", "name", TO)
FROM_ROW = FieldMapping("Name", "name", FROM)


@pytest.mark.parametrize("policy", UpdateConflictResolution)
@pytest.mark.parametrize(
    ("nav", "crm", "agreed", "to_crm", "from_crm"),
    [
        ("A", "A", "A", SAME, SAME),
        ("N", "A", "A", {"name": "N"}, NOTHING),
        ("A", "C", "A", NOTHING, {"Name": "C"}),
        ("B", "B", "A", SAME, SAME),
        ("", "A", "A", {"name": None}, NOTHING),
        ("A", "", "A", NOTHING, {"Name": ""}),
        # freshly coupled: they fill each other's blanks
        ("N", "", None, {"name": "N"}, NOTHING),
        ("", "C", None, NOTHING, {"Name": "C"}),
        ("B", "B", None, SAME, SAME),
        ("", "", None, SAME, SAME),
    ],
)
def test_a_change_of_one_side_flows_to_the_other_whatever_the_policy(
    policy: UpdateConflictResolution, nav: str, crm: str, agreed: str | None, to_crm: object, from_crm: object
) -> None:
    assert decided(TWO_WAY_ROW, TO, policy, nav, crm, agreed) == to_crm
    assert decided(TWO_WAY_ROW, FROM, policy, nav, crm, agreed) == from_crm


@pytest.mark.parametrize("agreed", ["A", None])
@pytest.mark.parametrize(
    ("policy", "to_crm", "from_crm"),
    [
        (NONE, CONFLICT, CONFLICT),
        (MERGE, CONFLICT, CONFLICT),
        (SEND, {"name": "N"}, NOTHING),
        (GET, NOTHING, {"Name": "C"}),
    ],
)
def test_where_both_changed_the_same_field_the_policy_decides(
    policy: UpdateConflictResolution, agreed: str | None, to_crm: object, from_crm: object
) -> None:
    assert decided(TWO_WAY_ROW, TO, policy, "N", "C", agreed) == to_crm
    assert decided(TWO_WAY_ROW, FROM, policy, "N", "C", agreed) == from_crm


@pytest.mark.parametrize("policy", UpdateConflictResolution)
@pytest.mark.parametrize("agreed", ["A", "N", "C", None])
def test_on_a_one_way_row_the_source_wins_and_the_other_direction_leaves_it_alone(
    policy: UpdateConflictResolution, agreed: str | None
) -> None:
    assert decided(TO_ROW, TO, policy, "N", "C", agreed) == {"name": "N"}
    assert decided(TO_ROW, FROM, policy, "N", "C", agreed) == SAME
    assert decided(FROM_ROW, FROM, policy, "N", "C", agreed) == {"Name": "C"}
    assert decided(FROM_ROW, TO, policy, "N", "C", agreed) == SAME


@pytest.mark.parametrize("policy", UpdateConflictResolution)
@pytest.mark.parametrize("agreed", ["A", "N", "C", None])
def test_the_chosen_side_wins_every_field(policy: UpdateConflictResolution, agreed: str | None) -> None:
    assert decided(TWO_WAY_ROW, TO, policy, "N", "C", agreed, force=True) == {"name": "N"}
    assert decided(TWO_WAY_ROW, FROM, policy, "N", "C", agreed, force=True) == {"Name": "C"}
    assert decided(TWO_WAY_ROW, TO, policy, "B", "B", agreed, force=True) == SAME


BASE = Base(
    {"Name": "A", "City": "A", "Terms": "A", "Contact": "A"},
    {"name": "A", "city": "A", "terms": "A", "contact": "A"},
)


@pytest.mark.parametrize(
    ("policy", "to_crm", "from_crm"),
    [
        (NONE, CONFLICT, CONFLICT),  # NAV's record rule: changed on both sides, whichever the fields
        (MERGE, {"name": "N"}, {"City": "C"}),
        (SEND, {"name": "N"}, {"City": "C"}),
        (GET, {"name": "N"}, {"City": "C"}),
    ],
)
def test_changes_of_different_fields_flow_both_ways_unless_the_policy_forbids_it(
    policy: UpdateConflictResolution, to_crm: object, from_crm: object
) -> None:
    nav = shown(Side.NAV, {"Name": "N", "City": "A", "Terms": "A", "Contact": "A"})
    crm = shown(Side.CRM, {"name": "A", "city": "C", "terms": "A", "contact": "A"})
    assert word(planned(a_shape(policy), TO, nav, crm, BASE)) == to_crm
    assert word(planned(a_shape(policy), FROM, crm, nav, BASE)) == from_crm


def test_a_conflict_holds_the_whole_record_and_names_three_values() -> None:
    nav = shown(Side.NAV, {"Name": "N", "City": "N", "Terms": "N", "Contact": "A"})
    crm = shown(Side.CRM, {"name": "C", "city": "A", "terms": "A", "contact": "A"})
    plan = planned(a_shape(), TO, nav, crm, BASE)
    assert isinstance(plan, Conflict)
    (clash,) = plan.clashes
    assert (clash.field, clash.wanted, clash.found, clash.base) == ("name", "N", "C", "A")


def test_a_record_that_is_missing_is_created() -> None:
    nav = shown(Side.NAV, {"Name": "N", "City": "", "Terms": "T", "Contact": "K"})
    plan = planned(a_shape(), TO, nav, None, None)
    assert plan == Create({"name": "N", "city": None, "terms": "T"})


@pytest.mark.parametrize("force", [False, True])
def test_what_cannot_be_translated_fails_or_is_left_out_with_its_reason(force: bool) -> None:
    out, bad = ContactWithoutAccount("belongs to no account"), LookupNotCoupled("is not coupled")
    assert decide(a_shape(), FROM, {}, None, Translation({}, error=out), None, force=force) == Skip(out)
    assert decide(a_shape(), FROM, {}, {}, Translation({}, error=bad), BASE, force=force) == Fail(bad)


# --- laws --------------------------------------------------------------------------------------------

LETTERS = st.sampled_from(["", "A", "B", "C"])
NAV = st.fixed_dictionaries(dict.fromkeys(PAIRS, LETTERS)).map(lambda v: shown(Side.NAV, v))
CRM = st.fixed_dictionaries(dict.fromkeys(PAIRS.values(), LETTERS)).map(lambda v: shown(Side.CRM, v))
BASES = st.none() | st.builds(lambda nav, crm: Base(nav.values, crm.values), NAV, CRM)
AGREED = st.none() | CRM.map(
    lambda crm: Base({ours: crm.values[theirs] or "" for ours, theirs in PAIRS.items()}, crm.values)
)
POLICIES = st.sampled_from(UpdateConflictResolution)
RUNS = st.sampled_from([TO, FROM])


def oriented(run: Direction, nav: Snapshot, crm: Snapshot) -> tuple[Snapshot, Snapshot]:
    """Source and destination of the run."""
    return (nav, crm) if run is TO else (crm, nav)


def carried_out(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> tuple[Snapshot, Snapshot, Base | None]:
    """Both records and what they agree on after one run."""
    shape = a_shape(policy)
    source, found = oriented(run, nav, crm)
    match planned(shape, run, source, found, base):
        case Modify(changes):
            after = written(found, changes)
        case Unchanged() | AlreadyEqual():
            after = found
        case _:
            return nav, crm, base
    agreed = rebased(shape, run, source, after, base)
    return (source, after, agreed) if run is TO else (after, source, agreed)


@given(RUNS, POLICIES, NAV, CRM, BASES)
def test_a_change_of_theirs_is_never_overwritten_unless_the_policy_says_so(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    source, found = oriented(run, nav, crm)
    plan = planned(a_shape(policy), run, source, found, base)
    if isinstance(plan, Modify) and policy in (NONE, MERGE):
        agreed = (base or Base()).on(run.destination)
        two_way = TWO_WAY.values() if run is TO else TWO_WAY.keys()
        changed = [name for name in plan.changes if name in two_way]
        assert all((found.values[name] or "") == (agreed.get(name) or "") for name in changed)


@given(RUNS, POLICIES, NAV, CRM, BASES, st.booleans())
def test_a_decision_follows_from_what_is_known_and_from_nothing_else(
    run: Direction,
    policy: UpdateConflictResolution,
    nav: Snapshot,
    crm: Snapshot,
    base: Base | None,
    force: bool,
) -> None:
    source, found = oriented(run, nav, crm)
    once = planned(a_shape(policy), run, source, found, base, force)
    assert once == planned(a_shape(policy), run, replace(source, version="9"), found, base, force)


@given(RUNS, POLICIES, NAV, CRM, BASES)
def test_only_what_differs_is_written(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    source, found = oriented(run, nav, crm)
    for force in (False, True):
        plan = planned(a_shape(policy), run, source, found, base, force)
        if isinstance(plan, Modify):
            assert all(found.values[name] != value for name, value in plan.changes.items())


@given(POLICIES, NAV, CRM, AGREED)
def test_after_both_directions_there_is_nothing_left_to_do_but_conflicts(
    policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    for _ in range(2):  # with GET_FROM_CRM a clash flows in the second direction, other fields in the first
        for run in (TO, FROM):
            nav, crm, base = carried_out(run, policy, nav, crm, base)
    plans = [planned(a_shape(policy), run, *oriented(run, nav, crm), base) for run in (TO, FROM)]
    if any(isinstance(plan, Conflict) for plan in plans):
        assert policy in (NONE, MERGE)
        return
    assert all(isinstance(plan, Unchanged | AlreadyEqual) for plan in plans)
    assert all((nav.values[ours] or "") == (crm.values[theirs] or "") for ours, theirs in TWO_WAY.items())


@given(RUNS, POLICIES, NAV, CRM, BASES)
def test_after_a_run_its_own_direction_has_nothing_left_to_do(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    before = planned(a_shape(policy), run, *oriented(run, nav, crm), base)
    nav, crm, base = carried_out(run, policy, nav, crm, base)
    after = planned(a_shape(policy), run, *oriented(run, nav, crm), base)
    assert isinstance(after, Conflict if isinstance(before, Conflict) else Unchanged | AlreadyEqual)


@given(RUNS, POLICIES, NAV, CRM, BASES)
def test_a_version_is_kept_only_if_the_base_holds_every_mapped_value_of_it(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    before = base
    nav, crm, base = carried_out(run, policy, nav, crm, base)
    if base is None or base is before:
        return
    for side, record in ((Side.NAV, nav), (Side.CRM, crm)):
        assert base.version(side) in (None, record.version)
        if base.version(side) is not None:
            assert all((base.on(side).get(f) or "") == (v or "") for f, v in record.values.items())
            assert covers(a_shape(policy), side, base.on(side), record.values)


@given(RUNS, POLICIES, NAV, CRM, BASES)
def test_what_both_sides_agree_on_never_hides_a_pending_change_of_the_other_side(
    run: Direction, policy: UpdateConflictResolution, nav: Snapshot, crm: Snapshot, base: Base | None
) -> None:
    """As long as the other direction would carry a change over, no version may claim that nothing changed."""
    shape, back, there = a_shape(policy), (FROM if run is TO else TO), run.destination
    partner = PAIRS if there is Side.NAV else {theirs: ours for ours, theirs in PAIRS.items()}
    found = oriented(run, nav, crm)[1].values
    agreed = (base or Base()).on(there)
    pending = planned(shape, back, *oriented(back, nav, crm), base)
    nav, crm, after = carried_out(run, policy, nav, crm, base)
    if after is None or after is base or not isinstance(pending, Modify):
        return
    now = oriented(run, nav, crm)[1].values
    news = {name for name in found if (found[name] or "") != (agreed.get(name) or "")}
    left = {partner[name] for name in news if now[name] == found[name]} & pending.changes.keys()
    still = planned(shape, back, *oriented(back, nav, crm), after)
    if left:
        assert after.version(there) is None
        assert isinstance(still, Modify)
        assert left <= still.changes.keys()


def test_a_change_on_a_row_of_the_other_direction_stays_one() -> None:
    """CRM changed what only goes to NAV; a run to CRM passes by meanwhile."""
    nav = shown(Side.NAV, {"Name": "N", "City": "A", "Terms": "A", "Contact": "A"})
    crm = shown(Side.CRM, {"name": "A", "city": "A", "terms": "A", "contact": "K"})
    after = written(crm, {"name": "N"})
    agreed = rebased(a_shape(), TO, nav, after, BASE)
    assert agreed.crm_version is None
    assert agreed.crm["contact"] == "A"
    assert word(planned(a_shape(), FROM, after, nav, agreed)) == {"Contact": "K"}


def test_a_field_that_is_kept_agrees_with_nothing_new() -> None:
    """A blank salesperson leaves the owner alone: the owner's change is still to be seen."""
    rows = (FieldMapping("Name", "name", BOTH, not_null=True),)
    shape = a_shape(rows=rows)
    nav, crm = shown(Side.NAV, {"Name": ""}), shown(Side.CRM, {"name": "C"})
    base = Base({"Name": "A"}, {"name": "A"})
    assert translated(shape, TO, nav).kept == {"name"}
    agreed = rebased(shape, TO, nav, crm, base)
    assert (agreed.nav["Name"], agreed.crm["name"], agreed.crm_version) == ("", "A", None)
    assert word(planned(shape, FROM, crm, nav, agreed)) == {"Name": "C"}


OWNED = (
    FieldMapping("Name", "name", BOTH),
    FieldMapping("City", "city", BOTH, not_null=True),
    FieldMapping("Contact", "contact", FROM),
    FieldMapping("Terms", "terms", FROM, rule="blocked_when_inactive"),
)


def test_what_creation_put_into_fields_we_leave_alone_is_nobodys_change() -> None:
    """The owner and the status of a new account come from CRM itself; its other news are still to come."""
    shape = a_shape(rows=OWNED)
    nav = shown(Side.NAV, {"Name": "N", "City": "", "Contact": "", "Terms": ""})
    plain = shown(Side.CRM, {"name": "N", "city": "default", "contact": "", "terms": "1"})
    translation = translated(shape, TO, nav)
    assert rebase(shape, TO, nav, plain, translation, None, created=True).crm_version == plain.version
    assert rebase(shape, TO, nav, plain, translation, None).crm_version is None
    news = written(plain, {"contact": "filled in by CRM"})
    assert rebase(shape, TO, nav, news, translation, None, created=True).crm_version is None
