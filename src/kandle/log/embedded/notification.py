"""Tells readers of the embedded log, in this process and in others, that something was committed.

There are two forms of it. With named pipes nobody asks again and again: a waiting connection sleeps in `poll(2)` on a pipe of
its own, whose name is in the database, and a commit writes one byte into each pipe that it finds there.

    reader                                          writer
    create its pipe; INSERT INTO bell
    look for records: none
    sleep on the pipe                               BEGIN; append records; SELECT name FROM bell; COMMIT
                                    <- one byte --  write to these pipes
    awake; read the byte; look for records: there

A wake-up cannot be lost: the pipe exists before the reader looks, and the names are read in the transaction of the append. So an
append either comes before the look, which sees it, or its byte is in the pipe when the reader goes to sleep. A pipe whose reader
is gone says so when it is opened for writing, and is then deleted.

Where there are no named pipes (Windows), a waiting reader asks SQLite every `POLL_INTERVAL` for `PRAGMA data_version`, a number
that changes when another connection has committed; that costs some 10 us each time.

Readers of a log in memory, and those that poll, also wait for a signal of the own connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from kandle.errors import StorageError
from kandle.log.embedded.database import Database
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND

PIPES = "bells"
"""The folder of the pipes, inside the log's."""

LONGEST_WAIT = 500 * MILLISECOND
"""Microseconds after which a waiting reader looks for records in any case."""

POLL_INTERVAL = 2 * MILLISECOND

Waiting = Literal["pipe", "poll"]


class Waiter(Protocol):
    """Waits for commits; one thread at a time."""

    def wait(self, timeout: int) -> bool:
        """Sleep until there was a commit or a call of `wake` since the last wait (True), or `timeout` microseconds are over."""

    def wake(self) -> None:
        """Wake the thread that waits."""

    def close(self) -> None:
        """Release what the waiter holds."""


class PipeWaiter:
    """Waits on a named pipe.

    Any thread may wake it, also after it was closed: the number of its pipe may be that of another file by then.

    Args:
        folder: Where the pipe is created; its name is in `name`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.name = uuid.uuid4().hex
        self._path = folder / self.name
        hidden = folder / f".{self.name}"
        os.mkfifo(hidden)
        # Open for both ends: the pipe then never reports that its last writer has gone.
        self._pipe = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
        hidden.rename(self._path)
        self._lock = threading.Lock()
        self._is_closed = False

    def wait(self, timeout: int) -> bool:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(max(0, timeout) / 1000):
            return False
        with self._lock, contextlib.suppress(BlockingIOError):
            # Another thread that waits here too may have been quicker.
            if not self._is_closed:
                os.read(self._pipe, 65_536)
        return True

    def wake(self) -> None:
        with self._lock:
            if not self._is_closed:
                _write_byte(self._pipe)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._path.unlink(missing_ok=True)
            os.close(self._pipe)


class Signal:
    """Counts commits of one connection, for readers in its own process."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.count = 0

    def set(self) -> None:
        """Wake all that wait."""
        with self.condition:
            self.count += 1
            self.condition.notify_all()


class SignalWaiter:
    """Waits for the signal of its own connection, which is all there is in memory."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._seen = signal.count
        self._is_woken = False

    def wait(self, timeout: int) -> bool:
        with self._signal.condition:
            has_come = self._signal.condition.wait_for(self._has_come, timeout / 1_000_000)
            self._seen, self._is_woken = self._signal.count, False
            return has_come

    def _has_come(self) -> bool:
        return self._is_woken or self._signal.count != self._seen

    def wake(self) -> None:
        with self._signal.condition:
            self._is_woken = True
            self._signal.condition.notify_all()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class PollingWaiter:
    """Waits for the signal of its own connection and, asking again and again, for commits of others."""

    def __init__(self, signal: Signal, database: Database) -> None:
        self._inner = SignalWaiter(signal)
        self._database = database
        self._clock = SystemClock()
        self._version = self._data_version()

    def _data_version(self) -> int:
        return int(self._database.value("PRAGMA data_version"))

    def wait(self, timeout: int) -> bool:
        deadline = self._clock.steady() + timeout
        while True:
            version = self._data_version()
            if version != self._version:
                self._version = version
                return True
            left = deadline - self._clock.steady()
            if self._inner.wait(max(0, min(left, POLL_INTERVAL))):
                return True
            if left <= 0:
                return False

    def wake(self) -> None:
        self._inner.wake()

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class PipeWriter:
    """Writes into the pipes of waiting readers, and keeps them open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipes: dict[str, int] = {}
        self._lock = threading.Lock()

    def write(self, names: Iterable[str]) -> list[str]:
        """Wake the readers of these pipes; return the names of those that are gone, so that they can be forgotten."""
        wanted = set(names)
        with self._lock:
            for name in self._pipes.keys() - wanted:
                os.close(self._pipes.pop(name))
            return [name for name in wanted if not self._reaches(name)]

    def _reaches(self, name: str) -> bool:
        """Wake one reader; return False if it is gone."""
        try:
            if name not in self._pipes:
                self._pipes[name] = os.open(self._folder / name, os.O_WRONLY | os.O_NONBLOCK)
            _write_byte(self._pipes[name])
        except OSError as error:
            if error.errno not in (errno.ENXIO, errno.ENOENT, errno.EPIPE):
                raise
            self._forget(name)
            return False
        return True

    def _forget(self, name: str) -> None:
        if name in self._pipes:
            os.close(self._pipes.pop(name))
        (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all pipes."""
        with self._lock:
            for pipe in self._pipes.values():
                os.close(pipe)
            self._pipes.clear()


class Notifier:
    """The waiters of one connection to the log, and the means to wake those of all.

    Args:
        database: The connection.
        waiting: How readers wait for commits of other processes; None takes pipes where the system has them.
    """

    def __init__(self, database: Database, waiting: Waiting | None = None) -> None:
        self._database = database
        self._folder = None if database.path is None else database.path / PIPES
        # A folder that cannot be written cannot have pipes either.
        can_pipe = hasattr(os, "mkfifo") and not database.is_read_only
        self._waiting = (waiting if can_pipe else None) or ("pipe" if can_pipe else "poll")
        self._signal = Signal()
        self._writer = None if self._folder is None else PipeWriter(self._folder)
        self._waiters: list[Waiter] = []
        self._of_thread = threading.local()

    def pipes(self) -> list[str]:
        """Return the pipes of all connections; asked inside a transaction, those that its commit must write to."""
        return [] if self._folder is None else [row[0] for row in self._database.rows("SELECT name FROM bell")]

    def notify(self, pipes: list[str]) -> None:
        """Wake the readers of this connection and of the given pipes, and forget the pipes whose readers are gone."""
        self._signal.set()
        gone = [] if self._writer is None else self._writer.write(pipes)
        if gone:
            marks = ", ".join("?" * len(gone))
            self._database.run(f"DELETE FROM bell WHERE name IN ({marks})", gone)

    def notify_all(self) -> None:
        """Wake all readers in all processes."""
        self.notify(self.pipes())

    def add_waiter(self) -> Waiter:
        """Return a new waiter, which learns of each append in any process from now on."""
        waiter = self._new_waiter()
        self._waiters.append(waiter)
        return waiter

    def _new_waiter(self) -> Waiter:
        if self._folder is None:
            return SignalWaiter(self._signal)
        if self._waiting == "poll":
            return PollingWaiter(self._signal, self._database)
        with self._database.translated():
            waiter = PipeWaiter(self._folder)
        self._database.run("INSERT INTO bell (name) VALUES (?)", [waiter.name])
        return waiter

    def remove_waiter(self, waiter: Waiter) -> None:
        """Close a waiter that is not needed any more."""
        self._waiters.remove(waiter)
        waiter.close()
        if isinstance(waiter, PipeWaiter):
            with contextlib.suppress(StorageError):
                # On a full disk, or where the folder is gone: whoever writes next finds the pipe gone, and forgets it.
                self._database.run("DELETE FROM bell WHERE name = ?", [waiter.name])

    def wait(self, timeout: int) -> bool:
        """Wait for the next append in any process; a thread's first call returns at once, since it may have missed one."""
        if not hasattr(self._of_thread, "waiter"):
            self._of_thread.waiter = self.add_waiter()
            return True
        waiter: Waiter = self._of_thread.waiter
        return waiter.wait(min(timeout, LONGEST_WAIT))

    def close(self) -> None:
        """Close the waiters of this connection; those of others stay."""
        for waiter in list(self._waiters):
            self.remove_waiter(waiter)
        if self._writer is not None:
            self._writer.close()


def _write_byte(pipe: int) -> None:
    try:
        os.write(pipe, b"\0")
    except BlockingIOError:
        # The pipe is full of bytes that nobody has read yet; one is enough.
        return
