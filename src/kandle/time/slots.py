"""The buckets of one timeframe under a schedule: where they start and end, which are expected, when they are complete.

    timeframe 1h, base 1m     | 13:00          | 14:00          | 15:00          | 16:00
    session                        13:30 |========================| 15:20
    expected                  | x              | x              | x              |
    complete                                   14:00            15:00   15:20

A bucket is expected if it holds a part of a session. It is complete when its last base bucket that holds a part of a session is
over, which may be before its nominal end.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kandle.errors import ScheduleError, TimeframeError
from kandle.time.arrays import IntArray
from kandle.time.buckets import Buckets, FixedBuckets, buckets, local_midnights
from kandle.time.sessions import SessionCalendar, by_group
from kandle.time.timeframe import DAY, EPOCH, Timeframe, from_instant
from kandle.time.zones import zone_of


class Slots(Protocol):
    """The buckets of a timeframe for all groups of a schedule; instants are microseconds since the epoch.

    A bucket is identified by its *start*, which stays the same when the schedule changes. The start of a bucket of trading dates
    is the midnight in UTC of its first date; `opened` says when the bucket begins.
    """

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Return the start of the bucket that holds each instant."""

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Return when each bucket begins, as its bar says."""

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Return the nominal end of each bucket."""

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Return when each bucket is complete at the earliest: the end of the last base bucket that is expected in it."""

    def expected(self, group: int, after: int, before: int) -> IntArray:
        """Return the starts of a group's expected buckets that start after `after` and begin before `before`, ascending."""


def slots(
    timeframe: Timeframe,
    *,
    zone: str = "UTC",
    base: Timeframe,
    calendar: SessionCalendar | None = None,
    by_trading_day: bool = False,
) -> Slots:
    """Return the slots of a timeframe.

    Args:
        timeframe: The timeframe.
        zone: Name of the time zone in which days begin.
        base: The finest timeframe of the query.
        calendar: The sessions; None expects all buckets.
        by_trading_day: Whether days, weeks and months are those of trading dates, not of the zone.

    Returns:
        The slots.

    Raises:
        ScheduleError: Trading dates are needed, but the sessions have none.
    """
    if calendar is None:
        return PlainSlots(buckets(timeframe, zone))
    if by_trading_day and not timeframe.is_fixed:
        # A base of trading days is over with its last close, whatever the clock says.
        return TradingDaySlots(timeframe, zone, FixedBuckets(base.size if base.is_fixed else 1), calendar)
    return SessionSlots(buckets(timeframe, zone), buckets(base, zone), calendar)


class PlainSlots:
    """All buckets of a timeframe, for all groups: there is no schedule."""

    def __init__(self, of: Buckets) -> None:
        self._buckets = of

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        return self._buckets.floor(instants)

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        return starts

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def expected(self, group: int, after: int, before: int) -> IntArray:
        starts = self._buckets.range(after + 1, before)
        return starts[starts > after]


class SessionSlots:
    """The buckets of a timeframe that hold a part of a session of the group."""

    def __init__(self, of: Buckets, base: Buckets, calendar: SessionCalendar) -> None:
        self._buckets = of
        self._base = base
        self._calendar = calendar

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        return self._buckets.floor(instants)

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        return starts

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._buckets.next(starts)

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        ends = self.end(groups, starts)
        complete = ends.copy()
        for group, rows in by_group(groups):
            complete[rows] = self._complete(group, starts[rows], ends[rows])
        return complete

    def _complete(self, group: int, starts: IntArray, ends: IntArray) -> IntArray:
        """Return when buckets of one group are complete; their ends where the schedule may still become longer."""
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
        buckets_of_sessions = [self._buckets.range(int(open_), int(close)) for open_, close in spans]
        if not buckets_of_sessions:
            return np.empty(0, np.int64)
        starts = np.unique(np.concatenate(buckets_of_sessions))
        return starts[(starts > after) & (starts < before)]


class TradingDaySlots:
    """Days, weeks or months by trading date: from the first open to the last close of the sessions that belong to them."""

    def __init__(self, timeframe: Timeframe, zone: str, base: Buckets, calendar: SessionCalendar) -> None:
        if not calendar.has_days:
            raise ScheduleError(f"{timeframe} by trading date needs sessions with trading dates; this schedule has none")
        self._calendar = calendar
        self._base = base
        self._zone = zone
        self._dates = buckets(timeframe, "UTC")
        label = self._dates.floor(calendar.days * DAY)
        fresh = np.ones(len(label), np.bool_)
        fresh[1:] = (label[1:] != label[:-1]) | (calendar.group[1:] != calendar.group[:-1])
        first = np.flatnonzero(fresh)
        last = np.append(first[1:], len(label)) - 1
        self._slot_of_row = np.cumsum(fresh) - 1
        self._groups = calendar.group[first]
        self._starts: IntArray = label[first]
        self._opens: IntArray = calendar.opens[first]
        self._ends: IntArray = calendar.closes[last[: len(first)]]
        self._bounds = np.searchsorted(self._groups, np.arange(calendar.group_count + 1))
        self._completes: IntArray = self._complete_of(self._midnight_after(self._starts))

    def _complete_of(self, midnight: IntArray) -> IntArray:
        """Return the last close if the schedule continues after it, else an instant at which the last date is over as well."""
        rounded = self._base.ceil(self._ends)
        followed = np.full(len(rounded), self._calendar.is_whole)
        followed[:-1] |= self._groups[1:] == self._groups[:-1]
        return np.where(followed, rounded, np.maximum(rounded, midnight))

    @property
    def completions(self) -> IntArray:
        """When each bucket of each group is complete, and the midnight that ends its last date, should the schedule change."""
        return np.concatenate([self._completes, self._midnight_after(self._starts)])

    def _midnight_after(self, starts: IntArray) -> IntArray:
        """Return when the last date of each bucket is over in the zone."""
        return local_midnights(self._dates.next(starts), self._zone)

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        # An instant whose session was deleted later belongs to the session before it.
        rows = self._calendar.locate(groups, instants)
        starts = np.empty(len(rows), np.int64)
        inside = rows >= 0
        starts[inside] = self._starts[self._slot_of_row[rows[inside]]]
        for position in np.flatnonzero(~inside):
            starts[position] = self._start_near(int(groups[position]), int(instants[position]))
        return starts

    def _start_near(self, group: int, instant: int) -> int:
        """Return the start of the bucket of the last session before an instant, else of the instant's own date."""
        sessions = self._calendar.sessions(group)
        before = int(np.searchsorted(self._calendar.opens[sessions], instant, side="right")) - 1
        if before >= 0:
            return int(self._starts[self._slot_of_row[sessions.start + before]])
        date = from_instant(instant).astimezone(zone_of(self._zone)).date()
        return int(self._dates.floor(np.array([(date - EPOCH.date()).days * DAY]))[0])

    def _slot(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Return the slot of each start; -1 where the schedule has no session of it any more."""
        slot = np.full(len(starts), -1, np.int64)
        for group, rows in by_group(groups):
            low, high = self._range(group)
            at = low + np.searchsorted(self._starts[low:high], starts[rows])
            known = at < high
            known[known] = self._starts[at[known]] == starts[rows][known]
            slot[rows] = np.where(known, at, -1)
        return slot

    def _range(self, group: int) -> tuple[int, int]:
        return (0, 0) if group < 0 else (int(self._bounds[group]), int(self._bounds[group + 1]))

    def _of(self, column: IntArray, groups: IntArray, starts: IntArray, missing: IntArray) -> IntArray:
        """Return the values of a column of slots, and `missing` where there is no slot."""
        slot = self._slot(groups, starts)
        values = missing.copy()
        values[slot >= 0] = column[slot[slot >= 0]]
        return values

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._of(self._opens, groups, starts, local_midnights(starts, self._zone))

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._of(self._ends, groups, starts, self._midnight_after(starts))

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        return self._of(self._completes, groups, starts, self._midnight_after(starts))

    def expected(self, group: int, after: int, before: int) -> IntArray:
        low, high = self._range(group)
        starts, opens = self._starts[low:high], self._opens[low:high]
        return starts[np.searchsorted(starts, after, side="right") : np.searchsorted(opens, before, side="left")]


class HoppingSlots:
    """Windows of one size that start at each multiple of `advance`, and overlap.

    Args:
        size: Length of each window.
        advance: Distance between their starts, which divides the size.
        calendar: The sessions; None expects all windows.

    Raises:
        TimeframeError: `advance` does not divide the size.
    """

    def __init__(self, size: Timeframe, advance: Timeframe, calendar: SessionCalendar | None = None) -> None:
        if size.size % advance.size != 0:
            raise TimeframeError(f"a window of {size} cannot advance by {advance}, which does not divide it")
        self._size = size.size
        self._advance = FixedBuckets(advance.size)
        self._step = advance.size
        self._inner = None if calendar is None else SessionSlots(self._advance, self._advance, calendar)

    def starts(self, instants: IntArray) -> IntArray:
        """Return the starts of all windows that hold each instant, latest first: one row per instant."""
        hops = np.arange(self._size // self._step, dtype=np.int64) * self._step
        return self._advance.floor(instants)[:, None] - hops[None, :]

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        return starts

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
    """Check that no base bucket holds sessions of two trading dates: events of the two could not be told apart.

    Args:
        calendar: The sessions.
        base: The finest timeframe of the query.
        zone: Name of the time zone in which days begin.

    Raises:
        ScheduleError: Two sessions share a bucket; the message names a timeframe that separates all sessions.
    """
    for _, reason in shared_buckets(calendar, base, zone):
        raise ScheduleError(reason)


def shared_buckets(calendar: SessionCalendar, base: Timeframe, zone: str = "UTC") -> list[tuple[int, str]]:
    """Return the groups of a calendar that have sessions of two trading dates in one base bucket, each with the reason.

    Args:
        calendar: The sessions.
        base: The finest timeframe of the query.
        zone: Name of the time zone in which days begin.

    Returns:
        Groups with texts that name the sessions, and a timeframe that separates all sessions.
    """
    if not base.is_fixed or len(calendar.opens) < 2:
        return []
    same_group = calendar.group[1:] == calendar.group[:-1]
    other_day = calendar.days[1:] != calendar.days[:-1]
    neighbours = np.flatnonzero(same_group & other_day)
    closes, opens = calendar.closes[neighbours], calendar.opens[neighbours + 1]
    shared = np.flatnonzero(~_are_separated(closes, opens, base, zone))
    if not len(shared):
        return []
    finer = [timeframe for timeframe in FINER if timeframe < base and _are_separated(closes, opens, timeframe, zone).all()]
    advice = f"declare a finer timeframe, for example {max(finer)}" if finer else "correct one of them"
    groups, first = np.unique(calendar.group[neighbours[shared]], return_index=True)
    reasons = []
    for group, at in zip(groups.tolist(), shared[first].tolist(), strict=True):
        close, open_ = from_instant(int(closes[at])), from_instant(int(opens[at]))
        reason = (
            f"key {calendar.name(group)}: the session that closes at {close.isoformat()} and the one that opens at "
            f"{open_.isoformat()} have different trading dates but share a bucket of {base}; {advice}"
        )
        reasons.append((group, reason))
    return reasons


FINER = tuple(map(Timeframe.parse, ("1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h")))
"""Timeframes that `check_trading_days` advises."""


def _are_separated(closes: IntArray, opens: IntArray, timeframe: Timeframe, zone: str) -> np.ndarray:
    """Return for each close and the open after it whether they lie in different buckets."""
    grid = buckets(timeframe, zone)
    separated: np.ndarray = grid.floor(opens) >= grid.ceil(closes)
    return separated
