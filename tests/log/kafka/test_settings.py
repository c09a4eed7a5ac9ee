"""How clients are set up, as far as a promise hangs on it."""

from __future__ import annotations

import pytest

from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import GroupSpec
from kandle.time.timeframe import MINUTE, SECOND


@pytest.mark.parametrize(
    ("settings", "stall", "interval"),
    [
        (KafkaSettings("nowhere:1"), MINUTE, 60_000),
        (KafkaSettings("nowhere:1"), 0, None),
        (KafkaSettings("nowhere:1", session=90 * SECOND), MINUTE, 90_000),
        (KafkaSettings("nowhere:1", consumer={"session.timeout.ms": "120000"}), MINUTE, 120_000),
        (KafkaSettings("nowhere:1", consumer={"max.poll.interval.ms": "300000"}), MINUTE, "300000"),
    ],
    ids=["stall", "as the library has it", "longer session", "longer session of the library", "set by the user"],
)
def test_a_member_that_is_stuck_loses_its_partitions_after_the_stall_and_never_before_its_session(
    settings: KafkaSettings, stall: int, interval: object
) -> None:
    spec = GroupSpec("group", ("ticks",), "one", stall=stall)
    assert settings.for_member(spec).get("max.poll.interval.ms") == interval
