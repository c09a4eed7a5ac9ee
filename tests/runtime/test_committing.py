"""One commit for all that belongs together: outputs, state and positions are kept, or nothing is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import kandle.runtime.committing
from kandle.errors import DataError, UnavailableError
from kandle.log.embedded.batches import PreparedBatch
from kandle.log.embedded.log import EmbeddedLog
from kandle.runtime.counters import QueryState
from kandle.runtime.reading import KeyPlacement
from kandle.time.clock import ManualClock
from kandle.time.timeframe import HOUR, MILLISECOND, SECOND
from tests.runtime.building import (
    FINALS,
    GROUP,
    Parts,
    Process,
    bars,
    beat,
    finals_of,
    outwait,
    parts_of,
    t,
    tick,
)
from tests.runtime.declarations import bars_market


class Breaking(EmbeddedLog):
    """A log that fails in the middle of a commit, after some of its records were written, when it is told to."""

    breaks_after: int | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._append = self._batches.append
        self._batches.append = self._append_some  # type: ignore[method-assign]

    def _append_some(self, prepared: Sequence[PreparedBatch]) -> list[int]:
        if self.breaks_after is None:
            return self._append(prepared)
        self._append(prepared[: self.breaks_after])
        raise UnavailableError("the disk is full")


def positions(parts: Parts) -> dict[str, dict[int, int]]:
    return {topic: parts.log.committed(GROUP, topic) for topic in ("ticks", "bars_hb_1m")}


@pytest.mark.parametrize("breaks_after", [0, 1, 2, 3])
def test_finals_live_bars_state_and_positions_are_kept_together_or_not_at_all(breaks_after: int) -> None:
    log = Breaking(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=(1, 5)), "14:30", log=log)
    process = Process(parts)
    parts.add(tick("14:30:10"))
    process.settle()
    topics = [FINALS, "bars_1m_live", "bars_5m_final", "bars_5m_live", "bars_changelog"]
    before = {topic: log.ends(topic) for topic in topics}, positions(parts)
    parts.add(tick("14:30:20"), tick("14:31:10"))
    parts.clock.jump(t("14:31"))
    process.beat()
    log.breaks_after = breaks_after
    with pytest.raises(UnavailableError):
        process.worker.step()
    assert ({topic: log.ends(topic) for topic in topics}, positions(parts)) == before
    log.breaks_after = None
    Process(parts).settle()
    assert finals_of(parts) == [("A", 30, 2)]
    assert positions(parts) == {"ticks": {0: 3}, "bars_hb_1m": {0: 1}}
    assert log.ends("bars_changelog")[0] > before[0]["bars_changelog"][0]


@pytest.mark.parametrize("leave", ["close", "flush"])
def test_after_a_commit_that_failed_nothing_is_written_of_what_was_half_done(leave: str) -> None:
    """
    first    reads e0, commit fails, leaves
    second                              reads e0, commits it once
    """
    log = Breaking(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=(1, 5)), "14:30", log=log)
    process = Process(parts).settle()
    parts.add(tick("14:30:20"))
    log.breaks_after = 0
    with pytest.raises(UnavailableError):
        process.settle()
    log.breaks_after = None
    getattr(process.worker, leave)()
    second = Process(parts).settle()
    parts.clock.jump(t("14:31"))
    second.beat()
    second.settle()
    assert finals_of(parts) == [("A", 30, 1)]


def test_after_an_event_that_cannot_be_processed_nothing_is_written_of_those_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of()
    parts.add(tick("14:30:05"))
    process = Process(parts).settle()
    parts.add(tick("14:30:10"))
    process.worker.step()
    assert process.worker.tasks[0].is_dirty
    with monkeypatch.context() as patched:
        patched.setattr(KeyPlacement, "check", lambda *_: (_ for _ in ()).throw(DataError("in the wrong partition")))
        parts.add(tick("14:30:20"))
        with pytest.raises(DataError):
            process.worker.step()
        process.worker.close()
    second = Process(parts).settle()
    parts.clock.jump(t("14:31"))
    second.beat()
    second.settle()
    assert finals_of(parts) == [("A", 30, 3)]


def test_a_process_that_lost_its_partition_writes_nothing_and_goes_back_to_what_was_committed() -> None:
    """
    old      reads e0 e1 ........... would commit, is fenced
    new                   reads e0 e1 e2, commits
    """
    parts = parts_of(minutes=(1, 5))
    parts.add(tick("14:30:10"))
    old = Process(parts).settle()
    parts.add(tick("14:30:20"))
    old.worker.step()
    assert old.worker.tasks[0].is_dirty
    parts.clock.jump(t("14:31:30"))
    parts.add(tick("14:31:10"))
    new = Process(parts, member="two").settle()
    # No heartbeat comes that could be waited for.
    outwait(parts, new.settle)
    # The lease of the old one is over, and the new one has made the final.
    assert finals_of(parts) == [("A", 30, 2)]
    ends = {topic.name: parts.log.ends(topic.name) for topic in parts.log.topics()}
    old.worker.flush()
    assert parts.counters.fenced == 1
    assert {topic.name: parts.log.ends(topic.name) for topic in parts.log.topics()} == ends
    for _ in range(3):
        old.settle()
    assert finals_of(parts) == [("A", 30, 2)]


def test_a_process_that_was_replaced_by_one_of_its_name_gives_up() -> None:
    """Static membership: the newer process of a name takes the place of the older one, for good."""
    parts = parts_of()
    old = Process(parts)
    parts.add(tick("14:30:10"))
    old.worker.step()
    Process(parts).settle()
    old.worker.run()
    assert old.worker.state is QueryState.FAILED
    assert str(old.worker.problem) == (
        f"another process has joined group {GROUP} as 'one'; give each process a name of its own (option runtime.instance)"
    )
    assert not old.worker.tasks
    assert not old.leadership.is_leader


def test_live_bars_of_a_backlog_leave_once_a_second_and_all_of_them_once_it_is_caught_up() -> None:
    """
    clock        30:10       30:15.0   .1   .2   ...   30:16.0   .1   .2
    events       20 appended    1      1    1             all
    live bars                   *                          *          *
    """
    parts = parts_of("14:30:10")
    for _ in range(20):
        parts.add(tick("14:30:10"))
    parts.clock.jump(t("14:30:15"))
    process = Process(parts, commit_interval=100 * MILLISECOND, batch_rows=1)

    def live() -> int:
        return parts.log.ends("bars_1m_live")[0]

    seen = []
    for _ in range(10):
        process.worker.step()
        seen.append(live())
        parts.clock.jump(parts.clock.now() + 100 * MILLISECOND)
    assert seen == [1] * 10
    process.worker.step()
    assert live() == 2
    while process.worker.step():
        pass
    for _ in range(2):
        parts.clock.jump(parts.clock.now() + 100 * MILLISECOND)
        process.worker.step()
    assert live() == 3
    assert [bar.ticks for bar in bars(parts.log, "bars_1m_live")][-1] == 20


def test_live_bars_leave_once_an_interval_and_finals_at_once() -> None:
    """
    clock        30:10    30:10.5    30:11
    events         1         2
    commits        *                   *      the second event waits for the end of the interval
    """
    parts = parts_of("14:30:10")
    process = Process(parts, commit_interval=SECOND)
    parts.add(tick("14:30:10"))
    process.worker.step()
    assert parts.counters.commits == 1
    parts.clock.jump(t("14:30:10") + SECOND // 2)
    parts.add(tick("14:30:10"))
    process.worker.step()
    assert parts.counters.commits == 1
    parts.clock.jump(t("14:30:11"))
    process.worker.step()
    assert parts.counters.commits == 2
    parts.clock.jump(t("14:30:11") + 1)
    parts.add(tick("14:30:11"))
    process.sender.send([beat("14:29")])
    process.worker.step()
    assert parts.counters.commits == 2
    process.sender.send([beat("14:30")])
    process.worker.step()
    # The final of 14:30 does not wait for the interval.
    assert (parts.counters.commits, finals_of(parts)) == (3, [("A", 30, 3)])


def test_many_events_are_committed_before_the_interval_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kandle.runtime.committing, "EVENTS_PER_COMMIT", 3)
    parts = parts_of()
    worker = parts.worker(commit_interval=HOUR)
    parts.add(tick("14:30:10"))
    worker.step()
    before = parts.counters.commits
    parts.add(tick("14:30:11"), tick("14:30:12"))
    worker.step()
    assert parts.counters.commits == before
    parts.add(tick("14:30:13"))
    worker.step()
    assert parts.counters.commits == before + 1


def test_a_block_that_fails_is_followed_by_a_restart_from_the_last_commit() -> None:
    parts = parts_of()
    process = Process(parts, commit_interval=1)
    parts.add(tick("14:30:10"))
    process.settle()
    committer = process.worker._committer
    before = dict(process.worker.tasks)
    with pytest.raises(UnavailableError), committer.guard():
        raise UnavailableError("the disk is full")
    process.worker.flush()
    assert dict(process.worker.tasks) == before
    committer.restore_if_failed()
    after = dict(process.worker.tasks)
    assert after.keys() == before.keys() and after[0] is not before[0]
    committer.restore_if_failed()
    assert process.worker.tasks[0] is after[0]
