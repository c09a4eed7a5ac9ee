"""A long backlog without heartbeats closes its buckets as it is read, in bounded memory; events of right clocks are not late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from kandle.log.records import Batch, Records
from kandle.runtime import backlog, task
from kandle.runtime.backlog import UNSEEN, BacklogWindow
from kandle.time.timeframe import MINUTE, SECOND
from tests.runtime.building import Parts, Process, finals_of, outwait, parts_of, t, tick, ticks_every
from tests.runtime.declarations import Tick


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of ten events, and five buckets that are worth their memory."""
    monkeypatch.setattr(backlog, "BLOCK", 10)
    monkeypatch.setattr(task, "MOST_OPEN", 5)


def batch(times: list[int], first: int = 0, appended: int = UNSEEN) -> Batch:
    offsets = np.arange(first, first + len(times))
    return Batch("ticks", 0, offsets, np.full(len(times), appended), Records(pl.DataFrame({"time": times})))


def turns(window: BacklogWindow, *batches: Batch) -> list[tuple[list[int], int | None]]:
    """Return the offsets of each piece, and the instant up to which buckets may close after it."""
    pieces = window.pieces(batches)
    return [([offset for part in piece for offset in part.offsets.tolist()], instant) for piece, instant in pieces]


@pytest.mark.usefixtures("small_blocks")
def test_after_a_block_buckets_close_up_to_the_least_time_of_it_and_the_block_before() -> None:
    """
    block    1: 100 to 109     2: 105, then 900 (a fast clock)     3: 900 but for one 110
    closes   -                 100                                 105
    """
    window = BacklogWindow(pl.col("time"))
    assert turns(window, batch(list(range(100, 110)))) == [(list(range(10)), None)]
    assert turns(window, batch([105, *[900] * 9], 10)) == [(list(range(10, 20)), 100)]
    assert turns(window, batch([900] * 7, 20), batch([110, 900, 900, 900], 27)) == [(list(range(20, 30)), 105), ([30], None)]


@pytest.mark.usefixtures("small_blocks")
def test_blocks_are_the_same_however_events_are_read_and_wherever_a_task_starts_again() -> None:
    times = np.random.default_rng(7).integers(0, 1000, 95).tolist()
    whole = [turn for turn in turns(BacklogWindow(pl.col("time")), batch(times)) if turn[1] is not None]
    window, instants = BacklogWindow(pl.col("time")), []
    for first, until in [(0, 3), (3, 10), (10, 31), (31, 32), (32, 80), (80, 95)]:
        instants += [instant for _, instant in turns(window, batch(times[first:until], first)) if instant is not None]
        restored = BacklogWindow(pl.col("time"))
        restored.restore(window.snapshot())
        window = restored
    assert instants == [instant for _, instant in whole]
    assert len(instants) == 8


@pytest.mark.usefixtures("small_blocks")
def test_no_event_counts_for_more_than_the_time_of_its_append() -> None:
    window = BacklogWindow(pl.col("time"))
    assert [instant for _, instant in turns(window, batch([900] * 20, appended=500))] == [None, 500]


@pytest.mark.usefixtures("small_blocks")
def test_the_state_of_an_older_version_begins_a_block() -> None:
    window = BacklogWindow(pl.col("time"))
    turns(window, batch([1, 2, 3]))
    window.restore({"watermark": 17})
    assert turns(window, batch(list(range(10))))[0] == (list(range(10)), None)


def added_history(minutes: int, *others: Tick) -> Parts:
    """Add a history of yesterday, an event each five seconds, before anybody runs."""
    parts = parts_of("2024-03-08T14:30")
    ticks = ticks_every(timedelta(seconds=5), "2024-03-07T10:00", f"2024-03-07T10:{minutes}:00")
    for number in range(0, len(ticks), 7):
        parts.add(*ticks[number : number + 7])
        if number == 14 and others:
            parts.add(*others)
    return parts


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_a_long_backlog_closes_while_it_is_read_and_one_wrong_time_in_it_takes_nothing_from_the_others(rows: int) -> None:
    parts = added_history(50, tick("2030-01-01T00:00", symbol="B"), tick("2024-03-07T23:00", symbol="B"))
    process = Process(parts, batch_rows=rows).settle()
    outwait(parts, process.settle)
    minutes = [(minute, ticks) for _, minute, ticks in finals_of(parts)]
    assert minutes == [(minute, 12) for minute in range(len(minutes))]
    assert 40 <= len(minutes) < 50
    assert process.worker.tasks[0].open_buckets <= 12
    process.beat()
    process.settle()
    assert [(minute, ticks) for _, minute, ticks in finals_of(parts) if ticks][:50] == [(minute, 12) for minute in range(50)]
    assert parts.counters.late == 0


def test_a_short_backlog_waits_for_its_heartbeat() -> None:
    parts = added_history(50)
    process = Process(parts).settle()
    outwait(parts, process.settle)
    assert finals_of(parts) == []
    assert process.worker.tasks[0].open_buckets == 50
    assert (MINUTE // SECOND, len(parts.beats())) == (60, 0)


@pytest.mark.usefixtures("small_blocks")
def test_a_restart_in_the_middle_of_a_backlog_makes_the_same_of_it() -> None:
    def story(restarts: bool) -> Any:
        parts = added_history(30)
        parts.clock.jump(t("2024-03-08T14:30:02"))
        process = Process(parts, batch_rows=3)
        for _ in range(200):
            process = Process(parts, batch_rows=3) if restarts else process
            process.worker.step()
            outwait(parts, process.worker.step)
            process.worker.flush()
        return finals_of(parts), parts.counters.late

    assert story(restarts=True) == story(restarts=False)
    assert len(story(restarts=False)[0]) > 20
