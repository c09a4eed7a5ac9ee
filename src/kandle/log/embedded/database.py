"""The SQLite file of the embedded log: its tables, its transactions, and what its errors mean.

Processes that use the log hold a shared lock on a file beside it, and a repair needs that lock for itself. Where the system
has no such locks (Windows), an open SQLite file cannot be renamed, so that a repair fails there for the same reason.

An open file lives on when its folder is removed, moved, or replaced by another one, and SQLite would go on writing into what
nobody will ever open again. So each statement, and each commit before and after it, compares the file that has the name with the
one that is open:

    this process     BEGIN ─ append ─ (same file?) ─ COMMIT ─ (same file?) ─ done
    somebody else        rm -r data                ^ StorageError, rolled back

A folder that cannot be written (permissions, a mount for reading only) is opened for reading.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
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

IDENTITY = "\0log"
"""The row of `generation` whose number tells the log from any other; no group can have this name."""

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

_IN_REPAIR = "log {folder}: it is being repaired; try again when that is done"

_CANNOT_WRITE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
"""Codes of SQLite where a folder or file may be read, but not written."""

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
        # The working folder may change while the log is open.
        self._file = None if path is None else os.path.abspath(log_file(path))
        self.is_read_only = False
        """Whether the folder can only be read."""
        self._lock = threading.RLock()
        self._depth = 0
        self._lock_file: int | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._identity: tuple[int, int] | None = None
        self._stamp: tuple[int, ...] | None = None
        with self.translated():
            try:
                self._open(durability)
            except (OSError, sqlite3.OperationalError) as error:
                if path is None or not _cannot_write(error) or not os.access(log_file(path), os.R_OK):
                    raise
                self.is_read_only = True
                self._lock_file = _lock_for_reading(path)
                self._open_for_reading(path)

    def _open(self, durability: Durability) -> None:
        self._lock_file = None if self.path is None else _shared_lock(self.path)
        self._connection = _connect(":memory:" if self.path is None else str(log_file(self.path)))
        try:
            self._prepare(durability)
        except BaseException:
            self.close()
            raise
        self._identity = self._identity_of_file()

    def _open_for_reading(self, path: Path) -> None:
        """Open the file of a folder that cannot be written.

        The newest commits are in a journal (`-wal`), and SQLite needs an index of it (`-shm`), which it cannot create here. Where
        there is an index, it reads all as it is. Without a journal, the file is all there is; a journal without its index can
        only be read in a copy. Both show the log as it was, so it is opened anew once it has changed (`_follow_changes`).
        """
        file = log_file(path)
        self._identity, self._stamp = self._identity_of_file(), None
        try:
            self._connect_for_reading(f"{file.absolute().as_uri()}?mode=ro")
        except sqlite3.OperationalError as error:
            if not _cannot_write(error):
                raise
            self._stamp = _stamp_of(path)
            journal = _journal_of(file)
            if journal.exists() and journal.stat().st_size:
                self._copy = tempfile.TemporaryDirectory(prefix="kandle-")
                for part in (file, journal):
                    shutil.copy(part, self._copy.name)
                self._connect_for_reading(str(Path(self._copy.name) / FILE))
            else:
                self._connect_for_reading(f"{file.absolute().as_uri()}?mode=ro&immutable=1")

    def _connect_for_reading(self, location: str) -> None:
        self._connection = _connect(location)
        try:
            self._check_format()
        except BaseException:
            self._connection.close()
            raise

    def _follow_changes(self) -> None:
        """Open the file anew if what is open shows it as it was before others have written it."""
        if self.path is not None and self._stamp is not None and self._stamp != _stamp_of(self.path):
            self._connection.close()
            self._remove_copy()
            self._open_for_reading(self.path)

    def _remove_copy(self) -> None:
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _prepare(self, durability: Durability) -> None:
        run = self._connection.execute
        run("PRAGMA page_size = 16384")
        run("PRAGMA journal_mode = WAL")
        run(f"PRAGMA synchronous = {durability}")
        run("PRAGMA wal_autocheckpoint = 1000")
        run("PRAGMA journal_size_limit = 67108864")
        run("PRAGMA cache_size = -8192")
        with self.transaction():
            if not self._check_format():
                for statement in TABLES.split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version = {FORMAT_VERSION}")
            run("INSERT OR IGNORE INTO generation (name, number) VALUES (?, abs(random() >> 1))", [IDENTITY])

    @property
    def identity(self) -> int:
        """A number that no other log has; 0 for one that an older version has made, and that was only read since then."""
        return int(self.value("SELECT number FROM generation WHERE name = ?", [IDENTITY]) or 0)

    def _check_format(self) -> bool:
        """Return whether the file has the tables of a log; StorageError if it has others."""
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables:
            raise StorageError(f"{self.path}: its {FILE} is a database of something else, not a log; name another folder")
        if version == 0 and self.is_read_only:
            raise StorageError(f"{self.path}: its {FILE} is empty, and cannot be written; look at the folder's permissions")
        if version not in (0, FORMAT_VERSION):
            raise StorageError(f"{self.path} was written by another version of kandle (format {version}, not {FORMAT_VERSION})")
        return bool(version)

    def _identity_of_file(self) -> tuple[int, int] | None:
        """Return what the system knows the file with the log's name by; None in memory, or if there is none."""
        if self._file is None:
            return None
        try:
            status = os.stat(self._file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_dev, status.st_ino

    def check_folder(self) -> None:
        """Raise StorageError if the file that is open does not have its name any more; any thread may call this."""
        if self._identity is not None and self._identity_of_file() != self._identity:
            folder = os.path.dirname(str(self._file))
            raise StorageError(
                f"log {folder}: the folder, or its {FILE}, was removed, moved or replaced while it was open; nothing more is "
                "written to what was open. Stop all processes of this log, put the folder back, and start them again"
            )

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self._lock, self.translated():
            self._check_when_outermost()
            return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of one statement."""
        with self._lock, self.translated():
            self._check_when_outermost()
            return self._connection.execute(statement, values).fetchall()

    def _check_when_outermost(self) -> None:
        """Check the folder; inside a transaction that is done before its commit."""
        if not self._depth:
            self.check_folder()
            self._follow_changes()

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
            if self.is_read_only:
                raise StorageError(
                    f"log {self.path} can only be read: its folder or {FILE} cannot be written; "
                    "look at its owner, its permissions, and how its disk is mounted"
                )
            self._connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self.check_folder()
                self._connection.execute("COMMIT")
                self.check_folder()
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
                self._lock_file = None
            self._remove_copy()


def _connect(location: str) -> sqlite3.Connection:
    is_uri = location.startswith("file:")
    return sqlite3.connect(location, timeout=PATIENCE, isolation_level=None, check_same_thread=False, uri=is_uri)


def _journal_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _stamp_of(folder: Path) -> tuple[int, ...]:
    """Return numbers that change when a log is written."""
    stamp: list[int] = []
    for file in (log_file(folder), _journal_of(log_file(folder))):
        try:
            status = os.stat(file)
        except FileNotFoundError:
            stamp += (0, 0)
        else:
            stamp += (status.st_mtime_ns, status.st_size)
    return tuple(stamp)


def _cannot_write(error: OSError | sqlite3.OperationalError) -> bool:
    """Return whether an error says that a folder or file cannot be written, though it may be read."""
    if isinstance(error, OSError):
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CANNOT_WRITE


def _shared_lock(folder: Path) -> int:
    """Take the lock of users of the log; return the open file, with which the lock ends."""
    folder.mkdir(parents=True, exist_ok=True)
    lock_file = _open_lock_file(folder)
    if not _lock(lock_file, is_exclusive=False):
        os.close(lock_file)
        raise StorageError(_IN_REPAIR.format(folder=folder))
    return lock_file


def _lock_for_reading(folder: Path) -> int | None:
    """Take the lock of users of a log that can only be read; None where even that is not possible."""
    try:
        lock_file = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return None
    if not _lock(lock_file, is_exclusive=False):
        os.close(lock_file)
        raise StorageError(_IN_REPAIR.format(folder=folder))
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
