"""Which heartbeats are due: of every base bucket in a session that is over, with each grace that a timeframe has."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from kandle.errors import OptionsError
from kandle.time.buckets import buckets
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import HOUR, MINUTE, IntArray, Timeframe

LONGEST_BACKFILL = 2 * MINUTE


def checked_backfill(backfill: int) -> int:
    """A backfill of heartbeats in microseconds, unless it is more than two minutes."""
    if not 0 <= backfill <= LONGEST_BACKFILL:
        raise OptionsError(
            f"heartbeat.backfill = {backfill / MINUTE:g}m: heartbeats are made up for at most 2m after a start; "
            "the first one closes all older buckets all the same"
        )
    return backfill


@dataclass(frozen=True, slots=True, order=True)
class DueBeat:
    """A base bucket that is over at `instant` = its end + `grace` (microseconds)."""

    instant: int
    start: int
    grace: int


class Planner:
    """Lists what has not been sent yet.

    `backfill` limits how far back it looks after a start: a heartbeat says that everything before it is over too, so the newest
    ones are enough, however long nobody was there. More than two minutes is refused.
    Outside of sessions there is one heartbeat an hour, for buckets whose end the schedule does not show, as its last day.
    """

    def __init__(
        self,
        base: Timeframe,
        graces: Collection[int],
        *,
        zone: str = "UTC",
        backfill: int = MINUTE,
        calendar: Callable[[], SessionCalendar | None] = lambda: None,
    ) -> None:
        self._buckets = buckets(base, zone)
        self._nominal = base.nominal
        self._graces = sorted(set(graces))
        self._backfill = checked_backfill(backfill)
        self._calendar = calendar

    def due(self, now: int, last: int | None) -> list[DueBeat]:
        """Heartbeats with `last < instant <= now`, ascending: those within the backfill, or else the newest one."""
        oldest = now - self._backfill if last is None else max(last, now - self._backfill)
        recent = [beat for beat in self._between(oldest, now) if last is None or beat.instant > last]
        return recent or self._newest(now, last)

    def _newest(self, now: int, last: int | None) -> list[DueBeat]:
        """The newest heartbeat that nobody has sent, looked for ever further back."""
        span = self._backfill + self._nominal + self._graces[-1]
        floor = now - 400 * 24 * HOUR if last is None else last
        while True:
            oldest = max(floor, now - span)
            found = [beat for beat in self._between(oldest, now) if last is None or beat.instant > last]
            if found or oldest == floor:
                return found[-1:]
            span *= 8

    def next(self, now: int) -> int:
        """The next instant at which a heartbeat can become due."""
        return min(self._next_end(now - grace) + grace for grace in self._graces)

    def _next_end(self, instant: int) -> int:
        return int(self._buckets.next(np.array([instant]))[0])

    def _between(self, after: int, until: int) -> list[DueBeat]:
        """Heartbeats with `after < instant <= until`."""
        last_start = until - self._graces[0]
        starts = self._buckets.range(after - self._graces[-1] - 2 * self._nominal, last_start + 1)
        starts = starts[self._in_session(starts)]
        ends = self._buckets.next(starts)
        beats = [
            DueBeat(int(end) + grace, int(start), grace)
            for start, end in zip(starts, ends, strict=True)
            for grace in self._graces
            if after < end + grace <= until
        ]
        return sorted(beats)

    def _in_session(self, starts: IntArray) -> np.ndarray:
        """Whether a session overlaps each bucket, or was over so short a time ago that some grace still runs."""
        calendar = self._calendar()
        if calendar is None or not len(starts):
            return np.ones(len(starts), np.bool_)
        ends = self._buckets.next(starts)
        longest = self._graces[-1]
        on_the_hour = ends % HOUR == 0
        found: np.ndarray = on_the_hour | calendar.is_any_open(starts - longest, ends)
        return found
