"""Functions of dates, times and timestamps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tests.ksqldb.simulator.cursor import MILLISECONDS
from tests.ksqldb.simulator.errors import RowFailedError, UnreadError
from tests.ksqldb.simulator.patterns import formatted, parsed, pieces, zone
from tests.ksqldb.simulator.values import milliseconds_of, timestamp_at

EPOCH_DAY = date(1970, 1, 1)


def _format_timestamp(moment: datetime, pattern: str, name: str = "UTC") -> str:
    return formatted(moment.astimezone(zone(name)), pattern)


def _parse_timestamp(text: str, pattern: str, name: str = "UTC") -> datetime:
    """Local time in the zone, or at the text's own offset; one that a clock change skips is taken with the offset before it."""
    moment = parsed(text, pattern)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone(name))).astimezone(UTC)


def _format_date(day: date, pattern: str) -> str:
    if any(letter in "aHhKkmsSVzXxZ" for letter, _, _ in pieces(pattern) if letter):
        raise RowFailedError(f"Failed to format date {day}: {pattern!r} asks for a time")
    return formatted(_day(day), pattern)


def _convert(moment: datetime, source: str, target: str) -> datetime:
    """The same clock time shown in another zone, as a timestamp again."""
    local = moment.replace(tzinfo=zone(source)).astimezone(zone(target))
    return local.replace(tzinfo=UTC)


def _shifted(unit: str, count: int, moment: datetime, direction: int) -> datetime:
    return timestamp_at(milliseconds_of(moment) + direction * count * MILLISECONDS[unit])


def _shifted_day(unit: str, count: int, day: date, direction: int) -> date:
    if MILLISECONDS[unit] < MILLISECONDS["DAYS"]:
        raise RowFailedError(f"DATEADD with {unit}")
    return day + timedelta(days=direction * count)


def _shifted_time(unit: str, count: int, moment: time, direction: int) -> time:
    shift = timedelta(milliseconds=direction * count * MILLISECONDS[unit])
    return (datetime.combine(EPOCH_DAY + timedelta(days=1), moment) + shift % timedelta(days=1)).time()


def _day(moment: date) -> datetime:
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


def _days(day: date) -> int:
    return (day - EPOCH_DAY).days


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "CONVERT_TZ": _convert,
    "DATEADD": lambda unit, count, day: _shifted_day(unit, count, day, 1),
    "DATESUB": lambda unit, count, day: _shifted_day(unit, count, day, -1),
    "DATETOSTRING": lambda days, pattern: formatted(_day(EPOCH_DAY + timedelta(days=days)), pattern),
    "FORMAT_DATE": _format_date,
    "FORMAT_TIME": lambda moment, pattern: formatted(datetime.combine(EPOCH_DAY, moment), pattern),
    "FORMAT_TIMESTAMP": _format_timestamp,
    "FROM_DAYS": lambda days: EPOCH_DAY + timedelta(days=days),
    "FROM_UNIXTIME": timestamp_at,
    "PARSE_DATE": lambda text, pattern: parsed(text, pattern).date(),
    "PARSE_TIME": lambda text, pattern: parsed(text, pattern).time(),
    "PARSE_TIMESTAMP": _parse_timestamp,
    "STRINGTODATE": lambda text, pattern: _days(parsed(text, pattern).date()),
    "STRINGTOTIMESTAMP": lambda *arguments: milliseconds_of(_parse_timestamp(*arguments)),
    "TIMEADD": lambda unit, count, moment: _shifted_time(unit, count, moment, 1),
    "TIMESTAMPADD": lambda unit, count, moment: _shifted(unit, count, moment, 1),
    "TIMESTAMPSUB": lambda unit, count, moment: _shifted(unit, count, moment, -1),
    "TIMESTAMPTOSTRING": lambda milliseconds, *rest: _format_timestamp(timestamp_at(milliseconds), *rest),
    "TIMESUB": lambda unit, count, moment: _shifted_time(unit, count, moment, -1),
    "UNIX_DATE": lambda *day: _days(*day) if day else _now(),
    "UNIX_TIMESTAMP": lambda *moment: milliseconds_of(*moment) if moment else _now(),
}


def _now() -> Any:
    raise UnreadError("the time of the server is not known here")
