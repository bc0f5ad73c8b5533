"""The ids that a read of a whole table showed, in eight bytes each."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

BUCKETS = 64
"""Hashes are sorted one bucket at a time: sorting all at once would need several times their memory."""


class Seen:
    """Remembers ids by a hash of 64 bits.

    Among a million ids two have the same hash once in 37 million reads; then a record that is gone may count as
    seen, and its deletion is found at the next read. A set of ids would take more than ten times the memory.
    """

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(BUCKETS)]
        self._sorted = True

    def add(self, ids: Iterable[UUID]) -> None:
        """These were shown."""
        for id_ in ids:
            hashed = _hash(id_)
            self._buckets[hashed % BUCKETS].append(hashed)
        self._sorted = False

    def __contains__(self, id_: UUID) -> bool:
        if not self._sorted:
            for number, bucket in enumerate(self._buckets):
                self._buckets[number] = array("Q", sorted(bucket))
            self._sorted = True
        hashed = _hash(id_)
        bucket = self._buckets[hashed % BUCKETS]
        position = bisect_left(bucket, hashed)
        return position < len(bucket) and bucket[position] == hashed


def _hash(id_: UUID) -> int:
    return int.from_bytes(blake2b(id_.bytes, digest_size=8).digest(), "big")
