"""Queries that are right: mypy and pyright have nothing to say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Context, EventSet, Gaps, Key, Period, Precision, TableSet, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 6)]


@kandle.stream("ticks", partitions=4)
@dataclass(frozen=True, slots=True)
class Tick:
    name: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    size: int
    note: str | None = None


@kandle.table("sessions")
@dataclass(frozen=True, slots=True)
class Session:
    name: Annotated[str, Key(0)]
    day: Annotated[date, Key(1)]
    opens: datetime
    closes: datetime


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    name: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    high: Price
    average: Annotated[Decimal | None, Precision(18, 6)]
    total: int
    label: str


@kandle.table("instruments")
@dataclass(frozen=True, slots=True)
class Instrument:
    code: Annotated[str, Key(0)]
    lot: int


@kandle.stream("quotes")
@dataclass(frozen=True, slots=True)
class Quote:
    name: Annotated[str, Key(0)]
    at: Annotated[datetime, Timestamp()]
    bid: Price


@kandle.stream("pairs")
@dataclass(frozen=True, slots=True)
class Pair:
    name: str
    spread: Price


class Market(Context):
    ticks: EventSet[Tick]
    sessions: TableSet[Session]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .based_on(Session, open=lambda s: s.opens, close=lambda s: s.closes, day=lambda s: s.day)
                .where(lambda t: (t.price > 0) & f.not_(f.is_null(t.note)))
                .tumbling(lambda t: t.time, minutes=(1, 5), hours=1, days=1, grace="2s", gaps=Gaps.CARRY)
                .group_by(lambda t: t.name)
                .having(lambda t, w: f.count() > 1)
                .select(
                    lambda t, w: Bar(
                        name=t.name,
                        start=w.start,
                        high=f.max(t.price),
                        average=f.weighted_average(t.price, t.size),
                        total=f.sum(t.size),
                        label=f.case((f.sum(t.size) > 10, "many"), otherwise=f.coalesce(f.last(t.note), "few")),
                    )
                )
                .order_by(lambda b: f.descending(b.high))
                .limit(3)
            )
        )


class Joined(Context):
    ticks: EventSet[Tick]
    quotes: EventSet[Quote]
    instruments: TableSet[Instrument]
    bars: EventSet[Bar]
    pairs: EventSet[Pair]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .join(Instrument, on=lambda t, i: t.name == i.code, how="left")
                .based_on(Session, open=lambda s: s.opens, close=lambda s: s.closes)
                .where(lambda t, i: t.size >= f.coalesce(i.lot, 1))
                .tumbling(lambda t, i: t.time, minutes=1)
                .group_by(lambda t, i: t.name)
                .having(lambda t, i, w: f.max(i.lot) > 1)
                .select(
                    lambda t, i, w: Bar(
                        name=t.name,
                        start=w.start,
                        high=f.max(t.price),
                        average=f.weighted_average(t.price, t.size),
                        total=f.sum(t.size * f.coalesce(i.lot, 1)),
                        label=f.coalesce(f.last(t.note), "none"),
                    )
                )
            )
        )
        model.entity(Pair).to_query(
            lambda q: (
                q.from_(Tick)
                .join(Quote, on=lambda t, o: (t.name == o.name) & (t.price == o.bid), within="5s", grace="1s")
                .where(lambda t, o: t.price > o.bid)
                .select(lambda t, o: Pair(name=t.name, spread=f.cast(t.price - o.bid, Precision(18, 6))))
            )
        )


def use() -> None:
    with Market() as market:
        bars = market.set(Bar, Period.minutes(5))
        entity: str = bars.entity.name
        ticks: EventSet[Tick] = market.ticks
        print(entity, ticks, kandle.backfill(Market, Bar, ticks="ticks.parquet")["1m"].height)
