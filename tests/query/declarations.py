"""Entities of the query tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import kandle
from kandle import Key, Precision, Timestamp
from kandle import functions as f
from kandle.model.entity import entity_model
from kandle.query.query import QueryModel
from kandle.query.stages import Query, build

Price = Annotated[Decimal, Precision(18, 6)]


@kandle.stream("ticks")
@dataclass(frozen=True)
class Tick:
    name: Annotated[str, Key(0)]
    time: Annotated[datetime, Timestamp()]
    price: Price
    size: int
    note: str | None = None
    seen: datetime | None = None
    ratio: float = 1.0
    day: date = date(2024, 1, 1)
    identity: UUID | None = None
    active: bool = True
    fine: Annotated[Decimal, Precision(38, 20)] = Decimal(0)


@kandle.table("sessions")
@dataclass(frozen=True)
class Session:
    name: Annotated[str, Key(0)]
    number: Annotated[int, Key(1)]
    opens: datetime
    closes: datetime
    trading_date: date
    perhaps: datetime | None = None


@kandle.stream("bars")
@dataclass(frozen=True)
class Bar:
    name: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    high: Price
    total: int


def tumbling(**options: Any) -> Any:
    """A query up to its window."""
    return Query().from_(Tick).tumbling(lambda t: t.time, **{"minutes": 1, **options})


def bar(t: Any, w: Any, **fields: Any) -> Any:
    """A valid bar with some fields in another way."""
    return f.new(Bar, **{"name": t.name, "start": w.start, "high": f.max(t.price), "total": f.sum(t.size), **fields})


def built(declare: Callable[[Query], Any], target: type = Bar) -> QueryModel:
    model: QueryModel = build(entity_model(target), declare)
    return model


def selecting(**fields: Callable[[Any, Any], Any]) -> QueryModel:
    """The model of a query whose bar has these fields."""
    return built(
        lambda q: (
            tumbling()
            .group_by(lambda t: t.name)
            .select(lambda t, w: bar(t, w, **{name: value(t, w) for name, value in fields.items()}))
        )
    )
