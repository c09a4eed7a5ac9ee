"""The law that a backfill gives the bars that a live query has made: random data sets through both, all finals compared exactly.

The live query is played on a context for tests: the clock moves to the time of each event, unless it is there already, and the
event is added; late ones are those whose time is before the clock's. The backfill reads the same events in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

import kandle
from kandle import Context, EventSet, Gaps, Key, Precision, TableSet, Timestamp
from kandle import functions as f
from kandle.context.context import state_of
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.plan.plan import Plan, plan
from kandle.time.timeframe import DAY, HOUR, MINUTE, SECOND, from_instant, parse_instant, to_instant
from tests.runtime.building import read
from tests.testing.stories import health

Price = Annotated[Decimal | None, Precision(18, 6)]


@kandle.stream("ticks")
@dataclass(frozen=True)
class Tick:
    time: Annotated[datetime, Timestamp()]
    symbol: Annotated[str, Key(0)]
    price: Price
    size: int


@kandle.table("hours")
@dataclass(frozen=True)
class Hours:
    symbol: Annotated[str, Key(0)]
    day: Annotated[date, Key(1)]
    opens: Annotated[datetime, Key(2)]
    closes: datetime


@kandle.stream("bars")
@dataclass(frozen=True)
class Bar:
    symbol: Annotated[str, Key(0)]
    start: Annotated[datetime, Timestamp(), Key(1)]
    end: datetime
    open: Price
    high: Price
    low: Price
    close: Price
    volume: int | None
    ticks: int | None


@dataclass(frozen=True)
class Case:
    """A query, its data, and how both are played."""

    windows: Mapping[str, Any]
    ticks: Sequence[Tick]
    hours: Sequence[Hours] = ()
    by_day: bool = False
    expire_after: str = "auto"
    partitions: int = 1
    checked: int = 0
    """Which of the instants at which bars become final is looked at."""
    end: int = 0
    """When the input ends."""
    context: type[Context] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", _context(self))

    @property
    def plan(self) -> Plan:
        return plan(self.context.model().queries[Bar])


def _context(case: Case) -> type[Context]:
    def query(q: Any) -> Any:
        source = q.from_(Tick)
        if case.hours:
            days = {"day": lambda h: h.day} if case.by_day else {}
            source = source.based_on(Hours, open=lambda h: h.opens, close=lambda h: h.closes, **days)
        return (
            source.tumbling(lambda t: t.time, **case.windows)
            .group_by(lambda t: t.symbol)
            .select(
                lambda t, w: Bar(
                    symbol=t.symbol,
                    start=w.start,
                    end=w.end,
                    open=f.first(t.price),
                    high=f.max(t.price),
                    low=f.min(t.price),
                    close=f.last(t.price),
                    volume=f.sum(t.size),
                    ticks=f.count(),
                )
            )
        )

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Bar).to_query(query)

    sets = {"ticks": EventSet[Tick], "hours": TableSet[Hours], "bars": EventSet[Bar]}
    return type("Market", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


Finals = dict[str, pl.DataFrame]


def backfilled(case: Case) -> tuple[Finals, int]:
    """Return the finals that a backfill makes of the whole input, and the number of late events."""
    result = kandle.backfill(
        case.context,
        Bar,
        ticks=list(case.ticks),
        schedule=list(case.hours) or None,
        until=from_instant(case.end),
        expire_after=case.expire_after,
    )
    return dict(result.frames), result.summary.late


def finals_of(market: Any, case: Case) -> Finals:
    """Return the finals as they stand in their topics: one that is there twice is twice in the frame."""
    log = state_of(market).log
    frames: Finals = {}
    for bar in case.plan.emitted:
        batches = [batch for number in range(case.partitions) for batch in read(log, bar.final_topic, number)]
        rows = [to_logical(entity_model(Bar), batch.records.frame) for batch in batches]
        frames[bar.name] = pl.concat(rows) if rows else backfilled_schema()
    return frames


def backfilled_schema() -> pl.DataFrame:
    model = entity_model(Bar)
    return to_logical(model, pl.DataFrame(schema={part.name: part.type.physical for part in model.fields}))


def played(case: Case, looked_at: int) -> tuple[Finals, Finals, int]:
    """Return the finals at an instant, all finals, and the number of late events of a live query."""
    grace = max(bar.grace for bar in case.plan.bars)
    # None of the events before it is late by the clock of that instant.
    before = next((number for number, tick in enumerate(case.ticks) if to_instant(tick.time) >= looked_at), len(case.ticks))

    async def play() -> tuple[Finals, Finals, int]:
        begin = to_instant(case.ticks[0].time) - HOUR
        options = {"universe": {"expire_after": case.expire_after}, "topics": {"ticks": {"partitions": case.partitions}}}
        market: Any = kandle.testing.context(case.context, start=from_instant(begin), **options)
        async with market:

            async def until(instant: int) -> None:
                await market.clock.set_async(max(market.clock.now(), instant))

            async def add(ticks: Sequence[Tick]) -> None:
                for tick in ticks:
                    await until(to_instant(tick.time))
                    await market.ticks.add_async(tick)

            if case.hours:
                await market.hours.add_many_async(list(case.hours))
            await add(case.ticks[:before])
            await until(looked_at)
            early = finals_of(market, case)
            await add(case.ticks[before:])
            await until(case.end + grace)
            return early, finals_of(market, case), health(market).counters.late

    return asyncio.run(play())


def ended(bars: pl.DataFrame, until: int) -> pl.DataFrame:
    """Return the bars whose buckets have ended by an instant, in the order of their keys."""
    return bars.filter(pl.col("end") <= from_instant(until)).sort("symbol", "start", "end")


def check(case: Case) -> int:
    """Compare the bars of both; return the number of late events."""
    expected, expected_late = backfilled(case)
    begin = to_instant(case.ticks[0].time)
    instants = {begin}
    for bar in case.plan.emitted:
        instants |= {to_instant(end) + bar.grace for end in ended(expected[bar.name], case.end)["end"].unique()}
    instants = {instant for instant in instants if begin <= instant <= case.end}
    looked_at = sorted(instants)[case.checked % len(instants)]
    early, live, late = played(case, looked_at)
    for name in expected:
        assert_frame_equal(ended(live[name], case.end), ended(expected[name], case.end))
    assert late == expected_late
    # What has ended with its grace was final at once, and has not changed since.
    for bar in case.plan.emitted:
        whole = live[bar.name].sort("symbol", "start", "end")
        assert_frame_equal(early[bar.name].join(whole, on=whole.columns, how="anti", nulls_equal=True), early[bar.name].clear())
        assert_frame_equal(ended(early[bar.name], looked_at - bar.grace), ended(whole, looked_at - bar.grace))
    return late


ZONES = (
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide", "America/St_Johns",
    "Pacific/Chatham", "Asia/Tehran",
)  # fmt: skip
BEGINNINGS = ("2024-03-06T10:00Z", "2024-03-28T10:00Z", "2024-10-30T20:00Z", "2024-12-29T01:00Z")
"""Before changes of clocks, and before the ends of a month and a year."""

BASES: Mapping[str, tuple[int, int, Sequence[str]]] = {
    "1s": (20 * SECOND, 20 * MINUTE, ("15s", "1m", "5m")),
    "1m": (20 * MINUTE, 2 * DAY, ("5m", "1h", "4h", "1d", "1wk")),
    "15m": (3 * HOUR, 16 * DAY, ("30m", "90m", "1d", "1wk", "1mo")),
    "1h": (9 * HOUR, 30 * DAY, ("2h", "12h")),
    "1d": (2 * DAY, 70 * DAY, ("1wk", "1mo")),
}
"""By base: how long it usually is from one event to the next, how long at most, and timeframes that can be made from it."""

ARGUMENTS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "wk": "weeks", "mo": "months"}


def sizes_of(names: Sequence[str]) -> dict[str, Any]:
    sizes: dict[str, list[int]] = {}
    for name in names:
        digits = name.rstrip("smhdwko")
        sizes.setdefault(ARGUMENTS[name[len(digits) :]], []).append(int(digits))
    return {argument: tuple(values) for argument, values in sizes.items()}


@st.composite
def ticks_of(draw: st.DrawFn, usual: int, longest: int, begin: int) -> list[Tick]:
    """Events that mostly come in the order of their times; some keys come late into play, or rest for weeks."""
    steps = st.one_of(st.integers(0, usual), st.integers(0, SECOND), st.integers(0, longest), st.just(0))
    backward = st.one_of(st.just(0), st.integers(1, 3 * usual), st.integers(1, 3 * SECOND))
    row = st.tuples(
        steps, backward, st.sampled_from("AABC"), st.one_of(st.none(), st.integers(-(10**6), 10**6)), st.integers(0, 99)
    )
    now, ticks = begin, list[Tick]()
    for step, back, symbol, price, size in draw(st.lists(row, min_size=12, max_size=30)):
        now += step
        amount = None if price is None else Decimal(price).scaleb(-3)
        ticks.append(Tick(from_instant(now - back), symbol, amount, size))
    return ticks


@st.composite
def hours_of(draw: st.DrawFn, zone: str, first: int, last: int) -> list[Hours]:
    """Sessions by trading date: over midnight or not, with breaks, half days and holidays; C has none, B often A's own."""
    moment = ZoneInfo(zone)
    days = [from_instant(first).date() + timedelta(days=number) for number in range(-2, (last - first) // DAY + 3)]
    rows: list[Hours] = []
    tables: dict[str, list[tuple[date, datetime, datetime]]] = {}
    for symbol in "AB":
        over_midnight, has_break = draw(st.booleans()), draw(st.booleans())
        holidays = draw(st.sets(st.sampled_from(days), max_size=4))
        half_days = draw(st.sets(st.sampled_from(days), max_size=4))
        odd = draw(st.sampled_from([0, 0, 7]))
        table = []
        for day in days:
            if day.weekday() > 4 or day in holidays:
                continue
            before = day - timedelta(days=1)
            opens = (
                datetime(before.year, before.month, before.day, 18, tzinfo=moment) if over_midnight else _at(day, 9, 30, moment)
            )
            closes = _at(day, 13, odd, moment) if day in half_days else _at(day, 16, odd, moment)
            if has_break:
                table += [(day, opens, _at(day, 11, 30, moment)), (day, _at(day, 12, 30, moment), closes)]
            else:
                table.append((day, opens, closes))
        tables[symbol] = tables["A"] if symbol == "B" and draw(st.booleans()) else table
        # The schedule goes on, so that the last bucket of the data waits for nothing.
        sentinel = days[-1] + timedelta(days=200)
        rows += [Hours(symbol, day, opens, closes) for day, opens, closes in tables[symbol]]
        rows.append(Hours(symbol, sentinel, _at(sentinel, 9, 30, moment), _at(sentinel, 16, 0, moment)))
    return rows


def _at(day: date, hour: int, minute: int, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)


@st.composite
def cases(draw: st.DrawFn, *, scheduled: bool) -> Case:
    base = draw(st.sampled_from(list(BASES)))
    usual, longest, others = BASES[base]
    zone = draw(st.sampled_from(ZONES)) if base != "1h" else "UTC"
    names = [base, *draw(st.lists(st.sampled_from(others), unique=True, max_size=3))]
    begin = parse_instant(draw(st.sampled_from(BEGINNINGS))) + draw(st.integers(0, 8)) * HOUR
    ticks = draw(ticks_of(usual, longest, begin))
    newest = max(to_instant(tick.time) for tick in ticks)
    end = newest + draw(st.integers(1, 3)) * usual
    grace = draw(st.sampled_from(["0s", "1s", "2s", "90s", "1h", {base: "2s", names[-1]: "5m"}]))
    windows = {**sizes_of(names), "tz": zone, "grace": grace, "gaps": draw(st.sampled_from([*Gaps, Gaps.CARRY]))}
    hours = draw(hours_of(zone, min(to_instant(tick.time) for tick in ticks), end)) if scheduled else []
    return Case(
        windows,
        ticks,
        hours,
        by_day=scheduled and base != "1h" and draw(st.booleans()),
        expire_after=draw(st.sampled_from(["auto", "auto", "never", "2h", "3d"])),
        partitions=draw(st.sampled_from([1, 3])),
        checked=draw(st.integers(0, 10**6)),
        end=end,
    )


LAWS = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@LAWS
@given(cases(scheduled=False))
def test_without_a_schedule_a_backfill_gives_the_bars_of_the_live_query(case: Case) -> None:
    check(case)


@LAWS
@given(cases(scheduled=True))
def test_with_a_schedule_a_backfill_gives_the_bars_of_the_live_query(case: Case) -> None:
    check(case)
