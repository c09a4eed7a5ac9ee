"""Entities of these tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import kandle
from kandle import Key, Precision, Timestamp


@kandle.stream("rec_ticks")
@dataclass(frozen=True, slots=True)
class Tick:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    time: Annotated[datetime, Timestamp()]
    bid: Annotated[Decimal, Precision(18, 6)]
    size: int


@kandle.stream("rec_bars")
@dataclass(frozen=True, slots=True)
class Bar:
    broker: Annotated[str, Key(0)]
    symbol: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    open: Annotated[Decimal, Precision(18, 6)]
    high: Annotated[Decimal, Precision(18, 6)]
    low: Annotated[Decimal, Precision(18, 6)]
    close: Annotated[Decimal, Precision(18, 6)]
    volume: int


@kandle.stream("everything")
@dataclass(frozen=True, slots=True)
class Everything:
    id: Annotated[UUID, Key(0)]
    at: Annotated[datetime, Timestamp()]
    day: date
    amount: Annotated[Decimal, Precision(38, 10)]
    count: int
    ratio: float
    is_good: bool
    raw: bytes
    labels: dict[str, str]
    note: str | None = None
