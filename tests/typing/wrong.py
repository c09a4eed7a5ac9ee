"""Queries that are wrong, each in a line that both type checkers must report, and no other."""

from __future__ import annotations

from kandle import functions as f
from kandle.query.stages import Query
from tests.typing.good import Bar, Instrument, Quote, Tick


def wrong(q: Query) -> None:
    source = q.from_(Tick)
    windowed = source.tumbling(lambda t: t.time, minutes=1)
    grouped = windowed.group_by(lambda t: t.name)

    joined = source.join(Instrument, on=lambda t, i: t.name == i.code)
    both = joined.tumbling(lambda t, i: t.time, minutes=1).group_by(lambda t, i: (t.name, i.lot))

    source.where(lambda t: t.prize > 0)  # wrong
    source.where(lambda t: t.price + 1)  # wrong
    source.having(lambda t, w: f.count() > 1)  # wrong
    source.tumbling(lambda t: t.price, minutes=1)  # wrong
    source.tumbling(lambda t: t.time, fortnights=1)  # wrong
    windowed.where(lambda t: t.price > 0)  # wrong
    windowed.order_by(lambda b: b.high)  # wrong
    grouped.group_by(lambda t: t.name)  # wrong
    grouped.limit(3)  # wrong
    grouped.select(
        lambda t, w: Bar(
            name=t.name,
            start=w.begin,  # wrong
            high=f.first(t.size),  # wrong
            average=f.avg(t.price),
            total=f.max(t.name),  # wrong
            label=f.last(t.note),  # wrong
        )
    )
    source.join(Instrument, on=lambda t, i: t.code == i.code)  # wrong
    source.join(Instrument, on=lambda t, i: t.name == i.code, how="right")  # wrong
    source.join(Quote, on=lambda t, o: t.name == o.name, within=5)  # wrong
    joined.where(lambda t: t.price > 0)  # wrong
    joined.where(lambda t, i: i.price > 0)  # wrong
    joined.join(Quote, on=lambda t, o: t.name == o.name)  # wrong
    joined.tumbling(lambda t, i: i.lot, minutes=1)  # wrong
    both.having(lambda t, w: f.count() > 1)  # wrong
    both.select(lambda t, i, w: i.end)  # wrong
    f.upper(3)  # wrong
    f.weighted_average(0.5, "a")  # wrong
