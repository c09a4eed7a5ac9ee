"""Partitions that somebody adds to the topic of a running query: no bucket is closed without its events.

partitions of ticks   0           0 1 2
keys a .. f           in 0        some have moved to 1 and 2
"""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from kandle import Context
from kandle.context.context import state_of
from kandle.runtime.counters import QueryState
from tests import waiting
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.waiting import LIMIT
from tools.kafka.cluster import Cluster

CODES = "abcdefgh"
AHEAD = 20


def add_partitions(cluster: Cluster, topic: str, count: int) -> None:
    admin = AdminClient(cluster.client_properties())
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(LIMIT)


def add_to_all(market: Context, app: Application, number: int, ahead: int = AHEAD) -> None:
    """Add one tick for each code, all in the same bucket."""
    tick = app.one(number, ahead=ahead)
    market.ticks.add_many([replace(tick, code=code) for code in CODES])  # type: ignore[attr-defined]


def is_spread(market: Context, app: Application, partitions: int) -> bool:
    """Return whether the log knows so many partitions of the ticks, with something in more than one."""
    ends = state_of(market).log.ends(app.ticks)
    return len(ends) == partitions and sum(end > 0 for end in ends) > 1


def failed(market: Context) -> str:
    """Wait until the query has stopped, and return why."""
    waiting.wait_until(lambda: market.health().queries[0].state is QueryState.FAILED, seen=market.health)
    return market.health().queries[0].problem or ""


def test_a_query_over_the_topic_itself_stops_by_name_and_goes_on_with_its_state_when_it_is_started_again(
    cluster: Cluster,
) -> None:
    app = Application()
    with app.context.open(**settings(cluster.bootstrap)) as market:
        add_to_all(market, app, 1)
        wait_until(lambda: market.health().queries[0].counters.events == len(CODES), market)
        add_partitions(cluster, app.ticks, 3)
        waiting.wait_until(lambda: len(state_of(market).log.ends(app.ticks)) == 3)
        waiting.wait_until(lambda: state_of(market).log.topic(app.ticks).partitions == 3)
        add_to_all(market, app, 10)
        assert is_spread(market, app, 3)
        problem = failed(market)
        assert summed(market, app) == (0, 0)
    for words in (f"topic {app.ticks} has 3 partitions now, and had 1", "start it again", f"{app.name}_sums_repartition"):
        assert words in problem
    with app.context.open(**settings(cluster.bootstrap)) as market:
        add_to_all(market, app, 100, ahead=AHEAD + 10)
        wait_until(lambda: summed(market, app)[1] >= 3 * len(CODES), market)
        assert summed(market, app) == (111 * len(CODES), 3 * len(CODES))
        assert len(state_of(market).log.ends(app.finals)) == 1


def test_a_query_that_copies_by_group_key_goes_on_by_itself(cluster: Cluster) -> None:
    app = Application(partitions=2, target=4)
    with app.context.open(**settings(cluster.bootstrap)) as market:
        add_to_all(market, app, 1)
        wait_until(lambda: market.health().queries[0].counters.events == len(CODES), market)
        add_partitions(cluster, app.ticks, 7)
        waiting.wait_until(lambda: state_of(market).log.topic(app.ticks).partitions == 7)
        add_to_all(market, app, 10)
        assert is_spread(market, app, 7)
        wait_until(lambda: summed(market, app)[1] >= 2 * len(CODES), market)
        assert summed(market, app) == (11 * len(CODES), 2 * len(CODES))
    with app.context.open(**settings(cluster.bootstrap)) as market:
        add_to_all(market, app, 100, ahead=10)
        wait_until(lambda: summed(market, app)[1] >= 3 * len(CODES), market)
        assert summed(market, app) == (111 * len(CODES), 3 * len(CODES))
