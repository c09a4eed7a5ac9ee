"""Tasks take heartbeats as barriers between events: buckets close after exactly the events that stand before."""

from __future__ import annotations

import polars as pl
import pytest

from kandle import Late
from kandle.log.records import Records, Write
from kandle.runtime.heartbeats import heartbeat_records
from tests.runtime.building import (
    FINALS,
    Member,
    Parts,
    Process,
    bars,
    beat,
    finals_of,
    frame_of,
    gaps,
    outwait,
    parts_of,
    rows,
    t,
    tick,
)
from tests.runtime.declarations import Tick


def add_one_by_one(parts: Parts, *ticks: Tick) -> None:
    for each in ticks:
        parts.add(each)


def test_a_heartbeat_is_applied_only_when_all_events_before_it_were_processed() -> None:
    """
    events       e0  e1  e2 |
    heartbeat               | position 3: the bucket is over
    a consumer that lags reads one event at a time
    """
    parts = parts_of()
    add_one_by_one(parts, tick("14:30:10"), tick("14:30:20"), tick("14:30:50"))
    parts.clock.jump(t("14:31"))
    process = Process(parts, batch_rows=1)
    Member(parts, "one").poll().send(beat("14:30"))
    for _ in range(2):
        process.worker.step()
        process.worker.flush()
        assert finals_of(parts) == []
        assert parts.counters.heartbeats_applied == 0
    process.worker.step()
    assert finals_of(parts) == [("A", 30, 3)]
    assert parts.counters.heartbeats_applied == 1


def test_events_behind_a_heartbeat_are_too_late_for_its_bucket_even_if_both_are_read_at_once() -> None:
    """
    events       14:30:10  14:30:20 |   14:30:30  14:31:10
    heartbeat                       |
    """
    parts = parts_of()
    parts.add(tick("14:30:10"), tick("14:30:20"))
    parts.clock.jump(t("14:31"))
    Member(parts).poll().send(beat("14:30"))
    parts.add(tick("14:30:30"), tick("14:31:10"))
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 2)]
    assert parts.counters.late == 1
    assert finals_of(parts, "bars_1m_live") == [("A", 30, 2), ("A", 31, 1)]


def test_a_batch_that_stands_on_both_sides_of_heartbeats_is_cut_at_each_of_them() -> None:
    """
    offsets      0         1    | 2         3         4   |  5
    events      30:10    30:20  | 31:10   30:55     31:20 |  32:10
    heartbeats               30 |                      31 |
    """
    parts = parts_of()
    member = Member(parts).poll()
    parts.clock.jump(t("14:31"))
    parts.add(tick("14:30:10"), tick("14:30:20"))
    member.send(beat("14:30"))
    parts.clock.jump(t("14:32"))
    parts.add(tick("14:31:10"), tick("14:30:55"), tick("14:31:20"))
    member.send(beat("14:31"))
    parts.add(tick("14:32:10"))
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 2), ("A", 31, 2)]
    assert (parts.counters.late, parts.counters.heartbeats_applied) == (1, 2)


def test_of_many_heartbeats_at_one_position_all_that_is_over_is_closed() -> None:
    parts = parts_of()
    parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:35"))
    Member(parts).poll().send(*[beat(f"14:{minute}") for minute in range(30, 35)])
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 1), *(("A", minute, 0) for minute in range(31, 35))]
    assert gaps(parts.log, FINALS) == [False, True, True, True, True]


def test_a_heartbeat_that_waits_is_there_again_after_a_restart() -> None:
    parts = parts_of()
    add_one_by_one(parts, tick("14:30:10"), tick("14:30:20"), tick("14:30:50"))
    parts.clock.jump(t("14:31"))
    Member(parts, "one").poll().send(beat("14:30"))
    for _ in range(3):
        assert finals_of(parts) == []
        process = Process(parts, batch_rows=1)
        process.worker.step()
        process.worker.flush()
    assert finals_of(parts) == [("A", 30, 3)]


def test_heartbeats_of_other_events_in_the_same_topic_are_passed_over() -> None:
    """Two applications of one cluster with bars of a minute share the topic; positions of the other say nothing here."""
    parts = parts_of()
    parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:33"))
    other = heartbeat_records([beat("14:31")], 1_000_000, "ticks_of_others")
    parts.log.append([Write("bars_hb_1m", 0, other)])
    member = Member(parts).poll()
    assert member.sender.last is None
    member.send(beat("14:30"))
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 1)]


def test_an_older_heartbeat_opens_nothing_again() -> None:
    """What a clock that was set back sends; its sender would not, but another process may have."""
    parts = parts_of()
    member = Member(parts).poll()
    parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:33"))
    member.send(beat("14:32"))
    Process(parts).settle()
    # A process that has never heard of the topic's end, so that it does send.
    stale = Member(parts, "one").poll()
    stale.sender._epoch, stale.sender._last = stale.leadership.fence.epoch, []  # type: ignore[union-attr]
    stale.send(beat("14:30"))
    parts.add(tick("14:33:10"))
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 1), ("A", 31, 0), ("A", 32, 0)]


def test_an_event_behind_a_heartbeat_that_is_heard_of_later_is_late() -> None:
    """
    offsets      0      1         | 2 (late)
    events      30:10  30:20      | 30:30
    heartbeat                  30 |             is read after all events
    """
    parts = parts_of()
    process = Process(parts)
    parts.add(tick("14:30:10"), tick("14:30:20"))
    process.settle()
    parts.clock.jump(t("14:31"))
    position = parts.log.ends("ticks")[0]
    parts.add(tick("14:30:30"))
    process.settle()
    parts.log.append([Write("bars_hb_1m", 0, heartbeat_records([beat("14:30")], position, "ticks"))])
    process.settle()
    assert finals_of(parts) == [("A", 30, 2)]
    assert parts.counters.late == 1


def test_the_times_of_events_close_buckets_without_any_heartbeat() -> None:
    """
    14:30:10   14:31:01   14:31:02 (30 is over with its grace of 2s)   14:30:59 (late)
    """
    parts = parts_of(grace="2s")
    process = Process(parts)
    parts.clock.jump(t("14:32"))
    parts.add(tick("14:30:10"), tick("14:31:01"))
    process.settle()
    assert finals_of(parts) == []
    parts.add(tick("14:30:50"), tick("14:31:02"), tick("14:30:59"))
    # No heartbeat comes that could be waited for.
    outwait(parts, process.settle)
    assert finals_of(parts) == [("A", 30, 2)]
    assert parts.counters.late == 1


def test_an_event_from_the_future_closes_nothing() -> None:
    """
    appended at    14:30:30                          14:31:30
    times          14:30:10   2034 (a wrong clock)   14:30:20
    """
    parts = parts_of("14:30:30")
    process = Process(parts)
    parts.add(tick("14:30:10"), tick("2034-01-01T00:00", symbol="B"))
    parts.clock.jump(t("14:31:30"))
    parts.add(tick("14:30:20"))
    process.settle()
    parts.clock.jump(t("14:31:31"))
    process.settle()
    assert finals_of(parts) == []
    process.beat()
    process.settle()
    assert finals_of(parts) == [("A", 30, 2)]
    assert parts.counters.late == 0


def test_a_fast_clock_takes_nothing_from_the_others_while_nobody_was_there() -> None:
    """
    appended at    12:30:30   12:31:30 (a clock that is an hour fast)   12:32:30  12:33:30      14:30 the worker starts
    times          12:30:30   13:31:30                                  12:32:30  12:33:30
    """
    parts = parts_of("12:30:30")
    for minute, symbol, time in [(30, "A", "12:30:30"), (31, "B", "13:31:30"), (32, "A", "12:32:30"), (33, "A", "12:33:30")]:
        parts.clock.jump(t(f"12:{minute}:30"))
        parts.add(tick(time, symbol=symbol))
    parts.clock.jump(t("14:30"))
    process = Process(parts).settle()
    process.beat()
    process.settle()
    assert [bar for bar in finals_of(parts) if bar[2]] == [("A", 30, 1), ("A", 32, 1), ("A", 33, 1), ("B", 31, 1)]
    assert parts.counters.late == 0


@pytest.mark.parametrize("wrong", ["2034-01-01T00:00", "2024-03-08T12:30:10"])
def test_one_wrong_time_in_a_history_that_is_added_takes_nothing_from_the_others(wrong: str) -> None:
    """A file of yesterday is added today, and one of its events says today, or 2034."""
    parts = parts_of("2024-03-08T14:30")
    parts.add(*(tick(time) for time in ("2024-03-07T14:30:10", wrong, "2024-03-07T14:31:10", "2024-03-07T14:32:10")))
    process = Process(parts).settle()
    process.beat()
    process.settle()
    assert [minute for _, minute, ticks in finals_of(parts) if ticks][:3] == [30, 31, 32]
    assert parts.counters.late == 0


def test_tombstones_among_events_are_no_events() -> None:
    parts = parts_of()
    frame = frame_of([tick("14:30:10"), tick("14:30:20"), tick("14:30:30")])
    parts.log.append([Write("ticks", 0, Records(frame, tombstones=pl.Series([False, True, False])))])
    parts.add(tick("14:31:00"))
    parts.clock.jump(t("14:31"))
    process = Process(parts).settle()
    process.beat()
    process.settle()
    assert finals_of(parts) == [("A", 30, 2)]
    assert process.worker.lag() == 0


def test_late_events_go_to_the_late_topic_as_they_are_and_finals_stay() -> None:
    parts = parts_of(late=Late.TOPIC)
    process = Process(parts)
    parts.add(tick("14:30:10", 5))
    parts.clock.jump(t("14:31"))
    process.settle().beat()
    process.settle()
    parts.add(tick("14:30:20", 99, size=7), tick("14:31:10", 6), tick("14:29:20", 98))
    process.settle()
    late = [(row["price"], row["size"]) for row in rows(parts.log, "bars_late")]
    assert late == [(99_000_000, 7), (98_000_000, 1)]
    assert parts.counters.late == 2
    assert [(bar.start.minute, bar.high, bar.volume) for bar in bars(parts.log, FINALS)] == [(30, 5, 1)]
