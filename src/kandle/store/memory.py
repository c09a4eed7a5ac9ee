"""A store that ends with its process: the default of state, and what tables are kept in where RocksDB is not installed."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import merge

from kandle.errors import StorageError
from kandle.store.ordering import following

LEAST_FRESH = 1_000
"""So many new keys are put in order by themselves at most, before they are put in order with all others."""


class MemoryStore:
    """A store in a dictionary, whose keys are put in order when they are scanned."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._ordered: list[bytes] = []
        """Keys in order; some may have no value any more."""
        self._fresh: set[bytes] = set()
        """Keys that are not in order yet."""
        self._known: set[bytes] = set()
        """The keys in order as a set."""
        self._lock = threading.Lock()
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if it has none."""
        self._check_open()
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys with a prefix and their values, ascending, as of this call."""
        with self._lock:
            self._check_open()
            keys = self._keys(prefix)
            return self._checked([(key, self._values[key]) for key in keys if key in self._values])

    def _keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys with a prefix in order, among them some without a value."""
        if len(self._fresh) > max(LEAST_FRESH, len(self._ordered) // 8):
            self._ordered = sorted(self._values)
            self._known, self._fresh = set(self._ordered), set()
        end = following(prefix)
        begin = bisect_left(self._ordered, prefix)
        ordered = self._ordered[begin : bisect_left(self._ordered, end, begin) if end else None]
        fresh = sorted(key for key in self._fresh if key.startswith(prefix))
        return list(merge(ordered, fresh)) if fresh else ordered

    def _checked(self, items: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for item in items:
            self._check_open()
            yield item

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete keys, then put values."""
        # Both may be computed while they are read, and fail; nothing is changed before that.
        deleted, fresh = list(deletes), dict(puts)
        with self._lock:
            self._check_open()
            for key in deleted:
                self._values.pop(key, None)
                self._fresh.discard(key)
            self._values.update(fresh)
            self._fresh.update(key for key in fresh if key not in self._known)

    def clear(self) -> None:
        """Delete everything."""
        with self._lock:
            self._check_open()
            self._values, self._ordered, self._fresh, self._known = {}, [], set(), set()

    def close(self) -> None:
        """Refuse all further calls."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the store in memory is closed; make another one")
