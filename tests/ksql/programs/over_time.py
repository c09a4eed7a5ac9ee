"""Cases: windows, grace, gaps, sessions, conditions."""

from __future__ import annotations

from typing import Any

from kandle import Gaps
from kandle import functions as f
from kandle.query.stages import Query
from tests.ksql.programs.cases import case
from tests.ksql.programs.entities import Bar, LotBar, Ping, PingBar, Session, Spans, Tick, Trade


def bar(t: Any, w: Any) -> Bar:
    return Bar(
        broker=t.broker,
        symbol=t.symbol,
        start=w.start,
        open=f.first(t.bid),
        high=f.max(t.bid),
        low=f.min(t.bid),
        close=f.last(t.bid),
        volume=f.sum(t.size),
    )


def lot(t: Any, w: Any) -> LotBar:
    return LotBar(symbol=t.symbol, start=w.start, lots=f.sum(t.size), high=f.max(t.price))


@case(Tick, Bar)
def bars(q: Query) -> Any:
    """Bars of two keys in two timeframes"""
    return (
        q.from_(Tick).tumbling(lambda t: t.time, minutes=(1, 5), grace="5s").group_by(lambda t: (t.broker, t.symbol)).select(bar)
    )


@case(Tick, Session, Bar)
def bars_in_sessions(q: Query) -> Any:
    """Events inside the sessions of their key, with a condition"""
    return (
        q.from_(Tick)
        .based_on(Session, open=lambda s: s.open_at, close=lambda s: s.close_at, day=lambda s: s.trading_date)
        .where(lambda t: t.bid > 0)
        .tumbling(lambda t: t.time, minutes=(1, 5), grace="2s")
        .group_by(lambda t: (t.broker, t.symbol))
        .select(bar)
    )


@case(
    Tick,
    Session,
    Bar,
    refused="query of Bar on ksqlDB: Bar: ksqlDB cannot make bars of 1d: its days are calendar days, not trading days; "
    'use role "live", in which kandle makes them',
)
def trading_days_weeks_months(q: Query) -> Any:
    """Days, weeks and months by trading day, which kandle makes"""
    return (
        q.from_(Tick)
        .based_on(Session, open=lambda s: s.open_at, close=lambda s: s.close_at, day=lambda s: s.trading_date)
        .tumbling(lambda t: t.time, minutes=1, hours=1, days=1, weeks=1, months=1)
        .group_by(lambda t: (t.broker, t.symbol))
        .select(bar)
    )


@case(Trade, LotBar, refused="ksqlDB cannot make bars of 1wk: its longest unit of time is the day")
def weeks(q: Query) -> Any:
    """Weeks and months in UTC"""
    return q.from_(Trade).tumbling(lambda t: t.time, hours=1, days=1, weeks=1, months=1).group_by(lambda t: t.symbol).select(lot)


@case(Trade, LotBar, refused="ksqlDB cannot make bars of 1d: its days are days in UTC, not in Europe/Berlin")
def days_of_a_zone(q: Query) -> Any:
    """Days in a time zone"""
    return q.from_(Trade).tumbling(lambda t: t.time, hours=1, days=1, tz="Europe/Berlin").group_by(lambda t: t.symbol).select(lot)


@case(Trade, LotBar)
def seconds_to_days(q: Query) -> Any:
    """Five timeframes, each from the coarsest that divides it"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, seconds=(1, 15), minutes=1, hours=1, days=1)
        .group_by(lambda t: t.symbol)
        .select(lot)
    )


@case(Trade, LotBar)
def days_only(q: Query) -> Any:
    """Days in UTC, made from events"""
    return q.from_(Trade).tumbling(lambda t: t.time, days=1).group_by(lambda t: t.symbol).select(lot)


@case(Trade, LotBar)
def several_days(q: Query) -> Any:
    """Windows longer than the default retention"""
    return q.from_(Trade).tumbling(lambda t: t.time, days=10).group_by(lambda t: t.symbol).select(lot)


@case(Trade, LotBar)
def grace_by_timeframe(q: Query) -> Any:
    """A grace for each timeframe, also in milliseconds"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=1, hours=1, grace={"1m": "1500ms", "1h": "1m"})
        .group_by(lambda t: t.symbol)
        .select(lot)
    )


@case(Trade, LotBar)
def hopping(q: Query) -> Any:
    """Overlapping windows, which kandle makes from panes"""
    return q.from_(Trade).hopping(lambda t: t.time, size="5m", advance="1m", grace="2s").group_by(lambda t: t.symbol).select(lot)


@case(Trade, LotBar)
def gaps_skipped(q: Query) -> Any:
    """No bars for empty buckets"""
    return q.from_(Trade).tumbling(lambda t: t.time, minutes=(1, 5), gaps=Gaps.SKIP).group_by(lambda t: t.symbol).select(lot)


@case(Trade, Spans)
def bounds_of_buckets(q: Query) -> Any:
    """Start and end of the bucket, also in expressions, and a key that two fields hold"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 3))
        .group_by(lambda t: t.symbol)
        .select(
            lambda t, w: Spans(
                symbol=t.symbol,
                start=w.start,
                end=w.end,
                length=f.milliseconds_between(w.start, w.end),
                span=f.max(t.price) - f.min(t.price),
                same_symbol=t.symbol,
            )
        )
    )


@case(Trade, LotBar)
def having_of_one_timeframe(q: Query) -> Any:
    """A condition on bars"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=1, gaps=Gaps.SKIP)
        .group_by(lambda t: t.symbol)
        .having(lambda t, w: (f.count() > 1) & (f.max(t.price) > 2))
        .select(lot)
    )


@case(Trade, LotBar)
def having_of_several_timeframes(q: Query) -> Any:
    """A condition on bars that still count in the roll-up"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.symbol)
        .having(lambda t, w: f.sum(t.size) > 5)
        .select(lot)
    )


@case(Trade, LotBar)
def conditions(q: Query) -> Any:
    """Several conditions on events, also on fields that may be NULL"""
    return (
        q.from_(Trade)
        .where(lambda t: (t.price > 0) & f.not_(f.starts_with(t.symbol, "TEST")))
        .where(lambda t: f.is_null(t.buyer) | f.not_(t.buyer == "Ö'Hara & Söhne — 東京"))
        .where(lambda t: f.is_in(t.size, [1, 2, 3]) | t.active | (f.coalesce(t.seen, t.time) == t.time))
        .tumbling(lambda t: t.time, minutes=1)
        .group_by(lambda t: t.symbol)
        .select(lot)
    )


@case(
    Ping,
    PingBar,
    refused='role "all" distinguishes heartbeats from events by a field of Ping that is NULL in heartbeats only, but '
    'all fields that are not Optional are keys or times; add such a field, or use role "live"',
)
def events_without_values(q: Query) -> Any:
    """Events with nothing but keys and times"""
    return (
        q.from_(Ping)
        .tumbling(lambda p: p.time, minutes=1)
        .group_by(lambda p: p.host)
        .select(lambda p, w: PingBar(host=p.host, start=w.start, pings=f.count()))
    )
