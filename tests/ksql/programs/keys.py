"""Cases: group keys, names, formats, times of events."""

from __future__ import annotations

from typing import Any

from kandle import Gaps
from kandle import functions as f
from kandle.query.stages import Query
from tests.ksql.programs.cases import case
from tests.ksql.programs.entities import (
    Line,
    LineBar,
    LotBar,
    Micros,
    MixedCase,
    MixedCaseBar,
    Order,
    OrderBar,
    Peak,
    Probe,
    ProbeBar,
    Reading,
    Reserved,
    ReservedBar,
    Seconds,
    SensorPeak,
    Stamped,
    StampedBar,
    Traced,
    TracedBar,
    Trade,
)


@case(Reading, Peak)
def no_key_at_all(q: Query) -> Any:
    """No key, neither of the events nor of the bars"""
    return (
        q.from_(Reading)
        .tumbling(lambda r: r.at, minutes=(1, 5))
        .select(lambda r, w: Peak(start=w.start, peak=f.max(r.value), readings=f.count()))
    )


@case(Reading, Peak)
def no_key_and_no_bars_in_gaps(q: Query) -> Any:
    """One series of all events, without bars for empty buckets"""
    return (
        q.from_(Reading)
        .tumbling(lambda r: r.at, minutes=1, gaps=Gaps.SKIP)
        .select(lambda r, w: Peak(start=w.start, peak=f.max(r.value), readings=f.count(r.value)))
    )


@case(Reading, SensorPeak)
def a_field_becomes_the_key(q: Query) -> Any:
    """Events without a key, grouped by a field"""
    return (
        q.from_(Reading)
        .tumbling(lambda r: r.at, minutes=(1, 5))
        .group_by(lambda r: r.sensor)
        .select(lambda r, w: SensorPeak(sensor=r.sensor, start=w.start, peak=f.max(r.value)))
    )


@case(Order, OrderBar)
def three_keys_renamed_and_reordered(q: Query) -> Any:
    """Keys of UUID, int and text under other names, and more partitions"""
    return (
        q.from_(Order)
        .tumbling(lambda o: o.placed, minutes=(1, 5))
        .group_by(lambda o: (o.venue, o.desk, o.code))
        .select(lambda o, w: OrderBar(bucket=w.start, where=o.venue, who=o.desk, what=o.code, total=f.sum(o.amount)))
    )


@case(Trade, LotBar)
def a_computed_key(q: Query) -> Any:
    """A part of the group key that no field holds"""
    return (
        q.from_(Trade)
        .where(lambda t: t.price > 0)
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: f.upper(f.substring(t.symbol, 1, 3)))
        .select(
            lambda t, w: LotBar(
                symbol=f.upper(f.substring(t.symbol, 1, 3)), start=w.start, lots=f.sum(t.size), high=f.max(t.price)
            )
        )
    )


@case(Trade, LotBar)
def another_time(q: Query) -> Any:
    """Buckets by a time that is not the event time of the entity"""
    return (
        q.from_(Trade)
        .tumbling(lambda t: f.coalesce(t.seen, t.time), minutes=1)
        .group_by(lambda t: t.symbol)
        .select(lambda t, w: LotBar(symbol=t.symbol, start=w.start, lots=f.sum(t.size), high=f.max(t.price)))
    )


@case(Reserved, ReservedBar)
def reserved_words(q: Query) -> Any:
    """Fields named like keywords of KSQL"""
    return (
        q.from_(Reserved)
        .tumbling(lambda r: r.timestamp, minutes=(1, 5))
        .group_by(lambda r: r.select)
        .select(
            lambda r, w: ReservedBar(
                select=r.select, window=w.start, group=f.max(r.group), limit=f.sum(r.size), having=f.count(r.values)
            )
        )
    )


@case(MixedCase, MixedCaseBar)
def mixed_case_and_dots(q: Query) -> Any:
    """Names in mixed case, topics with dots"""
    return (
        q.from_(MixedCase)
        .tumbling(lambda m: m.eventTime, minutes=(1, 5), gaps=Gaps.SKIP)
        .group_by(lambda m: m.SYMBOL)
        .select(lambda m, w: MixedCaseBar(SYMBOL=m.SYMBOL, Start=w.start, lastPrice=f.last(m.lastPrice)))
    )


@case(Line, LineBar)
def times_as_text(q: Query) -> Any:
    """A time as text with a pattern, delimited values, bare keys"""
    return (
        q.from_(Line)
        .tumbling(lambda x: x.time, minutes=(1, 5))
        .group_by(lambda x: x.code)
        .select(lambda x, w: LineBar(code=x.code, start=w.start, price=f.last(x.price)))
    )


@case(Micros, LineBar)
def times_in_microseconds(q: Query) -> Any:
    """Event time in microseconds"""
    return (
        q.from_(Micros)
        .tumbling(lambda x: x.time, minutes=1)
        .group_by(lambda x: x.code)
        .select(lambda x, w: LineBar(code=x.code, start=w.start, price=f.last(x.price)))
    )


@case(Seconds, LineBar)
def times_in_seconds(q: Query) -> Any:
    """Event time in seconds, JSON"""
    return (
        q.from_(Seconds)
        .tumbling(lambda x: x.time, minutes=1)
        .group_by(lambda x: x.code)
        .select(lambda x, w: LineBar(code=x.code, start=w.start, price=f.last(x.price)))
    )


@case(Stamped, StampedBar)
def times_as_text_in_json(q: Query) -> Any:
    """Times as text in JSON, one that may be NULL"""
    return (
        q.from_(Stamped)
        .tumbling(lambda x: x.time, minutes=(1, 5))
        .group_by(lambda x: x.code)
        .select(lambda x, w: StampedBar(code=x.code, start=w.start, last_sent=f.last(x.sent), price=f.last(x.price)))
    )


@case(Probe, ProbeBar)
def topics_with_dashes(q: Query) -> Any:
    """Topics with dashes and a leading digit, times with an offset from UTC"""
    return (
        q.from_(Probe)
        .tumbling(lambda p: p.taken, minutes=(1, 5))
        .group_by(lambda p: (p.plant, p.line))
        .select(lambda p, w: ProbeBar(plant=p.plant, line=p.line, start=w.start, value=f.max(p.value)))
    )


@case(Traced, TracedBar)
def a_header_of_the_events(q: Query) -> Any:
    """A field in a header of the records"""
    return (
        q.from_(Traced)
        .where(lambda t: f.coalesce(t.source, "unknown") != "test")
        .tumbling(lambda t: t.time, minutes=(1, 5))
        .group_by(lambda t: t.name)
        .select(
            lambda t, w: TracedBar(
                name=t.name, start=w.start, highest=f.max(t.price), sources=f.count(t.source), last_source=f.last(t.source)
            )
        )
    )
