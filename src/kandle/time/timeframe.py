"""Timeframes, durations and instants: values and their texts, in microseconds since the epoch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import total_ordering

import numpy as np
import numpy.typing as npt

from kandle.errors import TimeframeError

IntArray = npt.NDArray[np.int64]
"""Instants in microseconds since the epoch, or numbers of keys, groups and rows."""

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unit(Enum):
    """Units of timeframes, finest first; the value is how the unit is printed."""

    SECOND = "s"
    MINUTE = "m"
    HOUR = "h"
    DAY = "d"
    WEEK = "wk"
    MONTH = "mo"


NOMINAL = {
    Unit.SECOND: SECOND,
    Unit.MINUTE: MINUTE,
    Unit.HOUR: HOUR,
    Unit.DAY: DAY,
    Unit.WEEK: 7 * DAY,
    # A twelfth of the mean Gregorian year of 365.2425 days; only used to order timeframes.
    Unit.MONTH: 2_629_746 * SECOND,
}
RANKS = {unit: rank for rank, unit in enumerate(Unit)}
LONGEST = 1200 * NOMINAL[Unit.MONTH]
COARSER = {Unit.SECOND: (60, Unit.MINUTE), Unit.MINUTE: (60, Unit.HOUR)}


@total_ordering
@dataclass(frozen=True, slots=True)
class Timeframe:
    """A length of bars: a whole number of seconds, minutes, hours, days, weeks or months.

    60 seconds are 1 minute and equal to it; 24 hours are not 1 day, which can have 23 or 25, and 7 days not 1 week, which
    begins on Monday.
    """

    value: int
    unit: Unit

    def __post_init__(self) -> None:
        value, unit = self.value, self.unit
        if not isinstance(unit, Unit):
            raise TimeframeError(f"{unit!r} is not a unit of timeframes; write one of {', '.join(map(str, Unit))}")
        if type(value) is not int or value < 1:
            raise TimeframeError(f"a timeframe is a whole number of {unit.name.lower()}s, 1 or more, not {value!r}")
        if value * NOMINAL[unit] > LONGEST:
            raise TimeframeError(f"{value}{unit.value} is longer than 100 years, the longest timeframe")
        while unit in COARSER and value % COARSER[unit][0] == 0:
            factor, unit = COARSER[unit]
            value //= factor
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "unit", unit)

    @classmethod
    def parse(cls, text: str) -> Timeframe:
        """The timeframe that a text such as `5m` names."""
        found = re.fullmatch(r"\s*(\d+)\s*([a-z]+)\s*", str(text))
        units = {unit.value: unit for unit in Unit}
        if found is None or found[2] not in units or int(found[1]) < 1:
            raise TimeframeError(
                f"{text!r} is not a timeframe; write a number and one of {', '.join(units)}, for example 1s, 5m, 1h, 1d, 1wk, 1mo"
            )
        return cls(int(found[1]), units[found[2]])

    def __str__(self) -> str:
        return f"{self.value}{self.unit.value}"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Timeframe):
            return NotImplemented
        return (self.nominal, RANKS[self.unit]) < (other.nominal, RANKS[other.unit])

    @property
    def is_fixed(self) -> bool:
        """Whether all buckets have the same length."""
        return self.unit in (Unit.SECOND, Unit.MINUTE, Unit.HOUR)

    @property
    def size(self) -> int:
        """Length of every bucket in microseconds; TimeframeError for days, weeks and months."""
        if not self.is_fixed:
            raise TimeframeError(f"{self} has no fixed size: its buckets follow the calendar")
        return self.nominal

    @property
    def nominal(self) -> int:
        """Usual length in microseconds, for ordering and for rough sizes."""
        return self.value * NOMINAL[self.unit]


def as_timeframe(value: Timeframe | str) -> Timeframe:
    """The timeframe itself, or the one that the text names."""
    return value if isinstance(value, Timeframe) else Timeframe.parse(value)


class Period:
    """The reader's word for a timeframe: `Period.minutes(5)`."""

    @staticmethod
    def seconds(value: int) -> Timeframe:
        return Timeframe(value, Unit.SECOND)

    @staticmethod
    def minutes(value: int) -> Timeframe:
        return Timeframe(value, Unit.MINUTE)

    @staticmethod
    def hours(value: int) -> Timeframe:
        return Timeframe(value, Unit.HOUR)

    @staticmethod
    def days(value: int) -> Timeframe:
        return Timeframe(value, Unit.DAY)

    @staticmethod
    def weeks(value: int) -> Timeframe:
        return Timeframe(value, Unit.WEEK)

    @staticmethod
    def months(value: int) -> Timeframe:
        return Timeframe(value, Unit.MONTH)


DURATION_UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def parse_duration(value: str | timedelta) -> int:
    """Microseconds of a duration such as `2s`, `200ms`, `1m30s` or a timedelta; a day has 24 hours."""
    if isinstance(value, timedelta):
        duration = value // timedelta(microseconds=1)
    else:
        parts = re.findall(r"(\d+)(us|ms|s|m|h|d)", str(value))
        if not parts or "".join(number + unit for number, unit in parts) != str(value).replace(" ", ""):
            raise TimeframeError(
                f"{value!r} is not a duration; write numbers with {', '.join(DURATION_UNITS)}, "
                "for example 2s, 200ms, 1m30s, or give a timedelta"
            )
        duration = sum(int(number) * DURATION_UNITS[unit] for number, unit in parts)
    if duration < 0:
        raise TimeframeError(f"a duration cannot be negative: {value!r}")
    return duration


def duration_text(duration: int) -> str:
    """Microseconds in the coarsest units that say it exactly, such as `1d12h`."""
    parts = []
    for name, unit in reversed(DURATION_UNITS.items()):
        count, duration = divmod(duration, unit)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts) or "0s"


def to_instant(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    if moment.utcoffset() is None:
        raise TimeframeError(
            f"{moment!r} has no time zone; write datetime(..., tzinfo=timezone.utc) or .replace(tzinfo=ZoneInfo(...))"
        )
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_instant(instant: int) -> datetime:
    """The aware UTC datetime of microseconds since the epoch."""
    try:
        return EPOCH + timedelta(microseconds=instant)
    except OverflowError as error:
        raise TimeframeError(f"{instant} us since 1970 is outside of the years 1 to 9999") from error


def parse_instant(text: str) -> int:
    """Microseconds of an ISO 8601 text; a date is its midnight in UTC, and so is a time without a zone UTC."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = date.fromisoformat(text)
            return to_instant(datetime(day.year, day.month, day.day, tzinfo=UTC))
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise TimeframeError(
            f"{text!r} is not a point in time; write ISO 8601, for example 2024-03-08 or 2024-03-08T14:30:00Z"
        ) from error
    return to_instant(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))
