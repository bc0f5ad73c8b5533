"""Whether a job is tried again, and what the end of one means for its siblings."""

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import (
    Busy,
    CrmUnavailable,
    DatabaseFull,
    DatabaseUnavailable,
    InvalidMapping,
    LoginRefused,
    NavUnavailable,
    PermissionMissing,
    StaleRecord,
    Throttled,
    UnexpectedError,
)
from app.domain.job import JobKind, JobStatus, SynchJob, SynchMode, family_ended_as, settle
from app.domain.retry import FIRST_DELAY, LONGEST_DELAY, SOON, GiveUp, RetryIn, after_failure, after_loss
from app.jobs.handlers import HANDLERS

S, F, P, C = JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.PARTIAL, JobStatus.CANCELLED
Q, R = JobStatus.QUEUED, JobStatus.RUNNING


@pytest.mark.parametrize(
    ("error", "attempt", "decision"),
    [
        (CrmUnavailable("x"), 1, RetryIn(FIRST_DELAY)),
        (NavUnavailable("x"), 2, RetryIn(2 * FIRST_DELAY)),
        (StaleRecord("x"), 3, RetryIn(4 * FIRST_DELAY)),
        (Busy("x"), 9, RetryIn(LONGEST_DELAY)),
        (CrmUnavailable("x"), 10, GiveUp()),
        (Throttled("x", retry_after=timedelta(minutes=5)), 1, RetryIn(timedelta(minutes=5))),
        (Throttled("x", retry_after=timedelta(seconds=1)), 3, RetryIn(4 * FIRST_DELAY)),
        (DatabaseUnavailable("x"), 1, RetryIn(SOON)),
        (DatabaseUnavailable("x"), 12, RetryIn(2**11 * SOON)),
        (DatabaseUnavailable("x"), 13, GiveUp()),
        (DatabaseFull(), 1, RetryIn(FIRST_DELAY)),
        (DatabaseFull(), 10, GiveUp()),
        (LoginRefused("x"), 1, RetryIn(FIRST_DELAY)),
        (PermissionMissing("x"), 2, RetryIn(2 * FIRST_DELAY)),
        (PermissionMissing("x"), 10, GiveUp()),
        (InvalidMapping("x"), 1, GiveUp()),
        (UnexpectedError("x"), 2, RetryIn(2 * FIRST_DELAY)),
        (UnexpectedError("x"), 10, GiveUp()),
    ],
)
def test_what_may_pass_is_tried_again_with_a_growing_delay(
    error: Exception, attempt: int, decision: RetryIn | GiveUp
) -> None:
    assert after_failure(error, attempt, maximum_attempts=10) == decision


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_no_job_is_tried_for_ever(attempt: int, maximum: int) -> None:
    decision = after_failure(CrmUnavailable("x"), attempt, maximum)
    assert isinstance(decision, RetryIn) == (attempt < maximum)
    assert isinstance(after_loss(maximum + 3, maximum), GiveUp)


@pytest.mark.parametrize(
    ("children", "parent"),
    [((S, S), S), ((S, P), P), ((F, F), F), ((F, S), P), ((C, C), C), ((C, S), P), ((), S)],
)
def test_a_parent_ends_as_its_children_did(children: tuple[JobStatus, ...], parent: JobStatus) -> None:
    assert family_ended_as(children) is parent


def a_child(number: int, status: JobStatus, *depends_on: int) -> SynchJob:
    named = [str(UUID(int=other)) for other in depends_on]
    return SynchJob(
        UUID(int=number),
        "synchronize",
        f"M{number}",
        SynchMode.FULL,
        status=status,
        request={"depends_on": named},
    )


@pytest.mark.parametrize(
    ("children", "just_ended", "startable", "ended", "parent"),
    [
        pytest.param([a_child(1, S), a_child(2, Q, 1), a_child(3, Q, 2)], 1, {2}, {}, None, id="one after the other"),
        pytest.param([a_child(1, P), a_child(2, R), a_child(3, Q, 1, 2)], 1, set(), {}, None, id="both must end"),
        pytest.param([a_child(1, S), a_child(2, S), a_child(3, Q, 1, 2)], 2, {3}, {}, None, id="both have"),
        pytest.param([a_child(1, F), a_child(2, Q, 1), a_child(3, Q, 2)], 1, set(), {2: F, 3: F}, F, id="a chain"),
        pytest.param([a_child(1, C), a_child(2, Q, 1), a_child(3, Q)], 1, set(), {2: C}, None, id="cancelled"),
        pytest.param([a_child(1, S), a_child(2, Q, 1, 9)], 1, {2}, {}, None, id="a missing dependency is ignored"),
        pytest.param([a_child(1, F), a_child(2, S)], 1, set(), {}, P, id="all have ended"),
        pytest.param([a_child(1, S), a_child(2, Q, 2)], 1, set(), {}, None, id="one that waits for itself"),
    ],
)  # fmt: skip
def test_the_end_of_a_child_decides_what_becomes_of_its_siblings(
    children: list[SynchJob],
    just_ended: int,
    startable: set[int],
    ended: dict[int, JobStatus],
    parent: JobStatus | None,
) -> None:
    settlement = settle(children, {UUID(int=just_ended)})
    assert {child.id.int for child in settlement.startable} == startable
    assert {child.int: status for child, (status, _) in settlement.ended.items()} == ended
    assert settlement.parent is parent


def test_every_kind_of_job_has_a_handler() -> None:
    assert HANDLERS.keys() == set(JobKind)
