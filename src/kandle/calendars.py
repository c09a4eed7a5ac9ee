"""Rows of a schedule with the sessions of real exchanges, from the package exchange-calendars (the extra `kandle[calendars]`)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, overload

from kandle.errors import OptionalImport, ScheduleError

R = TypeVar("R")
Key = tuple[Any, ...]
Hours = tuple[date, datetime, datetime]
"""Trading date, open, close."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session of one key; a day with a break has two.

    Args:
        key: Parts of the key.
        open: When it opens, in UTC.
        close: When it closes, in UTC; this instant is not part of the session.
        trading_date: The date to which it belongs.
    """

    key: Key
    open: datetime
    close: datetime
    trading_date: date


@overload
def sessions(exchange: str, keys: Iterable[Any], start: date | str, end: date | str) -> list[SessionRow]: ...
@overload
def sessions(
    exchange: str, keys: Iterable[Any], start: date | str, end: date | str, make: Callable[[Key, date, datetime, datetime], R]
) -> list[R]: ...
def sessions(
    exchange: str,
    keys: Iterable[Any],
    start: date | str,
    end: date | str,
    make: Callable[[Key, date, datetime, datetime], Any] | None = None,
) -> list[Any]:
    """Return the sessions of an exchange, for each key.

    Args:
        exchange: Name or alias of the exchange, such as `XNYS`.
        keys: The keys that are traded there; a key that is not a tuple stands for a tuple of one part.
        start: First trading date.
        end: The date after the last trading date.
        make: Makes the rows of your own schedule entity from key, trading date, open and close; `SessionRow` by default.

    Returns:
        A row for each key and session, in the order of the keys.

    Raises:
        ScheduleError: The exchange is unknown, or its calendar does not cover the dates.
        MissingExtraError: The package exchange-calendars is not installed.

    Example:
        `sessions("XNYS", ["ACME", "EMCA"], "2024-11-25", "2024-12-02")`
    """
    hours = _hours(exchange, _date(start), _date(end))
    tuples = [key if isinstance(key, tuple) else (key,) for key in keys]
    return [(make or _row)(key, *session) for key in tuples for session in hours]


def _row(key: Key, trading_date: date, opens: datetime, closes: datetime) -> SessionRow:
    return SessionRow(key, opens, closes, trading_date)


def _date(value: date | str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"{value!r} is not a date; write date(2024, 3, 8) or '2024-03-08'") from error


def _library() -> ModuleType:
    with OptionalImport("A schedule of an exchange", "calendars"):
        return import_module("exchange_calendars")


def _hours(exchange: str, start: date, end: date) -> list[Hours]:
    if end <= start:
        raise ScheduleError(f"no trading dates from {start} to before {end}; the end is exclusive, so it is after the start")
    # The library needs two different dates.
    last = max(end - timedelta(days=1), start + timedelta(days=1))
    hours: list[Hours] = []
    for label, *times in _schedule(exchange, start, last):
        if label.date() < end:
            hours += [(label.date(), *span) for span in _spans(*times)]
    return hours


def _schedule(exchange: str, first: date, last: date) -> Iterable[Any]:
    """Return tuples of trading date, open, start and end of the break, and close; without a break its times are missing."""
    library = _library()
    names = library.get_calendar_names(include_aliases=True)
    if exchange not in names:
        close = difflib.get_close_matches(str(exchange).upper(), names, 3, 0.5)
        hint = f"did you mean {', '.join(close)}? " if close else ""
        raise ScheduleError(f"{exchange!r} is not an exchange; {hint}Known are for example XNYS, XLON, XHKG, CMES, 24/7")
    try:
        calendar = library.get_calendar(exchange, start=first.isoformat(), end=last.isoformat())
    except library.errors.NoSessionsError:
        return ()
    except ValueError as error:
        raise ScheduleError(f"no schedule of {exchange} from {first} to {last}: {error}") from error
    rows: Iterable[Any] = calendar.schedule[["open", "break_start", "break_end", "close"]].itertuples(name=None)
    return rows


def _spans(opens: Any, break_start: Any, break_end: Any, closes: Any) -> list[tuple[datetime, datetime]]:
    """Return the session as one span, or two around its break."""
    # A missing time is the only one that differs from itself.
    edges = [opens, closes] if break_start != break_start else [opens, break_start, break_end, closes]
    times = [edge.to_pydatetime().astimezone(UTC) for edge in edges]
    return list(zip(times[::2], times[1::2], strict=True))
