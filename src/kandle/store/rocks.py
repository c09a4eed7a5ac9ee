"""A store in a folder, kept by RocksDB (the extra `kandle[rocksdb]`).

Writes go to RocksDB's write-ahead log, which the operating system has when `write` returns: the end of the process takes nothing
away. A failure of the machine may take the newest writes, each as a whole; the changelog has them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from kandle.errors import OptionalImport, StorageError

with OptionalImport("State in RocksDB", "rocksdb"):
    from rocksdict import DbClosedError, Options, Rdict, RdictIter, ReadOptions, WriteBatch

REBUILD = "delete the folder; it is rebuilt from the changelog"
LOG_FILES = 2
"""How many of RocksDB's own log files are kept; each opening begins one."""

_ADVICE = {
    "lock hold by": f"this process has it open: close that store first; if there is none, {REBUILD}",
    "While lock file": f"another process has it open: end that process first; if there is none, {REBUILD}",
    "No space left": "the disk is full: free some space and start again",
    "Permission denied": "look at the permissions of the folder",
}
"""What to do, by words of RocksDB's message: it raises one class for everything."""


class RocksStore:
    """A store in a folder.

    Args:
        path: The folder, which is created if it is missing; only one store at a time can have it open.

    Raises:
        StorageError: The folder cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scans: WeakSet[_Scan] = WeakSet()
        with _translated(path):
            self._database = Rdict(str(path), _options())

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, or None if it has none."""
        with _translated(self._path):
            value: bytes | None = self._database.get(key)
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys with a prefix and their values, ascending, as of this call."""
        with _translated(self._path):
            options = _read_options(prefix)
            rows = self._database.iter(options)
            rows.seek(prefix)
        scan = _Scan(self._path, rows, options)
        self._scans.add(scan)
        return scan

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete keys, then put values, in one batch of the write-ahead log."""
        batch = WriteBatch(raw_mode=True)
        for key in deletes:
            batch.delete(key)
        for key, value in puts.items():
            batch.put(key, value)
        with _translated(self._path):
            self._database.write(batch)

    def close(self) -> None:
        """Release the folder, and the scans that would keep it locked."""
        for scan in list(self._scans):
            scan.close()
        with _translated(self._path), suppress(DbClosedError):
            self._database.close()


class _Scan:
    """The rows of one scan.

    RocksDB's own loop over items ends early and silently at a damaged block; its iterator reports it when it is asked.
    """

    def __init__(self, path: Path, rows: RdictIter, options: ReadOptions) -> None:
        self._path = path
        # The iterator only has a pointer to the upper bound, which these options own.
        self._options = options
        self._rows: RdictIter | None = rows
        self._is_interrupted = False

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if self._is_interrupted:
            raise StorageError(f"the store in {self._path} was closed in the middle of a scan; finish scans before")
        if self._rows is None:
            raise StopIteration
        with _translated(self._path):
            if self._rows.valid():
                item = self._rows.key(), self._rows.value()
                self._rows.next()
                return item
            self._rows.status()
        self._rows = None
        raise StopIteration

    def close(self) -> None:
        """Release the folder; if rows are left, going on is an error."""
        self._is_interrupted = self._rows is not None
        self._rows = None


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Raise StorageError for errors of RocksDB, all but one of which are plain `Exception`."""
    try:
        yield
    except DbClosedError as error:
        raise StorageError(f"the store in {path} is closed; open it again") from error
    except Exception as error:
        advice = next((advice for words, advice in _ADVICE.items() if words in str(error)), REBUILD)
        raise StorageError(f"the state in {path} cannot be used: {error}; {advice}") from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_keep_log_file_num(LOG_FILES)
    return options


def _read_options(prefix: bytes) -> ReadOptions:
    """Return options of reads that end before the smallest key after all that begin with the prefix."""
    options = ReadOptions()
    head = prefix.rstrip(b"\xff")
    if head:
        options.set_iterate_upper_bound(head[:-1] + bytes([head[-1] + 1]))
    return options
