"""What the benchmarks of log and runtime work on: ticks of some keys, and bars of one second to one hour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import polars as pl

import kandle
from kandle import BarSet, Context, EventSet, Key, Precision, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 6)]
GRACE = 2_000_000


@kandle.stream("ticks")
@dataclass(frozen=True, slots=True)
class Tick:
    time: Annotated[datetime, Timestamp()]
    venue: Annotated[str, Key(0)]
    name: Annotated[str, Key(1)]
    price: Price
    size: int


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    venue: Annotated[str, Key(0)]
    name: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    first: Price
    highest: Price
    lowest: Price
    last: Price
    total: int


def bars_of_ticks(query: Any, **timeframes: Any) -> Any:
    """Return the bars of these timeframes of the ticks that a query begins with."""
    return (
        query.from_(Tick)
        .tumbling(lambda t: t.time, **timeframes, grace="2s")
        .group_by(lambda t: (t.venue, t.name))
        .select(
            lambda t, w: Bar(
                venue=t.venue,
                name=t.name,
                start=w.start,
                first=f.first(t.price),
                highest=f.max(t.price),
                lowest=f.min(t.price),
                last=f.last(t.price),
                total=f.sum(t.size),
            )
        )
    )


class Market(Context):
    """Bars of one second to one hour."""

    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(lambda q: bars_of_ticks(q, seconds=1, minutes=(1, 5), hours=1))


class Minutes(Context):
    """Bars of one minute only, as the peers make them."""

    ticks: EventSet[Tick]
    bars: BarSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(lambda q: bars_of_ticks(q, minutes=1))


def ticks(instants: np.ndarray, keys: int, random: np.random.Generator) -> pl.DataFrame:
    """Return ticks at these instants (microseconds), as physical columns."""
    count = len(instants)
    return pl.DataFrame(
        {
            "time": pl.Series(instants).cast(pl.Datetime("us", "UTC")),
            "venue": pl.Series(random.integers(0, 2, count)).replace_strict({0: "north", 1: "south"}, return_dtype=pl.String),
            "name": pl.Series(random.integers(0, max(1, keys // 2), count)).cast(pl.String),
            "price": pl.Series(random.integers(1_000_000, 2_000_000, count)),
            "size": pl.Series(random.integers(1, 100, count)),
        }
    )
