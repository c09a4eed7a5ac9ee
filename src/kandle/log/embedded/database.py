"""The SQLite file of the embedded log: its tables, its transactions, and what its errors mean.

Processes that use the log hold a shared lock on a file beside it, and a repair needs that lock for itself. Where the system
has no such locks (Windows), an open SQLite file cannot be renamed, so that a repair fails there for the same reason.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kandle.errors import StorageError, UnavailableError

FILE = "log.db"
LOCK_FILE = "in-use"
"""Every process that uses the log holds a shared lock on this file; the lock ends with the process."""

FORMAT_VERSION = 1
PATIENCE = 60
"""Seconds to wait for another process that is writing."""

Durability = Literal["normal", "full"]

TABLES = """
CREATE TABLE topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, empty BLOB NOT NULL);
CREATE TABLE partition (
    topic INTEGER NOT NULL, number INTEGER NOT NULL, first INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0,
    compacted INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (topic, number)) WITHOUT ROWID;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    rows INTEGER NOT NULL, appended INTEGER NOT NULL, low INTEGER, high INTEGER, checksum INTEGER NOT NULL,
    bytes INTEGER NOT NULL, blob BLOB NOT NULL);
CREATE UNIQUE INDEX batch_place ON batch (topic, partition, last);
CREATE TABLE bell (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE generation (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    name TEXT NOT NULL, member TEXT NOT NULL, session TEXT NOT NULL, topics TEXT NOT NULL, expires INTEGER NOT NULL,
    lease INTEGER NOT NULL, PRIMARY KEY (name, member)) WITHOUT ROWID;
CREATE TABLE lease (
    name TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, owner TEXT, session TEXT, epoch INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
CREATE TABLE position (
    name TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (name, topic, partition)) WITHOUT ROWID;
"""
"""`name` of generation, member, lease and position is the group's; `next` is the next offset to be written or read.

`bell` has the named pipes of waiting readers (`notification`).
"""

_DAMAGED = "stop all processes and run `kandle doctor --repair`"

_MEANINGS = {
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this write was kept, free some space and write again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; nothing of this write was kept, look at free space and at the system's log",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {PATIENCE}s; is one stopped in the middle of a write?",
    sqlite3.SQLITE_CORRUPT: f"the file is damaged; {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: f"the file is damaged or not a log; {_DAMAGED}",
    sqlite3.SQLITE_READONLY: "it cannot be written; look at its permissions",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at the folder and its permissions",
}

_TRANSIENT = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def log_file(folder: Path) -> Path:
    """Return the file that holds the log of a folder, whether it exists or not."""
    return folder / FILE


class Database:
    """One connection to the file, used by one thread at a time.

    Args:
        path: The folder of the log; it is created if it is missing. None keeps everything in memory.
        durability: "full" waits until the disk has each commit; "normal" survives the end of any process.
    """

    def __init__(self, path: Path | None, durability: Durability = "normal") -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        with self.translated():
            self._lock_file = None if path is None else _shared_lock(path)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else str(log_file(path)),
                timeout=PATIENCE,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._prepare(durability)
            except BaseException:
                self.close()
                raise

    def _prepare(self, durability: Durability) -> None:
        run = self._connection.execute
        run("PRAGMA page_size = 16384")
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA synchronous = {durability}")
        run("PRAGMA wal_autocheckpoint = 1000")
        run("PRAGMA journal_size_limit = 67108864")
        run("PRAGMA cache_size = -8192")
        with self.transaction():
            version = self.value("PRAGMA user_version")
            if version == 0:
                if self.value("SELECT count(*) FROM sqlite_master"):
                    raise StorageError(f"{self.path}: its {FILE} is a database of something else, not a log; name another folder")
                for statement in TABLES.split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version = {FORMAT_VERSION}")
            elif version != FORMAT_VERSION:
                raise StorageError(
                    f"{self.path} was written by another version of kandle (format {version}, not {FORMAT_VERSION})"
                )

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self._lock, self.translated():
            return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of one statement."""
        with self._lock, self.translated():
            return self._connection.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row, or None if there is no row."""
        rows = self.rows(statement, values)
        return rows[0][0] if rows else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all changes of the block or none; a transaction inside another one is a part of it."""
        with self._lock, self.translated():
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise StorageError for errors of the file, UnavailableError for those that may pass."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            kind = UnavailableError if code in _TRANSIENT else StorageError
            raise kind(f"log {self.path or 'in memory'}: {_MEANINGS.get(code, str(error))} ({error})") from error
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            is_file = isinstance(error, FileExistsError | NotADirectoryError)
            meaning = "a log is a folder, but this is a file; name another folder" if is_file else str(error)
            raise StorageError(f"log {self.path}: {meaning}") from error
        except UnicodeDecodeError as error:
            # Names or messages that SQLite has read from damaged pages.
            raise StorageError(f"log {self.path}: {_MEANINGS[sqlite3.SQLITE_CORRUPT]} ({error})") from error

    def close(self) -> None:
        """Close the connection and let go of the lock."""
        with self._lock:
            self._connection.close()
            if self._lock_file is not None:
                os.close(self._lock_file)


def _shared_lock(folder: Path) -> int:
    """Take the lock of users of the log; return the open file, with which the lock ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = _open_lock_file(folder)
    if not _lock(lock_file, is_exclusive=False):
        os.close(lock_file)
        raise StorageError(f"log {folder}: it is being repaired; try again when that is done")
    return lock_file


@contextmanager
def exclusive_use(folder: Path) -> Iterator[None]:
    """Keep all others from using a log; StorageError if one uses it."""
    in_use = StorageError(f"the log in {folder} is in use; stop all processes that use it first")
    lock_file = _open_lock_file(folder)
    try:
        if not _lock(lock_file, is_exclusive=True):
            raise in_use
        yield
    except PermissionError as error:
        if os.name == "nt":
            # There an open file cannot be renamed.
            raise in_use from error
        raise
    finally:
        os.close(lock_file)


def _open_lock_file(folder: Path) -> int:
    return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)


def _lock(lock_file: int, *, is_exclusive: bool) -> bool:
    """Lock an open file without waiting; return False if others hold a lock on it that excludes this one."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(lock_file, (fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
