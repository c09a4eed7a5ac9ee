"""Consuming on Kafka: policies as on the embedded log, handlers that are slow, and processes that are killed."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from confluent_kafka import Producer

from kandle import DataError, ModelBuilder, OnError
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND
from tests.sets.consumed import Job, Result, Site, Work, jobs
from tests.sets.policy_stories import OpenWork, PolicyStories
from tests.waiting import LIMIT, aside, result_of
from tools.kafka.cluster import Cluster


def work_of(cluster: Cluster, **consumer: str) -> OpenWork:
    """Return what opens contexts on topics of their own."""
    prefix = uuid.uuid4().hex[:8]

    class Prefixed(Work):
        def on_model_creating(self, model: ModelBuilder) -> None:
            for entity, name in ((Job, "jobs"), (Result, "results"), (Site, "sites")):
                model.entity(entity).topic(f"{prefix}_{name}")

    kafka: dict[str, Any] = {"bootstrap": cluster.bootstrap, "consumer": consumer}
    return lambda: Prefixed.open(log={"kind": "kafka"}, kafka=kafka)


class TestKafkaPolicies(PolicyStories):
    @pytest.fixture
    def open_work(self, cluster: Cluster) -> OpenWork:
        return work_of(cluster)


def test_records_that_cannot_be_read_follow_the_policy(cluster: Cluster) -> None:
    open_work = work_of(cluster)
    with open_work() as work:
        work.jobs.add_many(jobs(2))
        producer = Producer({"bootstrap.servers": cluster.bootstrap})
        for payload in (b"no record", b"none either"):
            producer.produce(work.jobs.topic, key=b"?", value=payload, partition=0)
        assert producer.flush(LIMIT) == 0
        work.jobs.add_many(jobs(4)[2:])
        seen: list[int] = []
        for _ in range(2):
            with pytest.raises(DataError, match=r"partition 0, offset 2: the record cannot be read"):
                work.jobs.for_each(lambda job: seen.append(job.number))
        assert seen == [0, 1]
        assert [job.number for job in work.jobs.on_error(OnError.DEAD_LETTER).limit(1)] == [2]
        letters = work.jobs.dead_letters().to_list()
        assert [(letter.offset, letter.payload) for letter in letters] == [(2, b"no record"), (3, b"none either")]
        assert [job.number for job in work.jobs.limit(1)] == [3]


def test_a_handler_slower_than_the_poll_interval_gets_on(cluster: Cluster) -> None:
    open_work = work_of(cluster, **{"max.poll.interval.ms": "6000", "session.timeout.ms": "6000"})
    seen: list[int] = []

    def handle(job: Job) -> None:
        SystemClock().pause(3_500 * MILLISECOND)
        seen.append(job.number)

    with open_work() as work:
        work.jobs.add_many(jobs(4))
        assert work.jobs.for_each(handle, limit=3) == 3
        assert work.jobs.for_each(handle, limit=1) == 1
    assert seen == [0, 1, 2, 3]


def test_members_that_join_while_messages_are_handled_do_nothing_twice(cluster: Cluster) -> None:
    open_work = work_of(cluster)
    wanted = sorted((key, number) for key in ("a", "d") for number in range(200))
    seen: list[tuple[str, int]] = []
    begun, never = threading.Event(), threading.Event()

    def consume(is_late: bool) -> None:
        with open_work() as work:
            if is_late:
                begun.wait(60)
            for message in work.jobs.messages(timeout="8s"):
                assert message.value is not None
                never.wait(0.01)
                seen.append((message.value.id, message.value.number))
                begun.set()

    with open_work() as work:
        work.jobs.add_many([Job(*of) for of in wanted])
    consumers = [aside(lambda: consume(False)), aside(lambda: consume(True))]
    for consumer in consumers:
        result_of(consumer)
    assert sorted(seen) == wanted
