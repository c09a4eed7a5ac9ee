"""Settings of topics, times and single records on a real broker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewTopic

import kandle
from kandle import Context, EventSet, Key, Timestamp
from kandle.context.context import state_of
from kandle.errors import DataError, OptionsError, SchemaError, UnknownTopicError
from kandle.log.kafka.log import KafkaLog
from kandle.time.timeframe import DAY, HOUR
from tests.context.test_forks import check_forks
from tests.waiting import LIMIT

FINE = datetime(2024, 3, 8, 14, 30, 0, 123_457, tzinfo=UTC)


def context_of(value_format: Any = "AVRO", **declared: Any) -> tuple[type[Context], Any, str]:
    """Return a context over a topic of its own, and what makes its events."""
    topic = f"visits-{uuid4().hex[:8]}"

    @kandle.stream(topic, value_format=value_format, key_format="KAFKA", **declared)
    @dataclass(frozen=True)
    class Visit:
        door: Annotated[str, Key(0)]
        number: int
        time: Annotated[datetime, Timestamp()]

    def visit(door: str, number: int, time: datetime = FINE) -> Visit:
        return Visit(door, number, time)

    return type("House", (Context,), {"__annotations__": {"visits": EventSet[Visit]}}), visit, topic


def kafka(bootstrap: str, **log: Any) -> dict[str, Any]:
    return {"log": {"kind": "kafka"} | log, "kafka": {"bootstrap": bootstrap, "replication": 1}}


def test_settings_reach_brokers_and_clients(bootstrap: str) -> None:
    house: Any
    opened, visit, topic = context_of()
    settings: Any = {
        "configs": {"max.message.bytes": 3_000_000, "retention.ms": 86_400_000},
        "producer": {"message.max.bytes": 2_500_000, "compression.type": "none"},
        "consumer": {"fetch.message.max.bytes": 4_000_000},
    }
    with opened.open(**kafka(bootstrap), topics={topic: settings}) as house:
        house.visits.add(visit("a" * 2_000_000, 1))
        assert [len(event.door) for event in house.visits.to_list()] == [2_000_000]
        log = state_of(house).log
        assert isinstance(log, KafkaLog)
        config = log.admin.config(topic)
        assert (config["max.message.bytes"], config["retention.ms"]) == ("3000000", "86400000")
    with pytest.raises(SchemaError, match=r"segment\.bytes is 1073741824, 1048576 is declared"):
        opened.open(
            **kafka(bootstrap, differences="refuse"), topics={topic: {"configs": {"segment.bytes": 1_048_576}}}
        ).__enter__()
    other, _, name = context_of()
    with pytest.raises(OptionsError, match=rf"topic {name}: the brokers refuse a setting: .*bogus"):
        other.open(**kafka(bootstrap), topics={name: {"configs": {"bogus": 1}}}).__enter__()
    with pytest.raises(
        UnknownTopicError, match=rf"{name} \(1 partition, replication 1, cleanup\.policy=delete, .*\)\. Create it"
    ):
        other.open(**kafka(bootstrap), topics={name: {"create": False, "replication": 1}}).__enter__()


def test_a_topic_of_others_is_read_without_creating_anything(bootstrap: str) -> None:
    house: Any
    opened, visit, topic = context_of("JSON")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2)])[topic].result(LIMIT)
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, key=b"front", value=json.dumps({"number": 1, "time": 0}).encode(), partition=1)
    assert producer.flush(LIMIT) == 0
    before = set(admin.list_topics().topics)
    with opened.open(**kafka(bootstrap), access="read_only") as house:
        assert house.visits.to_list() == [visit("front", 1, datetime(1970, 1, 1, tzinfo=UTC))]
        assert next(iter(house.visits)).door == "front"
    assert set(admin.list_topics().topics) - before <= {"__consumer_offsets"}


def test_a_record_that_is_too_large_for_its_topic_keeps_no_other_back(bootstrap: str) -> None:
    opened, visit, topic = context_of("JSON")
    # The reference is kept until the answer has come: a client that is garbage collected gives none.
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2, config={"max.message.bytes": "5000"})])[topic].result(LIMIT)

    async def story() -> None:
        house: Any
        async with opened.open(**kafka(bootstrap), topics={topic: {"producer": {"compression.type": "none"}}}) as house:
            doors = [f"door {number}" for number in range(200)]
            doors[7], doors[11] = "x" * 8_000, "y" * 2_000_000
            calls = (house.visits.add_async(visit(door, number)) for number, door in enumerate(doors))
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [number for number, result in enumerate(results) if result is not None] == [7, 11]
            assert all(isinstance(results[number], DataError) for number in (7, 11))
            kept = await house.visits.to_list_async()
            assert sorted(event.number for event in kept) == [number for number in range(200) if number not in (7, 11)]

    asyncio.run(story())


@pytest.mark.parametrize("value_format", ["AVRO", "JSON"])
def test_times_keep_their_microseconds(bootstrap: str, value_format: str) -> None:
    house: Any
    opened, visit, _ = context_of(value_format)
    with opened.open(**kafka(bootstrap)) as house:
        house.visits.add(visit("one", 0))
        house.visits.add_many([visit("many", number) for number in range(100)])
        assert [event.time for event in house.visits.to_list()] == [FINE] * 101


def test_a_topic_keeps_the_unit_of_its_times(bootstrap: str) -> None:
    house: Any
    opened, visit, _ = context_of()
    whole = FINE.replace(microsecond=123_000)
    with opened.open(**kafka(bootstrap), fields={"instants": "millis"}) as house:
        house.visits.add(visit("old", 0, whole))
    with opened.open(**kafka(bootstrap)) as house:
        house.visits.add(visit("new", 1, whole))
        with pytest.raises(DataError, match=r"timestamp-millis would lose its microseconds; .*fields\.finer = \"cut\""):
            house.visits.add(visit("fine", 2))
    with opened.open(**kafka(bootstrap), fields={"finer": "cut"}) as house:
        house.visits.add(visit("cut", 3))
        house.visits.add_many([visit("cut", number) for number in range(50)])
        assert {event.time for event in house.visits.to_list()} == {whole}
    fine, visit, topic = context_of()
    with fine.open(**kafka(bootstrap)) as house:
        house.visits.add(visit("fine", 0))
        assert house.visits.to_list() == [visit("fine", 0)]
    refused = pytest.raises(SchemaError, match=rf"subject {topic}-value, field time: its instants are timestamp-micros")
    with refused, fine.open(**kafka(bootstrap), fields={"instants": "millis"}) as house:
        house.visits.add(visit("other", 1, whole))


def test_children_of_a_process_with_clients_of_kafka_end_as_they_like(bootstrap: str, tmp_path: Path) -> None:
    check_forks(tmp_path, KANDLE_LOG__KIND="kafka", KANDLE_KAFKA__BOOTSTRAP=bootstrap, KANDLE_KAFKA__REPLICATION="1")


def test_how_long_records_are_kept_is_what_the_brokers_say(bootstrap: str) -> None:
    """Read a topic of others that is declared otherwise, and one that kandle has made and somebody has changed."""
    reader, _, foreign = context_of(retention="30d")
    maker, _, own = context_of(retention="30d")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    kept = {"retention.ms": "3600000", "retention.bytes": "5000000", "cleanup.policy": "compact,delete"}
    admin.create_topics([NewTopic(foreign, 1, 1, config=kept)])[foreign].result(LIMIT)
    with maker.open(**kafka(bootstrap)) as house:
        assert state_of(house).log.topic(own).retention == 30 * DAY
    change = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
    [future] = admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, own, incremental_configs=[change])]).values()
    future.result(LIMIT)
    with reader.open(**kafka(bootstrap), access="read_only") as house:
        log = state_of(house).log
        spec = log.topic(foreign)
        assert (spec.retention, spec.retention_bytes, spec.compacted) == (HOUR, 5_000_000, True)
        assert {spec.name: spec.retention for spec in log.topics()}[own] == log.topic(own).retention == 2 * HOUR
