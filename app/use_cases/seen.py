"""The ids that a read of a whole table showed, in some five bytes each."""

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from hashlib import blake2b
from uuid import UUID

BITS = 10
"""Of a hash that say in which bucket it is: those need not be kept, and one bucket at a time is sorted. More buckets
would each leave holes behind while they grow: of a million ids, those of 4,096 take a megabyte and a half more."""
KEPT = 32
"""Bits of a hash that are kept."""


class Seen:
    """Remembers ids by a hash of 42 bits.

    Of four million records that are gone from a table of a million, one counts as seen. Each read hashes in its
    own way, so the next one finds its deletion. A set of ids would take more than twenty times the memory.
    """

    def __init__(self) -> None:
        self._buckets = [array("I") for _ in range(1 << BITS)]
        self._sorted = True
        self._salt = os.urandom(blake2b.SALT_SIZE)

    def add(self, ids: Iterable[UUID]) -> None:
        """These were shown."""
        for id_ in ids:
            bucket, kept = self._hash(id_)
            self._buckets[bucket].append(kept)
        self._sorted = False

    def __contains__(self, id_: UUID) -> bool:
        if not self._sorted:
            for number, unsorted in enumerate(self._buckets):
                self._buckets[number] = array("I", sorted(unsorted))
            self._sorted = True
        number, kept = self._hash(id_)
        bucket = self._buckets[number]
        position = bisect_left(bucket, kept)
        return position < len(bucket) and bucket[position] == kept

    def _hash(self, id_: UUID) -> tuple[int, int]:
        """The bucket, and what is kept there."""
        digest = blake2b(id_.bytes, digest_size=8, salt=self._salt).digest()
        hashed = int.from_bytes(digest, "big") >> (64 - BITS - KEPT)
        return hashed >> KEPT, hashed & ((1 << KEPT) - 1)
