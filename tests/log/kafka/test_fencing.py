"""What a process was killed in, or goes on with after another has taken its partition, on a real broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from confluent_kafka import TopicPartition as Place

from kandle.errors import FencedError, KandleError
from kandle.log.kafka.consumer import KafkaConsumer
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.producer import Transactions, fence_transactions
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.port import GroupSpec, TopicPartition
from kandle.log.records import EncodedWrite
from kandle.time.timeframe import SECOND
from tests.log.building import numbers_of, partitions_of, settle_on, topic_spec, write
from tests.waiting import LIMIT


@pytest.fixture
def name() -> str:
    return f"fencing-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def log(bootstrap: str, name: str) -> Iterator[KafkaLog]:
    """A log whose brokers leave transactions open for longer than anybody waits for them."""
    log = KafkaLog(KafkaSettings(bootstrap, transaction=120 * SECOND, patience=30 * SECOND))
    log.ensure(topic_spec(name))
    yield log
    log.close()


def transactions(log: KafkaLog, name: str) -> Transactions:
    return Transactions(log.clients, name, name)


def left_open(of: Transactions, log: KafkaLog, topic: str) -> None:
    """Write a record, and stop there."""
    producer = of.open()
    producer.begin_transaction()
    [encoded] = log.codecs.encode([write(topic, [1])])
    producer.produce(topic, encoded.values[0], partition=0)
    producer.flush(LIMIT)


@dataclass(frozen=True)
class Slow(Sequence[bytes]):
    """A value that takes its time, so that the library hears meanwhile of what became of the record before."""

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]
        if number:
            raise IndexError
        time.sleep(0.5)
        return b""

    def __len__(self) -> int:
        return 1


def test_what_a_dead_process_has_left_open_is_ended_and_nobody_waits_for_it(log: KafkaLog, name: str) -> None:
    left_open(transactions(log, name), log, name)
    assert fence_transactions(log.clients, name)
    # Without it this waits until patience is over, and is an error then.
    assert numbers_of(log.read(TopicPartition(name, 0), 0, 10)) == []


def test_a_process_that_is_fenced_in_the_middle_of_a_commit_is_told_so_and_not_that_something_has_failed(
    log: KafkaLog, name: str
) -> None:
    """Have the library refuse the next record, for which it gives no reason."""
    older, newer = transactions(log, name), transactions(log, name)
    first = EncodedWrite(name, 0, [None], [b""])
    older.commit([first], None)
    newer.open()
    with pytest.raises(FencedError):
        older.commit([first, EncodedWrite(name, 0, [None], Slow()), first], None)
    # It takes its place back with the next commit.
    older.commit([first], None)
    with pytest.raises(FencedError):
        newer.commit([first], None)


def test_a_process_that_comes_back_under_its_name_ends_the_commit_it_was_killed_in(log: KafkaLog, name: str) -> None:
    spec, partition = GroupSpec(f"{name}-group", (name,), "one"), TopicPartition(name, 0)
    killed = log.consumer(spec)
    assert isinstance(killed, KafkaConsumer)
    settle_on([killed], partitions_of(name, 1))
    killed.commit({partition: 0}, [write(name, [0])])
    producer = killed._transactions.open()
    left_open(killed._transactions, log, name)
    producer.send_offsets_to_transaction([Place(*partition, 1)], killed._client.consumer_group_metadata(), LIMIT)
    back = log.consumer(spec)
    settle_on([back], partitions_of(name, 1))
    assert back.commit({partition: 1}, [write(name, [2])])
    assert numbers_of(log.read(partition, 0, 10)) == [0, 2]
    back.close()
    with suppress(KandleError):
        killed.close()
