"""What a task writes with a commit: finals twice, live bars when it is their turn, and everything once."""

from __future__ import annotations

from kandle.engine.pipeline import Pipeline
from kandle.log.headers import header_rows
from kandle.runtime.output import TaskOutput
from kandle.time.watermark import Watermark
from tests.runtime.building import Parts, frame_of, parts_of, t, tick


def processed(parts: Parts, *times: str) -> tuple[Pipeline, TaskOutput]:
    """A pipeline that has taken ticks in, and the output of its task."""
    pipeline = Pipeline(parts.plan)
    output = TaskOutput(parts.context(), 0)
    output.add_processed(pipeline.process(frame_of([tick(time) for time in times]), Watermark()), len(times))
    return pipeline, output


def topics(output: TaskOutput, pipeline: Pipeline, *, live: bool) -> list[tuple[str, int]]:
    """Topic and number of records of each write."""
    return [(write.topic, len(write.records)) for write in output.writes(pipeline, live=live)]


def test_a_final_is_the_last_value_of_its_bucket_in_the_live_topic_too() -> None:
    parts = parts_of()
    pipeline, output = processed(parts, "14:30:10", "14:30:20")
    output.add_finals(pipeline.advance(t("14:31")))
    assert output.has_finals
    assert topics(output, pipeline, live=False) == [("bars_1m_final", 1), ("bars_1m_live", 1)]


def test_live_bars_wait_where_only_finals_leave() -> None:
    parts = parts_of()
    pipeline, output = processed(parts, "14:30:10", "14:31:20")
    output.add_finals(pipeline.advance(t("14:31")))
    assert topics(output, pipeline, live=False) == [("bars_1m_final", 1), ("bars_1m_live", 1)]
    output.committed()
    assert not output.has_finals
    assert topics(output, pipeline, live=True) == [("bars_1m_live", 1)]
    assert topics(output, pipeline, live=True) == []


def test_bars_that_fill_a_gap_have_a_header_that_says_so() -> None:
    parts = parts_of()
    pipeline, output = processed(parts, "14:30:10")
    output.add_finals(pipeline.advance(t("14:33")))
    (final, _) = output.writes(pipeline, live=False)
    assert [dict(headers) for headers in header_rows(final.records)] == [{}, {"gap": "true"}, {"gap": "true"}]
    output.committed()
    assert (parts.counters.timeframes["1m"].finals, parts.counters.timeframes["1m"].gaps) == (3, 2)


def test_the_delay_is_counted_from_the_end_of_the_bucket_and_its_grace() -> None:
    parts = parts_of(grace="2s")
    pipeline, output = processed(parts, "14:30:10")
    output.add_finals(pipeline.advance(t("14:31:02")))
    parts.clock.jump(t("14:31:05"))
    output.committed()
    assert (parts.counters.timeframes["1m"].newest, parts.counters.timeframes["1m"].delay) == (t("14:31"), 3_000_000)


def test_work_is_counted_when_it_is_committed_and_not_before() -> None:
    parts = parts_of()
    pipeline, output = processed(parts, "14:30:10", "14:30:20")
    output.count("heartbeats_applied", 1)
    output.writes(pipeline, live=True)
    counters = parts.counters
    assert (output.events, counters.events, counters.heartbeats_applied, counters.timeframes["1m"].live) == (2, 0, 0, 0)
    output.committed()
    assert (output.events, counters.events, counters.heartbeats_applied, counters.timeframes["1m"].live) == (0, 2, 1, 1)
    output.committed()
    assert (counters.events, counters.timeframes["1m"].live) == (2, 1)
