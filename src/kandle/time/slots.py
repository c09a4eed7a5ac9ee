"""The buckets of one timeframe as a schedule makes them: where they start and end, which must exist, when they are complete."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kandle.errors import ScheduleError, TimeframeError
from kandle.time.buckets import Buckets, FixedBuckets, buckets, local_midnights, zone_of
from kandle.time.sessions import SessionCalendar, by_group
from kandle.time.timeframe import DAY, EPOCH, IntArray, Timeframe, from_instant


class Slots(Protocol):
    """The buckets of a timeframe for every schedule group; all instants in microseconds.

    A bucket is known by its *start*, which never changes, whatever happens to the schedule. That of a bucket of trading dates is
    the midnight in UTC of its first date; when it really begins is what `opened` says.
    """

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Start of the bucket that holds each instant."""

    def opened(self, groups: IntArray, starts: IntArray) -> IntArray:
        """When each bucket begins, as its bar says it."""

    def end(self, groups: IntArray, starts: IntArray) -> IntArray:
        """Nominal end of each bucket."""

    def complete(self, groups: IntArray, starts: IntArray) -> IntArray:
        """End of the last base bucket that the schedule expects in each bucket: when it can be over at the earliest."""

    def expected(self, group: int, after: int, before: int) -> IntArray:
        """Ascending starts after `after` of the group's buckets that begin before `before` and hold a part of a session."""


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
    """Those buckets of the timeframe that hold a part of a session of the group."""

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
        """The last close, if the schedule goes on after it; else not before the last date is over in the zone."""
        rounded = self._base.ceil(self._ends)
        followed = np.full(len(rounded), self._calendar.is_whole)
        followed[:-1] |= self._groups[1:] == self._groups[:-1]
        return np.where(followed, rounded, np.maximum(rounded, midnight))

    def _midnight_after(self, starts: IntArray) -> IntArray:
        """When the last date of each bucket is over in the zone."""
        return local_midnights(self._dates.next(starts), self._zone)

    def start(self, groups: IntArray, instants: IntArray) -> IntArray:
        """Of an instant in a session; one whose session was taken away later belongs to the session before it."""
        rows = self._calendar.locate(groups, instants)
        starts = np.empty(len(rows), np.int64)
        inside = rows >= 0
        starts[inside] = self._starts[self._slot_of_row[rows[inside]]]
        for position in np.flatnonzero(~inside):
            starts[position] = self._start_near(int(groups[position]), int(instants[position]))
        return starts

    def _start_near(self, group: int, instant: int) -> int:
        sessions = self._calendar.sessions(group)
        before = int(np.searchsorted(self._calendar.opens[sessions], instant, side="right")) - 1
        if before >= 0:
            return int(self._starts[self._slot_of_row[sessions.start + before]])
        day = from_instant(instant).astimezone(zone_of(self._zone)).date()
        return int(self._dates.floor(np.array([(day - EPOCH.date()).days * DAY]))[0])

    def _slot(self, groups: IntArray, starts: IntArray) -> IntArray:
        """The slot of each start; -1 where the schedule has no session of it any more."""
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
        """Values of a column of slots, and others where there is no slot."""
        slot = self._slot(groups, starts)
        found = missing.copy()
        found[slot >= 0] = column[slot[slot >= 0]]
        return found

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
