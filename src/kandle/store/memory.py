"""A store in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping


class MemoryStore:
    """Keeps everything until the process ends."""

    def __init__(self) -> None:
        self._content: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._content.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self._content.items() if item[0].startswith(prefix)))

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        for key in deletes:
            self._content.pop(key, None)
        self._content.update(puts)

    def close(self) -> None:
        """Nothing to let go of."""
