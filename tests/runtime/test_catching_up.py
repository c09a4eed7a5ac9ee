"""After days off: work is done in pieces, each committed by itself, and whoever takes over goes on in the middle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kandle.runtime.state
import kandle.runtime.tasks
from kandle.engine.pipeline import Pipeline
from kandle.log.port import TopicPartition
from kandle.runtime.state import STEPS, Replica, replay_change
from kandle.serde.keys import partition_numbers
from kandle.time.timeframe import HOUR, MINUTE, SECOND, from_instant
from tests.runtime.building import FINALS, Parts, Process, bars, finals_of, parts_of, read, t, tick, ticks_every

SYMBOLS = "ABCDEFG"
MOST = 20


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a commit hold twenty finals, made ten at a time."""
    monkeypatch.setattr(kandle.runtime.tasks, "FINALS_AT_ONCE", MOST // 2)
    monkeypatch.setattr(kandle.runtime.tasks, "FINALS_PER_COMMIT", MOST)


def away(partitions: int = 1, symbols: str = SYMBOLS, hours: int = 3) -> Parts:
    """A tick of each symbol, and then nobody worked for hours; the heartbeat after them is sent."""
    parts = parts_of(partitions=partitions, minutes=(1, 5))
    for number in range(partitions):
        mine = [symbol for symbol in symbols if partition_of(symbol, partitions) == number]
        parts.add(*(tick("14:30:10", symbol=symbol) for symbol in mine), partition=number)
    Process(parts).settle()
    parts.clock.jump(t("14:31") + hours * HOUR)
    Process(parts).settle().beat()
    return parts


def partition_of(symbol: str, partitions: int) -> int:
    """Return where the ticks of a symbol stand."""
    return int(partition_numbers(pl.DataFrame({"symbol": [symbol]}), partitions)[0])


def expected(parts: Parts, hours: int = 3) -> list[tuple[str, int]]:
    """Symbol and start of each bar of a minute, once."""
    starts = range(t("14:30"), t("14:31") + hours * HOUR, MINUTE)
    return sorted((symbol, start) for symbol in SYMBOLS for start in starts)


def made(parts: Parts) -> list[tuple[str, int]]:
    """Symbol and start of each bar of a minute in the topic of finals."""
    return sorted((bar.symbol, round(bar.start.timestamp()) * SECOND) for bar in bars(parts.log, FINALS))


def committed_finals(parts: Parts) -> list[int]:
    """Number of finals in each commit: a log in memory keeps those of a write together."""
    return [len(batch) for topic in (FINALS, "bars_5m_final") for batch in read(parts.log, topic)]


def test_a_commit_holds_a_bounded_number_of_finals_and_all_of_them_come() -> None:
    parts = away()
    process = Process(parts)
    steps = 0
    while process.worker.step():
        steps += 1
    assert made(parts) == expected(parts)
    assert len(bars(parts.log, "bars_5m_final")) == len(SYMBOLS) * 36
    assert max(committed_finals(parts)) <= MOST + MOST // 2
    assert steps > len(expected(parts)) // MOST


def test_keys_of_one_bucket_are_committed_in_slices_where_even_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kandle.runtime.tasks, "FINALS_AT_ONCE", 4)
    monkeypatch.setattr(kandle.runtime.tasks, "FINALS_PER_COMMIT", 4)
    parts = away(hours=1)
    Process(parts).settle()
    assert made(parts) == expected(parts, 1)
    # A commit may follow a piece that has made it a little too large.
    assert max(committed_finals(parts)) < 2 * 4


@pytest.mark.parametrize("crash_after", [1, 2, 5, 13])
def test_after_a_crash_in_the_middle_of_a_heartbeat_the_next_owner_goes_on_there(crash_after: int) -> None:
    """
    heartbeat      |------------ closes three hours ------------|
    one            piece  piece  (killed)
    two                                 piece  piece  piece  ...
    """
    parts = away()
    first = Process(parts)
    for _ in range(crash_after):
        first.worker.step()
    before = len(made(parts))
    assert 0 < before < len(expected(parts)) or crash_after == 1
    second = Process(parts)
    second.worker.step()
    second.worker.step()
    assert len(made(parts)) - before <= 2 * MOST
    second.settle()
    assert made(parts) == expected(parts)


@pytest.mark.parametrize("after", [0, 1, 3, 8])
def test_an_event_that_came_while_an_older_heartbeat_is_closed_in_pieces_is_judged_as_if_it_were_closed(after: int) -> None:
    """
    heartbeat     closes up to 17:31, in pieces
    event 1       15:00, behind the heartbeat: late, whether its bucket was closed already or not
    event 2       17:31: counts
    """
    parts = away()
    process = Process(parts)
    for _ in range(after):
        process.worker.step()
    parts.add(tick("15:00", symbol="A"), tick("17:31", symbol="A"))
    if after:
        process = Process(parts)
    process.settle()
    parts.clock.jump(t("17:32"))
    process.beat()
    process.settle()
    counts = {start: count for symbol, start, count in _counts(parts) if symbol == "A"}
    assert (counts[t("15:00")], counts[t("17:31")]) == (0, 1)
    assert parts.counters.late == 1


def _counts(parts: Parts) -> Iterator[tuple[str, int, int]]:
    for bar in bars(parts.log, FINALS):
        yield bar.symbol, round(bar.start.timestamp()) * SECOND, bar.ticks


def test_the_lag_is_never_zero_while_a_heartbeat_is_not_fully_applied_and_never_negative() -> None:
    parts = away()
    process = Process(parts)
    process.worker.step()
    lags = [process.worker.lag()]
    while process.worker.step():
        lags.append(process.worker.lag())
    assert len(lags) > 10
    assert min(lags[:-1]) >= 1
    assert lags[-1] == process.worker.lag() == 0


def test_events_and_heartbeats_that_nobody_has_read_count_as_lag() -> None:
    parts = parts_of()
    process = Process(parts).settle()
    parts.add(tick("14:30:10"), tick("14:30:20"))
    assert process.worker.lag() == 2
    process.settle()
    parts.clock.jump(t("14:31"))
    process.beat()
    assert process.worker.lag() == 1
    process.settle()
    assert process.worker.lag() == 0


def test_how_far_and_how_fast_is_logged_now_and_then_and_once_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    parts = away()
    process = Process(parts)
    while process.worker.step():
        parts.clock.jump(parts.clock.now() + 2 * SECOND)
    lines = [record.message for record in caplog.records if "catching up" in record.message or "caught up" in record.message]
    first, *_, last = lines
    assert "catching up: closed up to 2024-03-08T14:" in first
    assert "of 2024-03-08T17:31:00Z" in first
    assert "finals, " in first and "a second" in first and "left" in first
    assert last.startswith("kandle-bars: caught up: ") or "caught up: " in last
    assert len(lines) <= 2 + parts.clock.now() // SECOND // 30
    assert process.worker.catching_up is None


def test_everyday_work_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    Process(away()).settle()
    assert not [record for record in caplog.records if "caught up" in record.message or "catching up" in record.message]


def test_of_a_partition_with_many_events_waiting_no_more_are_read_until_half_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    partition 0    a closing of hours in pieces, and events after it: they wait, and are not read beyond a bound
    partition 1    nothing to wait for: its events are processed as they come
    """
    monkeypatch.setattr(kandle.runtime.tasks, "MOST_WAITING", 10)
    parts = away(partitions=2)
    process = Process(parts, batch_rows=8, commit_interval=0)
    process.worker.step()
    busy = next(number for number, task in process.worker.tasks.items() if task.pipeline.is_closing)
    symbol = next(symbol for symbol in SYMBOLS if partition_of(symbol, 2) == busy)
    parts.add(*ticks_every(timedelta(milliseconds=100), "17:31", "17:31:10", symbol=symbol), partition=busy)
    most = 0
    while process.worker.step():
        most = max(most, process.worker.tasks[busy].waiting_rows)
    assert 0 < most <= 10 + 8 + 100
    parts.clock.jump(t("17:32"))
    process.beat()
    process.settle()
    assert [count for of, start, count in _counts(parts) if (of, start) == (symbol, t("17:31"))] == [100]


def test_a_snapshot_is_written_when_the_changes_have_become_costly_though_they_are_few_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kandle.runtime.state, "LEAST_CLOSED", 100)
    monkeypatch.setattr(kandle.runtime.state, "CLOSED_PER_KEY", 1)
    parts = away()
    Process(parts).settle()
    kinds = [kind for batch in read(parts.log, "bars_changelog") for kind in batch.records.frame["kind"].to_list()]
    # What is before the newest snapshot is truncated; the changes since then close few bars.
    assert kinds[0] == "snapshot"
    assert len(kinds) < 20
    assert Replica(parts.context(), 0).pipeline.closed_rows <= 150


def test_a_change_of_an_older_version_is_replayed_and_a_snapshot_of_one_is_restored() -> None:
    parts = away()
    replica = Replica(parts.context(), 0)
    closed = t("16:00")
    numbers = {name: number for name, number in replica.pipeline.numbers().items() if name in OLD_NUMBERS}
    frames = {
        "_numbers": pl.DataFrame(numbers | {"closed": closed, "watermark": 0}),
        STEPS: pl.DataFrame({"rows": [0], "in_order": [True], "closed": [closed], "replaces": [False]}),
    }
    replay_change(replica.pipeline, frames)
    assert (replica.pipeline.closed, replica.pipeline.is_closing) == (closed, False)
    snapshot = replica.pipeline.snapshot()
    snapshot["numbers"] = snapshot["numbers"].select(OLD_NUMBERS)
    other = Pipeline(parts.plan)
    other.restore(snapshot)
    assert (other.closed, other.target, other.is_closing) == (closed, closed, False)
    assert sum(finals.bars.height for finals in other.advance(t("16:01")) if finals.plan.name == "1m") == len(SYMBOLS)


OLD_NUMBERS = ["closed", "newest", "offset", "ordered_until"]


def test_partitions_take_turns_while_all_of_them_catch_up() -> None:
    parts = away(partitions=2, hours=2)
    process = Process(parts)
    partitions = [TopicPartition(FINALS, number) for number in range(2)]
    process.worker.step()
    for _ in range(6):
        process.worker.step()
    first, second = (parts.log.ends(FINALS)[partition.partition] for partition in partitions)
    assert min(first, second) > 0
    process.settle()
    assert len(finals_of(parts)) == len(SYMBOLS) * 121


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.sampled_from(SYMBOLS)),
        st.tuples(st.sampled_from(["wait", "wait", "work", "work", "crash"]), st.sampled_from([20, 61, 300, 3_000])),
    ),
    min_size=5,
    max_size=30,
)


@settings(max_examples=25)
@given(ACTIONS, st.integers(2, 30))
def test_however_the_work_is_cut_and_whoever_does_it_the_finals_are_the_same(
    actions: list[tuple[str, object]], most: int
) -> None:
    """One process does everything at once; others do a little now and then, die in between, and end with the same bars."""
    assert played(actions, most) == played(actions, None)


def played(actions: list[tuple[str, object]], most: int | None) -> list[tuple[str, int, int]]:
    """All finals of a minute after these actions; with `most`, work is done in pieces of so many finals and only when told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kandle.runtime.tasks, "FINALS_AT_ONCE", most or 1_000_000)
        patch.setattr(kandle.runtime.tasks, "FINALS_PER_COMMIT", most or 1_000_000)
        patch.setattr(kandle.runtime.tasks, "EVENTS_AT_ONCE", (most or 1_000_000) // 2)
        parts = parts_of(minutes=(1, 5))
        process = Process(parts).settle()
        for action, value in actions:
            if action == "tick":
                parts.add(tick(from_instant(parts.clock.now()), symbol=str(value)))
            elif action == "wait":
                assert isinstance(value, int)
                parts.clock.jump(parts.clock.now() + value * SECOND)
                process.beat()
            elif action == "crash" and most is not None:
                process = Process(parts)
                process.worker.step()
            elif action == "work":
                process.worker.step() if most is not None else process.settle()
        process.settle()
        parts.clock.jump(parts.clock.now() + 2 * MINUTE)
        process.beat()
        process.settle()
        return sorted(_counts(parts))


def test_commits_that_take_long_hold_less_and_more_again_once_they_are_fast() -> None:
    parts = away()
    process = Process(parts)
    process.worker.step()
    tasks = process.worker._tasks
    sizes = []
    for duration in (3 * SECOND, 3 * SECOND, SECOND, 0, 0):
        tasks.note_commit(duration)
        tasks.work()
        sizes.append(sum(task.output.finals for task in process.worker.tasks.values()))
        process.worker.flush()
    assert sizes[0] <= MOST // 2 + 5
    assert sizes[1] <= MOST // 4 + 5
    assert sizes[2] <= MOST // 4 + 5
    assert sizes[4] > sizes[2]
