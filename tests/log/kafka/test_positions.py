"""How far a group has come, while a transaction that moves it on is open, on a real broker."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Place

from kandle.errors import UnavailableError
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import TopicPartition
from kandle.time.clock import SystemClock
from kandle.time.timeframe import MILLISECOND, SECOND
from tests.log.building import topic_spec, write
from tests.waiting import LIMIT, aside, result_of


@pytest.fixture
def log(bootstrap: str) -> Iterator[KafkaLog]:
    log = KafkaLog(KafkaSettings(bootstrap, patience=SECOND))
    yield log
    log.close()


@dataclass(frozen=True)
class Moved:
    """A group that is at 1 in a partition, and is about to come to 2."""

    partition: TopicPartition
    group: str
    producer: Producer


@pytest.fixture
def moved(log: KafkaLog, bootstrap: str) -> Iterator[Moved]:
    name = f"positions-{uuid.uuid4().hex[:8]}"
    log.ensure(topic_spec(name, partitions=2))
    log.append([write(name, range(2))])
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    reader.commit(offsets=[Place(name, 0, 1, "who said so")], asynchronous=False)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([Place(name, 0, 2)], reader.consumer_group_metadata(), LIMIT)
    yield Moved(TopicPartition(name, 0), name, producer)
    reader.close()


def test_positions_are_told_as_they_were_before_an_open_transaction(log: KafkaLog, moved: Moved) -> None:
    partitions = [TopicPartition(moved.group, number) for number in range(2)]
    assert log.positions.committed(moved.group, partitions) == {moved.partition: 1}
    assert log.positions.committed(f"{moved.group}-other", partitions) == {}
    assert log.positions.committed(moved.group, []) == {}
    (state,) = log.groups(moved.group)
    assert state.positions == {moved.partition: 1}


def test_metadata_of_positions_is_never_looked_at(log: KafkaLog, bootstrap: str) -> None:
    """The library hands it out without its end now and then; then to read it is an error of decoding."""
    name = f"positions-{uuid.uuid4().hex[:8]}"
    log.ensure(topic_spec(name))
    log.append([write(name, range(3))])
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": name})
    reader.commit(offsets=[Place(name, 0, 1, "x" * 5 + "\N{EURO SIGN}" * 7)], asynchronous=False)
    reader.close()

    @dataclass
    class Unterminated:
        topic, partition, offset, error = name, 0, 1, None

        @property
        def metadata(self) -> str:
            return b"xx\xe2\x82".decode()

    class Client:
        def committed(self, *arguments: object) -> list[Unterminated]:
            return [Unterminated()]

        def close(self) -> None:
            pass

    partition = TopicPartition(name, 0)
    assert log.positions.committed(name, [partition]) == {partition: 1}
    log.positions._idle[name, "read_committed"] = log.positions._idle[name, "read_uncommitted"] = Client()
    assert log.positions.committed(name, [partition]) == log.positions.settled(name, [partition]) == {partition: 1}


def test_settled_positions_wait_for_an_open_transaction(bootstrap: str, moved: Moved) -> None:
    patient = KafkaLog(KafkaSettings(bootstrap, patience=LIMIT * SECOND))
    positions = aside(lambda: patient.committed(moved.group, moved.group))
    SystemClock().pause(200 * MILLISECOND)
    assert not positions.done()
    moved.producer.commit_transaction(LIMIT)
    assert result_of(positions) == {0: 2}
    patient.close()


def test_a_transaction_that_stays_open_is_named_when_patience_is_over(log: KafkaLog, moved: Moved) -> None:
    with pytest.raises(UnavailableError, match=rf"group {moved.group}: a transaction .* {moved.group} 0"):
        log.committed(moved.group, moved.group)
    moved.producer.abort_transaction(LIMIT)
    assert log.committed(moved.group, moved.group) == {0: 1}
