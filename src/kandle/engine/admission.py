"""Which events count: those whose time is possible, in a session, and not after the end of their bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from kandle.engine.operator import BarOperator
from kandle.time.arrays import IntArray
from kandle.time.sessions import SessionCalendar
from kandle.time.timeframe import to_instant

FIRST_TIME_OF_ALL, END_OF_TIMES = to_instant(datetime(2, 1, 1, tzinfo=UTC)), to_instant(datetime(9999, 1, 1, tzinfo=UTC))
"""The bounds of event times: a year less than datetimes can hold, since buckets begin before them and end after them."""


def possible_times(times: pl.Series) -> np.ndarray | None:
    """Return which event times are in the years 2 to 9998, whose buckets datetimes can hold; None if all are."""
    extremes: tuple[Any, Any] = times.min(), times.max()
    low, high = extremes
    if not times.null_count() and (low is None or (low >= FIRST_TIME_OF_ALL and high < END_OF_TIMES)):
        return None
    possible: np.ndarray = times.is_between(FIRST_TIME_OF_ALL, END_OF_TIMES, closed="left").fill_null(value=False).to_numpy()
    return possible


class Admission:
    """Decides which events, or base buckets, count, by their schedule groups and times (microseconds)."""

    def __init__(self, base: BarOperator, calendar: SessionCalendar | None) -> None:
        self._base = base
        self._calendar = calendar

    def replace_calendar(self, calendar: SessionCalendar) -> None:
        """Go on with newer schedule rows."""
        self._calendar = calendar

    def inside(self, groups: IntArray, times: IntArray) -> np.ndarray:
        """Return which times are in a session of their group; without a schedule all are."""
        if self._calendar is None:
            return np.ones(len(groups), np.bool_)
        return self._calendar.locate(groups, times) >= 0

    def late(self, groups: IntArray, times: IntArray, inside: np.ndarray, known: IntArray) -> np.ndarray:
        """Return which events inside of sessions came after their bucket, with grace, was over.

        `known` is the instant that was reached when each event came.
        """
        # A bucket is complete only after each of its events, so most events need no closer look.
        suspects = np.flatnonzero(inside & (known > times))
        late = np.zeros(len(times), np.bool_)
        if len(suspects):
            groups, times = groups[suspects], times[suspects]
            late[suspects] = self.over(groups, self._base.start(groups, times), known[suspects])
        return late

    def over(self, groups: IntArray, starts: IntArray, known: IntArray | int) -> np.ndarray:
        """Return which buckets are complete, with grace, by the instants."""
        over: np.ndarray = self._base.complete(groups, starts) + self._base.plan.grace <= known
        return over


@dataclass(frozen=True, slots=True)
class EventTimes:
    """The times of the events of a batch that were not left out (microseconds), and their row numbers in the batch.

    `is_late` says which of them came too late.
    """

    times: IntArray
    rows: IntArray
    is_late: np.ndarray
