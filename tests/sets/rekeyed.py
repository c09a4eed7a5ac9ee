"""A rekey that ends its own process, somewhere in the middle: `python -m tests.sets.rekeyed FOLDER UPGRADES`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import kandle
from kandle import Key
from kandle.context.adapters import embedded_log
from kandle.log.port import Log
from kandle.model.entity import entity_model
from kandle.plan.topics import entity_topic
from kandle.sets import rekeying
from kandle.sets.rekeying import RekeyResult, entity_pair, rekey
from kandle.time.clock import SystemClock

RECORDS = 3_000


class Fuse:
    """Kills the process with the upgrade of so many records; 0 never does."""

    def __init__(self) -> None:
        self.left = 0

    def burn(self) -> None:
        """Come nearer to it."""
        if self.left:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


FUSE = Fuse()


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
    copied(embedded_log(Path(sys.argv[1]), SystemClock()))
