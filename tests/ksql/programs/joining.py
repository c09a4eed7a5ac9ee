"""Cases: joins."""

from __future__ import annotations

from typing import Any

from kandle import Precision
from kandle import functions as f
from kandle.query.stages import Query
from tests.ksql.programs.cases import case
from tests.ksql.programs.entities import (
    Bar,
    BrokerQuote,
    Enriched,
    Factor,
    Fund,
    FundWeight,
    Holiday,
    Instrument,
    InstrumentName,
    LotBar,
    Pair,
    Quote,
    Reading,
    SensorPeak,
    Session,
    Tick,
    Trade,
    Weighted,
)


@case(Trade, Instrument, LotBar)
def with_a_table(q: Query) -> Any:
    """The row of a table beside each event; both have a field `time`"""
    return (
        q.from_(Trade)
        .join(Instrument, on=lambda t, i: t.symbol == i.code)
        .where(lambda t, i: (t.size >= i.lot) & (i.time <= t.time))
        .tumbling(lambda t, i: t.time, minutes=(1, 5))
        .group_by(lambda t, i: t.symbol)
        .select(lambda t, i, w: LotBar(symbol=t.symbol, start=w.start, lots=f.sum(i.lot), high=f.max(t.price)))
    )


@case(Trade, Instrument, LotBar)
def with_a_table_left(q: Query) -> Any:
    """A left join keeps events without a row"""
    return (
        q.from_(Trade)
        .join(Instrument, on=lambda t, i: i.code == t.symbol, how="left")
        .tumbling(lambda t, i: t.time, minutes=1)
        .group_by(lambda t, i: t.symbol)
        .select(
            lambda t, i, w: LotBar(symbol=t.symbol, start=w.start, lots=f.sum(t.size * f.coalesce(i.lot, 1)), high=f.max(t.price))
        )
    )


@case(Trade, Instrument, Enriched)
def rows_of_a_join(q: Query) -> Any:
    """One row for each event, with fields of a table's row"""
    return (
        q.from_(Trade)
        .join(Instrument, on=lambda t, i: t.symbol == i.code, how="left")
        .select(lambda t, i: Enriched(symbol=t.symbol, time=t.time, name=i.name, lots=t.size // i.lot))
    )


@case(
    Trade,
    Quote,
    LotBar,
    refused="join of the streams Trade and Quote: a heartbeat has no partner in the join, so that nothing would close the bars",
)
def with_a_stream(q: Query) -> Any:
    """Events of two streams that are close in time; three fields have the same names"""
    return (
        q.from_(Trade)
        .join(Quote, on=lambda t, o: t.symbol == o.symbol, within="5s", grace="1m")
        .where(lambda t, o: t.price >= o.price)
        .tumbling(lambda t, o: o.time, minutes=(1, 5))
        .group_by(lambda t, o: o.symbol)
        .select(
            lambda t, o, w: LotBar(symbol=o.symbol, start=w.start, lots=f.sum(t.size), high=f.max(f.greatest(t.price, o.price)))
        )
    )


@case(Trade, Quote, Pair)
def rows_of_two_streams(q: Query) -> Any:
    """One row for each pair of events, joined by two equalities"""
    return (
        q.from_(Trade)
        .join(Quote, on=lambda t, o: (t.symbol == o.symbol) & (t.price == o.price), within="500ms")
        .select(lambda t, o: Pair(symbol=t.symbol, time=o.time, traded=t.price, quoted=o.price, venue=o.venue))
    )


@case(Tick, Session, BrokerQuote, Bar, refused="join of the streams Tick and BrokerQuote")
def with_a_stream_in_sessions(q: Query) -> Any:
    """A join, then sessions"""
    return (
        q.from_(Tick)
        .join(BrokerQuote, on=lambda t, o: t.symbol == f.upper(o.symbol), within="5s")
        .based_on(Session, open=lambda s: s.open_at, close=lambda s: s.close_at)
        .tumbling(lambda t, o: t.time, minutes=1)
        .group_by(lambda t, o: (t.broker, t.symbol))
        .select(
            lambda t, o, w: Bar(
                broker=t.broker,
                symbol=t.symbol,
                start=w.start,
                open=f.first(o.price),
                high=f.max(o.price),
                low=f.min(t.bid),
                close=f.last(f.cast(o.price - t.bid, Precision(18, 6))),
                volume=f.sum(t.size),
            )
        )
    )


@case(Instrument, InstrumentName)
def rows_of_a_table(q: Query) -> Any:
    """A table from a table"""
    return (
        q.from_(Instrument)
        .where(lambda i: i.lot > 1)
        .select(lambda i: InstrumentName(code=i.code, label=f.coalesce(i.name, "?")))
    )


@case(Instrument, Factor, Weighted)
def two_tables(q: Query) -> Any:
    """A row for each key that both tables have"""
    return (
        q.from_(Instrument)
        .join(Factor, on=lambda i, x: i.code == x.code)
        .where(lambda i, x: x.factor > 0)
        .select(lambda i, x: Weighted(code=i.code, weight=x.factor * i.lot))
    )


@case(Fund, Factor, FundWeight)
def two_tables_by_another_field(q: Query) -> Any:
    """Rows of a table, joined with another table by a field"""
    return (
        q.from_(Fund)
        .join(Factor, on=lambda y, x: y.market == x.code, how="left")
        .select(lambda y, x: FundWeight(fund=y.fund, market=y.market, weight=x.factor * y.shares))
    )


@case(Trade, Quote, LotBar, refused="join of the streams Trade and Quote")
def with_a_stream_left(q: Query) -> Any:
    """A left join of streams: an event without a partner comes once none can arrive any more"""
    return (
        q.from_(Trade)
        .join(Quote, on=lambda t, o: t.symbol == o.symbol, how="left", within="1m", grace="10s")
        .tumbling(lambda t, o: t.time, minutes=1)
        .group_by(lambda t, o: t.symbol)
        .select(
            lambda t, o, w: LotBar(
                symbol=t.symbol, start=w.start, lots=f.count(o.price), high=f.max(f.coalesce(o.price, t.price))
            )
        )
    )


@case(Reading, Holiday, SensorPeak)
def by_a_computed_field(q: Query) -> Any:
    """Events without a key, joined by a computed value"""
    return (
        q.from_(Reading)
        .join(Holiday, on=lambda r, h: f.to_date(r.at) == h.on)
        .tumbling(lambda r, h: r.at, minutes=1)
        .group_by(lambda r, h: h.name)
        .select(lambda r, h, w: SensorPeak(sensor=h.name, start=w.start, peak=f.max(r.value)))
    )
