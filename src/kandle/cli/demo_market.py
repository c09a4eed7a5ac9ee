"""The declaration of the demo: ticks of a few symbols, and bars of 1, 5 and 15 seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 2)]


@kandle.stream("ticks", partitions=2)
@dataclass(frozen=True, slots=True)
class Tick:
    """One trade."""

    symbol: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    size: int


@kandle.stream("bars", partitions=2)
@dataclass(frozen=True, slots=True)
class Bar:
    """What happened in one bucket."""

    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int
    ticks: int


class Market(Context):
    """The whole declaration: two entities and one query."""

    ticks: EventSet[Tick]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(
            lambda q: (
                q.from_(Tick)
                .where(lambda t: t.price > 0)
                .tumbling(lambda t: t.time, seconds=(1, 5, 15), grace="500ms")
                .group_by(lambda t: t.symbol)
                .select(
                    lambda t, w: Bar(
                        symbol=t.symbol,
                        start=w.start,
                        open=f.first(t.price),
                        high=f.max(t.price),
                        low=f.min(t.price),
                        close=f.last(t.price),
                        volume=f.sum(t.size),
                        ticks=f.count(),
                    )
                )
            )
        )
