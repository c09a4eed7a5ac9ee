"""A barrier says whether its targets are reached; the gate lets heartbeats pass one group after the other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kandle.errors import UnavailableError
from kandle.log.port import GroupSpec, TopicPartition
from kandle.runtime.barrier import CopyBarrier, HeartbeatGate, NoBarrier, default_barrier
from kandle.runtime.planner import DueHeartbeat
from tests.runtime.building import Parts, beat, parts_of, tick
from tests.runtime.declarations import Declared, market


@dataclass
class Counting:
    """A barrier whose target is reached when `is_open`, and that counts its starts."""

    is_open: bool = False
    starts: int = 0
    is_down: bool = False

    def start(self) -> None:
        if self.is_down:
            raise UnavailableError("the brokers are away")
        self.starts += 1

    def is_reached(self) -> bool:
        if self.is_down:
            raise UnavailableError("the brokers are away")
        return self.is_open


FIRST, SECOND = beat("14:30"), beat("14:31")


def test_heartbeats_pass_when_the_target_is_reached() -> None:
    barrier = Counting()
    gate = HeartbeatGate(barrier)
    assert gate.passed([FIRST]) == []
    assert gate.passed([FIRST]) == []
    assert barrier.starts == 1
    barrier.is_open = True
    assert gate.passed([FIRST]) == [FIRST]


def test_heartbeats_that_fall_due_during_the_wait_get_a_target_of_their_own() -> None:
    barrier = Counting()
    gate = HeartbeatGate(barrier)
    assert gate.passed([FIRST]) == []
    barrier.is_open = True
    assert gate.passed([FIRST, SECOND]) == [FIRST]
    assert gate.passed([SECOND]) == [SECOND]
    assert barrier.starts == 2


def test_after_a_change_of_the_leader_the_wait_begins_anew() -> None:
    barrier = Counting()
    gate = HeartbeatGate(barrier)
    assert gate.passed([FIRST]) == []
    gate.reset()
    barrier.is_open = True
    assert gate.passed([SECOND]) == [SECOND]
    assert barrier.starts == 2


def test_a_failure_lets_nothing_pass_and_the_wait_goes_on_after_it() -> None:
    barrier = Counting(is_down=True)
    gate = HeartbeatGate(barrier)
    with pytest.raises(UnavailableError):
        gate.passed([FIRST])
    barrier.is_down = False
    assert gate.passed([FIRST]) == []
    barrier.is_down = True
    with pytest.raises(UnavailableError):
        gate.passed([FIRST])
    barrier.is_down, barrier.is_open = False, True
    assert gate.passed([FIRST]) == [FIRST]


def copied_parts() -> Parts:
    """Ticks that have to be copied by group key, since their producer chooses partitions otherwise."""
    return Parts(market(Declared({"minutes": 1}, partitions=2)), "14:30", partitions=3)


def commit(parts: Parts, **positions: int) -> None:
    """Commit positions of the source's partitions, as the tasks that copy it do."""
    consumer = parts.log.consumer(GroupSpec("copiers", ("ticks",), "one"))
    consumer.poll(0, 10)
    consumer.commit({TopicPartition("ticks", int(name[1:])): position for name, position in positions.items()})
    consumer.close()


def test_a_copy_is_waited_for_up_to_the_end_that_the_source_had_at_the_start() -> None:
    parts = copied_parts()
    parts.add(tick("14:30:10"), tick("14:30:20"), partition=1)
    barrier = CopyBarrier(parts.log, "copiers", ["ticks"])
    barrier.start()
    parts.add(tick("14:30:30"), partition=1)
    assert not barrier.is_reached()
    commit(parts, p1=1)
    assert not barrier.is_reached()
    commit(parts, p1=2)
    assert barrier.is_reached()
    barrier.start()
    assert not barrier.is_reached()


def test_every_partition_of_the_source_is_waited_for() -> None:
    parts = copied_parts()
    parts.add(tick("14:30:10"), partition=0)
    parts.add(tick("14:30:10"), partition=2)
    barrier = CopyBarrier(parts.log, "copiers", ["ticks"])
    barrier.start()
    commit(parts, p0=1)
    assert not barrier.is_reached()
    commit(parts, p2=1)
    assert barrier.is_reached()


def test_only_a_copy_needs_a_barrier() -> None:
    together, copied = parts_of(), copied_parts()
    assert isinstance(default_barrier(together.log, together.topics), NoBarrier)
    assert isinstance(default_barrier(copied.log, copied.topics), CopyBarrier)


def test_where_nothing_can_lag_heartbeats_pass_at_once() -> None:
    beats: list[DueHeartbeat] = [FIRST, SECOND]
    assert HeartbeatGate(NoBarrier()).passed(beats) == beats
