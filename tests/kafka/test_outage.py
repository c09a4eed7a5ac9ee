"""Brokers that are down: at the start, and while a worker and a producer run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kandle.context.opened
from kandle.errors import UnavailableError
from kandle.runtime.preparing import prepare_topics
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.brokers.needed import kafka_or_skip
from tests.kafka.summing import Application, settings, summed, wait_until
from tools.kafka.cluster import Cluster
from tools.kafka.ports import free_ports

PARTS = 8


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A broker that may be killed."""
    kafka_or_skip()
    with Cluster() as cluster:
        yield cluster


def test_brokers_that_are_not_there_are_waited_for_and_then_named() -> None:
    (port,) = free_ports(1)
    app, began = Application(), SystemClock().steady()
    with pytest.raises(UnavailableError, match=f"Kafka at 127.0.0.1:{port}.*kafka.bootstrap"):
        app.context.open(**settings(f"127.0.0.1:{port}", patience="1s")).__enter__()
    assert SystemClock().steady() - began >= SECOND


def outage(cluster: Cluster, said: pytest.LogCaptureFixture, seconds: int) -> None:
    """Stop the broker of a worker and a producer for a while: it is logged, and each tick is summed once."""
    app, ahead = Application(partitions=2), seconds + 20
    said.set_level(logging.INFO)
    with app.context.open(**settings(cluster.bootstrap, patience="90s")) as market:
        market.ticks.add(app.one(1, ahead=ahead))
        wait_until(lambda: market.health().queries[0].counters.events == 1, market)
        # Made now: how far their time is ahead must not depend on how long each of them waits to be added.
        ticks = [app.one(10, ahead=ahead) for _ in range(PARTS)]
        cluster.broker(1).kill()
        adding = threading.Thread(target=lambda: [market.ticks.add(tick) for tick in ticks])
        adding.start()
        SystemClock().pause(seconds * SECOND)
        cluster.broker(1).start()
        adding.join()
        wait_until(lambda: summed(market, app)[1] > PARTS, market)
        assert summed(market, app) == (1 + 10 * PARTS, 1 + PARTS)
        # Said when nothing more was heard of it for a while.
        wait_until(lambda: f"Kafka at {cluster.bootstrap}: back" in said.messages, market)
    messages = said.messages
    # Once, and once more by clients that hear of it late; not with every attempt.
    assert 1 <= sum("brokers are down" in message for message in messages) <= 3


@pytest.mark.soak
def test_worker_and_producer_go_on_after_an_outage_beyond_their_session(own: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    outage(own, caplog, 8)


@pytest.mark.soak
def test_worker_and_producer_go_on_after_a_minute_without_broker(own: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    outage(own, caplog, 60)


def test_a_start_waits_for_partitions_that_have_no_leader(
    own: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, attempts = Application(), list[int]()

    def prepared(*arguments: Any, **options: Any) -> Any:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise UnavailableError("offsets of ticks: partitions have had no leader for 30s")
        return prepare_topics(*arguments, **options)

    monkeypatch.setattr(kandle.context.opened, "prepare_topics", prepared)
    monkeypatch.setattr(kandle.context.opened, "START_INTERVAL", 0)
    with app.context.open(**settings(own.bootstrap)) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)
    assert "the start waits: offsets of ticks: partitions have had no leader for 30s" in caplog.messages
