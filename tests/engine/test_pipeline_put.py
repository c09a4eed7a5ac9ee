"""Base buckets that another engine aggregates, as ksqlDB does: the newest row of a bucket counts; finals are the same."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from kandle.engine.pipeline import Pipeline
from kandle.engine.state import ChangeJournal
from kandle.plan.plan import plan
from tests.engine.test_pipeline import at, hits, shown, tumbling

QUERY = tumbling(minutes=(1, 5), grace="10s")
EVENTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 900), st.integers(1, 9)), min_size=1, max_size=30)


def aggregated(events: list[tuple[str, float, int]]) -> pl.DataFrame:
    """All base buckets of the events so far: key columns, start and partials."""
    other = Pipeline(plan(QUERY))
    other.process(hits(*events))
    frames = other.snapshot()
    return frames["1m/open"].join(frames["keys"], on="_key")


def all_finals(pipeline: Pipeline) -> list[tuple[str, str, str, int, int]]:
    return shown(pipeline.advance(at(2_000)))


@given(EVENTS, st.lists(st.integers(0, 30), max_size=3))
def test_however_often_their_rows_come_the_finals_are_those_of_the_events(
    events: list[tuple[str, float, int]], cuts: list[int]
) -> None:
    direct, put = Pipeline(plan(QUERY)), Pipeline(plan(QUERY))
    direct.process(hits(*events))
    for end in [*sorted(cuts), len(events)]:
        if events[:end]:
            put.put(aggregated(events[:end]))
    assert sorted(all_finals(put)) == sorted(all_finals(direct))


@given(EVENTS, st.integers(0, 30))
def test_a_journal_brings_an_older_state_up_to_date(events: list[tuple[str, float, int]], cut: int) -> None:
    journal = ChangeJournal()
    first, second = Pipeline(plan(QUERY), journal=journal), Pipeline(plan(QUERY))
    for end in (max(1, cut), len(events)):
        first.put(aggregated(events[:end]))
    second.replay(journal, first.keys, first.numbers())
    assert all_finals(second) == all_finals(first)


def test_rows_of_a_bucket_that_is_final_are_late_and_change_nothing() -> None:
    """
    12:00            12:01 12:01:10
      |--- bucket ----|--grace--|
                                 row of the bucket: late
    """
    pipeline = Pipeline(plan(QUERY))
    pipeline.put(aggregated([("a", 5, 1)]))
    assert [row[:4] for row in shown(pipeline.advance(at(70)))] == [("1m", "a", "12:00", 1)]
    processed = pipeline.put(aggregated([("a", 5, 1), ("a", 6, 1), ("a", 61, 1)]))
    assert processed.late.height == 1
    assert [row[:4] for row in shown(pipeline.advance(at(310)))][:2] == [("1m", "a", "12:01", 1), ("1m", "a", "12:02", 0)]


def test_live_bars_of_every_timeframe_follow_the_newest_row() -> None:
    pipeline = Pipeline(plan(QUERY))
    pipeline.put(aggregated([("a", 5, 1)]))
    pipeline.put(aggregated([("a", 5, 1), ("a", 6, 4)]))
    assert [(bar.name, frame["total"].to_list()) for bar, frame in pipeline.changes()] == [("1m", [5]), ("5m", [5])]
    assert pipeline.changes() == []
