"""Ticks, market hours and bars of the runtime's tests, and contexts that make the bars in any timeframes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.query.stages import Query

Price = Annotated[Decimal | None, Precision(18, 6)]


@kandle.stream("ticks")
@dataclass(frozen=True, slots=True)
class Tick:
    time: Annotated[datetime, Timestamp()]
    symbol: Annotated[str, Key(0)]
    price: Price
    size: int = 1
    venue: str = "x"


@kandle.table("hours")
@dataclass(frozen=True, slots=True)
class Hours:
    symbol: Annotated[str, Key(0)]
    day: Annotated[date, Key(1)]
    opens: datetime
    closes: datetime


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int
    ticks: int


@kandle.stream("venue_bars")
@dataclass(frozen=True, slots=True)
class VenueBar:
    """Bars of another key than that of the ticks."""

    venue: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int
    ticks: int


def bar_of(bar: type, key: str) -> Callable[[Any, Any], Any]:
    return lambda t, w: bar(
        start=w.start,
        open=f.first(t.price),
        high=f.max(t.price),
        low=f.min(t.price),
        close=f.last(t.price),
        volume=f.sum(t.size),
        ticks=f.count(),
        **{key: getattr(t, key)},
    )


@dataclass(frozen=True)
class Declared:
    """How the ticks become bars: `windows` are arguments of `tumbling`, or of `hopping` if there is a size among them."""

    windows: dict[str, Any]
    bar: type = Bar
    key: str = "symbol"
    scheduled: bool = False
    by_day: bool = False
    partitions: int = 1
    """One leaves it to the ticks."""

    def query(self, q: Query) -> Any:
        source: Any = q.from_(Tick)
        if self.scheduled:
            days = {"day": lambda h: h.day} if self.by_day else {}
            source = source.based_on(Hours, open=lambda h: h.opens, close=lambda h: h.closes, **days)
        make = source.hopping if "size" in self.windows else source.tumbling
        windowed = make(lambda t: t.time, **self.windows)
        return windowed.group_by(lambda t: getattr(t, self.key)).select(bar_of(self.bar, self.key))


def market(declared: Declared, *others: Declared) -> type[Context]:
    """A context with the bars of one or of several declarations."""
    every = (declared, *others)

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        for each in every:
            model.entity(each.bar).to_query(each.query).partitions(each.partitions)

    sets: dict[str, Any] = {"ticks": EventSet[Tick], "hours": TableSet[Hours]}
    sets |= {each.bar.__name__.lower() + "s": EventSet[each.bar] for each in every}  # type: ignore[name-defined]
    return type("Market", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def bars_market(*, scheduled: bool = False, by_day: bool = False, partitions: int = 1, **windows: Any) -> type[Context]:
    """A context with bars by symbol."""
    return market(Declared(windows, scheduled=scheduled, by_day=by_day, partitions=partitions))
