"""A market whose base bars ksqlDB aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import kandle
from kandle import Context, EventSet, Key, Precision, TableSet, Timestamp
from kandle import functions as f

Price = Annotated[Decimal, Precision(18, 4)]


@kandle.stream("ticks", partitions=2, key_format="JSON", value_format="JSON")
@dataclass(frozen=True, slots=True)
class Tick:
    venue: Annotated[str, Key(0)]
    code: Annotated[str, Key(1)]
    at: Annotated[datetime, Timestamp()]
    price: Price
    size: int


@kandle.table("hours", key_format="JSON", value_format="JSON")
@dataclass(frozen=True, slots=True)
class Hours:
    venue: Annotated[str, Key(0)]
    code: Annotated[str, Key(1)]
    day: Annotated[date, Key(2)]
    opens: datetime
    closes: datetime


@kandle.stream("bars", key_format="JSON", value_format="JSON")
@dataclass(frozen=True, slots=True)
class Bar:
    venue: Annotated[str, Key(0)]
    code: Annotated[str, Key(1)]
    start: Annotated[datetime, Timestamp(), Key(2)]
    first: Price
    high: Price
    last: Price
    mean: Annotated[Decimal, Precision(18, 6)]
    size: int
    ticks: int


def market(*, scheduled: bool = False, avro: bool = False, distinct: bool = False, least: int = 0) -> type[Context]:
    """A context on topics of its own; each call makes another one."""
    name = f"m{uuid4().hex[:8]}"
    form: dict[str, Any] = (
        {"key_format": "AVRO", "value_format": "AVRO"} if avro else {"key_format": "JSON", "value_format": "JSON"}
    )

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        for entity in (Tick, Hours, Bar):
            model.entity(entity).topic(f"{name}_{entity.__name__.lower()}")

        def declare(q: Any) -> Any:
            source = q.from_(Tick)
            if scheduled:
                source = source.based_on(Hours, open=lambda h: h.opens, close=lambda h: h.closes)
            return (
                source.where(lambda t: t.size > least)
                .tumbling(lambda t: t.at, seconds=(1, 5), grace="200ms")
                .group_by(lambda t: (t.venue, t.code))
                .select(
                    lambda t, w: Bar(
                        venue=t.venue,
                        code=t.code,
                        start=w.start,
                        first=f.first(t.price),
                        high=f.max(t.price),
                        last=f.last(t.price),
                        mean=f.avg(t.price),
                        size=f.sum(t.size),
                        ticks=f.count_distinct(t.price) if distinct else f.count(),
                    )
                )
            )

        model.entity(Bar).to_query(declare)

    sets = {"ticks": EventSet[Tick], "hours": TableSet[Hours], "bars": EventSet[Bar]}
    topics = {f"{name}_{entity.__name__.lower()}": form for entity in (Tick, Hours, Bar)}
    made: Any = type("Market", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})
    made.topics_of_tests = topics
    return made  # type: ignore[no-any-return]


def ticks(begin: datetime, seconds: int, each: int = 12) -> list[Tick]:
    """Ticks of three keys, a few out of order, with a silence of one of them."""
    found = []
    for number in range(seconds * each):
        moment = begin + timedelta(milliseconds=number * 1_000 // each // 10 * 10 + (7 * number) % 90)
        code = "ABC"[number % 3]
        if code != "C" or number % (4 * each) < each:
            found.append(Tick("x|%", code, moment, Decimal(100 + (17 * number) % 23) / 4, number % 5 + 1))
    return found
