"""When a coupling is skipped, and how it comes back."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from app.domain.coupling import Base, Coupling, CouplingStatus, Failure, SynchAction, SynchResult
from app.domain.errors import CrmRefused, StaleRecord, UpdateConflict
from app.domain.records import is_older

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
REFUSED = Failure.of(CrmRefused("The name is too long."))
OTHER = Failure.of(CrmRefused("The city is too long."))
STALE = Failure.of(StaleRecord("Changed meanwhile."))


def a_coupling() -> Coupling:
    return Coupling(uuid4(), "CUSTOMER", "customers", uuid4(), "10000", "account", uuid4())


def failing(*failures: Failure, jobs: list[UUID | None] | None = None) -> Coupling:
    """A coupling after these failures, each of another run unless told."""
    coupling = a_coupling()
    for failure, job in zip(failures, jobs or [uuid4() for _ in failures], strict=True):
        coupling = coupling.failed(failure, NOW, job)
    return coupling


def test_the_first_failure_is_remembered_and_skips_nothing() -> None:
    coupling = failing(REFUSED)
    assert coupling.last_error == REFUSED
    assert coupling.last_synch_result is SynchResult.FAILURE
    assert coupling.last_synch_action is SynchAction.FAILED
    assert not coupling.skipped


def test_the_same_permanent_failure_in_two_runs_is_skipped() -> None:
    assert failing(REFUSED, REFUSED).skipped


def test_a_different_failure_starts_over() -> None:
    assert not failing(REFUSED, OTHER).skipped
    assert not failing(REFUSED, OTHER, REFUSED).skipped
    assert failing(REFUSED, OTHER, OTHER).skipped


def test_what_may_go_away_by_itself_is_never_skipped() -> None:
    assert not failing(STALE, STALE, STALE).skipped


def test_both_directions_of_one_run_are_one_time() -> None:
    job, next_job = uuid4(), uuid4()
    assert not failing(REFUSED, REFUSED, jobs=[job, job]).skipped
    assert failing(REFUSED, REFUSED, REFUSED, jobs=[job, job, next_job]).skipped


def test_a_conflict_that_each_direction_tells_in_its_own_words_is_one_failure() -> None:
    """To CRM it wants what the other direction finds: the words differ, the failure does not."""
    there = Failure.of(UpdateConflict("wanted N, found C"))
    back = Failure.of(UpdateConflict("wanted C, found N"))
    first, second = uuid4(), uuid4()
    assert not failing(there, back, jobs=[first, first]).skipped
    assert failing(there, back, there, jobs=[first, first, second]).skipped


def test_a_success_in_between_starts_over() -> None:
    coupling = failing(REFUSED).agreed(Base(), SynchAction.MODIFIED, NOW, uuid4())
    assert coupling.last_error is None
    assert coupling.last_synch_result is SynchResult.SUCCESS
    assert not coupling.failed(REFUSED, NOW, uuid4()).skipped


def test_a_restored_coupling_shows_its_failure_until_it_succeeds() -> None:
    coupling = failing(REFUSED, REFUSED).restored()
    assert not coupling.skipped
    assert coupling.last_error == REFUSED
    assert coupling.failed(REFUSED, NOW, uuid4()).skipped
    assert not coupling.agreed(Base(), SynchAction.MODIFIED, NOW).skipped


def test_success_alone_does_not_restore() -> None:
    assert failing(REFUSED, REFUSED).agreed(Base(), SynchAction.MODIFIED, NOW).skipped


def test_what_agrees_is_no_longer_only_reserved() -> None:
    reserved = Coupling(
        uuid4(), "CUSTOMER", "customers", uuid4(), "", "account", uuid4(), status=CouplingStatus.RESERVED
    )
    assert reserved.agreed(Base(), SynchAction.INSERTED, NOW).status is CouplingStatus.COUPLED
    assert reserved.failed(STALE, NOW).status is CouplingStatus.RESERVED


@pytest.mark.parametrize(
    ("version", "other", "older"),
    [
        ("9", "10", True),
        ("10", "9", False),
        ('W/"999"', 'W/"1000"', True),
        ('W/"1000"', 'W/"1000"', False),
        ('W/"1000"', None, False),
        ("", "10", False),
        ('W/"abc"', 'W/"abd"', False),
    ],
)
def test_which_version_looks_older(version: str, other: str | None, older: bool) -> None:
    assert is_older(version, other) is older
