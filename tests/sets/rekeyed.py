"""A rekey that ends its own process, somewhere in the middle: `python -m tests.sets.rekeyed FOLDER UPGRADES WRITES`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import kandle
from kandle import Key
from kandle.context.adapters import embedded_log
from kandle.log.port import Log
from kandle.model.entity import entity_model
from kandle.plan.topics import entity_topic
from kandle.sets import rekeying
from kandle.sets.rekeying import RekeyResult, rekey
from kandle.sets.topic_pairs import entity_pair
from kandle.time.clock import SystemClock

RECORDS = 3_000


class Fuse:
    """Kills the process once it has burnt so many times; 0 never does."""

    def __init__(self) -> None:
        self.left = 0

    def burn(self) -> None:
        """Come nearer to it."""
        if self.left:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


FUSE = Fuse()
"""Burns with each upgrade of a record."""


class WatchedLog:
    """A log, or a consumer of it, of which a fuse burns after each write."""

    def __init__(self, log: Any, fuse: Fuse) -> None:
        self._log, self._fuse = log, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def consumer(self, *arguments: Any) -> Any:
        """Join a group."""
        return WatchedLog(self._log.consumer(*arguments), self._fuse)

    def append(self, *arguments: Any) -> Any:
        """Append records."""
        offsets = self._log.append(*arguments)
        self._fuse.burn()
        return offsets

    def commit(self, *arguments: Any) -> Any:
        """Commit positions and records."""
        offsets = self._log.commit(*arguments)
        self._fuse.burn()
        return offsets


@kandle.stream("numbers", partitions=2)
@dataclass(frozen=True)
class NumberV1:
    number: Annotated[int, Key(0)]


def upgrade(old: NumberV1) -> Number:
    """Return the number with the last digit as a key of its own."""
    FUSE.burn()
    return Number(old.number % 10, old.number)


@kandle.stream("numbers", partitions=3, key_version=2, previous=NumberV1, upgrade=upgrade)
@dataclass(frozen=True)
class Number:
    digit: Annotated[int, Key(0)]
    number: Annotated[int, Key(1)]


OLD, NEW = entity_model(NumberV1), entity_model(Number)


def copied(log: Log) -> RekeyResult:
    """Copy all numbers, a few hundred in a commit."""
    rekeying.ROWS_AT_ONCE = 200
    log.ensure(entity_topic(NEW))
    return rekey(log, entity_pair(NEW))


if __name__ == "__main__":
    FUSE.left = int(sys.argv[2])
    writes = Fuse()
    writes.left = int(sys.argv[3])
    watched: Any = WatchedLog(embedded_log(Path(sys.argv[1]), SystemClock()), writes)
    copied(watched)
