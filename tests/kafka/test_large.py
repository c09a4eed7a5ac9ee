"""Records that are larger than a topic takes: named with the setting to raise, and made once it is raised."""

from __future__ import annotations

import random

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from kandle.errors import DataError
from tests.kafka.reading import everything
from tests.kafka.summing import Application, settings, summed, wait_until
from tests.waiting import LIMIT

NOTE = "".join(random.Random(7).choices([chr(code) for code in range(0x100, 0x800)], k=20_000))
"""Text that no compression makes small."""


def limit(bootstrap: str, topic: str, size: int) -> None:
    """Have the brokers take no larger records for a topic."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(LIMIT)


def test_add_names_the_topic_and_both_limits(bootstrap: str) -> None:
    app = Application()
    with app.context.open(access="write_only", **settings(bootstrap)) as market:
        with pytest.raises(DataError, match=rf"topic {app.ticks}: a record of .* bytes is larger than .*message\.max\.bytes"):
            market.ticks.add(app.one(1, note=NOTE * 40))
        limit(bootstrap, app.ticks, 10_000)
        with pytest.raises(
            DataError, match=rf"{app.ticks}: .*; raise max\.message\.bytes of the topic, and message\.max\.bytes in"
        ):
            market.ticks.add(app.one(1, note=NOTE))
    assert everything(bootstrap, app.ticks) == []


@pytest.mark.parametrize("kind", ["sums_1s_final", pytest.param("sums_changelog", marks=pytest.mark.soak)])
def test_a_worker_whose_output_is_too_large_ends_with_the_name_and_loses_nothing(bootstrap: str, kind: str) -> None:
    app = Application()
    topic = f"{app.name}_{kind}"
    with app.context.open(**settings(bootstrap)) as market:
        market.ticks.add(app.one(1))
        wait_until(lambda: summed(market, app) == (1, 1), market)
        limit(bootstrap, topic, 10_000)
        market.ticks.add(app.one(10, note=NOTE))
        wait_until(lambda: market.problem is not None)
        problem = market.problem
    assert isinstance(problem, DataError)
    assert f"{topic} [0]" in str(problem) and "raise max.message.bytes of the topic" in str(problem)
    limit(bootstrap, topic, 1_000_000)
    with app.context.open(**settings(bootstrap)) as market:
        market.ticks.add(app.one(100))
        wait_until(lambda: summed(market, app) == (111, 3), market)
