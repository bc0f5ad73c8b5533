"""Ids that were seen are known again, in a few bytes each."""

import tracemalloc
from uuid import UUID, uuid4

from app.use_cases.seen import Seen


def test_what_was_seen_is_known_and_nothing_else() -> None:
    shown, others = [uuid4() for _ in range(3000)], [uuid4() for _ in range(3000)]
    seen = Seen()
    seen.add(shown[:1000])
    assert shown[0] in seen
    seen.add(shown[1000:])
    assert all(each in seen for each in shown)
    assert not any(each in seen for each in others)


def test_ids_that_differ_in_their_first_bytes_only_are_told_apart() -> None:
    """CRM draws ids in sequence: half of their bytes are the same."""
    shown = [UUID(int=(number << 96) | 0xE811A95D000D3A1F7C9E) for number in range(2000)]
    seen = Seen()
    seen.add(shown[::2])
    assert [each in seen for each in shown] == [True, False] * 1000


def test_two_hundred_thousand_take_less_than_six_bytes_each() -> None:
    number = 200_000
    tracemalloc.start()
    seen = Seen()
    seen.add(UUID(int=each) for each in range(number))
    assert UUID(int=number + 1) not in seen
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / number < 6
