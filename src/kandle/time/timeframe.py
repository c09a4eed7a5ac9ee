"""Timeframes, durations and instants as values and as texts.

Inside kandle an instant is a number of microseconds since 1970-01-01 in UTC, and a duration a number of microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import total_ordering

from kandle.errors import TimeframeError

MICROSECOND = 1
MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unit(Enum):
    """Units of timeframes, finest first; the value is the unit's text."""

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
    """The length of bars: a whole number of seconds, minutes, hours, days, weeks or months.

    60 seconds equal 1 minute. 24 hours do not equal 1 day, which may have 23 or 25 hours, and 7 days do not equal 1 week,
    which begins on Monday. `Period` makes timeframes by the name of their unit.

    Args:
        value: How many units, 1 or more; at most 100 years.
        unit: The unit.

    Raises:
        TimeframeError: The value is not a whole number from 1 on, or longer than 100 years.

    Example:
        `Timeframe.parse("5m") == Period.minutes(5) == Timeframe(300, Unit.SECOND)`
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
        """Return the timeframe that a text names.

        Args:
            text: A number and one of the units s, m, h, d, wk, mo, such as `5m`.

        Returns:
            The timeframe.

        Raises:
            TimeframeError: The text is no timeframe.
        """
        match = re.fullmatch(r"\s*(\d+)\s*([a-z]+)\s*", str(text))
        units = {unit.value: unit for unit in Unit}
        if match is None or match[2] not in units or int(match[1]) < 1:
            raise TimeframeError(
                f"{text!r} is not a timeframe; write a number and one of {', '.join(units)}, for example 1s, 5m, 1h, 1d, 1wk, 1mo"
            )
        return cls(int(match[1]), units[match[2]])

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
        """Length of each bucket in microseconds; TimeframeError for days, weeks and months."""
        if not self.is_fixed:
            raise TimeframeError(f"{self} has no fixed size: its buckets follow the calendar")
        return self.nominal

    @property
    def nominal(self) -> int:
        """Usual length in microseconds, for ordering and for rough sizes."""
        return self.value * NOMINAL[self.unit]


def as_timeframe(value: Timeframe | str) -> Timeframe:
    """Return a timeframe that may be given as text.

    Args:
        value: A timeframe, or its text such as `5m`.

    Returns:
        The timeframe.

    Raises:
        TimeframeError: The text is no timeframe.
    """
    return value if isinstance(value, Timeframe) else Timeframe.parse(value)


class Period:
    """Makes timeframes by the name of their unit.

    Example:
        `market.bars(Period.minutes(5))`
    """

    @staticmethod
    def seconds(value: int) -> Timeframe:
        """Return a timeframe of so many seconds.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.SECOND)

    @staticmethod
    def minutes(value: int) -> Timeframe:
        """Return a timeframe of so many minutes.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.MINUTE)

    @staticmethod
    def hours(value: int) -> Timeframe:
        """Return a timeframe of so many hours.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.HOUR)

    @staticmethod
    def days(value: int) -> Timeframe:
        """Return a timeframe of so many days.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.DAY)

    @staticmethod
    def weeks(value: int) -> Timeframe:
        """Return a timeframe of so many weeks.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.WEEK)

    @staticmethod
    def months(value: int) -> Timeframe:
        """Return a timeframe of so many months.

        Args:
            value: How many, 1 or more.

        Returns:
            The timeframe.
        """
        return Timeframe(value, Unit.MONTH)


DURATION_UNITS = {"us": MICROSECOND, "ms": MILLISECOND, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}


def parse_duration(value: str | timedelta) -> int:
    """Return the microseconds of a duration.

    Args:
        value: A timedelta, or a text of numbers with the units us, ms, s, m, h, d, such as `200ms` or `1m30s`. A day has 24
            hours.

    Returns:
        Microseconds.

    Raises:
        TimeframeError: The text is no duration, or the duration is negative.
    """
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
    """Return a duration as text, exactly and in the coarsest units, such as `1d12h`.

    Args:
        duration: Microseconds, 0 or more.

    Returns:
        The text, which `parse_duration` reads.
    """
    parts = []
    for name, unit in reversed(DURATION_UNITS.items()):
        count, duration = divmod(duration, unit)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts) or "0s"


def to_instant(moment: datetime) -> int:
    """Return the instant of a datetime.

    Args:
        moment: A datetime with a time zone.

    Returns:
        Microseconds since 1970-01-01 in UTC.

    Raises:
        TimeframeError: This is no datetime, or it has no time zone.
    """
    if not isinstance(moment, datetime):
        raise TimeframeError(
            f"{moment!r} is not a point in time; give a datetime with a time zone, or an ISO 8601 text such as 2024-03-08"
        )
    if moment.utcoffset() is None:
        raise TimeframeError(
            f"{moment!r} has no time zone; write datetime(..., tzinfo=timezone.utc) or .replace(tzinfo=ZoneInfo(...))"
        )
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_instant(instant: int) -> datetime:
    """Return the datetime of an instant.

    Args:
        instant: Microseconds since 1970-01-01 in UTC.

    Returns:
        The datetime, in UTC.

    Raises:
        TimeframeError: The instant is outside of the years 1 to 9999.
    """
    try:
        return EPOCH + timedelta(microseconds=instant)
    except OverflowError as error:
        side = "before" if instant < 0 else "after"
        raise TimeframeError(f"{duration_text(abs(instant))} {side} 1970 is outside of the years 1 to 9999") from error


def parse_instant(text: str) -> int:
    """Return the instant of an ISO 8601 text.

    Args:
        text: A date, which means its midnight in UTC, or a date with a time, in UTC unless the text names a zone.

    Returns:
        Microseconds since 1970-01-01 in UTC.

    Raises:
        TimeframeError: The text is not a point in time.
    """
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
