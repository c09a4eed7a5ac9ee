"""The order of the events of a backfill: which one moved time ahead, and whether so far that its own time must be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kandle.backfill.readers import TickBatch
from kandle.engine.admission import EventTimes
from kandle.errors import DataError
from kandle.plan.plan import Plan
from kandle.query.query import Gaps
from kandle.time.arrays import IntArray
from kandle.time.timeframe import DAY, duration_text, from_instant

MOST_SILENT_BUCKETS = 1_000_000
SHORTEST_LIMIT = 31 * DAY
"""Without `max_silence`, so many base buckets in a row may have no event at all, and a month in any case."""


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    """An event by its place: the name of the input, the number of the row in it, and its time in microseconds."""

    source: str
    row: int
    time: int

    def __str__(self) -> str:
        return f"{self.source}, row {self.row} ({from_instant(self.time).isoformat()})"


def longest_silence(plan: Plan, max_silence: int | None) -> int | None:
    """Return how far the newest time may move at once, in microseconds; None is any distance.

    Args:
        plan: The plan of the query.
        max_silence: What the caller allows; None takes the default.
    """
    if max_silence is not None:
        return max_silence
    if plan.query.gaps is Gaps.SKIP:
        # No bars are filled, and a stream of a few events a year is nothing unusual.
        return None
    return max(MOST_SILENT_BUCKETS * plan.base.timeframe.nominal, SHORTEST_LIMIT)


class EventOrder:
    """Follows the newest event of a backfill.

    Args:
        plan: The plan of the query.
        limit: How far one event may be ahead of all events before it, in microseconds; None is any distance.
    """

    def __init__(self, plan: Plan, limit: int | None) -> None:
        self._plan = plan
        self._limit = limit
        self._newest: PlacedEvent | None = None
        self.late: tuple[PlacedEvent, PlacedEvent] | None = None
        """The first event that was late, and the newest one before it."""

    def follow(self, batch: TickBatch, events: EventTimes, rows: IntArray | None) -> None:
        """Take in the events of a batch, before anything is closed by them.

        Args:
            batch: The batch.
            events: Those of its events that were not left out.
            rows: The numbers in the batch of the rows that were processed; None if all were.

        Raises:
            DataError: One of them is farther ahead of all events before it than the limit.
        """
        numbers = events.rows if rows is None else rows[events.rows]
        placed = _Places(batch, events.times, numbers)
        if self.late is None and events.is_late.any():
            late = int(np.flatnonzero(events.is_late)[0])
            newest = self._newest_before(placed, late)
            assert newest is not None
            self.late = (placed.of(late), newest)
        last = int(events.times.argmax())
        self._check(placed, int(events.times[last]))
        if self._newest is None or events.times[last] > self._newest.time:
            self._newest = placed.of(last)

    def _newest_before(self, placed: _Places, position: int) -> PlacedEvent | None:
        """Return the newest of the events before one of a batch."""
        if not position:
            return self._newest
        newest = placed.of(int(placed.times[:position].argmax()))
        return newest if self._newest is None or newest.time > self._newest.time else self._newest

    def _check(self, placed: _Places, newest: int) -> None:
        oldest = int(placed.times[0]) if self._newest is None else self._newest.time
        if self._limit is None or newest - oldest <= self._limit:
            return
        reached = np.maximum.accumulate(np.maximum(placed.times, oldest))
        far = np.flatnonzero(np.diff(reached, prepend=oldest) > self._limit)
        if len(far):
            before = self._newest_before(placed, int(far[0]))
            assert before is not None
            raise DataError(self._message(before, placed.of(int(far[0]))))

    def _message(self, before: PlacedEvent, event: PlacedEvent) -> str:
        silence = event.time - before.time
        base = self._plan.base
        days = duration_text(-(-silence // DAY) * DAY)
        return (
            f"{event}: no event before it is later than {before}, so that {silence // base.timeframe.nominal:,} buckets of "
            f"{base.name} between them would have no event, and all events up to this time that follow would be late; if one of "
            f"the two times is wrong, correct it, or leave the event out with start (--from), until (--until) or where; if both "
            f'are right, allow the silence with max_silence="{days}" (--max-silence {days})'
        )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the events of a batch are: their times, and their row numbers in the batch."""

    batch: TickBatch
    times: IntArray
    rows: IntArray

    def of(self, position: int) -> PlacedEvent:
        """Return the event at a position."""
        batch = self.batch
        return PlacedEvent(batch.source, batch.first_row + int(self.rows[position]), int(self.times[position]))
