"""What requests of one process do for each other: questions asked at the same time are answered in one trip, and what
was read is kept as long as its version."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from app.domain.errors import DatabaseUnavailable, IntegrationError, Invalid
from app.ports import Remembered, Together
from app.ports.sharing import WAIT_FOR_COMPANY

pytestmark = pytest.mark.anyio


class Trips:
    """A far place that answers sets of questions; how it stands there changes."""

    def __init__(self) -> None:
        self.sets: list[list[str]] = []
        self.now = "early"
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.wrong: IntegrationError | None = None

    async def __call__(self, asked: Collection[str]) -> Mapping[str, str]:
        """What stands there at this moment; nothing about `unknown`."""
        self.sets.append(list(asked))
        self.begun.set()
        found = {each: f"{each} {self.now}" for each in asked if each != "unknown"}
        await self.gate.wait()
        if self.wrong is not None and ("bad" in asked or isinstance(self.wrong, DatabaseUnavailable)):
            raise self.wrong
        return found


async def asked(trips: Trips, together: Together, *questions: str) -> list[object]:
    """The answers, or what went wrong, to those who ask at the same time."""
    asking = (together.ask("kind", each, trips) for each in questions)
    return list(await asyncio.gather(*asking, return_exceptions=True))


async def settled() -> None:
    """Lets everyone go on until they wait for an answer."""
    await asyncio.sleep(20 * WAIT_FOR_COMPANY)


async def test_who_asks_at_the_same_time_shares_a_trip() -> None:
    trips = Trips()
    answers = await asked(trips, Together(), "a", "b", "a", "unknown")
    assert answers == ["a early", "b early", "a early", None]
    assert trips.sets == [["a", "b", "unknown"]]


async def test_an_answer_is_no_older_than_its_question() -> None:
    trips, together = Trips(), Together()
    trips.gate.clear()
    first = asyncio.create_task(asked(trips, together, "a"))
    await trips.begun.wait()
    trips.now = "late"
    second = asyncio.create_task(asked(trips, together, "a", "b"))
    await asyncio.sleep(0)
    trips.gate.set()
    assert await first == ["a early"]
    assert await second == ["a late", "b late"]
    assert trips.sets == [["a"], ["a", "b"]]


async def test_two_trips_may_be_under_way_and_who_comes_then_shares_the_next() -> None:
    trips, together = Trips(), Together()
    trips.gate.clear()
    asking = []
    for question in "abcde":
        asking.append(asyncio.create_task(together.ask("kind", question, trips)))
        await settled()
    assert trips.sets == [["a"], ["b"]]
    trips.gate.set()
    assert await asyncio.gather(*asking) == [f"{each} early" for each in "abcde"]
    assert trips.sets == [["a"], ["b"], ["c", "d", "e"]]


async def test_while_others_are_under_way_a_trip_waits_a_moment_for_company() -> None:
    trips, together = Trips(), Together()
    trips.gate.clear()
    asking = [asyncio.create_task(together.ask("another kind", "a", trips))]
    await trips.begun.wait()
    for question in "bc":
        asking.append(asyncio.create_task(together.ask("kind", question, trips)))
        for _ in range(10):  # by then it would have set out alone
            await asyncio.sleep(0)
    trips.gate.set()
    assert await asyncio.gather(*asking) == ["a early", "b early", "c early"]
    assert trips.sets == [["a"], ["b", "c"]]


async def test_a_trip_that_is_broken_off_leaves_nobody_waiting() -> None:
    trips, together, others = Trips(), Together(), asyncio.all_tasks()
    trips.gate.clear()
    asking = []
    for question in "abc":
        asking.append(asyncio.create_task(together.ask("kind", question, trips)))
        await settled()
    for trip in asyncio.all_tasks() - {*others, *asking}:
        trip.cancel()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 3
    trips.gate.set()
    assert await asked(trips, together, "d") == ["d early"]


async def test_a_trip_that_is_broken_off_before_it_sets_out_leaves_nobody_waiting() -> None:
    trips, together, others = Trips(), Together(), asyncio.all_tasks()
    asking = [asyncio.create_task(together.ask("kind", question, trips)) for question in "ab"]
    await asyncio.sleep(0)
    for trip in asyncio.all_tasks() - {*others, *asking}:
        trip.cancel()
    ended = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 5)
    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2
    assert await asyncio.wait_for(asked(trips, together, "c"), 5) == ["c early"]


async def test_a_question_that_cannot_be_answered_harms_no_other() -> None:
    trips = Trips()
    trips.wrong = Invalid("This one is wrong.")
    assert await asked(trips, Together(), "a", "bad", "b") == ["a early", trips.wrong, "b early"]


async def test_everyone_hears_that_the_place_is_away_and_nobody_asks_it_again() -> None:
    trips = Trips()
    trips.wrong = DatabaseUnavailable("It is away.")
    assert await asked(trips, Together(), "a", "b") == [trips.wrong, trips.wrong]
    assert len(trips.sets) == 1


async def test_who_gives_up_takes_nobody_along() -> None:
    trips, together = Trips(), Together()
    trips.gate.clear()
    patient, hasty = (asyncio.create_task(together.ask("kind", "a", trips)) for _ in range(2))
    await trips.begun.wait()
    hasty.cancel()
    trips.gate.set()
    assert await patient == "a early"
    assert await asked(trips, together, "b") == ["b early"]


async def test_questions_of_another_kind_travel_alone() -> None:
    trips, together = Trips(), Together()
    await asyncio.gather(*(together.ask(kind, "a", trips) for kind in ("customers", "contacts")))
    assert trips.sets == [["a"], ["a"]]


async def test_what_was_read_is_kept_until_its_version_changes() -> None:
    remembered, read = Remembered(), []

    async def look() -> int:
        read.append(1)
        return len(read)

    versions = ("1", "1", "2", "2", "1")
    assert [await remembered.get("cronus", version, look) for version in versions] == [1, 1, 2, 2, 3]
    assert await remembered.get("fabrikam", "1", look) == 4
