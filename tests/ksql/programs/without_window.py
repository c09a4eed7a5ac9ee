"""Cases: queries without a window over time."""

from __future__ import annotations

from typing import Any

from kandle import functions as f
from kandle.query.stages import Query
from tests.ksql.programs.cases import case
from tests.ksql.programs.entities import (
    ByBuyer,
    Copy,
    Instrument,
    LargeTrade,
    LotsByName,
    Total,
    Trade,
)


@case(Trade, LargeTrade)
def a_row_for_each_event(q: Query) -> Any:
    """Rows with the key and the time of their events"""
    return (
        q.from_(Trade)
        .where(lambda t: t.size > 100)
        .select(lambda t: LargeTrade(symbol=t.symbol, time=t.time, value=t.price * t.size))
    )


@case(Trade, Copy)
def rows_without_a_key(q: Query) -> Any:
    """The key of the events becomes an ordinary field"""
    return q.from_(Trade).select(lambda t: Copy(symbol=t.symbol, double=t.size * 2))


@case(Trade, ByBuyer)
def rows_with_another_key(q: Query) -> Any:
    """Rows with a key of two other fields"""
    return q.from_(Trade).select(
        lambda t: ByBuyer(buyer=f.coalesce(t.buyer, "nobody"), symbol=t.symbol, time=f.coalesce(t.seen, t.time), price=t.price)
    )


@case(Trade, Total)
def totals_for_ever(q: Query) -> Any:
    """One row per key, with a condition"""
    return (
        q.from_(Trade)
        .where(lambda t: t.size > 0)
        .group_by(lambda t: t.symbol)
        .having(lambda t: f.count() > 1)
        .select(lambda t: Total(symbol=t.symbol, trades=f.count(), volume=f.sum(t.size), newest=f.last(t.price)))
    )


@case(Instrument, LotsByName)
def totals_of_a_table(q: Query) -> Any:
    """One row for each value of a computed key, from the rows of a table"""
    return (
        q.from_(Instrument)
        .group_by(lambda i: f.upper(f.coalesce(i.name, "")))
        .select(lambda i: LotsByName(name=f.upper(f.coalesce(i.name, "")), instruments=f.count(), lots=f.sum(i.lot)))
    )
