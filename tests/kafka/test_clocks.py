"""Producers whose clocks are wrong, on a topic that keeps the producers' times: they take nothing from the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import kandle
from kandle import Context, EventSet, Key, Timestamp
from kandle import functions as f
from kandle.cli.server_checks import event_time_findings
from kandle.context.context import state_of
from kandle.context.options import Options
from kandle.log.port import TopicPartition
from kandle.plan.plan import plan
from kandle.time.clock import SystemClock
from kandle.time.timeframe import HOUR, MILLISECOND, MINUTE
from tests.waiting import LIMIT, wait_for
from tools.kafka.cluster import Cluster


def counting(topic: str) -> tuple[type[Context], Any]:
    """Return a context that counts the events of a topic by the minute, and the class of its bars."""

    @kandle.stream(topic, key_format="KAFKA", value_format="JSON")
    @dataclass(frozen=True)
    class Event:
        code: Annotated[str, Key(0)]
        time: Annotated[datetime, Timestamp()]

    @kandle.stream(f"{topic}_counts", value_format="JSON")
    @dataclass(frozen=True)
    class Count:
        code: Annotated[str, Key(0)]
        start: Annotated[datetime, Timestamp(), Key(1)]
        count: int

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(Count).to_query(
            lambda q: (
                q.from_(Event)
                .tumbling(lambda e: e.time, minutes=1, grace="1s")
                .group_by(lambda e: e.code)
                .select(lambda e, w: Count(code=e.code, start=w.start, count=f.count()))
            )
        )

    sets = {"events": EventSet[Event], "counts": EventSet[Count]}
    return type("Counting", (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating}), Count


def created(cluster: Cluster, **config: str) -> str:
    """Create a topic of one partition."""
    topic = f"events-{uuid4().hex[:6]}"
    # The reference is kept until the answer has come: a client that is garbage collected gives none.
    client = AdminClient({"bootstrap.servers": cluster.bootstrap})
    client.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(LIMIT)
    return topic


def test_a_clock_that_is_an_hour_fast_takes_nothing_from_the_others_while_nobody_was_there(cluster: Cluster) -> None:
    """
    minute     0   1   1 (says it is minute 61)   2   3   4   5         120: the worker starts
    """
    topic = created(cluster)
    base = (SystemClock().now() - 2 * HOUR) // MINUTE * MINUTE
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for code, minute in [("right", 0), ("right", 1), ("fast", 61), *(("right", minute) for minute in range(2, 6))]:
        time = (base + minute * MINUTE) // MILLISECOND
        producer.produce(topic, key=code, value=json.dumps({"time": time}), timestamp=time)
    assert producer.flush(LIMIT) == 0
    context, count = counting(topic)
    with context.open(log={"kind": "kafka"}, kafka={"bootstrap": cluster.bootstrap}) as market:
        # Gap bars fill the two hours once the first heartbeat has closed them.
        wait_for(lambda: market.time_bucket(count, "1m").to_list(["right"]), lambda bars: len(bars) >= 119)
        bars = market.time_bucket(count, "1m").to_list()
        assert market.health().queries[0].counters.late == 0
    assert [(bar.code, bar.count) for bar in bars if bar.count] == [("fast", 1), *[("right", 1)] * 6]


@pytest.mark.parametrize(("kind", "expected"), [("CreateTime", False), ("LogAppendTime", True)])
def test_a_batch_says_whether_its_times_are_of_the_brokers_clock(cluster: Cluster, kind: str, expected: bool) -> None:
    topic = created(cluster, **{"message.timestamp.type": kind})
    context, _ = counting(topic)
    with context.open(log={"kind": "kafka"}, kafka={"bootstrap": cluster.bootstrap}, access="write_only") as market:
        log = state_of(market).log
        producer = Producer({"bootstrap.servers": cluster.bootstrap})
        producer.produce(topic, key="a", value=json.dumps({"time": 0}), timestamp=1)
        assert producer.flush(LIMIT) == 0
        [batch] = log.read(TopicPartition(topic, 0), 0, 10)
        assert (batch.has_append_times, bool(batch.timestamps[0] > MINUTE)) == (expected, expected)
        assert batch.slice(0, 1).has_append_times is expected
    options = Options(log={"kind": "kafka"}, kafka={"bootstrap": cluster.bootstrap})
    [finding] = event_time_findings(options, [plan(query) for query in context.model().queries.values()])
    assert (finding.level, "prove nothing" in finding.message) == ("ok", not expected)
