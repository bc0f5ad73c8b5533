"""When the circuit breaker of a connection opens, and how soon CRM is asked again."""

from datetime import UTC, datetime, timedelta

from app.domain.breaker import CLOSED, Breaker, BreakerPolicy
from app.domain.coupling import Failure

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = BreakerPolicy()
WHY = Failure("crm-login-refused", "AADSTS7000222: The provided client secret keys are expired.")


def refused(minutes: list[float], breaker: Breaker = CLOSED) -> Breaker:
    """After refusals at these minutes past noon."""
    for minute in minutes:
        breaker = breaker.refused(WHY, NOON + timedelta(minutes=minute), POLICY)
    return breaker


def test_it_opens_at_the_third_refusal_and_says_why() -> None:
    assert not refused([0, 1]).is_open
    breaker = refused([0, 1, 2])
    assert (breaker.opened_at, breaker.reason) == (NOON + timedelta(minutes=2), WHY)
    assert breaker.probe_at == NOON + timedelta(minutes=2, seconds=30)


def test_refusals_that_lie_far_apart_do_not_open_it() -> None:
    assert not refused([0, 6, 12, 18]).is_open
    assert refused([0, 11, 12, 13]).is_open


def test_a_refusal_while_it_is_open_tells_the_latest_reason_and_puts_nothing_off() -> None:
    breaker = refused([0, 1, 2])
    later = breaker.refused(Failure("crm-permission-missing", "disabled"), NOON, POLICY)
    assert (later.opened_at, later.probe_at) == (breaker.opened_at, breaker.probe_at)
    assert later.reason is not None
    assert later.reason.code == "crm-permission-missing"


def test_the_waits_between_probes_double_up_to_a_quarter_of_an_hour() -> None:
    breaker, waits = refused([0, 1, 2]), []
    for _ in range(7):
        at = breaker.probe_at or NOON
        breaker = breaker.probed(at, POLICY)
        waits.append(((breaker.probe_at or NOON) - at).total_seconds())
    assert waits == [60, 120, 240, 480, 900, 900, 900]
