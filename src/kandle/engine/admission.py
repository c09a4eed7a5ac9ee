"""Which events may still change a bar: those inside a session whose bucket is not closed."""

from __future__ import annotations

import numpy as np

from kandle.engine.operator import BarOperator
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import IntArray


class Admission:
    """Looks at events, or at buckets of the base timeframe, by their schedule groups and times (microseconds)."""

    def __init__(self, base: BarOperator, calendar: SessionCalendar | None) -> None:
        self._base = base
        self._calendar = calendar

    def replace_calendar(self, calendar: SessionCalendar) -> None:
        """Go on with newer schedule rows."""
        self._calendar = calendar

    def inside(self, groups: IntArray, times: IntArray) -> np.ndarray:
        """Which times are in a session of their group; all are without a schedule."""
        if self._calendar is None:
            return np.ones(len(groups), np.bool_)
        return self._calendar.locate(groups, times) >= 0

    def late(self, groups: IntArray, times: IntArray, inside: np.ndarray, known: IntArray) -> np.ndarray:
        """Which events inside sessions came after their bucket, with grace, was over by the instant known to each."""
        # A bucket is complete only after each of its events, so most events need no closer look.
        suspects = np.flatnonzero(inside & (known > times))
        late = np.zeros(len(times), np.bool_)
        if len(suspects):
            groups, times = groups[suspects], times[suspects]
            late[suspects] = self.over(groups, self._base.start(groups, times), known[suspects])
        return late

    def over(self, groups: IntArray, starts: IntArray, known: IntArray | int) -> np.ndarray:
        """Which buckets are complete, with grace, by the instants."""
        over: np.ndarray = self._base.complete(groups, starts) + self._base.plan.grace <= known
        return over
