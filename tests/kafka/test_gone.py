"""Records that brokers have taken away before they were read."""

from __future__ import annotations

import pytest

from kandle.context.context import state_of
from kandle.log.port import GroupSpec, TopicPartition
from tests.kafka.summing import Application, settings, wait_until
from tests.log.building import poll_until


def test_records_that_are_gone_before_they_were_read_are_told(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Application()
    with app.context.open(access="write_only", **settings(bootstrap)) as market:
        for number in range(5):
            market.ticks.add(app.one(number))
        partition = TopicPartition(app.ticks, 0)
        state_of(market).log.truncate(partition, 3)
        wait_until(lambda: state_of(market).log.first(partition) == 3)
        consumer = state_of(market).log.consumer(GroupSpec(app.name, (app.ticks,), "one"))
        wait_until(lambda: bool(consumer.poll(100_000, 10)) or bool(consumer.assignment))
        consumer.seek({partition: 1})
        poll_until(consumer, 2)
        assert consumer.removed == 2
        consumer.close()
    assert f"records 1 to 2 of {app.ticks}, partition 0, are gone before group {app.name} has read them" in caplog.text
