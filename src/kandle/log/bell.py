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


def _ring(pipe: int) -> None:
    try:
        os.write(pipe, b"\0")
    except BlockingIOError:
        # The pipe is full of rings that nobody has heard yet; one is enough.
        return
