"""The store port: bytes by key, for state that this machine keeps. Its adapters are `memory` and `rocks`.

A store is a copy of what a changelog has, so the way out of a damaged one is to delete it. It is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol


class Store(Protocol):
    """Values by key, both bytes; the order of keys is that of their bytes.

    Every call raises StorageError if the place of the store fails or the store is closed.
    """

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None if there is none."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with the prefix and their values, ascending, as of this call: later writes do not show.

        An empty prefix is all of them. To go on after `close` is a StorageError, never an early end.
        """

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete, then put: all or nothing, so a key that is in both is there afterwards.

        Keys to be deleted need not be there. If the store outlives its process, so does all that this returned for.
        """

    def close(self) -> None:
        """Let go of the place, for others to open; once more does nothing."""
