"""Schedule rows from exchange-calendars (`pip install "kandle[calendars]"`): early closes, breaks and DST included."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar, overload

from kandle.errors import KandleError, ScheduleError
from kandle.time.timeframe import from_instant

R = TypeVar("R")
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session of one key: open in `[open, close)`, UTC, on a trading date. A day with a break has two."""

    key: Key
    open: datetime
    close: datetime
    trading_date: date


@overload
def sessions(exchange: str, keys: Sequence[Any], start: date | str, end: date | str) -> list[SessionRow]: ...
@overload
def sessions(
    exchange: str, keys: Sequence[Any], start: date | str, end: date | str, make: Callable[[Key, date, datetime, datetime], R]
) -> list[R]: ...
def sessions(
    exchange: str,
    keys: Sequence[Any],
    start: date | str,
    end: date | str,
    make: Callable[[Key, date, datetime, datetime], Any] | None = None,
) -> list[Any]:
    """Sessions of an exchange (such as `XNYS`) for each key, of the trading dates from `start` on and before `end`.

    `make(key, trading_date, open, close)` gives the rows of your own schedule entity. A key that is not a tuple stands for a
    tuple of one part.
    """
    first, last = _date(start), _date(end) - timedelta(days=1)
    if last < first:
        raise ScheduleError(f"no trading dates from {first} on and before {_date(end)}; `end` must be after `start`")
    spans = _spans(_calendar(exchange, first, last), first, last)
    named = [key if isinstance(key, tuple) else (key,) for key in keys]
    build = make if make is not None else lambda key, day, open_, close: SessionRow(key, open_, close, day)
    return [build(key, day, open_, close) for key in named for day, open_, close in spans]


def _date(value: date | str) -> date:
    if isinstance(value, datetime) or not isinstance(value, date | str):
        raise ScheduleError(f"{value!r} is not a date; write date(2024, 3, 8) or '2024-03-08'")
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ScheduleError(f"{value!r} is not a date; write date(2024, 3, 8) or '2024-03-08'") from error


def _calendar(exchange: str, first: date, last: date) -> Any:
    try:
        import exchange_calendars
    except ImportError as error:
        raise KandleError('market calendars are an extra: pip install "kandle[calendars]"') from error
    names = exchange_calendars.get_calendar_names()
    if exchange not in names:
        close = difflib.get_close_matches(str(exchange).upper(), names, 3, 0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise ScheduleError(f"{exchange!r} is no exchange; {hint}Known are for example XNYS, XLON, XHKG, CMES, 24/7")
    # The library counts from the first session that it is given, so a week on both sides makes room for holidays.
    margin = timedelta(days=7)
    return exchange_calendars.get_calendar(exchange, start=str(first - margin), end=str(last + margin))


def _spans(calendar: Any, first: date, last: date) -> list[tuple[date, datetime, datetime]]:
    """Trading date, open and close of every session, a day with a break as two."""
    found: list[tuple[date, datetime, datetime]] = []
    for row in calendar.schedule.itertuples():
        day = row.Index.date()
        if first <= day <= last:
            has_break = row.break_start == row.break_start  # NaT is not equal to itself.
            edges = [row.open, row.break_start, row.break_end, row.close] if has_break else [row.open, row.close]
            instants = [from_instant(edge.value // 1000) for edge in edges]
            found += [(day, instants[at], instants[at + 1]) for at in range(0, len(instants), 2)]
    return found
