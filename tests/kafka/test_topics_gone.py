"""Topics that are deleted under a worker: each is named, nothing wrong comes of it, and a restart goes on or says what to do.

The brokers make topics as soon as somebody asks for one by name, as they are set up by default; that must not happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

import kandle.runtime.runtime
from kandle import Context
from kandle.context.context import state_of
from kandle.errors import StateError, UnavailableError
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.brokers.needed import kafka_or_skip
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.waiting import LIMIT
from tools.kafka.cluster import Cluster

LATER = {"ticks": 101, "sums_1s_final": 110, "sums_hb_1s": 111}
"""By the topic that is deleted what the ticks that were kept sum up to, and those finals that were not deleted."""


@pytest.fixture(scope="module")
def careless() -> Iterator[Cluster]:
    """Start a broker that creates topics on demand."""
    kafka_or_skip()
    with Cluster(properties={"auto.create.topics.enable": "true", "num.partitions": "3"}) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kandle.runtime.runtime, "WATCH_INTERVAL", 0.5)


def options(cluster: Cluster, app: Application) -> dict[str, Any]:
    return settings(cluster.bootstrap, patience="5s", transaction="5s")


def deleted(cluster: Cluster, topic: str) -> AdminClient:
    admin = AdminClient(cluster.client_properties())
    admin.delete_topics([topic])[topic].result(LIMIT)
    return admin


def problem(market: Context) -> str:
    return market.health().queries[0].problem or ""


@pytest.mark.parametrize("kind", LATER)
def test_a_topic_that_is_deleted_is_named_and_a_restart_goes_on(
    careless: Cluster, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Application(partitions=2)
    topic = f"{app.name}_{kind}"
    with app.context.open(**options(careless, app)) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)
        admin = deleted(careless, topic)
        if kind == "ticks":
            with pytest.raises(UnavailableError, match=f"{topic}.*that the topic still exists"):
                market.ticks.add(app.one(10))
        else:
            market.ticks.add(app.one(10))
        wait_until(lambda: f"there is no topic {topic} any more; was it deleted?" in problem(market))
        SystemClock().pause(SECOND)
        assert topic not in admin.list_topics(timeout=LIMIT).topics
    assert f"there is no topic {topic} any more" in caplog.text
    with app.context.open(**options(careless, app)) as market:
        market.ticks.add(app.one(100))
        wait_until(lambda: summed(market, app)[0] == LATER[kind], market)
        assert state_of(market).log.topic(topic).partitions == 2
    assert (
        caplog.text.count(f"topic {topic} is missing, although Sum was computed before; if it was deleted, this is lost: ") == 1
    )
    assert "it stays as it is" not in caplog.text


def test_without_its_state_a_worker_does_not_go_on(careless: Cluster) -> None:
    app = Application()
    with app.context.open(**options(careless, app)) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)
        deleted(careless, f"{app.name}_sums_changelog")
        market.ticks.add(app.one(10))
        wait_until(lambda: f"there is no topic {app.name}_sums_changelog any more" in problem(market))
    with app.context.open(**options(careless, app)) as market:
        wait_until(lambda: market.problem is not None)
        assert isinstance(market.problem, StateError)
        assert summed(market, app) == (1, 1)
        assert f"the state of Sum is gone: topic {app.name}_sums_changelog" in str(market.problem)
