"""Heartbeats wait until the queries of ksqlDB have made something of all that was in the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

from kandle.errors import UnavailableError
from kandle.ksqldb.progress import ASKED_EVERY, Hop, QueryBarrier
from kandle.log.port import TopicPartition
from kandle.runtime.barrier import HeartbeatGate
from kandle.time.clock import ManualClock
from tests.runtime.building import beat, t

GROUP = "_confluent-ksql-app_query_CTAS_BARS_1"
INNER = f"{GROUP}-Aggregate-GroupBy-repartition"


@dataclass
class Cluster:
    """Ends and committed positions by topic, one partition each."""

    ends: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    is_down: bool = False

    def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
        return {TopicPartition(topic, 0): (0, self.ends[topic]) for topic in topics}

    def committed(self, group: str, places: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.is_down:
            raise UnavailableError("the brokers are away")
        return {place: self.done[place.topic] for place in places if place.topic in self.done}

    def inner_topics(self, group: str) -> list[str]:
        return [topic for topic in self.ends if topic.startswith(f"{group}-")]


class Waiting:
    """A barrier before a cluster whose clock moves on with each question."""

    def __init__(self, cluster: Cluster, *hops: Hop) -> None:
        self.clock = ManualClock(t("14:30"))
        self.hops: tuple[Hop, ...] | None = hops
        self.gate = HeartbeatGate(QueryBarrier(cluster, lambda: self.hops, self.clock))

    def passed(self, *starts: str) -> list[str]:
        self.clock.jump(self.clock.now() + ASKED_EVERY)
        return [f"{(each.start - t('14:00')) // 60_000_000}" for each in self.gate.passed([beat(start) for start in starts])]


def test_the_barrier_waits_for_the_source_then_for_internal_topics() -> None:
    cluster = Cluster({"ticks": 10, INNER: 3}, {"ticks": 9, INNER: 3})
    waiting = Waiting(cluster, Hop(GROUP, ("ticks",)))
    assert waiting.passed("14:29") == []
    # The last tick has been handed on, so now there is one more record inside.
    cluster.done["ticks"], cluster.ends[INNER] = 10, 4
    assert waiting.passed("14:29") == []
    cluster.done[INNER] = 4
    assert waiting.passed("14:29") == ["29"]


def test_later_records_of_the_source_do_not_delay_the_barrier() -> None:
    cluster = Cluster({"ticks": 10}, {"ticks": 9})
    waiting = Waiting(cluster, Hop(GROUP, ("ticks",)))
    assert waiting.passed("14:29") == []
    cluster.ends["ticks"], cluster.done["ticks"] = 99, 10
    assert waiting.passed("14:29") == ["29"]


def test_heartbeats_that_fall_due_meanwhile_do_not_hold_up_those_before_them() -> None:
    cluster = Cluster({"ticks": 10}, {"ticks": 0})
    waiting = Waiting(cluster, Hop(GROUP, ("ticks",)))
    assert waiting.passed("14:29") == []
    cluster.ends["ticks"] = 20
    cluster.done["ticks"] = 10
    assert waiting.passed("14:29", "14:30") == ["29"]
    assert waiting.passed("14:30") == []
    cluster.done["ticks"] = 20
    assert waiting.passed("14:30") == ["30"]


def test_the_barrier_waits_for_consecutive_queries_in_order() -> None:
    first, second = "first", "second"
    cluster = Cluster({"ticks": 5, "ticks_in_session": 4}, {"ticks": 4, "ticks_in_session": 4})
    waiting = Waiting(cluster, Hop(first, ("ticks",)), Hop(second, ("ticks_in_session",)))
    assert waiting.passed("14:29") == []
    cluster.done["ticks"], cluster.ends["ticks_in_session"] = 5, 5
    assert waiting.passed("14:29") == []
    cluster.done["ticks_in_session"] = 5
    assert waiting.passed("14:29") == ["29"]


def test_a_query_that_is_created_again_has_to_catch_up_first() -> None:
    cluster = Cluster({"ticks": 10}, {"ticks": 9})
    waiting = Waiting(cluster, Hop("old", ("ticks",)))
    assert waiting.passed("14:29") == []
    waiting.hops, cluster.done["ticks"] = None, 10
    assert waiting.passed("14:29") == []
    waiting.hops, cluster.done["ticks"] = (Hop("new", ("ticks",)),), 2
    assert waiting.passed("14:29") == []
    cluster.done["ticks"] = 10
    assert waiting.passed("14:29") == ["29"]


def test_records_that_retention_removed_do_not_delay_the_barrier() -> None:
    class Emptied(Cluster):
        def bounds(self, topics: Collection[str]) -> Mapping[TopicPartition, tuple[int, int]]:
            return {TopicPartition(topic, 0): (10, 10) for topic in topics}

    assert Waiting(Emptied(), Hop(GROUP, ("ticks",))).passed("14:29") == ["29"]


def test_a_failed_request_does_not_reach_the_barrier() -> None:
    cluster = Cluster({"ticks": 10}, {"ticks": 9}, is_down=True)
    waiting = Waiting(cluster, Hop(GROUP, ("ticks",)))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            waiting.passed("14:29")
    cluster.is_down = False
    assert waiting.passed("14:29") == []
    cluster.done["ticks"] = 10
    assert waiting.passed("14:29") == ["29"]


def test_requests_to_brokers_are_limited() -> None:
    cluster = Cluster({"ticks": 10}, {"ticks": 9})
    waiting = Waiting(cluster, Hop(GROUP, ("ticks",)))
    assert waiting.passed("14:29") == []
    cluster.done["ticks"] = 10
    assert waiting.gate.passed([beat("14:29")]) == []
    assert waiting.passed("14:29") == ["29"]
