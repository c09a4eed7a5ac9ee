"""What the long runs work on: numbered ticks of named things, and bars of a second and more that follow each other quickly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated

import kandle
from kandle import Context, EventSet, Key, MaxLength, Precision, Timestamp
from kandle import functions as f
from kandle.time.timeframe import MILLISECOND

Price = Annotated[Decimal, Precision(18, 6)]
PARTITIONS = 4
LONGEST_NAME = 16
"""Characters of the name of a bar; a tick with a longer one is poison, whose bars do not fit."""
GRACE = 500 * MILLISECOND


@kandle.stream("ticks", partitions=PARTITIONS)
@dataclass(frozen=True, slots=True)
class Tick:
    """`number` is given once only, so that each tick can be told from every other."""

    time: Annotated[datetime, Timestamp()]
    name: Annotated[str, Key(0)]
    price: Price
    number: int


@kandle.stream("bars")
@dataclass(frozen=True, slots=True)
class Bar:
    name: Annotated[str, Key(0), MaxLength(LONGEST_NAME)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    first: Price
    highest: Price
    lowest: Price
    last: Price
    total: int
    ticks: int


def bars(model: kandle.ModelBuilder, seconds: tuple[int, ...], minutes: tuple[int, ...]) -> None:
    """Have bars of these timeframes made."""
    model.entity(Bar).to_query(
        lambda q: (
            q.from_(Tick)
            .tumbling(lambda t: t.time, seconds=seconds, minutes=minutes, grace="500ms")
            .group_by(lambda t: t.name)
            .select(
                lambda t, w: Bar(
                    name=t.name,
                    start=w.start,
                    first=f.first(t.price),
                    highest=f.max(t.price),
                    lowest=f.min(t.price),
                    last=f.last(t.price),
                    total=f.sum(t.number),
                    ticks=f.count(),
                )
            )
        )
    )


class Short(Context):
    """Timeframes so short that several levels of them close within seconds."""

    ticks: EventSet[Tick]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        bars(model, (1, 5, 15), ())


class Twin(Context):
    """The same declaration under another name: a second service that shares the work."""

    ticks: EventSet[Tick]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        bars(model, (1, 5, 15), ())


class Long(Context):
    """The timeframes of the endurance run."""

    ticks: EventSet[Tick]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        bars(model, (1, 5), (1,))


class Minutes(Context):
    """The timeframes of those who come back after days."""

    ticks: EventSet[Tick]
    bars: EventSet[Bar]

    def on_model_creating(self, model: kandle.ModelBuilder) -> None:
        bars(model, (), (1, 5))


CONTEXTS: dict[str, type[Context]] = {"Short": Short, "Twin": Twin, "Long": Long, "Minutes": Minutes}
