"""A store in a folder, kept by RocksDB (the extra `kandle[rocksdb]`).

Writes go to RocksDB's write-ahead log, which the operating system has when `write` returns: the end of the process takes nothing
away. A failure of the machine may take the newest writes, each as a whole; the log has them.

Only one process at a time can open a folder. `open_free` opens the first of the folders `0`, `1`, ... below another one that
nobody has open, so that processes do not need names of their own, and a process that starts again finds what one before it kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from kandle.errors import OptionalImport, StorageError
from kandle.forks import keep_in_children
from kandle.store.ordering import following

with OptionalImport("A store in RocksDB", "rocksdb"):
    from rocksdict import DbClosedError, Options, Rdict, RdictIter, ReadOptions, WriteBatch

REBUILD = "delete the folder; it is rebuilt from the changelog"
LOG_FILES = 2
"""How many of RocksDB's own log files are kept; each opening begins one."""

_LOCKED = ("lock hold by", "While lock file")

_ADVICE = {
    _LOCKED[0]: f"this process has it open: close that store first; if there is none, {REBUILD}",
    _LOCKED[1]: f"another process has it open: end that process first; if there is none, {REBUILD}",
    "No space left": "the disk is full: free some space and start again",
    "Permission denied": "look at the permissions of the folder",
}
"""What to do, by words of RocksDB's message: it raises one class for everything."""

LAST_KEY = b"\xff" * 8


class StoreInUseError(StorageError):
    """The folder of a store that is open already, here or in another process."""


class RocksStore:
    """A store in a folder.

    Args:
        path: The folder, which is created if it is missing; only one store at a time can have it open.

    Raises:
        StoreInUseError: The folder is in use.
        StorageError: The folder cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scans: WeakSet[_Scan] = WeakSet()
        with _translated(path):
            self._database = Rdict(str(path), _options())
        keep_in_children(self)

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

    def clear(self) -> None:
        """Delete everything."""
        with _translated(self._path):
            self._database.delete_range(b"", LAST_KEY)
        self.write({}, [key for key, _ in self.scan(b"")])

    def close(self) -> None:
        """Release the folder, and the scans that would keep it locked."""
        for scan in list(self._scans):
            scan.close()
        with _translated(self._path), suppress(DbClosedError):
            self._database.close()


def open_free(folder: Path) -> RocksStore:
    """Open the first of the folders `0`, `1`, ... in a folder that nobody has open.

    Args:
        folder: The folder, which is created if it is missing.

    Raises:
        StorageError: The folder cannot be used.
    """
    for number in itertools.count():
        with suppress(StoreInUseError):
            return RocksStore(folder / str(number))
    raise AssertionError("there is always another number")


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
        rows = self._rows
        if self._is_interrupted:
            raise StorageError(f"the store in {self._path} was closed in the middle of a scan; finish scans before")
        if rows is None:
            raise StopIteration
        # A context manager would cost more than the row.
        try:
            if rows.valid():
                item = rows.key(), rows.value()
                rows.next()
                return item
            rows.status()
        except Exception as error:
            raise _storage_error(self._path, error) from error
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
    except Exception as error:
        raise _storage_error(path, error) from error


def _storage_error(path: Path, error: Exception) -> StorageError:
    if isinstance(error, DbClosedError):
        return StorageError(f"the store in {path} is closed; open it again")
    kind = StoreInUseError if any(words in str(error) for words in _LOCKED) else StorageError
    advice = next((advice for words, advice in _ADVICE.items() if words in str(error)), REBUILD)
    return kind(f"the state in {path} cannot be used: {error}; {advice}")


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_keep_log_file_num(LOG_FILES)
    return options


def _read_options(prefix: bytes) -> ReadOptions:
    """Return options of reads that end before the smallest key after all that begin with the prefix."""
    options = ReadOptions()
    if end := following(prefix):
        options.set_iterate_upper_bound(end)
    return options
