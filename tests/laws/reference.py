"""Bars the slow and obvious way: plain Python over lists of events, written without a look at the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

Key = tuple[Any, ...]
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class Event:
    at: datetime
    key: Key
    price: Decimal | None
    size: int


@dataclass(frozen=True)
class Session:
    key: Key
    open: datetime
    close: datetime


def bucket(timeframe: str, at: datetime, zone: str = "UTC") -> Span:
    """The bucket `[start, end)` that holds an instant."""
    if timeframe[-1] in "smh":
        seconds = int(timeframe[:-1]) * {"s": 1, "m": 60, "h": 3600}[timeframe[-1]]
        start = datetime.fromtimestamp(int(at.timestamp()) // seconds * seconds, UTC)
        return start, start + timedelta(seconds=seconds)
    local = at.astimezone(ZoneInfo(zone)).date()
    if timeframe == "1d":
        first, after = local, local + timedelta(days=1)
    elif timeframe == "1wk":
        first = local - timedelta(days=local.weekday())
        after = first + timedelta(days=7)
    else:
        first = local.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return _midnight(first, zone), _midnight(after, zone)


def _midnight(day: Any, zone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def inside(event: Event, sessions: Sequence[Session] | None) -> bool:
    if sessions is None:
        return True
    return any(found.key == event.key and found.open <= event.at < found.close for found in sessions)


def buckets_of(timeframe: str, key: Key, first: datetime, last: datetime, sessions: Any, zone: str) -> list[Span]:
    """All buckets that the key's schedule expects, from the one of its first event to the last that has begun."""
    found, span = [], bucket(timeframe, first, zone)
    while span[0] <= last:
        # A session that has not opened by then makes nothing to be expected, also where its bucket has begun.
        if sessions is None or any(
            each.key == key and each.open < span[1] and each.open <= last and each.close > span[0] for each in sessions
        ):
            found.append(span)
        span = bucket(timeframe, span[1], zone)
    return found


def bars(
    events: Sequence[Event],
    timeframe: str,
    *,
    sessions: Sequence[Session] | None = None,
    zone: str = "UTC",
    fill: bool = True,
) -> list[tuple[Any, ...]]:
    """(key, start, first, highest, lowest, last, total, count) for every bucket, made from the events themselves.

    Events stand in the order in which they came; equal times keep it.
    """
    taken = [event for event in events if inside(event, sessions)]
    if not taken:
        return []
    newest = max(event.at for event in events)
    rows: list[tuple[Any, ...]] = []
    for key in sorted({event.key for event in taken}):
        own = sorted((event for event in taken if event.key == key), key=lambda event: event.at)
        rows += _bars_of_key(own, buckets_of(timeframe, key, own[0].at, newest, sessions, zone), fill)
    return sorted(rows, key=lambda row: (row[1], row[0]))


def _bars_of_key(own: list[Event], spans: list[Span], fill: bool) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    carried: Decimal | None = None
    for start, end in spans:
        held = [event for event in own if start <= event.at < end]
        prices = [event.price for event in held if event.price is not None]
        if held:
            carried = prices[-1] if prices else carried
            summary = (prices[0], max(prices), min(prices), prices[-1]) if prices else (None,) * 4
            rows.append((own[0].key, start, *summary, sum(event.size for event in held), len(held)))
        elif fill:
            rows.append((own[0].key, start, *(carried,) * 4, 0, 0))
    return rows


def shuffled_within(events: Sequence[Event], delays: Callable[[int], timedelta]) -> list[Event]:
    """The events in the order of arrival, event number i delayed by `delays(i)`."""
    arrivals = sorted((event.at + delays(number), number) for number, event in enumerate(events))
    return [events[number] for _, number in arrivals]
