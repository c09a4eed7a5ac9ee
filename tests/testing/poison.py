"""Readings of which some cannot be computed, and bars of which some do not fit; and what is to be expected of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import kandle
from kandle import Context, EventSet, Key, MaxLength, Precision, Timestamp
from kandle import functions as f
from kandle.log.port import Log
from kandle.time.timeframe import MINUTE, from_instant, to_instant
from tests.runtime.building import rows

BOUND = 2**63


@kandle.stream("readings")
@dataclass(frozen=True, slots=True)
class Reading:
    time: Annotated[datetime, Timestamp()]
    meter: Annotated[str, Key(0)]
    amount: Annotated[Decimal, Precision(6, 2)]
    count: int
    code: str = "1"


@kandle.stream("sums")
@dataclass(frozen=True, slots=True)
class Sum:
    meter: Annotated[str, Key(0), MaxLength(4)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    amount: Annotated[Decimal, Precision(6, 2)]
    count: int
    codes: int
    readings: int


@kandle.stream("by_code")
@dataclass(frozen=True, slots=True)
class ByCode:
    """Sums by a key that is computed: its events are copied by it first."""

    code: Annotated[int, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    readings: int


class Meters(Context):
    readings: EventSet[Reading]
    sums: EventSet[Sum]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Sum).to_query(
            lambda q: (
                q.from_(Reading)
                .where(lambda r: f.cast(r.code, int) < 50)
                .tumbling(lambda r: r.time, minutes=(1, 5))
                .group_by(lambda r: r.meter)
                .select(
                    lambda r, w: Sum(
                        meter=r.meter,
                        start=w.start,
                        amount=f.sum(r.amount),
                        count=f.sum(r.count),
                        codes=f.sum(f.cast(f.concat(r.code, "0"), int)),
                        readings=f.count(),
                    )
                )
            )
        )


class Codes(Context):
    readings: EventSet[Reading]
    by_code: EventSet[ByCode]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(ByCode).to_query(
            lambda q: (
                q.from_(Reading)
                .tumbling(lambda r: r.time, minutes=1)
                .group_by(lambda r: f.cast(r.code, int))
                .select(lambda r, w: ByCode(code=f.cast(r.code, int), start=w.start, readings=f.count()))
            )
        )


def is_poison(reading: Reading) -> bool:
    """Whether a reading cannot be computed: its code is no number, or is one no more with a digit behind it."""
    try:
        code = int(reading.code)
    except ValueError:
        return True
    return not -BOUND <= code < BOUND or (code < 50 and not -BOUND <= code * 10 < BOUND)


Expected = tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]


def expected_of(readings: Iterable[Reading], until: int) -> Expected:
    """Return finals as (timeframe, meter, start, amount, count, codes, readings), and letters as `bar_letters` does.

    Each meter has buckets from its first reading that counts up to `until`.
    """
    counting = [reading for reading in readings if not is_poison(reading) and int(reading.code) < 50]
    finals, letters = set(), set()
    for meter in {reading.meter for reading in counting}:
        own = [reading for reading in counting if reading.meter == meter]
        for name, length in (("1m", MINUTE), ("5m", 5 * MINUTE)):
            first = min(to_instant(reading.time) // length * length for reading in own)
            for start in range(first, until // length * length, length):
                inside = [reading for reading in own if start <= to_instant(reading.time) < start + length]
                amount = sum((r.amount for r in inside), Decimal(0))
                count = sum(r.count for r in inside)
                codes = sum(int(r.code) * 10 for r in inside)
                wrong = [
                    *(["count"] if not -BOUND <= count < BOUND else []),
                    *(["codes"] if not -BOUND <= codes < BOUND else []),
                    *(["amount"] if abs(amount) >= 10_000 else []),
                    *(["meter"] if len(meter) > 4 else []),
                ]
                begin = from_instant(start)
                if wrong:
                    letters.add((name, meter, begin, wrong[0]))
                else:
                    finals.add((name, meter, begin, amount, count, codes, len(inside)))
    return finals, letters


def bar_letters(log: Log, topic: str = "sums_dlq") -> list[tuple[Any, ...]]:
    """Return the bars among the dead letters as (timeframe, meter, start, field)."""
    return [
        (row["timeframe"], json.loads(row["key"])["meter"], row["start"], row["field"])
        for row in letters(log, topic)
        if row["kind"] == "bar"
    ]


def letters(log: Log, topic: str = "sums_dlq") -> list[dict[str, Any]]:
    """Return all dead letters of a topic; none if there is no such topic."""
    return rows(log, topic) if topic in {spec.name for spec in log.topics()} else []
