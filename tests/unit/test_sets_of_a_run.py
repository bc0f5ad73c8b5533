"""What the sets of a run are made of, and what they count."""

from uuid import UUID

import pytest

from app.domain.coupling import SynchAction
from app.domain.job import Counts
from app.domain.records import Snapshot
from app.ports import Page
from app.use_cases.reading import SET, sets_of
from app.use_cases.tally import Tally


def shown(number: int, version: str = "1") -> Snapshot:
    return Snapshot(UUID(int=number), str(number), version, {})


def broken_off(tally: Tally) -> None:
    """Counts records, and fails when it commits them."""
    with tally.if_committed():
        tally.count(SynchAction.INSERTED, 1000)
        raise OSError("commit")


def test_a_record_that_a_page_shows_twice_is_in_one_set_as_it_was_last() -> None:
    records = [*(shown(number) for number in range(SET + 1)), shown(0, "2")]
    first, second = sets_of(Page(records))
    assert [len(first), len(second)] == [SET, 1]
    assert first[0] == shown(0, "2")
    assert second[0] == shown(SET)


@pytest.mark.parametrize(
    ("records", "sizes"),
    [(0, []), (499, [499]), (600, [300, 300]), (1000, [334, 334, 332]), (5000, [SET] * 5)],
)
def test_a_small_page_makes_sets_that_can_be_under_way_together(records: int, sizes: list[int]) -> None:
    page = Page([shown(number) for number in range(records)])
    assert [len(some) for some in sets_of(page, 3)] == sizes


def test_the_sets_take_the_records_out_of_their_page() -> None:
    page = Page([shown(number) for number in range(SET + 1)])
    first, second = sets_of(page)
    assert [*first, *second] == [shown(number) for number in range(SET + 1)]
    assert not page.records  # who handed the page on holds it until the next one is read


def test_what_was_not_committed_is_not_counted_with_what_comes_after_it() -> None:
    tally = Tally(Counts(inserted=1))
    with pytest.raises(OSError, match="commit"):
        broken_off(tally)
    with tally.if_committed():
        tally.count(SynchAction.MODIFIED)
    assert tally.counts == Counts(inserted=1, modified=1)
