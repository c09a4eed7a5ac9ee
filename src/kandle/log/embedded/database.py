"""The SQLite file of the embedded log: its tables, its transactions, and what its errors mean."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kandle.errors import StorageError, UnavailableError

FILE = "log.db"
USE = "in-use"
"""Whoever uses the log holds a shared lock on this file, which ends with the process."""

VERSION = 1
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
"""`name` of generation, member, lease and position is the group's; `next` is the next offset to be written or read."""

_WHAT = {
    sqlite3.SQLITE_FULL: "the disk is full; nothing of this write was kept, free some space and write again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; nothing of this write was kept, look at free space and at the system's log",
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {PATIENCE} s; is one stopped in the middle of a write?",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; stop all processes and run `kandle doctor --repair`",
    sqlite3.SQLITE_NOTADB: "the file is damaged or not a log; stop all processes and run `kandle doctor --repair`",
    sqlite3.SQLITE_READONLY: "it cannot be written; look at its permissions",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; look at the folder and its permissions",
}

_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class Database:
    """One connection, used by one thread at a time; `path` is the folder, None is in memory."""

    def __init__(self, path: Path | None, durability: Durability = "normal") -> None:
        self.path = path
        self._lock = threading.RLock()
        self._depth = 0
        with self.translated():
            self._use = None if path is None else _shared_use(path)
            place = ":memory:" if path is None else str(path / FILE)
            self._connection = sqlite3.connect(place, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
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
                run(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise StorageError(f"{self.path} was written by another version of kandle (format {version}, not {VERSION})")

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self._lock, self.translated():
            return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one statement."""
        with self._lock, self.translated():
            return self._connection.execute(statement, values).fetchall()

    def value(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        found = self.rows(statement, values)
        return found[0][0] if found else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; a transaction inside another one is a part of it."""
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
        """Errors of the file as StorageError, said once and in words."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            kind = UnavailableError if code in _PASSING else StorageError
            raise kind(f"log {self.path or 'in memory'}: {_WHAT.get(code, str(error))} ({error})") from error
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            is_file = isinstance(error, FileExistsError | NotADirectoryError)
            what = "a log is a folder, and there is a file in its place; name another folder" if is_file else str(error)
            raise StorageError(f"log {self.path}: {what}") from error
        except UnicodeDecodeError as error:
            # Names or messages that SQLite has read from damaged pages.
            raise StorageError(f"log {self.path}: {_WHAT[sqlite3.SQLITE_CORRUPT]} ({error})") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
            if self._use is not None:
                os.close(self._use)


def _shared_use(path: Path) -> int:
    """Say that the log is in use, for as long as the file is open."""
    path.mkdir(parents=True, exist_ok=True)
    use = os.open(path / USE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(use, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(use)
        raise StorageError(f"log {path}: it is being repaired; try again when that is done") from error
    return use


@contextmanager
def only_use(path: Path) -> Iterator[None]:
    """Be the only one that uses the log; StorageError if there are others."""
    use = os.open(path / USE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StorageError(f"the log in {path} is in use; stop all processes that use it first") from error
    finally:
        os.close(use)
