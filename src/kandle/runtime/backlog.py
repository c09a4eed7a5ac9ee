"""How the buckets of a long backlog close where nobody has sent heartbeats, so that memory stays bounded.

Buckets are closed by heartbeats. The time of an event proves nothing: its producer's clock may be an hour fast. But when nobody
was there for days, the first heartbeat comes after the whole backlog, and all its buckets would be open until then. So after
every BLOCK events, if more than MOST_OPEN buckets are open, those close that have ended by the least time of the last two blocks:

    events      block 1: 09:00 ... 09:20 | block 2: 09:15 ... 10:20 (a fast clock) ... 09:40 | block 3
    closes      -                        | up to 09:00, the least of blocks 1 and 2          | up to 09:15

A producer with a right clock that has at least one event in every block is never late, whatever the clocks of others say. All of
it is counted by the order of the log and committed with the state, so that it is the same when events are read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from kandle.log.records import Batch
from kandle.runtime.input import event_times

BLOCK = 100_000
"""Events after which buckets may close."""

MOST_OPEN = 250_000
"""Open base buckets of one partition that are worth their memory."""

UNSEEN = 2**63 - 1
"""The least time of a block without events, and of one that is not known."""

ROWS, LEAST, BEFORE = "backlog_rows", "backlog_least", "backlog_before"


class BacklogWindow:
    """The least time of the events of the present block and of the block before, in microseconds.

    Args:
        event_time: The time of an event.
    """

    def __init__(self, event_time: pl.Expr) -> None:
        self._event_time = event_time
        self._rows = 0
        self._least = self._before = UNSEEN

    def snapshot(self) -> dict[str, int]:
        """Return the state, for `restore`."""
        return {ROWS: self._rows, LEAST: self._least, BEFORE: self._before}

    def restore(self, numbers: Mapping[str, int]) -> None:
        """Take over a state; one of an older version has none, and begins a block."""
        self._rows = numbers.get(ROWS, 0)
        self._least, self._before = numbers.get(LEAST, UNSEEN), numbers.get(BEFORE, UNSEEN)

    def pieces(self, batches: Sequence[Batch]) -> Iterator[tuple[list[Batch], int | None]]:
        """Cut batches at the ends of blocks.

        Args:
            batches: Batches of events in the order of the log, none of them empty.

        Yields:
            Batches of one block, and at its end the instant up to which buckets may close.
        """
        piece: list[Batch] = []
        for batch in batches:
            begin = 0
            while begin < len(batch):
                part = batch if not begin and self._rows + len(batch) <= BLOCK else batch.slice(begin, BLOCK - self._rows)
                begin += len(part)
                self._observe(part)
                piece.append(part)
                if self._rows == BLOCK:
                    yield piece, self._turn()
                    piece = []
        if piece:
            yield piece, None

    def _observe(self, batch: Batch) -> None:
        self._rows += len(batch)
        times = event_times(batch, self._event_time)
        if len(times):
            # No event counts for more than the time of its append.
            self._least = min(self._least, int(times.min()), int(batch.timestamps.min()))

    def _turn(self) -> int | None:
        """Begin the next block; return the least time of the two before it, None where one of them has none."""
        before, self._before = self._before, self._least
        self._rows, self._least = 0, UNSEEN
        return None if UNSEEN in (before, self._before) else min(before, self._before)
