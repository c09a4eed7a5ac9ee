"""Partitions that are added to the topic of the events: neither heartbeats nor events close a bucket any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kandle.errors import SchemaError
from kandle.log.embedded.log import EmbeddedLog
from kandle.plan.query_topics import query_topics
from kandle.time.clock import ManualClock
from tests.runtime.building import GROUP, Parts, Process, finals_of, parts_of, t, tick
from tests.runtime.declarations import bars_market

NAMED = r"topic ticks has 2 partitions now, and had 1 when Bar began.*start it again.*bars_repartition.*1 partition$"


class Growing(EmbeddedLog):
    """A log to whose ticks a partition is added when it is told so."""

    added = 0
    counted = 0

    def partition_count(self, topic: str) -> int:
        self.counted += topic == "ticks"
        return super().partition_count(topic) + self._more(topic)

    def ends(self, topic: str) -> list[int]:
        return [*super().ends(topic), *[0] * self._more(topic)]

    def _more(self, topic: str) -> int:
        return self.added if topic == "ticks" else 0


def growing() -> tuple[Growing, Parts, Process]:
    """Return a log, and a process that has read one tick of 14:30."""
    log = Growing(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log)
    parts.add(tick("14:30:10"))
    process = Process(parts).settle()
    parts.clock.jump(t("14:31:30"))
    return log, parts, process


def of_an_event(parts: Parts, process: Process) -> None:
    parts.add(tick("14:31:20"))
    process.settle()


def of_a_heartbeat(parts: Parts, process: Process) -> None:
    process.beat()
    process.settle()


def of_an_assignment(parts: Parts, process: Process) -> None:
    process.worker.close()
    Process(parts, member="two").settle()


@pytest.mark.parametrize("close", [of_an_event, of_a_heartbeat, of_an_assignment])
def test_nothing_is_closed_because(close: Callable[[Parts, Process], Any]) -> None:
    """
    ticks 0    14:30:10 |            | 14:31:20
    ticks 1             | is added   | what has moved here is read by nobody
    """
    log, parts, process = growing()
    log.added = 1
    with pytest.raises(SchemaError, match=NAMED):
        close(parts, process)
    assert finals_of(parts) == []
    assert parts.log.committed(GROUP, "ticks") == {0: 1}


@pytest.mark.parametrize("close", [of_an_event, of_a_heartbeat])
def test_without_more_partitions_the_same_closes_the_bucket(close: Callable[[Parts, Process], Any]) -> None:
    _, parts, process = growing()
    close(parts, process)
    assert finals_of(parts) == [("A", 30, 1)]


def test_a_key_that_has_moved_is_no_wrong_key_but_names_the_partitions() -> None:
    log = Growing(None, ManualClock(t("14:30")))
    parts = Parts(bars_market(minutes=1), "14:30", log=log, partitions=2)
    process = Process(parts).settle()
    log.added = 1
    parts.add(tick("14:30:10", symbol="A"), tick("14:30:10", symbol="D"))
    with pytest.raises(SchemaError, match="topic ticks has 3 partitions now, and had 2"):
        process.settle()


def test_the_number_of_tasks_is_that_of_the_state() -> None:
    plan = parts_of().plan
    direct, grown = query_topics(plan, 2, state_partitions=2), query_topics(plan, 5, state_partitions=2)
    assert (direct.partitions, direct.is_repartitioned, direct.events) == (2, False, "ticks")
    assert (grown.partitions, grown.is_repartitioned, grown.events) == (2, True, "bars_repartition")
    assert {spec.partitions for spec in grown.specs} == {2}
    assert query_topics(plan, 5).partitions == 5


def test_partitions_are_counted_once_for_all_commits_of_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    heartbeat      14:35
    commits        14:30 | 14:31 | 14:32 | 14:33 | 14:34
    counted        x
    """
    monkeypatch.setattr("kandle.runtime.tasks.FINALS_AT_ONCE", 1)
    monkeypatch.setattr("kandle.runtime.tasks.FINALS_PER_COMMIT", 1)
    log, parts, process = growing()
    parts.clock.jump(t("14:35:30"))
    process.beat()
    before, at = log.counted, log.committed(GROUP, parts.topics.heartbeats)
    process.settle()
    assert len(finals_of(parts)) == 5
    assert parts.counters.commits > 3
    assert log.counted == before + 1, (at, parts.counters)
