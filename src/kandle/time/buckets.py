"""Rounding of instants to the buckets of a timeframe; everything that rounds an instant does it here.

Buckets are half-open, `[start, end)`, and follow each other without holes. Seconds, minutes and hours are grids that are aligned
to the epoch. Days, weeks and months begin at local midnight of a time zone, where a day may have 23 or 25 hours:

    America/New_York, 1d        | Mar 9: 24 hours     | Mar 10: 23 hours   | Mar 11: 24 hours
                                05:00 UTC             05:00 UTC            04:00 UTC
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

import numpy as np

from kandle.errors import TimeframeError
from kandle.time.arrays import IntArray
from kandle.time.timeframe import DAY, Timeframe, Unit, from_instant, to_instant
from kandle.time.zones import zone_of

MONDAY = date(1970, 1, 5)
"""Weeks are counted from a Monday."""


class Buckets(Protocol):
    """The buckets of a timeframe; instants are microseconds since the epoch, in arrays of any length."""

    def floor(self, instants: IntArray) -> IntArray:
        """Return the start of the bucket that holds each instant."""

    def next(self, starts: IntArray) -> IntArray:
        """Return the end of the bucket that holds each instant, which is the start of the next one."""

    def ceil(self, instants: IntArray) -> IntArray:
        """Return the first bucket start that is not before each instant."""

    def range(self, start: int, end: int) -> IntArray:
        """Return the starts of all buckets that overlap `[start, end)`, ascending."""


class FixedBuckets:
    """Buckets of one size.

    Args:
        size: Length of each bucket in microseconds.
        offset: Microseconds between the epoch and the start of some bucket.
    """

    def __init__(self, size: int, offset: int = 0) -> None:
        self._size = size
        self._offset = offset

    def floor(self, instants: IntArray) -> IntArray:
        return instants - (instants - self._offset) % self._size

    def next(self, starts: IntArray) -> IntArray:
        return self.floor(starts) + self._size

    def ceil(self, instants: IntArray) -> IntArray:
        return self.floor(instants - 1) + self._size

    def range(self, start: int, end: int) -> IntArray:
        if end <= start:
            return np.empty(0, np.int64)
        return np.arange(start - (start - self._offset) % self._size, end, self._size, dtype=np.int64)


class CalendarBuckets:
    """Days, weeks (from Monday) or months of a time zone, from local midnight to local midnight.

    Args:
        timeframe: A number of days, weeks or months.
        zone: Name of the time zone.
    """

    def __init__(self, timeframe: Timeframe, zone: str) -> None:
        self._timeframe = timeframe
        self._zone = zone_of(zone)
        self._edges: IntArray = np.empty(0, np.int64)

    def floor(self, instants: IntArray) -> IntArray:
        edges = self._covering(instants)
        return edges[np.searchsorted(edges, instants, side="right") - 1]

    def next(self, starts: IntArray) -> IntArray:
        edges = self._covering(starts)
        return edges[np.searchsorted(edges, starts, side="right")]

    def ceil(self, instants: IntArray) -> IntArray:
        edges = self._covering(instants)
        return edges[np.searchsorted(edges, instants, side="left")]

    def range(self, start: int, end: int) -> IntArray:
        if end <= start:
            return np.empty(0, np.int64)
        edges = self._covering(np.array([start, end - 1]))
        first = np.searchsorted(edges, start, side="right") - 1
        return edges[first : np.searchsorted(edges, end, side="left")]

    def _covering(self, instants: IntArray) -> IntArray:
        """Return edges around all the instants, with at least one after the last."""
        if len(instants):
            low, high = int(instants.min()), int(instants.max())
            if not len(self._edges) or low < self._edges[0] or high >= self._edges[-1]:
                self._extend(low, high)
        return self._edges

    def _extend(self, low: int, high: int) -> None:
        """Compute edges from a year before the first instant to years after the last, and around those that are known."""
        if len(self._edges):
            low, high = min(low, int(self._edges[0])), max(high, int(self._edges[-1]))
        # An edge before the first and one after the last instant are needed, however long a bucket is.
        margin = 1 + self._timeframe.nominal // (365 * DAY)
        first_year = max(1, from_instant(low).year - margin)
        last_year = min(9999, from_instant(high).year + margin)
        starts = _first_dates(self._timeframe, date(first_year, 1, 1), date(last_year, 12, 31))
        edges = np.unique(np.array([_midnight(day, self._zone) for day in starts], dtype=np.int64))
        if not len(edges) or low < edges[0] or high >= edges[-1]:
            raise TimeframeError(f"some bucket of {self._timeframe} is not wholly within the years 1 to 9999")
        edges.flags.writeable = False
        self._edges = edges


def _first_dates(timeframe: Timeframe, first: date, last: date) -> list[date]:
    """Return the first local dates of the buckets between two dates."""
    if timeframe.unit is Unit.MONTH:
        months = range(first.year * 12, last.year * 12 + 12)
        return [date(month // 12, month % 12 + 1, 1) for month in months if month % timeframe.value == 0]
    days = timeframe.value * (7 if timeframe.unit is Unit.WEEK else 1)
    origin = (MONDAY if timeframe.unit is Unit.WEEK else date(1970, 1, 1)).toordinal()
    begin = first.toordinal() + (origin - first.toordinal()) % days
    return [date.fromordinal(ordinal) for ordinal in range(begin, last.toordinal() + 1, days)]


def _midnight(day: date, zone: ZoneInfo) -> int:
    """Return the first instant of a local date: where a change of clocks skips midnight, the change itself."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    before = midnight.utcoffset()
    after = midnight.replace(fold=1).utcoffset()
    assert before is not None and after is not None
    instant = to_instant(midnight.replace(tzinfo=UTC)) - before // timedelta(microseconds=1)
    if after > before:
        # Midnight does not exist: with the offset before the change it lies behind the change.
        return _first_instant_of(day, zone, instant)
    return instant


def local_midnights(days: IntArray, zone: str) -> IntArray:
    """Return the first instants of dates in a time zone.

    Args:
        days: Midnights of the dates in UTC, in microseconds since the epoch.
        zone: Name of the time zone.

    Returns:
        Microseconds since the epoch, one for each date.
    """
    distinct, positions = np.unique(days, return_inverse=True)
    midnights = [_midnight(from_instant(int(day)).date(), zone_of(zone)) for day in distinct]
    return np.array(midnights, dtype=np.int64)[positions]


def _first_instant_of(day: date, zone: ZoneInfo, guess: int) -> int:
    """Search for the first instant near `guess` at which the local date is `day`."""
    low, high = guess - DAY, guess + DAY // 2
    while high - low > 1:
        middle = (low + high) // 2
        if from_instant(middle).astimezone(zone).date() >= day:
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=256)
def buckets(timeframe: Timeframe, zone: str = "UTC") -> Buckets:
    """Return the buckets of a timeframe.

    Args:
        timeframe: The timeframe.
        zone: Name of the time zone in which days, weeks and months begin.

    Returns:
        The buckets, computed without a table where clocks do not change.
    """
    if timeframe.is_fixed:
        return FixedBuckets(timeframe.size)
    if zone == "UTC" and timeframe.unit is not Unit.MONTH:
        origin = MONDAY - date(1970, 1, 1) if timeframe.unit is Unit.WEEK else timedelta(0)
        return FixedBuckets(timeframe.nominal, origin // timedelta(microseconds=1))
    return CalendarBuckets(timeframe, zone)
