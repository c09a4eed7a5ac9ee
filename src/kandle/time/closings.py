"""The instants at which buckets can be complete, for all keys of a query: when heartbeats are needed.

sessions      |=========| 15:20                          the last one of the schedule
base 1m       ends of all buckets that hold a part of a session: 14:01, 14:02, ..., 15:20
1h, 1d        the ends of their last buckets, which may still grow until then: 16:00, midnight
days by       the last close of each trading date: 15:20; of the last known one: the midnight that ends it
trading date
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kandle.time.arrays import IntArray
from kandle.time.buckets import Buckets, buckets
from kandle.time.sessions import SessionCalendar
from kandle.time.slots import TradingDaySlots, slots
from kandle.time.timeframe import HOUR, Timeframe

NEVER = int(np.iinfo(np.int64).max)
"""The completion of a bucket that no session can give an event."""


@dataclass(frozen=True, slots=True)
class ClosingSpec:
    """Whose buckets can be complete.

    Attributes:
        base: The timeframe whose buckets hold events.
        others: The timeframes that are made from it.
        windows: Sizes of hopping windows that advance by the base.
        zone: Name of the time zone in which days begin.
        by_trading_day: Whether days, weeks and months are those of trading dates.
    """

    base: Timeframe
    others: Sequence[Timeframe] = ()
    windows: Sequence[Timeframe] = ()
    zone: str = "UTC"
    by_trading_day: bool = False


class Closings(Protocol):
    """The instants at which buckets can be complete; instants are microseconds since the epoch."""

    def between(self, after: int, until: int) -> IntArray:
        """Return all of them with `after < instant <= until`, ascending."""

    def next(self, instant: int) -> int:
        """Return an instant after the given one, and none is in between."""

    def ends(self, times: IntArray) -> IntArray:
        """Return when the base bucket of an event of each time can be complete at the earliest."""


def closings(spec: ClosingSpec, calendar: SessionCalendar | None = None) -> Closings:
    """Return the instants at which buckets can be complete.

    Args:
        spec: The timeframes.
        calendar: The sessions of all keys; None expects all buckets.
    """
    grid = buckets(spec.base, spec.zone)
    return GridClosings(grid) if calendar is None else SessionClosings(spec, grid, calendar)


class NewestClosings:
    """The closings of the newest schedule.

    Args:
        spec: The timeframes.
        calendar: Returns the newest calendar; None where there is no schedule.
    """

    def __init__(self, spec: ClosingSpec, calendar: Callable[[], SessionCalendar | None]) -> None:
        self._spec = spec
        self._calendar = calendar
        self._known: tuple[SessionCalendar | None, Closings] | None = None

    def __call__(self) -> Closings:
        """Return the closings of the calendar as it is now."""
        calendar = self._calendar()
        if self._known is None or self._known[0] is not calendar:
            self._known = (calendar, closings(self._spec, calendar))
        return self._known[1]


class GridClosings:
    """The ends of all base buckets: there is no schedule, and coarser buckets end with base buckets."""

    def __init__(self, grid: Buckets) -> None:
        self._grid = grid

    def between(self, after: int, until: int) -> IntArray:
        return _ends_between(self._grid, after, until)

    def next(self, instant: int) -> int:
        return int(self._grid.next(np.array([instant]))[0])

    def ends(self, times: IntArray) -> IntArray:
        return self._grid.next(times)


class SessionClosings:
    """Ends of buckets that hold a part of a session, the last closes of trading dates, and one instant an hour.

    The hourly one is for buckets of sessions that are not in the schedule any more. Where the base is longer than an hour,
    the ends of all its buckets take its place.
    """

    def __init__(self, spec: ClosingSpec, grid: Buckets, calendar: SessionCalendar) -> None:
        self._grid = grid
        self._calendar = calendar
        self._is_fixed = spec.base.is_fixed
        coarser = [other for other in spec.others if other.is_fixed or not spec.by_trading_day]
        self._coarser = [buckets(other, spec.zone) for other in coarser]
        self._windows = [window.size for window in spec.windows]
        self._closes = _trading_day_closings(spec, calendar)
        self._is_by_close = spec.by_trading_day and not spec.base.is_fixed

    def between(self, after: int, until: int) -> IntArray:
        ends = _ends_between(self._grid, after, until)
        if self._is_fixed:
            ends = ends[(ends % HOUR == 0) | self._is_any_open(ends - 1, ends)]
        parts = [ends, self._closes[(self._closes > after) & (self._closes <= until)]]
        for grid in self._coarser:
            ends = _ends_between(grid, after, until)
            parts.append(ends[self._calendar.is_any_open(grid.floor(ends - 1), ends)])
        for size in self._windows:
            ends = _ends_between(self._grid, after, until)
            parts.append(ends[self._calendar.is_any_open(ends - size, ends)])
        return np.unique(np.concatenate(parts))

    def _is_any_open(self, times: IntArray, ends: IntArray) -> np.ndarray:
        """Return whether some session overlaps the base bucket of each time."""
        return self._calendar.is_any_open(self._grid.floor(times), ends)

    def next(self, instant: int) -> int:
        end = int(self._grid.next(np.array([instant]))[0])
        at = int(np.searchsorted(self._closes, instant, side="right"))
        return min(end, int(self._closes[at])) if at < len(self._closes) else end

    def ends(self, times: IntArray) -> IntArray:
        if self._is_by_close:
            at = np.searchsorted(self._closes, times, side="right")
            return np.append(self._closes, NEVER)[at]
        ends = self._grid.next(times)
        return np.where(self._is_any_open(times, ends), ends, NEVER)


def _ends_between(grid: Buckets, after: int, until: int) -> IntArray:
    """Return the ends of buckets with `after < end <= until`."""
    if until <= after:
        return np.empty(0, np.int64)
    ends = grid.next(grid.range(after, until))
    return ends[(ends > after) & (ends <= until)]


def _trading_day_closings(spec: ClosingSpec, calendar: SessionCalendar) -> IntArray:
    """Return when days, weeks and months by trading date are complete, ascending."""
    if not spec.by_trading_day:
        return np.empty(0, np.int64)
    completions = [np.empty(0, np.int64)]
    for timeframe in (spec.base, *spec.others):
        of = slots(timeframe, zone=spec.zone, base=spec.base, calendar=calendar, by_trading_day=True)
        if isinstance(of, TradingDaySlots):
            completions.append(of.completions)
    return np.unique(np.concatenate(completions))
