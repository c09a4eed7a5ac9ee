"""Who makes the same bars on a cluster: any contexts share the work; changed declarations; older versions; wrong clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

import kandle
from kandle import Context, EventSet
from kandle import functions as f
from kandle.context.context import state_of
from kandle.errors import StateError
from kandle.sets.reading import rows
from kandle.time.clock import SystemClock
from kandle.time.timeframe import SECOND
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.waiting import LIMIT
from tools.kafka.cluster import Cluster


def named(app: Application, name: str, total: Any = f.sum, **window: Any) -> Any:
    """Return a context of another name over the topics of an application."""

    def on_model_creating(self: Context, model: kandle.ModelBuilder) -> None:
        model.entity(app.sum).to_query(
            lambda q: (
                q.from_(app.tick)
                .tumbling(lambda t: t.time, grace="3s", gaps=kandle.Gaps.SKIP, **({"seconds": 1} | window))
                .group_by(lambda t: t.code)
                .select(
                    lambda t, w: app.sum(code=t.code, start=w.start, number=total(t.number), ticks=f.count(), note=f.last(t.note))
                )
            )
        )

    sets = {"ticks": EventSet[app.tick], "sums": EventSet[app.sum]}  # type: ignore[name-defined]
    return type(name, (Context,), {"__annotations__": sets, "on_model_creating": on_model_creating})


def options(cluster: Cluster, instance: str = "one", **others: Any) -> dict[str, Any]:
    own = settings(cluster.bootstrap, session="6s", transaction="5s")
    return own | {"runtime": {"instance": instance} | others.pop("runtime", {})} | others


def doubled(market: Any, app: Application) -> list[Any]:
    """Return the finals that stand in their topic more than once."""
    keys = [key for frame in rows(state_of(market).log, app.finals) for key in frame.select("code", "start").rows()]
    return sorted({key for key in keys if keys.count(key) > 1})


def add(market: Any, app: Application, numbers: int) -> None:
    """Add as many ticks of now, of four keys."""
    for number in range(numbers):
        market.ticks.add(app.one(1, "abcd"[number % 4]))


def members(*markets: Any) -> list[tuple[int, ...]]:
    return [market.health().queries[0].partitions for market in markets]


def test_services_of_other_names_share_the_work_and_one_takes_over(cluster: Cluster) -> None:
    app = Application(partitions=4)
    one, two = named(app, "Tram"), named(app, "Metro")
    # Both have the same instance; they are told apart by the service.
    with one.open(**options(cluster)) as first:
        with two.open(**options(cluster, consumer={"group": "reports"})) as second:
            wait_until(lambda: [len(owned) for owned in members(first, second)] == [2, 2], first)
            add(second, app, 20)
            wait_until(lambda: summed(first, app) == (20, 20), first)
        add(first, app, 20)
        wait_until(lambda: summed(first, app) == (40, 40), first)
        assert doubled(first, app) == [] and first.health().queries[0].group == f"kandle-{app.name}_sums"


def test_a_changed_declaration_is_refused_and_replaces_the_former_one_once_that_is_stopped(cluster: Cluster) -> None:
    app = Application(partitions=2)
    changed = named(app, "Metro", seconds=(1, 5))
    replacing = options(cluster, "two", runtime={"replace": [f"{app.name}_sums"]})
    with named(app, "Tram").open(**options(cluster)) as first:
        add(first, app, 8)
        wait_until(lambda: sum(map(len, members(first))) == 2, first)
        with pytest.raises(StateError, match=r"declared otherwise by tram-one .* than by metro-two \(here\): timeframe 5s"):
            changed.open(**options(cluster, "two")).__enter__()
        with pytest.raises(StateError, match="cannot be replaced while processes run the former one"):
            changed.open(**replacing).__enter__()
        wait_until(lambda: summed(first, app) == (8, 8), first)
        add(first, app, 8)
    # Its open buckets are read again.
    with changed.open(**replacing) as second:
        add(second, app, 8)
        wait_until(lambda: summed(second, app) == (24, 24), second)
        assert doubled(second, app) == []
    with pytest.raises(StateError, match=r"declared otherwise by metro-two \(there, generation 2\) than by tram-one"):
        named(app, "Tram").open(**options(cluster)).__enter__()


def test_positions_of_the_group_of_an_older_version_are_taken_over(cluster: Cluster) -> None:
    app = Application(partitions=2)
    with named(app, "Tram").open(**options(cluster)) as market:
        add(market, app, 8)
        wait_until(lambda: summed(market, app) == (8, 8), market)
        wait_until(lambda: len(state_of(market).log.committed(app.group, app.ticks)) == 2, market)
        positions = state_of(market).log.committed(app.group, app.ticks)
    admin = AdminClient(cluster.client_properties())
    admin.delete_consumer_groups([app.group])[app.group].result(LIMIT)
    old = f"tram-{app.name}_sums"
    former_positions = [Place(app.ticks, number, offset) for number, offset in positions.items()]
    admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(old, former_positions)])[old].result(LIMIT)
    with named(app, "Tram").open(**options(cluster)) as market:
        wait_until(lambda: state_of(market).log.committed(app.group, app.ticks) == positions, market)
        add(market, app, 8)
        wait_until(lambda: summed(market, app) == (16, 16), market)
        assert doubled(market, app) == []


def test_positions_that_the_brokers_have_forgotten_are_those_of_the_state(cluster: Cluster) -> None:
    app = Application(partitions=2)
    with named(app, "Tram").open(**options(cluster)) as market:
        add(market, app, 8)
        wait_until(lambda: summed(market, app) == (8, 8), market)
    admin = AdminClient(cluster.client_properties())
    admin.delete_consumer_groups([app.group])[app.group].result(LIMIT)
    with named(app, "Tram").open(**options(cluster)) as market:
        add(market, app, 8)
        wait_until(lambda: summed(market, app) == (16, 16), market)
        assert doubled(market, app) == []


def test_heartbeats_are_stamped_by_the_brokers(cluster: Cluster) -> None:
    app = Application()
    with named(app, "Tram").open(**options(cluster)):
        resource = ConfigResource(ResourceType.TOPIC, f"{app.name}_sums_hb_1s")
        # The client is kept until the answer has come.
        admin = AdminClient(cluster.client_properties())
        (described,) = admin.describe_configs([resource]).values()
        assert described.result(LIMIT)["message.timestamp.type"].value == "LogAppendTime"


@pytest.mark.parametrize("seconds", [30, -30])
def test_a_leader_whose_clock_is_wrong_makes_no_event_late_and_stops_no_finals(cluster: Cluster, seconds: int) -> None:
    app = Application(partitions=2)
    now = datetime.now(UTC)
    wrong: dict[str, Any] = {"clock": {"start": now + timedelta(seconds=seconds), "since": now}}
    with named(app, "Tram").open(**options(cluster, **wrong)) as first:
        wait_until(lambda: first.health().queries[0].is_leader, first)
        with named(app, "Metro").open(**options(cluster, "two")) as second:
            for _ in range(10):
                # One who adds events and has the right clock.
                add(second, app, 4)
                SystemClock().pause(SECOND // 2)

            wait_until(lambda: summed(second, app) == (40, 40), second)
            late = [market.health().queries[0].counters.late for market in (first, second)]
            assert late == [0, 0] and doubled(second, app) == []
