"""A store in a RocksDB folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from rocksdict import Options, Rdict, ReadOptions, WriteBatch

from kandle.errors import StorageError


class RocksStore:
    """Keeps everything in a folder, which one process at a time can open."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = Rdict(str(path), _options())
        except Exception as error:
            raise StorageError(
                f"the state in {path} cannot be opened: {error}; if no other process uses it, delete the folder: "
                "it is made again from the changelog"
            ) from error

    def get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._database.get(key)
        return found

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        limits = ReadOptions()
        after = _after(prefix)
        if after is not None:
            limits.set_iterate_upper_bound(after)
        yield from list(self._database.items(from_key=prefix, read_opt=limits))

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        batch = WriteBatch(raw_mode=True)
        for key in deletes:
            batch.delete(key)
        for key, value in puts.items():
            batch.put(key, value)
        self._database.write(batch)

    def close(self) -> None:
        self._database.close()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    return options


def _after(prefix: bytes) -> bytes | None:
    """The least key after all that begin so."""
    kept = prefix.rstrip(b"\xff")
    return None if not kept else kept[:-1] + bytes([kept[-1] + 1])
