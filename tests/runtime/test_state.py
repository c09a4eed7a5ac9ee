"""The state of a task after a restart: from its snapshots and changes, and of no other query."""

from __future__ import annotations

from typing import Any

import pytest

import kandle.runtime.state
from kandle import Gaps
from kandle.errors import StateError
from kandle.log.port import TopicPartition
from tests.runtime.building import (
    Parts,
    Process,
    bars,
    finals_of,
    parts_of,
    read,
    t,
    tick,
)
from tests.runtime.declarations import bars_market


def test_a_restored_task_goes_on_as_if_nothing_had_happened() -> None:
    parts = parts_of(minutes=(1, 5))
    for minute in range(30, 41):
        parts.clock.jump(t(f"14:{minute}:30"))
        process = Process(parts)
        process.worker.step()
        process.beat()
        parts.add(tick(f"14:{minute}:10", minute))
        process.settle()
    assert parts.counters.restored == 10
    assert finals_of(parts) == [("A", minute, 1) for minute in range(30, 40)]
    five = [(bar.start.minute, bar.open, bar.close, bar.ticks) for bar in bars(parts.log, "bars_5m_final")]
    assert five == [(30, 30, 34, 5), (35, 35, 39, 5)]


def test_live_bars_of_a_restored_task_are_sent_again() -> None:
    """They may not have left before the end of the process."""
    parts = parts_of()
    parts.add(tick("14:30:10", 5))
    Process(parts).settle()
    before = parts.log.ends("bars_1m_live")[0]
    parts.add(tick("14:30:20", 6, symbol="B"))
    Process(parts).settle()
    live = bars(parts.log, "bars_1m_live")[before:]
    assert sorted((bar.symbol, bar.close) for bar in live) == [("A", 5), ("B", 6)]


def test_a_snapshot_is_written_first_and_again_when_changes_have_outgrown_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kandle.runtime.state, "LEAST_CHANGES", 20_000)
    parts = parts_of()
    process = Process(parts)
    place = TopicPartition("bars_changelog", 0)
    kinds: list[str] = []
    for second in range(60):
        parts.add(tick(f"14:30:{second:02d}"))
        process.settle()
        kinds.append(read(parts.log, "bars_changelog")[-1].records.frame["kind"][-1])
    assert kinds[0] == "snapshot"
    again = [number for number, kind in enumerate(kinds) if kind == "snapshot"]
    assert 2 <= len(again) <= 30
    assert kinds.count("change") > 20
    # Nothing is kept that stands before the newest one.
    assert parts.log.first(place) == again[-1]
    assert parts.log.ends("bars_changelog")[0] == 60


def test_a_commit_that_changes_nothing_of_the_state_writes_none() -> None:
    parts = parts_of()
    process = Process(parts)
    parts.add(tick("14:30:10"))
    process.settle()
    ends = parts.log.ends("bars_changelog")
    process.settle()
    process.worker.flush()
    assert parts.log.ends("bars_changelog") == ends


@pytest.mark.parametrize(
    "changed",
    [
        {"minutes": (1, 15)},
        {"minutes": (1, 5), "gaps": Gaps.SKIP},
        {"minutes": (1, 5), "hours": 1},
        {"minutes": (1, 5), "days": 1, "tz": "Europe/Berlin"},
    ],
)
def test_state_of_another_query_is_refused_by_name(changed: dict[str, Any]) -> None:
    parts = parts_of(minutes=(1, 5))
    parts.add(tick("14:30:10"))
    Process(parts).settle()
    other = Parts(bars_market(**changed), "14:30", log=parts.log)  # type: ignore[arg-type]
    expected = "the state in topic bars_changelog belongs to another declaration of Bar: run the one that made it, or give Bar "
    with pytest.raises(StateError, match=expected):
        Process(other).settle()


def test_another_grace_is_no_other_query() -> None:
    parts = parts_of(minutes=(1, 5))
    parts.add(tick("14:30:10"))
    Process(parts).settle()
    other = Parts(bars_market(minutes=(1, 5), grace="5s"), "14:30", log=parts.log)  # type: ignore[arg-type]
    other.clock.jump(t("14:31:05"))
    process = Process(other).settle()
    process.beat()
    process.settle()
    assert finals_of(other) == [("A", 30, 1)]
