"""The ids that a read of a whole table showed, in eight bytes each."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from itertools import chain
from uuid import UUID

BUCKETS = 64
"""Hashes are sorted one bucket at a time: sorting all at once would need several times their memory."""
PIECE = 512
"""A bucket is held in pieces of four kilobytes. An array that grew as a whole would be moved again and again, and the
places that it left behind would be of no use to others: half as much again."""


class Seen:
    """Remembers ids by a hash of 64 bits.

    Among a million ids two have the same hash once in 37 million reads; then a record that is gone may count as
    seen, and its deletion is found at the next read. A set of ids would take more than ten times the memory.
    """

    def __init__(self) -> None:
        self._buckets: list[list[array[int]]] = [[] for _ in range(BUCKETS)]
        self._sorted = True

    def add(self, ids: Iterable[UUID]) -> None:
        """These were shown."""
        for id_ in ids:
            hashed = _hash(id_)
            pieces = self._buckets[hashed % BUCKETS]
            if not pieces or len(pieces[-1]) >= PIECE:
                pieces.append(array("Q"))
            pieces[-1].append(hashed)
        self._sorted = False

    def __contains__(self, id_: UUID) -> bool:
        if not self._sorted:
            self._sort()
        hashed = _hash(id_)
        pieces = self._buckets[hashed % BUCKETS]
        place = bisect_left(pieces, hashed, key=_last)
        if place == len(pieces):
            return False
        piece = pieces[place]
        return piece[bisect_left(piece, hashed)] == hashed

    def _sort(self) -> None:
        for pieces in self._buckets:
            hashes = sorted(chain.from_iterable(pieces))
            pieces.clear()
            pieces += (array("Q", hashes[at : at + PIECE]) for at in range(0, len(hashes), PIECE))
        self._sorted = True


def _last(piece: "array[int]") -> int:
    return piece[-1]


def _hash(id_: UUID) -> int:
    return int.from_bytes(blake2b(id_.bytes, digest_size=8).digest(), "big")
