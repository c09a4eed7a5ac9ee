"""The store port: bytes by key, for state that this machine keeps. Its adapters are `memory` and `rocks`.

A store is a copy of what a changelog has, so a damaged one is simply deleted. It is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol


class Store(Protocol):
    """Values by key, both bytes; keys are ordered by their bytes.

    Every call raises StorageError if the folder of the store fails or the store is closed.
    """

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if it has none."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys that begin with a prefix and their values, ascending.

        Args:
            prefix: What the keys begin with; an empty prefix returns all keys.

        Returns:
            Keys and values as of this call: later writes do not show. To go on after `close` is a StorageError, never an
            early end.
        """

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete keys, then put values, all or nothing.

        When it returns, the end of the process takes nothing away from a store in a folder.

        Args:
            puts: Values by key.
            deletes: Keys to delete, which need not exist; a key that is also in `puts` exists afterwards.
        """

    def close(self) -> None:
        """Release the folder for others; closing again does nothing."""
