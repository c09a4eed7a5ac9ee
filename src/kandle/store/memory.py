"""A store that ends with its process: the default, and what tests use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from kandle.errors import StorageError


class MemoryStore:
    """A store in a dictionary."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if it has none."""
        self._check_open()
        return self._values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys with a prefix and their values, ascending, as of this call."""
        self._check_open()
        return self._checked(sorted(item for item in self._values.items() if item[0].startswith(prefix)))

    def _checked(self, items: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for item in items:
            self._check_open()
            yield item

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete keys, then put values."""
        self._check_open()
        # Both may be computed while they are read, and fail; nothing is changed before that.
        deleted, fresh = list(deletes), dict(puts)
        for key in deleted:
            self._values.pop(key, None)
        self._values.update(fresh)

    def close(self) -> None:
        """Refuse all further calls."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the store in memory is closed; make another one")
