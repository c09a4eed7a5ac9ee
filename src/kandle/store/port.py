"""The store port: bytes by key, for state on this machine. Its adapters are `memory` and `rocks`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol


class Store(Protocol):
    """Keys and values as bytes, in the order of the keys."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin so, ascending, as they are now."""

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Put and delete, all or nothing; when it returns, the end of the process takes nothing away."""

    def close(self) -> None:
        """Let go of files."""
