"""Consuming on Kafka: policies as on the embedded log, handlers that are slow, and processes that are killed."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from kandle import ModelBuilder
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND
from tests.sets.consumed import Job, Place, Result, Work, jobs
from tests.sets.policy_stories import OpenWork, PolicyStories
from tests.waiting import aside, result_of
from tools.kafka.cluster import Cluster


def work_of(cluster: Cluster, **consumer: str) -> OpenWork:
    """Return what opens contexts on topics of their own."""
    prefix = uuid.uuid4().hex[:8]

    class Prefixed(Work):
        def on_model_creating(self, model: ModelBuilder) -> None:
            for entity, name in ((Job, "jobs"), (Result, "results"), (Place, "places")):
                model.entity(entity).topic(f"{prefix}_{name}")

    kafka: dict[str, Any] = {"bootstrap": cluster.bootstrap, "consumer": consumer}
    return lambda: Prefixed.open(log={"kind": "kafka"}, kafka=kafka)


class TestKafkaPolicies(PolicyStories):
    @pytest.fixture
    def open_work(self, cluster: Cluster) -> OpenWork:
        return work_of(cluster)


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
