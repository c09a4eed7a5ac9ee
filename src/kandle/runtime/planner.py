"""Which heartbeats are due: one for each grace of every base bucket that is over and in a session."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from kandle.errors import OptionsError
from kandle.time.arrays import IntArray
from kandle.time.buckets import buckets
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import HOUR, MINUTE, Timeframe, duration_text

LONGEST_BACKFILL = 2 * MINUTE
"""The longest backfill that is accepted, in microseconds."""


def check_backfill(backfill: int) -> int:
    """Return a backfill of heartbeats in microseconds.

    Raises:
        OptionsError: It is negative, or more than two minutes.
    """
    if not 0 <= backfill <= LONGEST_BACKFILL:
        raise OptionsError(
            f"a backfill of heartbeats is at most {duration_text(LONGEST_BACKFILL)}; a longer one is not needed, since the first "
            "heartbeat after a start closes all older buckets"
        )
    return backfill


@dataclass(frozen=True, slots=True, order=True)
class DueHeartbeat:
    """A base bucket that is over at `instant` = its end + `grace` (microseconds)."""

    instant: int
    start: int
    grace: int


class HeartbeatPlanner:
    """Lists the heartbeats that are due and not sent yet.

    A heartbeat says that its bucket and everything before it are over, so after a pause the newest ones are enough, however
    long nobody sent any. Outside of sessions there is one heartbeat an hour, for buckets whose end the schedule does not show,
    such as its last day.

    Args:
        base: The base timeframe, whose buckets are reported.
        graces: The graces of all timeframes, in microseconds.
        zone: The time zone of days, weeks and months.
        backfill: How far back heartbeats are made up after a start, in microseconds.
        calendar: Returns the newest calendar; None where there is no schedule.
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
        self._backfill = check_backfill(backfill)
        self._calendar = calendar

    def due(self, now: int, last: int | None) -> list[DueHeartbeat]:
        """Return the heartbeats with `last < instant <= now`, ascending: those within the backfill, or else the newest one."""
        oldest = now - self._backfill if last is None else max(last, now - self._backfill)
        recent = [beat for beat in self._between(oldest, now) if last is None or beat.instant > last]
        return recent or self._newest(now, last)

    def _newest(self, now: int, last: int | None) -> list[DueHeartbeat]:
        """Return the newest heartbeat that nobody has sent, looking further and further back."""
        span = self._backfill + self._nominal + self._graces[-1]
        floor = now - 400 * 24 * HOUR if last is None else last
        while True:
            oldest = max(floor, now - span)
            beats = [beat for beat in self._between(oldest, now) if last is None or beat.instant > last]
            if beats or oldest == floor:
                return beats[-1:]
            span *= 8

    def next(self, now: int) -> int:
        """Return the next instant at which a heartbeat can become due."""
        return min(self._next_end(now - grace) + grace for grace in self._graces)

    def _next_end(self, instant: int) -> int:
        return int(self._buckets.next(np.array([instant]))[0])

    def _between(self, after: int, until: int) -> list[DueHeartbeat]:
        """Return the heartbeats with `after < instant <= until`."""
        last_start = until - self._graces[0]
        starts = self._buckets.range(after - self._graces[-1] - 2 * self._nominal, last_start + 1)
        starts = starts[self._in_session(starts)]
        ends = self._buckets.next(starts)
        beats = [
            DueHeartbeat(int(end) + grace, int(start), grace)
            for start, end in zip(starts, ends, strict=True)
            for grace in self._graces
            if after < end + grace <= until
        ]
        return sorted(beats)

    def _in_session(self, starts: IntArray) -> np.ndarray:
        """Return whether a session overlaps each bucket, or ended so recently that some grace still runs."""
        calendar = self._calendar()
        if calendar is None or not len(starts):
            return np.ones(len(starts), np.bool_)
        ends = self._buckets.next(starts)
        longest = self._graces[-1]
        on_the_hour = ends % HOUR == 0
        is_due: np.ndarray = on_the_hour | calendar.is_any_open(starts - longest, ends)
        return is_due
