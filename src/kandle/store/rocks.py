"""A store in a folder, kept by RocksDB.

Writes go to the write-ahead log, which the operating system has when `write` returns: the end of the process takes nothing away.
A failure of the machine may take the newest writes, each as a whole; the changelog has them.
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
"""How many of RocksDB's own reports are kept; each opening begins one."""

_WAYS_OUT = {
    "lock hold by": f"this process has it open: close that store first; if there is none, {REBUILD}",
    "While lock file": f"another process has it open: end that process first; if there is none, {REBUILD}",
    "No space left": "the disk is full: free some space and start again",
    "Permission denied": "look at the permissions of the folder",
}
"""What to do, by words of RocksDB's message (it raises one class for everything)."""


class RocksStore:
    """Keeps values in the folder `path`, which is made if it is missing and can be open only once at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scans: WeakSet[_Scan] = WeakSet()
        with _translated(path):
            self._database = Rdict(str(path), _options())

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        with _translated(self._path):
            value: bytes | None = self._database.get(key)
        return value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys with the prefix and their values, ascending, as of this call."""
        with _translated(self._path):
            bound = _bounded(prefix)
            rows = self._database.iter(bound)
            rows.seek(prefix)
        scan = _Scan(self._path, rows, bound)
        self._scans.add(scan)
        return scan

    def write(self, puts: Mapping[bytes, bytes], deletes: Collection[bytes] = ()) -> None:
        """Delete, then put, in one batch of the write-ahead log."""
        batch = WriteBatch(raw_mode=True)
        for key in deletes:
            batch.delete(key)
        for key, value in puts.items():
            batch.put(key, value)
        with _translated(self._path):
            self._database.write(batch)

    def close(self) -> None:
        """Let go of the folder, and of the scans that would keep it locked."""
        for scan in list(self._scans):
            scan.cut()
        with _translated(self._path), suppress(DbClosedError):
            self._database.close()


class _Scan:
    """The rows of one scan.

    RocksDB's own loop over items ends early, without a word, at a damaged block; its iterator tells when it is asked.
    """

    def __init__(self, path: Path, rows: RdictIter, bound: ReadOptions) -> None:
        self._path = path
        # The iterator has but a pointer to the bound that these options own.
        self._bound = bound
        self._rows: RdictIter | None = rows
        self._is_cut = False

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        if self._is_cut:
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

    def cut(self) -> None:
        """Let go of the folder; if rows are left, going on is an error."""
        self._is_cut = self._rows is not None
        self._rows = None


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """RocksDB's errors, all but one of them plain `Exception`, as StorageErrors."""
    try:
        yield
    except DbClosedError as error:
        raise StorageError(f"the store in {path} is closed; open it again") from error
    except Exception as error:
        ways = (way for words, way in _WAYS_OUT.items() if words in str(error))
        raise StorageError(f"the state in {path} cannot be used: {error}; {next(ways, REBUILD)}") from error


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_keep_log_file_num(LOG_FILES)
    return options


def _bounded(prefix: bytes) -> ReadOptions:
    """Reads that end at the least key after all that begin with the prefix."""
    options = ReadOptions()
    kept = prefix.rstrip(b"\xff")
    if kept:
        options.set_iterate_upper_bound(kept[:-1] + bytes([kept[-1] + 1]))
    return options
