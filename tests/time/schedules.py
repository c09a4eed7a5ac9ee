"""Sessions written as texts, and the slow, obvious answers that the fast ones are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kandle.time.arrays import IntArray
from kandle.time.sessions import SessionCalendar, SessionRows
from kandle.time.timeframe import MINUTE, SECOND, Timeframe, parse_instant

Row = tuple[Any, int, int, int | None]
"""Key, open, close, trading day."""


def at(*texts: str) -> IntArray:
    return np.array([parse_instant(text) for text in texts], dtype=np.int64)


def tf(text: str) -> Timeframe:
    return Timeframe.parse(text)


def epoch_day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def row(opens: str, closes: str, day: str | None = None, key: str = "a") -> Row:
    return (key,), parse_instant(opens), parse_instant(closes), None if day is None else epoch_day(day)


def calendar_of(rows: Sequence[Row], *, is_whole: bool = False) -> SessionCalendar:
    keys = list(dict.fromkeys(key for key, *_ in rows))
    days = None if any(day is None for *_, day in rows) else np.array([day for *_, day in rows], dtype=np.int64)
    columns = np.array([(keys.index(key), opens, closes) for key, opens, closes, _ in rows], dtype=np.int64).reshape(-1, 3)
    return SessionCalendar(SessionRows(keys, columns[:, 0], columns[:, 1], columns[:, 2], days), is_whole=is_whole)


@st.composite
def schedules(draw: st.DrawFn, keys: int = 3, most: int = 6, hours: int = 30) -> list[Row]:
    """Sessions of several keys: some touch, some share a minute, some keys have the very same ones, some none."""
    tables = []
    for _ in range(keys):
        edges = draw(st.lists(st.integers(0, hours * 120), unique=True, max_size=2 * most).map(sorted))
        spans = [(edge * 30 * SECOND, after * 30 * SECOND) for edge, after in zip(edges[::2], edges[1::2], strict=False)]
        if draw(st.booleans()):
            spans = [(opens, closes) for opens, closes in spans if closes - opens < 5 * 60 * MINUTE]
        tables.append(spans)
    chosen = [draw(st.integers(0, keys - 1)) for _ in range(keys)]
    return [((number,), opens, closes, None) for number in range(keys) for opens, closes in tables[chosen[number]]]
