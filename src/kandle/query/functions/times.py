"""Functions of dates and instants."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from typing import cast as typed

from kandle.query.functions.recorded import check_constants, record_call
from kandle.time.zones import zone_of


def year(x: datetime, zone: str | None = None) -> int:
    """Return the year of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The year, such as 2024.

    Example:
        `f.year(t.time, "America/New_York")`
    """
    return typed(int, _time_part("year", x, zone))


def month(x: datetime, zone: str | None = None) -> int:
    """Return the month of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The month, from 1 to 12.
    """
    return typed(int, _time_part("month", x, zone))


def day(x: datetime, zone: str | None = None) -> int:
    """Return the day of the month of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The day, from 1 to 31.
    """
    return typed(int, _time_part("day", x, zone))


def hour(x: datetime, zone: str | None = None) -> int:
    """Return the hour of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The hour, from 0 to 23.

    Example:
        `.where(lambda t: f.hour(t.time, "Europe/Berlin") < 12)`
    """
    return typed(int, _time_part("hour", x, zone))


def minute(x: datetime, zone: str | None = None) -> int:
    """Return the minute of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The minute, from 0 to 59.
    """
    return typed(int, _time_part("minute", x, zone))


def second(x: datetime, zone: str | None = None) -> int:
    """Return the second of a datetime, without its fraction.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The second, from 0 to 59.
    """
    return typed(int, _time_part("second", x, zone))


def day_of_week(x: datetime, zone: str | None = None) -> int:
    """Return the day of the week of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The day, from 1 (Monday) to 7 (Sunday).
    """
    return typed(int, _time_part("day_of_week", x, zone))


def to_date(x: datetime, zone: str | None = None) -> date:
    """Return the date of a datetime.

    Args:
        x: A datetime.
        zone: Name of a time zone, a constant; UTC if it is left out.

    Returns:
        The date in that zone.
    """
    return typed(date, _time_part("to_date", x, zone))


def epoch_millis(x: datetime) -> int:
    """Convert a datetime to milliseconds since the epoch (1970-01-01T00:00:00Z).

    Args:
        x: A datetime.

    Returns:
        The milliseconds, rounded down.
    """
    return typed(int, record_call("epoch_millis", x))


def from_epoch_millis(x: int) -> datetime:
    """Convert milliseconds since the epoch (1970-01-01T00:00:00Z) to a datetime.

    Args:
        x: The milliseconds.

    Returns:
        The datetime in UTC.
    """
    return typed(datetime, record_call("from_epoch_millis", x))


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return the time between two datetimes in milliseconds.

    Args:
        start: The earlier datetime.
        end: The later datetime.

    Returns:
        The milliseconds from start to end, rounded down; negative if `end` is earlier.

    Example:
        `f.milliseconds_between(t.sent, t.received)`
    """
    return typed(int, record_call("milliseconds_between", start, end))


def add_milliseconds(x: datetime, milliseconds: int) -> datetime:
    """Add milliseconds to a datetime.

    Args:
        x: A datetime.
        milliseconds: The number to add; negative for an earlier time.

    Returns:
        The datetime in UTC.
    """
    return typed(datetime, record_call("add_milliseconds", x, milliseconds))


def format_timestamp(x: datetime, pattern: str) -> str:
    """Format a datetime in UTC as text.

    Args:
        x: A datetime.
        pattern: A strftime pattern, a constant.

    Returns:
        The text.

    Example:
        `f.format_timestamp(t.time, "%Y-%m-%d")`
    """
    check_constants("format_timestamp", pattern=pattern)
    return typed(str, record_call("format_timestamp", x, pattern))


def _time_part(function: str, x: datetime, zone: str | None) -> Any:
    check_constants(function, zone=zone)
    return record_call(function, x) if zone is None else record_call(function, x, zone_of(zone).key)
