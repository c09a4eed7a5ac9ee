"""The laws: any split gives the same finals, replay is once, parents are bars of the events, every expected bucket has one final.

All are checked against bars made the slow and obvious way, from the events themselves, by `reference`.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kandle
from kandle import Gaps
from kandle.engine.bars import Finals
from kandle.engine.pipeline import Pipeline
from kandle.engine.schedules import session_calendar
from kandle.engine.state import ChangeJournal
from kandle.model.columns import to_logical
from kandle.model.entity import entity_model
from kandle.model.mapping import mapping
from kandle.plan.plan import Plan, plan
from kandle.time.timeframe import to_instant
from kandle.time.watermark import Watermark
from tests.laws.declarations import RESULTS, Declared, declared
from tests.laws.reference import Event, Session, bars, shuffled_within

KEYS = [("a", 1), ("a", 2), ("b", 1)]
COLUMNS = {"house": str, "unit": int}
SUNDAY_OF_CHANGE = datetime(2024, 3, 31, tzinfo=UTC)
"""Clocks in Berlin go from 2 to 3 on this day at 01:00 UTC."""

prices = st.one_of(st.none(), st.integers(-5000, 5000).map(lambda value: Decimal(value).scaleb(-3)))


def events_between(start: datetime, hours: int, most: int = 25) -> st.SearchStrategy[list[Event]]:
    """Events in the order of time, at most `most`, with many equal times and round ones."""
    seconds = st.one_of(st.integers(0, hours * 3600 - 1), st.integers(0, hours * 60 - 1).map(lambda minute: minute * 60))
    micros = st.sampled_from([0, 1, 999_999])
    moment = st.builds(lambda s, u: start + timedelta(seconds=s, microseconds=u), seconds, micros)
    event = st.builds(Event, moment, st.sampled_from(KEYS), prices, st.integers(0, 9))
    return st.lists(event, min_size=1, max_size=most).map(lambda found: sorted(found, key=lambda each: each.at))


@st.composite
def sessions_of(draw: st.DrawFn, start: datetime, days: int) -> list[Session]:
    """Sessions of every key: days off, halves, breaks, opens and closes inside of minutes and hours, over midnight."""
    found: list[Session] = []
    for key in KEYS:
        edge = start + timedelta(minutes=draw(st.integers(0, 90)))
        for _ in range(days * 2):
            edge += timedelta(minutes=draw(st.integers(1, 500)), seconds=draw(st.sampled_from([0, 0, 30])))
            close = edge + timedelta(minutes=draw(st.integers(1, 400)), seconds=draw(st.sampled_from([0, 0, 15])))
            found.append(Session(key, edge, close))
            edge = close
    return found


def frame_of(of: Declared, events: Sequence[Event]) -> pl.DataFrame:
    objects = [
        of.event(moment=e.at, amount=e.price, quantity=e.size, **dict(zip(of.columns, e.key, strict=True))) for e in events
    ]
    return mapping(entity_model(of.event)).to_frame(objects)


def rows_of(of: Declared, sessions: Sequence[Session]) -> list[Any]:
    return [
        of.session(day=s.open.date(), opens=s.open, closes=s.close, **dict(zip(of.columns, s.key, strict=True))) for s in sessions
    ]


def pipeline_of(of: Declared, sessions: Sequence[Session] | None = None) -> Pipeline:
    query = of.context.model().queries[of.bar]
    if sessions is None:
        return Pipeline(plan(query))
    frame = mapping(entity_model(of.session)).to_frame(rows_of(of, sessions))
    return Pipeline(plan(query), session_calendar(query, [frame]))


def tuples(of: Declared, bars_frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    """(key, start, results...) of a logical frame."""
    found = bars_frame.select(*of.columns, "begins", *RESULTS).rows()
    return [(row[: len(of.columns)], *row[len(of.columns) :]) for row in found]


def gathered(of: Declared, found: list[Finals]) -> dict[str, list[tuple[Any, ...]]]:
    entity = entity_model(of.bar)
    result: dict[str, list[tuple[Any, ...]]] = {}
    for finals in found:
        result.setdefault(finals.plan.name, []).extend(tuples(of, to_logical(entity, finals.bars)))
    return result


def run(pipeline: Pipeline, of: Declared, batches: Sequence[Sequence[Event]]) -> list[Finals]:
    """Finals of events in batches, time told by the events, everything closed at the end."""
    watermark, found = Watermark(), []
    for batch in batches:
        pipeline.process(frame_of(of, batch), watermark)
        found += list(pipeline.advance(watermark.value))
    return found + list(pipeline.finish(pipeline.newest + 1))


def split(events: Sequence[Event], cuts: Sequence[int]) -> list[Sequence[Event]]:
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return [events[low:high] for low, high in pairwise(edges)]


TIMEFRAMES = {"minutes": (1, 5, 15), "hours": 1, "days": 1}
PLAIN = declared(COLUMNS, TIMEFRAMES)
SKIPPING = declared(COLUMNS, TIMEFRAMES, gaps=Gaps.SKIP)
BERLIN = declared(COLUMNS, {"minutes": 15, "hours": 1, "days": 1, "weeks": 1, "months": 1, "tz": "Europe/Berlin"})
SCHEDULED = declared(COLUMNS, {"minutes": (1, 5), "hours": 1}, scheduled=True)
GRACEFUL = declared(COLUMNS, {**TIMEFRAMES, "grace": "90s"})


@settings(max_examples=60)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 5))
def test_every_timeframe_is_the_bars_of_the_events_themselves(events: list[Event]) -> None:
    found = gathered(PLAIN, run(pipeline_of(PLAIN), PLAIN, [events]))
    for timeframe in ("1m", "5m", "15m", "1h", "1d"):
        assert found[timeframe] == bars(events, timeframe), timeframe


@settings(max_examples=40)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 5))
def test_without_gap_filling_there_are_bars_of_buckets_with_events_only(events: list[Event]) -> None:
    found = gathered(SKIPPING, run(pipeline_of(SKIPPING), SKIPPING, [events]))
    for timeframe in ("1m", "5m", "15m", "1h", "1d"):
        assert found[timeframe] == bars(events, timeframe, fill=False), timeframe


@settings(max_examples=25)
@given(events_between(SUNDAY_OF_CHANGE - timedelta(days=1), 24 * 4, 15))
def test_days_weeks_and_months_follow_local_midnights_through_a_change_of_clocks(events: list[Event]) -> None:
    found = gathered(BERLIN, run(pipeline_of(BERLIN), BERLIN, [events]))
    for timeframe in ("15m", "1h", "1d", "1wk", "1mo"):
        assert found[timeframe] == bars(events, timeframe, zone="Europe/Berlin"), timeframe


@settings(max_examples=40)
@given(events_between(datetime(2024, 3, 8, tzinfo=UTC), 48), sessions_of(datetime(2024, 3, 8, tzinfo=UTC), 2))
def test_bars_are_filled_inside_of_sessions_and_nowhere_else(events: list[Event], sessions: list[Session]) -> None:
    found = gathered(SCHEDULED, run(pipeline_of(SCHEDULED, sessions), SCHEDULED, [events]))
    for timeframe in ("1m", "5m", "1h"):
        expected = bars(events, timeframe, sessions=sessions)
        assert by_key(found.get(timeframe, [])) == by_key(expected), timeframe


def by_key(rows: list[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    """Rows of each key in the order in which they came: keys with other sessions may close at other times."""
    found: dict[Any, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    return found


@settings(max_examples=40)
@given(
    events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 3, 40),
    st.lists(st.integers(0, 200), max_size=45),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_any_split_into_batches_gives_the_same_finals_in_the_same_order(
    events: list[Event], delays: list[int], cuts: list[int]
) -> None:
    late_ones = shuffled_within(events, lambda i: timedelta(seconds=delays[i % len(delays)] if delays else 0))
    for of in (PLAIN, GRACEFUL):
        whole = gathered(of, run(pipeline_of(of), of, [late_ones]))
        assert gathered(of, run(pipeline_of(of), of, split(late_ones, cuts))) == whole
        assert gathered(of, run(pipeline_of(of), of, [[event] for event in late_ones])) == whole


@settings(max_examples=40)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 3, 40), st.lists(st.integers(0, 89), min_size=1, max_size=45))
def test_any_order_within_the_grace_gives_the_same_bars(events: list[Event], delays: list[int]) -> None:
    """Events of the very same time are told apart by their order only, so here no two of a key have the same time."""
    distinct = list({(event.key, event.at): event for event in events}.values())
    mixed = shuffled_within(distinct, lambda i: timedelta(seconds=delays[i % len(delays)]))
    found = gathered(GRACEFUL, run(pipeline_of(GRACEFUL), GRACEFUL, [mixed]))
    for timeframe in ("1m", "5m", "15m", "1h", "1d"):
        assert found[timeframe] == bars(distinct, timeframe), timeframe


def through_a_file(frame: pl.DataFrame) -> pl.DataFrame:
    file = io.BytesIO()
    frame.write_ipc(file)
    file.seek(0)
    return pl.read_ipc(file)


@settings(max_examples=30)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 3, 30), st.integers(0, 30), st.data())
def test_a_snapshot_taken_anywhere_goes_on_as_if_nothing_had_happened(
    events: list[Event], place: int, data: st.DataObject
) -> None:
    place %= len(events) + 1
    whole = gathered(GRACEFUL, run(pipeline_of(GRACEFUL), GRACEFUL, [events[:place], events[place:]]))
    first, watermark = pipeline_of(GRACEFUL), Watermark()
    first.process(frame_of(GRACEFUL, events[:place]), watermark)
    found = list(first.advance(watermark.value)) if data.draw(st.booleans()) else []
    second = pipeline_of(GRACEFUL)
    second.restore({name: through_a_file(frame) for name, frame in first.snapshot().items()})
    watermark = Watermark(watermark.snapshot())
    second.process(frame_of(GRACEFUL, events[place:]), watermark)
    found += list(second.advance(watermark.value)) + list(second.finish(second.newest + 1))
    assert gathered(GRACEFUL, found) == whole


@settings(max_examples=30)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 3, 30), events_between(datetime(2024, 3, 8, 18, tzinfo=UTC), 3))
def test_events_later_than_the_grace_are_given_back_and_change_nothing(events: list[Event], late: list[Event]) -> None:
    events = [*events, Event(datetime(2024, 3, 9, 1, tzinfo=UTC), KEYS[0], Decimal(1), 1)]
    without = gathered(GRACEFUL, run(pipeline_of(GRACEFUL), GRACEFUL, [events]))
    pipeline, watermark = pipeline_of(GRACEFUL), Watermark()
    pipeline.process(frame_of(GRACEFUL, events), watermark)
    processed = pipeline.process(frame_of(GRACEFUL, late), watermark)
    found = [*pipeline.advance(watermark.value)]
    # Everything replayed once more is late too, but for what is in buckets that are still open.
    replayed = pipeline.process(frame_of(GRACEFUL, late), watermark)
    found += [*pipeline.finish(pipeline.newest + 1)]
    assert processed.late.height == replayed.late.height == len(late)
    assert gathered(GRACEFUL, found) == without


@settings(max_examples=30)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 2, 20))
def test_live_bars_are_the_bars_of_the_events_so_far(events: list[Event]) -> None:
    pipeline = pipeline_of(PLAIN)
    watermark = Watermark()
    seen: list[Event] = []
    for event in events:
        seen.append(event)
        pipeline.process(frame_of(PLAIN, [event]), watermark)
        live = {bar.name: tuples(PLAIN, to_logical(entity_model(PLAIN.bar), frame)) for bar, frame in pipeline.changes()}
        for timeframe in ("1m", "5m", "15m", "1h", "1d"):
            expected = [row for row in bars(seen, timeframe) if row[0] == event.key][-1]
            assert live[timeframe] == [expected], timeframe
        list(pipeline.advance(watermark.value))
    assert pipeline.changes() == []


KEY_SHAPES: list[tuple[dict[str, type], list[tuple[Any, ...]]]] = [
    ({"meter": int}, [(1,), (2,), (-3,)]),
    ({"code": str}, [("x",), ("y",), ("",)]),
    ({"at": date, "kind": bool}, [(date(2024, 1, 1), True), (date(2024, 1, 1), False), (date(1960, 5, 5), True)]),
    (
        {"a": int, "b": str, "c": date, "d": str},
        [(1, "p", date(2020, 2, 29), "q"), (1, "p", date(2020, 2, 29), "r"), (0, "", date(1, 1, 1), "")],
    ),
    ({"identity": uuid.UUID}, [(uuid.UUID(int=1),), (uuid.UUID(int=2),), (uuid.UUID(int=2**127),)]),
]


@pytest.mark.parametrize(("columns", "keys"), KEY_SHAPES, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
@pytest.mark.parametrize("value_first", [False, True])
@settings(max_examples=8)
@given(events=events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 3))
def test_nothing_depends_on_the_names_the_number_the_types_or_the_order_of_keys(
    columns: dict[str, type], keys: list[tuple[Any, ...]], value_first: bool, events: list[Event]
) -> None:
    of = declared(columns, TIMEFRAMES, value_first=value_first)
    renamed = [Event(event.at, keys[KEYS.index(event.key)], event.price, event.size) for event in events]
    found = kandle.backfill(of.context, ticks=to_logical(entity_model(of.event), frame_of(of, renamed)))
    for timeframe in ("1m", "15m", "1d"):
        rows = tuples(of, found[timeframe])
        expected = bars(renamed, timeframe)
        if "identity" in columns:
            expected = [((str(row[0][0]),), *row[1:]) for row in expected]
        assert rows == expected, timeframe


@settings(max_examples=25)
@given(events_between(datetime(2024, 3, 8, tzinfo=UTC), 72), st.integers(0, 3))
def test_by_trading_date_every_expected_bucket_has_exactly_one_final(events: list[Event], skipped: int) -> None:
    """Sessions from 22:00 to 21:00 of the next day, which is the trading date; a break; a day off; a half day."""
    of = declared(COLUMNS, {"minutes": 5, "hours": 1, "days": 1, "weeks": 1}, scheduled=True)
    sessions: list[Any] = []
    spans: dict[date, list[tuple[datetime, datetime]]] = {}
    for number in range(4):
        day = date(2024, 3, 8) + timedelta(days=number)
        if number == skipped:
            continue
        opens = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=2)
        close = opens + timedelta(hours=23 if number != 2 else 9)
        spans[day] = [(opens, opens + timedelta(hours=4)), (opens + timedelta(hours=4, minutes=30), close)]
        for key in KEYS:
            sessions += [of.session(house=key[0], unit=key[1], day=day, opens=a, closes=b) for a, b in spans[day]]
    ticks = to_logical(entity_model(of.event), frame_of(of, events))
    found = kandle.backfill(of.context, ticks=ticks, schedule=sessions)
    inside = [(event, day) for event in events for day, each in spans.items() if any(a <= event.at < b for a, b in each)]
    newest = max(event.at for event in events)
    for key in KEYS:
        own = [(event, day) for event, day in inside if event.key == key]
        days = [tuple_ for tuple_ in tuples(of, found["1d"]) if tuple_[0] == key]
        if not own:
            assert days == []
            continue
        expected = [day for day, each in spans.items() if own[0][1] <= day and each[0][0] <= newest]
        assert [row[1] for row in days] == [spans[day][0][0] for day in expected]
        assert [row[7] for row in days] == [sum(1 for _, other in own if other == day) for day in expected]


MOST_AT_ONCE = st.integers(1, 12)


def closed_in_parts(pipeline: Pipeline, data: st.DataObject) -> list[Finals]:
    """Finals of a closing that is cut anywhere, between buckets and between keys."""
    finals: list[Finals] = []
    while pipeline.is_closing:
        finals += pipeline.close_some(data.draw(MOST_AT_ONCE))
    return finals


@pytest.mark.parametrize("of", [PLAIN, SKIPPING, GRACEFUL, SCHEDULED], ids=["filled", "skipped", "grace", "schedule"])
@settings(max_examples=12)
@given(
    events_between(datetime(2024, 3, 8, tzinfo=UTC), 5, 20),
    sessions_of(datetime(2024, 3, 8, tzinfo=UTC), 2),
    st.data(),
)
def test_however_a_closing_is_cut_the_finals_are_the_same(
    of: Declared, events: list[Event], sessions: list[Session], data: st.DataObject
) -> None:
    until = max(event.at for event in events) + timedelta(hours=1)
    known = sessions if of is SCHEDULED else None
    whole, parts = pipeline_of(of, known), pipeline_of(of, known)
    expected: list[Finals] = []
    finals: list[Finals] = []
    for batch in split(events, data.draw(st.lists(st.integers(0, 40), max_size=3))):
        for pipeline in (whole, parts):
            pipeline.process(frame_of(of, batch))
            pipeline.aim(to_instant(max(event.at for event in batch)) if batch else pipeline.target)
        expected += whole.advance(whole.target)
        finals += closed_in_parts(parts, data)
    parts.aim(to_instant(until))
    expected += whole.advance(to_instant(until))
    finals += closed_in_parts(parts, data)
    bars_of = {name: by_key(rows) for name, rows in gathered(of, expected).items()}
    assert {name: by_key(rows) for name, rows in gathered(of, finals).items()} == bars_of


@settings(max_examples=12)
@given(events_between(datetime(2024, 3, 8, 22, tzinfo=UTC), 2, 20), st.data())
def test_a_state_in_the_middle_of_a_closing_goes_on_by_snapshot_and_by_journal(events: list[Event], data: st.DataObject) -> None:
    """```
    closing    part 1 | part 2 | part 3 | part 4
                      ^ snapshot
                               ^ changes since then: another pipeline goes on from here
    ```"""
    query = plan(PLAIN.context.model().queries[PLAIN.bar])
    journal = ChangeJournal()
    first = Pipeline(query, journal=journal)
    first.process(frame_of(PLAIN, events))
    until = to_instant(datetime(2024, 3, 9, 1, tzinfo=UTC))
    expected = gathered(PLAIN, list(resumed(first, query).advance(until)))
    first.aim(until)
    finals: list[Finals] = []
    for _ in range(data.draw(st.integers(0, 8))):
        finals += first.close_some(data.draw(MOST_AT_ONCE)) if first.is_closing else []
    second = resumed(first, query)
    journal.clear()
    for _ in range(data.draw(st.integers(0, 8))):
        finals += first.close_some(data.draw(MOST_AT_ONCE)) if first.is_closing else []
    second.replay(journal, None, first.numbers())
    finals += closed_in_parts(second, data)
    assert {name: by_key(rows) for name, rows in gathered(PLAIN, finals).items()} == {
        name: by_key(rows) for name, rows in expected.items()
    }


def resumed(pipeline: Pipeline, query: Plan) -> Pipeline:
    """A pipeline with the state of another."""
    other = Pipeline(query)
    other.restore({name: through_a_file(frame) for name, frame in pipeline.snapshot().items()})
    return other
