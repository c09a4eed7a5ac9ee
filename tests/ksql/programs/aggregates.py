"""Cases: every aggregate, and expressions of every kind."""

from __future__ import annotations

from typing import Any

from kandle import Gaps, Precision
from kandle import functions as f
from kandle.query.stages import Query
from tests.ksql.programs.cases import case
from tests.ksql.programs.entities import (
    Arrivals,
    Deviations,
    Ends,
    Everything,
    EverythingBar,
    Means,
    Sums,
    Texts,
    Trade,
)


def by_symbol(q: Query, **options: Any) -> Any:
    return q.from_(Trade).tumbling(lambda t: t.time, **{"minutes": (1, 5), **options}).group_by(lambda t: t.symbol)


@case(Trade, Sums)
def sums_and_counts(q: Query) -> Any:
    """Sums of ints, decimals and floats, counts of events and of values"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Sums(
                symbol=t.symbol,
                start=w.start,
                events=f.count(),
                buyers=f.count(t.buyer),
                volume=f.sum(t.size),
                turnover=f.sum(f.cast(t.price * t.size, Precision(30, 6))),
                weight=f.sum(t.ratio),
            )
        )
    )


@case(Trade, Means)
def averages(q: Query) -> Any:
    """Averages of decimals and ints, weighted and unweighted, rolled up by their sums"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Means(
                symbol=t.symbol,
                start=w.start,
                mean=f.avg(t.price),
                mean_size=f.avg(t.size),
                weighted=f.weighted_average(t.price, t.size),
            )
        )
    )


@case(Trade, Deviations)
def deviations(q: Query) -> Any:
    """Standard deviations of decimals and floats"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Deviations(
                symbol=t.symbol,
                start=w.start,
                sample=f.stddev(t.price),
                population=f.stddev_population(t.size),
                of_ratio=f.stddev(t.ratio),
            )
        )
    )


@case(Trade, Ends)
def ends_of_every_type(q: Query) -> Any:
    """First, last, min and max of texts, bools, dates and datetimes that may be NULL"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Ends(
                symbol=t.symbol,
                start=w.start,
                first_buyer=f.first(t.buyer),
                last_buyer=f.last(t.buyer),
                first_active=f.first(t.active),
                last_seen=f.last(t.seen),
                least_day=f.min(t.settles),
                greatest_symbol=f.max(t.symbol),
            )
        )
    )


@case(Trade, Arrivals)
def by_arrival(q: Query) -> Any:
    """First and last in the order of the log"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Arrivals(
                symbol=t.symbol, start=w.start, first=f.first_by_offset(t.price), last=f.last_by_offset(t.buyer)
            )
        )
    )


@case(Trade, Sums)
def distinct_values_of_one_timeframe(q: Query) -> Any:
    """Distinct values"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=1, gaps=Gaps.SKIP)
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Sums(
                symbol=t.symbol,
                start=w.start,
                events=f.count(),
                buyers=f.count_distinct(t.buyer),
                volume=f.sum(t.size),
                turnover=f.sum(t.price),
                weight=f.sum(t.ratio),
            )
        )
    )


@case(Trade, Texts)
def texts_and_conditions(q: Query) -> Any:
    """Texts, conditions and NULL over aggregates, data beyond ASCII"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5), gaps=Gaps.SKIP)
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Texts(
                symbol=t.symbol,
                start=w.start,
                label=f.concat(f.upper(t.symbol), " · ", f.coalesce(f.last(t.buyer), "niemand / 誰も")),
                kind=f.case((f.sum(t.size) > 100, "large"), (f.count() > 1, "it's several"), otherwise="small"),
                size=f.null_if(f.cast(f.sum(t.size), str), "0"),
            )
        )
    )


@case(Trade, Sums)
def expressions_inside_of_aggregates(q: Query) -> Any:
    """Aggregates of computed values"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Sums(
                symbol=t.symbol,
                start=w.start,
                events=f.sum(f.if_(t.active, 1, 0)),
                buyers=f.count(f.null_if(f.lower(f.coalesce(t.buyer, "")), "")),
                volume=f.sum(f.coalesce(f.null_if(t.size, 0), 7)),
                turnover=f.sum(f.round(t.price * 3, 2)),
                weight=f.sum(f.abs(t.ratio)),
            )
        )
    )


@case(Everything, EverythingBar)
def every_type(q: Query) -> Any:
    """Fields of every type, keys of three other types, JSON"""
    return (
        q.from_(Everything)
        .tumbling(lambda e: e.time, minutes=1)
        .group_by(lambda e: (e.key, e.number, e.on))
        .select(
            lambda e, w: EverythingBar(
                key=e.key,
                number=e.number,
                on=e.on,
                start=w.start,
                flag=f.last(e.flag),
                count=f.last(e.count),
                ratio=f.last(e.ratio),
                price=f.last(e.price),
                text=f.last(e.text),
                identity=f.last(e.identity),
                raw=f.last(e.raw),
                day=f.last(e.day),
                at=f.last(e.at),
                maybe_price=f.last(e.maybe_price),
                maybe_text=f.last(e.maybe_text),
            )
        )
    )
