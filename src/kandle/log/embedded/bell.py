"""How a commit in one process wakes readers in others: a named pipe per waiting connection, into which commits write a byte.

A reader sleeps in `poll(2)` on its own pipe, so nothing is asked for again and again; a pipe whose reader is gone says so when it
is opened for writing. Bells are listed in the database, so that a commit knows them exactly.
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

from kandle.log.embedded.database import Database

BELLS = "bells"
"""The folder of the pipes, inside of the log's."""

LONGEST_WAIT = 500_000
"""Microseconds after which a waiting reader looks for itself, whatever the bell says."""


class Bell:
    """The pipe on which one connection waits."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.name = uuid.uuid4().hex
        self._path = folder / self.name
        hidden = folder / f".{self.name}"
        os.mkfifo(hidden)
        # Open for both ends: the pipe then never reports that its last writer has gone.
        self._pipe = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
        hidden.rename(self._path)

    def wait(self, timeout: int) -> bool:
        """Sleep until the bell rings (True) or `timeout` microseconds are over."""
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(max(0, timeout) / 1000):
            return False
        with contextlib.suppress(BlockingIOError):
            # Another thread that waits here too may have been quicker.
            os.read(self._pipe, 65_536)
        return True

    def ring(self) -> None:
        """Wake whoever waits here."""
        _ring(self._pipe)

    def close(self) -> None:
        """Take the pipe away."""
        self._path.unlink(missing_ok=True)
        os.close(self._pipe)


class MemoryBells:
    """The bells of a log in memory, which ring all at once."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.rings = 0

    def ring(self) -> None:
        """Wake all who wait."""
        with self.condition:
            self.rings += 1
            self.condition.notify_all()


class MemoryBell:
    """The bell on which one reader of a log in memory waits."""

    def __init__(self, bells: MemoryBells) -> None:
        self._bells = bells
        self._heard = bells.rings
        self._is_called = False

    def wait(self, timeout: int) -> bool:
        """Sleep until the bell has rung since the last wait (True), or `timeout` microseconds are over."""
        with self._bells.condition:
            rang = self._bells.condition.wait_for(
                lambda: self._is_called or self._bells.rings != self._heard, timeout / 1_000_000
            )
            self._heard, self._is_called = self._bells.rings, False
            return rang

    def ring(self) -> None:
        """Wake whoever waits here."""
        with self._bells.condition:
            self._is_called = True
            self._bells.condition.notify_all()

    def close(self) -> None:
        """Nothing to take away."""


class Ringer:
    """Rings the bells of all connections; keeps their pipes open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipes: dict[str, int] = {}

    def ring(self, names: Iterable[str]) -> list[str]:
        """Ring these bells; gives those whose readers are gone, so that they can be forgotten."""
        wanted = set(names)
        for name in self._pipes.keys() - wanted:
            os.close(self._pipes.pop(name))
        return [name for name in wanted if not self._rang(name)]

    def _rang(self, name: str) -> bool:
        try:
            if name not in self._pipes:
                self._pipes[name] = os.open(self._folder / name, os.O_WRONLY | os.O_NONBLOCK)
            _ring(self._pipes[name])
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
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()


class Bells:
    """The bells of one connection to the log, and the means to ring those of all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = None if database.path is None else database.path / BELLS
        self._in_memory = MemoryBells()
        self._ringer = None if self._folder is None else Ringer(self._folder)
        self._own: list[Bell | MemoryBell] = []
        self._of_thread = threading.local()

    def listed(self) -> list[str]:
        """The bells of all connections; asked inside of a transaction, those that its commit must ring."""
        return [] if self._folder is None else [row[0] for row in self._database.rows("SELECT name FROM bell")]

    def ring(self, names: list[str]) -> None:
        """Ring the bells that were listed, and forget those whose readers are gone."""
        if self._ringer is None:
            self._in_memory.ring()
        else:
            gone = self._ringer.ring(names)
            if gone:
                marks = ", ".join("?" * len(gone))
                self._database.run(f"DELETE FROM bell WHERE name IN ({marks})", gone)

    def ring_all(self) -> None:
        """Wake all readers in all processes."""
        self.ring(self.listed())

    def hang(self) -> Bell | MemoryBell:
        """A new bell that rings with every append in any process."""
        bell: Bell | MemoryBell
        if self._folder is None:
            bell = MemoryBell(self._in_memory)
        else:
            with self._database.translated():
                bell = Bell(self._folder)
            self._database.run("INSERT INTO bell (name) VALUES (?)", [bell.name])
        self._own.append(bell)
        return bell

    def forget(self, bell: Bell | MemoryBell) -> None:
        """The bell is not needed any more."""
        self._own.remove(bell)
        if isinstance(bell, Bell):
            self._database.run("DELETE FROM bell WHERE name = ?", [bell.name])
        bell.close()

    def wait(self, timeout: int) -> bool:
        """Wait for the next append in any process; a thread's first call returns at once, since it may have missed one."""
        if not hasattr(self._of_thread, "bell"):
            self._of_thread.bell = self.hang()
            return True
        found: bool = self._of_thread.bell.wait(min(timeout, LONGEST_WAIT))
        return found

    def close(self) -> None:
        """Take this connection's bells away; those of others stay."""
        for bell in list(self._own):
            self.forget(bell)
        if self._ringer is not None:
            self._ringer.close()


def _ring(pipe: int) -> None:
    try:
        os.write(pipe, b"\0")
    except BlockingIOError:
        # The pipe is full of rings that nobody has heard yet; one is enough.
        return
