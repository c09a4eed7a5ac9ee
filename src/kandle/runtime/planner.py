"""Which heartbeats are due: one for each grace at every instant at which buckets can be complete."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from kandle.errors import OptionsError
from kandle.plan.plan import Plan
from kandle.time.arrays import IntArray
from kandle.time.buckets import buckets
from kandle.time.closings import ClosingSpec, NewestClosings
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import HOUR, MINUTE, duration_text

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


def closing_spec(plan: Plan) -> ClosingSpec:
    """Return the timeframes of a plan, for `closings`."""
    others = tuple(bar.timeframe for bar in plan.bars[1:] if bar.advance is None)
    windows = tuple(bar.timeframe for bar in plan.bars if bar.advance is not None)
    return ClosingSpec(plan.base.timeframe, others, windows, plan.zone, plan.by_trading_day)


@dataclass(frozen=True, slots=True, order=True)
class DueHeartbeat:
    """Buckets that are complete at `instant` - `grace` are over (microseconds); `start` and `grace` are its key."""

    instant: int
    start: int
    grace: int


class HeartbeatPlanner:
    """Lists the heartbeats that are due and not sent yet.

    A heartbeat says that everything before its instant is over, so after a pause the newest ones are enough, however long
    nobody sent any.

    Args:
        spec: The timeframes of the query.
        graces: The graces of all timeframes, in microseconds.
        backfill: How far back heartbeats are made up after a start, in microseconds.
        calendar: Returns the newest calendar; None where there is no schedule.
    """

    def __init__(
        self,
        spec: ClosingSpec,
        graces: Collection[int],
        *,
        backfill: int = MINUTE,
        calendar: Callable[[], SessionCalendar | None] = lambda: None,
    ) -> None:
        self._closings = NewestClosings(spec, calendar)
        self._nominal = spec.base.nominal
        self._grid = buckets(spec.base, spec.zone)
        self._graces = sorted(set(graces))
        self._backfill = check_backfill(backfill)

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
        return min(self._closings().next(now - grace) + grace for grace in self._graces)

    def _between(self, after: int, until: int) -> list[DueHeartbeat]:
        """Return the heartbeats with `after < instant <= until`."""
        ends = self._closings().between(after - self._graces[-1], until - self._graces[0])
        beats = [
            DueHeartbeat(int(end) + grace, int(start), grace)
            for start, end in zip(self._starts(ends), ends, strict=True)
            for grace in self._graces
            if after < end + grace <= until
        ]
        return sorted(beats)

    def _starts(self, ends: IntArray) -> IntArray:
        """Return a start for each end: that of its bucket, or else one that no other heartbeat has.

        Start and grace are the key of a heartbeat in its compacted topic. The last close of a trading date and the midnight
        after it lie in one bucket of a day, and compaction must keep both: events may stand between them.
        """
        starts = self._grid.floor(ends - 1)
        return np.where(self._grid.next(starts) == ends, starts, ends - self._nominal)
