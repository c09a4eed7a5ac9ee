"""The buckets of one timeframe as a schedule makes them: where they start and end, which must exist, when they are complete."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kandle.errors import ScheduleError, TimeframeError
from kandle.time.buckets import Buckets, FixedBuckets, buckets, local_midnights
from kandle.time.sessions import SessionCalendar, by_group
from kandle.time.timeframe import DAY, IntArray, Timeframe, from_instant


class Slots(Protocol):
    """The buckets of a timeframe for every schedule group; all instants in microseconds."""

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Start of the bucket that holds each instant."""

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Nominal end of each bucket."""

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        """End of the last base bucket that the schedule expects in each bucket: when it can be over at the earliest."""

    def expected(self, group: int, after: int, before: int) -> IntArray:
        """Ascending starts, `after < start < before`, of the group's buckets that hold a part of a session."""


def slots(
    timeframe: Timeframe,
    *,
    zone: str = "UTC",
    base: Timeframe,
    calendar: SessionCalendar | None = None,
    by_trading_day: bool = False,
) -> Slots:
    """The slots of a timeframe: by the calendar's trading dates, or by the clock and calendar of the zone."""
    if calendar is None:
        return PlainSlots(buckets(timeframe, zone))
    if by_trading_day and not timeframe.is_fixed:
        # A base of trading days is over with its last close, whatever the clock says.
        return TradingDaySlots(timeframe, zone, FixedBuckets(base.size if base.is_fixed else 1), calendar)
    return SessionSlots(buckets(timeframe, zone), buckets(base, zone), calendar)


class PlainSlots:
    """Every bucket of the timeframe, for everybody."""

    def __init__(self, of: Buckets) -> None:
        self._buckets = of

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        return self._buckets.floor(instants)

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def expected(self, group: int, after: int, before: int) -> IntArray:
        starts = self._buckets.range(after + 1, before)
        return starts[starts > after]


class SessionSlots:
    """Those buckets of the timeframe that hold a part of a session of the group."""

    def __init__(self, of: Buckets, base: Buckets, calendar: SessionCalendar) -> None:
        self._buckets = of
        self._base = base
        self._calendar = calendar

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        return self._buckets.floor(instants)

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        ends = self.end(groups, starts)
        complete = ends.copy()
        for group, rows in by_group(groups):
            complete[rows] = self._complete(group, starts[rows], ends[rows])
        return complete

    def _complete(self, group: int, starts: IntArray, ends: IntArray) -> IntArray:
        sessions = self._calendar.sessions(group)
        opens, closes = self._calendar.opens[sessions], self._calendar.closes[sessions]
        following = np.searchsorted(opens, ends, side="left")
        last = following - 1
        known = ((following < len(opens)) | self._calendar.is_whole) & (last >= 0)
        close = np.minimum(closes[np.maximum(last, 0)], ends) if len(closes) else ends
        known &= close > starts
        return np.where(known, np.minimum(self._base.ceil(close), ends), ends)

    def expected(self, group: int, after: int, before: int) -> IntArray:
        sessions = self._calendar.sessions(group)
        opens, closes = self._calendar.opens[sessions], self._calendar.closes[sessions]
        near = slice(np.searchsorted(closes, after, side="right"), np.searchsorted(opens, before, side="left"))
        # Sessions may be much longer than what is asked for, so they are cut off on both sides.
        spans = zip(np.maximum(opens[near], after), np.minimum(closes[near], before), strict=True)
        found = [self._buckets.range(int(open_), int(close)) for open_, close in spans]
        if not found:
            return np.empty(0, np.int64)
        starts = np.unique(np.concatenate(found))
        return starts[(starts > after) & (starts < before)]


class TradingDaySlots:
    """Days, weeks or months by trading date: from the first open to the last close of the sessions that belong to them."""

    def __init__(self, timeframe: Timeframe, zone: str, base: Buckets, calendar: SessionCalendar) -> None:
        if not calendar.has_days:
            raise ScheduleError(f"{timeframe} by trading date needs sessions with trading dates; this schedule has none")
        self._calendar = calendar
        self._base = base
        dates = buckets(timeframe, "UTC")
        label = dates.floor(calendar.days * DAY)
        fresh = np.ones(len(label), np.bool_)
        fresh[1:] = (label[1:] != label[:-1]) | (calendar.group[1:] != calendar.group[:-1])
        first = np.flatnonzero(fresh)
        last = np.append(first[1:], len(label)) - 1
        self._slot_of_row = np.cumsum(fresh) - 1
        self._groups = calendar.group[first]
        self._starts: IntArray = calendar.opens[first]
        self._ends: IntArray = calendar.closes[last[: len(first)]]
        self._bounds = np.searchsorted(self._groups, np.arange(calendar.group_count + 1))
        self._completes: IntArray = self._complete_of(local_midnights(dates.next(label[first]), zone))

    def _complete_of(self, midnight: IntArray) -> IntArray:
        """The last close, if the schedule goes on after it; else not before the last date is over in the zone."""
        rounded = self._base.ceil(self._ends)
        followed = np.full(len(rounded), self._calendar.is_whole)
        followed[:-1] |= self._groups[1:] == self._groups[:-1]
        return np.where(followed, rounded, np.maximum(rounded, midnight))

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        rows = self._calendar.locate(groups, instants)
        if (rows < 0).any():
            at = int(np.flatnonzero(rows < 0)[0])
            raise ScheduleError(f"{from_instant(int(instants[at])).isoformat()} is in no session, so it has no trading date")
        starts: IntArray = self._starts[self._slot_of_row[rows]]
        return starts

    def _slot(self, groups: IntArray, starts: IntArray) -> IntArray:
        slot = np.empty(len(starts), np.int64)
        for group, rows in by_group(groups):
            low, high = self._range(group)
            slot[rows] = low + np.searchsorted(self._starts[low:high], starts[rows], side="right") - 1
        return slot

    def _range(self, group: int) -> tuple[int, int]:
        return (0, 0) if group < 0 else (int(self._bounds[group]), int(self._bounds[group + 1]))

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._ends[self._slot(groups, starts)]

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._completes[self._slot(groups, starts)]

    def expected(self, group: int, after: int, before: int) -> IntArray:
        low, high = self._range(group)
        starts = self._starts[low:high]
        return starts[np.searchsorted(starts, after, side="right") : np.searchsorted(starts, before, side="left")]


class HoppingSlots:
    """Windows of one size that start every `advance` and overlap; `advance` divides the size."""

    def __init__(self, size: Timeframe, advance: Timeframe, calendar: SessionCalendar | None = None) -> None:
        if size.size % advance.size != 0:
            raise TimeframeError(f"a window of {size} cannot advance by {advance}, which does not divide it")
        self._size = size.size
        self._advance = FixedBuckets(advance.size)
        self._step = advance.size
        self._inner = None if calendar is None else SessionSlots(self._advance, self._advance, calendar)

    def starts(self, instants: IntArray) -> IntArray:
        """Starts of all windows that hold each instant, latest first: one row per instant."""
        hops = np.arange(self._size // self._step, dtype=np.int64) * self._step
        return self._advance.floor(instants)[:, None] - hops[None, :]

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return starts + self._size

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        return starts + self._size

    def expected(self, group: int, after: int, before: int) -> IntArray:
        if self._inner is None:
            starts = self._advance.range(after + 1, before)
        else:
            panes = self._inner.expected(group, after, before + self._size)
            starts = np.unique(self.starts(panes).ravel())
        return starts[(starts > after) & (starts < before)]


def check_trading_days(calendar: SessionCalendar, base: Timeframe, zone: str = "UTC") -> None:
    """Raise ScheduleError if sessions of different trading days share a base bucket: its events cannot be told apart."""
    base_buckets = buckets(base, zone)
    if not base.is_fixed or len(calendar.opens) < 2:
        return
    same = calendar.group[1:] == calendar.group[:-1]
    other_day = calendar.days[1:] != calendar.days[:-1]
    shared = base_buckets.floor(calendar.opens[1:]) < base_buckets.ceil(calendar.closes[:-1])
    found = np.flatnonzero(same & other_day & shared)
    if len(found):
        at = int(found[0])
        name = calendar.name(int(calendar.group[at]))
        close, open_ = from_instant(int(calendar.closes[at])), from_instant(int(calendar.opens[at + 1]))
        raise ScheduleError(
            f"key {name}: the session that closes at {close.isoformat()} and the one that opens at {open_.isoformat()} have "
            f"different trading dates but share a {base} bucket; declare a finer timeframe, for example seconds=1"
        )
