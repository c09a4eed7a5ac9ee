"""The store port: bytes by key, for what this machine keeps of the log. Its adapters are `memory` and `rocks`.

A store is a copy of what the log has, so a damaged one is simply deleted. One thread at a time writes it; others may read
meanwhile.
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
            early end. One thread takes all of them.
        """

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete keys, then put values, all or nothing.

        When it returns, the end of the process takes nothing away from a store in a folder.

        Args:
            puts: Values by key.
            deletes: Keys to delete, which need not exist; a key that is also in `puts` exists afterwards.
        """

    def clear(self) -> None:
        """Delete everything; if the process ends meanwhile, some keys may be left."""

    def close(self) -> None:
        """Release the folder for others; closing again does nothing."""
